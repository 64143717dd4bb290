"""Convolutions over a handful of pixels as one matrix product, where the CPU's own kernels are slow under autograd.

In the depths of an SD UNet a 3 x 3 convolution with tens of megabytes of weights meets 2 x 2 or 4 x 4 pixels. oneDNN then
takes two to four times as long as one pass over the weights would; measured in docs/speed.md. A rule decides, not a
stopwatch, so that the same seed gives the same person.
"""

import torch

HEAVY = 1 << 22  # numbers in a kernel from which its memory traffic matters
HEAVY_NARROW = 1 << 20  # the same in bfloat16
FEW_PIXELS = 4  # of one picture
FEW_POSITIONS = 64  # of the batch
NATIVE = (
    20480  # up to so many inputs of one picture torch does not ask oneDNN (aten ConvParams::use_mkldnn), and is quick
)


def convolve(*args, **named) -> torch.Tensor:
    """``torch.conv2d``, as a matrix product where that is faster."""
    return (_as_product if _is_small(*args, **named) else torch.conv2d)(*args, **named)


def _is_small(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> bool:
    narrow = x.dtype == torch.bfloat16
    heavy = weight.numel() >= (HEAVY_NARROW if narrow else HEAVY)
    if x.device.type != "cpu" or groups != 1 or isinstance(padding, str) or not heavy or x.ndim != 4:
        return False
    pixels = x.shape[2] * x.shape[3] // (_pair(stride)[0] * _pair(stride)[1])
    if narrow:
        return x.shape[0] * pixels <= FEW_POSITIONS
    return pixels <= FEW_PIXELS or (x.shape[0] * pixels <= FEW_POSITIONS and x.numel() > NATIVE)


def _as_product(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> torch.Tensor:
    (height, width), kernel = x.shape[2:], weight.shape[2:]
    size = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip((height, width), kernel, *map(_pair, (stride, padding, dilation)), strict=True)
    ]
    columns = torch.nn.functional.unfold(x, kernel, dilation, padding, stride)  # (N, c * k * k, positions)
    if x.shape[0] == 1 and columns.shape[2] > FEW_PIXELS:
        y = weight.flatten(1) @ columns  # (1, channels, positions)
        return (y if bias is None else y + bias[:, None]).view(1, -1, *size)
    y = torch.nn.functional.linear(columns.mT.contiguous(), weight.flatten(1), bias)  # (N, positions, channels)
    return y.mT.reshape(x.shape[0], -1, *size)


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
