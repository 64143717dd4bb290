"""What a training step on the CPU does about its convolutions and products, as one torch function mode.

One mode, because torch hands it every call of the forward, some thousands a step. Nothing is patched: outside the ``with``
block everything is as it was.
"""

import torch
from torch.overrides import TorchFunctionMode

from .narrow_products import NarrowCopies
from .small_convolutions import convolve


class CpuProducts(TorchFunctionMode):
    """While active, ``conv2d`` may be a matrix product; with ``narrow``, frozen weights are multiplied in bfloat16."""

    def __init__(self, narrow: bool):
        super().__init__()
        self.copies = NarrowCopies() if narrow else None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.conv2d:
            function = convolve
        elif function is not torch.nn.functional.linear:
            return function(*args, **kwargs)
        return self.copies.product(function, *args, **kwargs) if self.copies else function(*args, **kwargs)
