"""Products with frozen weights in bfloat16 while training, on CPUs that multiply such numbers natively.

A step at batch 1 is bound by reading the weights; half as many bytes and twice the arithmetic make it almost twice as
fast (docs/speed.md). Only ``linear`` and ``conv2d`` on frozen weights are narrowed: activations between them, norms,
attention, residuals, loss and optimiser stay float32.
"""

import torch
from torch.overrides import TorchFunctionMode

FEW = 1 << 16  # numbers in a weight below which casting its input costs more than it saves


def multiplies_narrow() -> bool:
    """Whether this CPU has instructions for products of bfloat16 (AVX-512 BF16; AMX comes with it)."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def narrowed_bytes(root: torch.nn.Module) -> int:
    """What the copies of a model's weights will take."""
    return sum(2 * tensor.numel() for tensor in root.parameters() if tensor.numel() >= FEW)


class NarrowProducts(TorchFunctionMode):
    """While active, ``linear`` and ``conv2d`` of float32 on the CPU use bfloat16 copies of frozen parameters.

    A copy is made when its weight is first met and is forgotten with the mode; nothing is patched.
    """

    def __init__(self):
        super().__init__()
        self.copies: dict[int, tuple] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.nn.functional.linear, torch.conv2d):
            return self._product(function, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _product(self, function, x, weight, bias=None, *rest, **named):
        frozen = isinstance(weight, torch.nn.Parameter) and not weight.requires_grad and weight.numel() >= FEW
        if not frozen or x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32:
            return function(x, weight, bias, *rest, **named)
        if id(weight) not in self.copies:  # the weight is kept with it, so that no other gets its id
            self.copies[id(weight)] = weight, weight.bfloat16(), None if bias is None else bias.bfloat16()
        _, weight, bias = self.copies[id(weight)]
        return function(x.bfloat16(), weight, bias, *rest, **named).float()
