"""The matrix product is the same convolution, forward and backward, and is taken only where it was meant."""

import pytest
import torch

from hyperdreambooth.nodes import small_convolutions as module


@pytest.mark.parametrize(
    "pixels, stride, kernel, batch",
    [((2, 2), 1, 3, 2), ((4, 4), 2, 3, 2), ((3, 1), 1, 3, 1), ((2, 2), 1, 1, 2), ((4, 5), 1, 3, 1), ((4, 5), 1, 3, 3)],
)
def test_product_equals_convolution(pixels, stride, kernel, batch, monkeypatch):
    monkeypatch.setattr(module, "HEAVY", 0)
    monkeypatch.setattr(module, "NATIVE", 0)
    stream = torch.Generator().manual_seed(0)
    layer = torch.nn.Conv2d(48, 32, kernel, stride, padding=kernel // 2).requires_grad_(False)
    x = torch.randn(batch, 48, *pixels, generator=stream).requires_grad_()
    plain = layer(x)
    (expected,) = torch.autograd.grad(plain.pow(2).sum(), x)
    assert module._is_small(x, layer.weight, None, layer.stride)
    product = module.convolve(x, layer.weight, layer.bias, layer.stride, layer.padding)
    (found,) = torch.autograd.grad(product.pow(2).sum(), x)
    assert product.shape == plain.shape and "Convolution" not in type(product.grad_fn).__name__
    torch.testing.assert_close(product, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_everything_else_is_left_alone():
    stream = torch.Generator().manual_seed(0)
    few, many = torch.randn(1, 64, 2, 2, generator=stream), torch.randn(1, 4, 64, 64, generator=stream)
    for layer, x in ((torch.nn.Conv2d(64, 64, 3, padding=1), few), (torch.nn.Conv2d(4, 8, 3, padding=1), many)):
        seen = module.convolve(x, layer.weight, layer.bias, layer.stride, layer.padding)
        assert torch.equal(seen, layer(x)) and "Convolution" in type(seen.grad_fn).__name__


def test_in_bfloat16_the_product_pays_from_smaller_kernels():
    weight = torch.empty(1 << 9, 1 << 8, 3, 3)  # between the two limits
    few, many = torch.empty(1, 1 << 8, 8, 8), torch.empty(2, 1 << 8, 8, 8)
    assert not module._is_small(few, weight, None, 1, 1) and module._is_small(few.bfloat16(), weight, None, 1, 1)
    assert not module._is_small(many.bfloat16(), weight, None, 1, 1)
