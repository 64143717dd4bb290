"""Products with frozen weights in bfloat16 while training, on CPUs that multiply such numbers natively.

A step at batch 1 is bound by reading the weights; half as many bytes and twice the arithmetic make it almost twice as
fast (docs/speed.md). Only ``linear`` and ``conv2d`` on frozen weights are narrowed: activations between them, norms,
attention, residuals, loss and optimiser stay float32.
"""

import logging

import torch

FEW = 1 << 16  # numbers in a weight below which casting its input costs more than it saves
LARGE = 1 << 28  # bytes of narrowed weights; the miniature's are 8 MB and gain nothing


def multiplies_narrow() -> bool:
    """Whether this CPU has instructions for products of bfloat16 (AVX-512 BF16; AMX comes with it)."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def is_worth_narrowing(unet: torch.nn.Module, free_bytes: int) -> bool:
    """A large UNet, on a CPU that multiplies bfloat16, with memory to spare for the copies (said in the log if not)."""
    needed = sum(2 * tensor.numel() for tensor in unet.parameters() if tensor.numel() >= FEW)
    if needed < LARGE or not multiplies_narrow():
        return False
    if free_bytes < 2 * needed:
        logging.info(
            f"HyperDreamBooth trains in float32, half as fast as it could: less than {2 * needed / 2**30:.1f} GiB are free."
        )
    return free_bytes >= 2 * needed


class NarrowCopies:
    """bfloat16 copies of frozen parameters, each made when its weight is first met and forgotten with this object."""

    def __init__(self):
        self.made: dict[int, tuple] = {}

    def product(self, function, x, weight, bias=None, *rest, **named) -> torch.Tensor:
        """``linear`` or ``conv2d`` of float32 through bfloat16, where ``weight`` is frozen; else as it is."""
        frozen = isinstance(weight, torch.nn.Parameter) and not weight.requires_grad and weight.numel() >= FEW
        if not frozen or x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32:
            return function(x, weight, bias, *rest, **named)
        if id(weight) not in self.made:  # the weight is kept with it, so that no other gets its id
            self.made[id(weight)] = weight, weight.bfloat16(), None if bias is None else bias.bfloat16()
        _, weight, bias = self.made[id(weight)]
        return function(x.bfloat16(), weight, bias, *rest, **named).float()
