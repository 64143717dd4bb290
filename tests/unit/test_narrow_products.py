"""Narrowed products are the same products to bfloat16's precision, and only those of frozen weights."""

import pytest
import torch

from hyperdreambooth.nodes import narrow_products as module

STREAM = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(shape, generator=STREAM)


def frozen(layer):
    """With numbers of its own."""
    for tensor in layer.parameters():
        tensor.data = random(*tensor.shape) * 0.1
    return layer.requires_grad_(False)


CASES = [
    (frozen(torch.nn.Linear(256, 512)), random(3, 256)),
    (frozen(torch.nn.Linear(256, 512, bias=False)), random(2, 5, 256)),
    (frozen(torch.nn.Conv2d(64, 128, 3, padding=1, stride=2)), random(2, 64, 6, 6)),
]


@pytest.mark.parametrize("layer, x", CASES)
def test_products_and_gradients_are_near_and_in_float32(layer, x):
    before, x = layer.weight.clone(), x.requires_grad_()
    exact = layer(x)
    (expected,) = torch.autograd.grad(exact.pow(2).sum(), x)
    copies = module.NarrowCopies()
    run = (torch.conv2d, layer.stride, layer.padding) if x.ndim == 4 else (torch.nn.functional.linear,)
    near, _ = (copies.product(run[0], x, layer.weight, layer.bias, *run[1:]) for _ in range(2))
    assert len(copies.made) == 1
    (found,) = torch.autograd.grad(near.pow(2).sum(), x)
    assert near.dtype == found.dtype == torch.float32 and not torch.equal(near, exact)
    assert (near - exact).norm() < 0.01 * exact.norm() and (found - expected).norm() < 0.02 * expected.norm()
    assert torch.equal(layer.weight, before) and torch.equal(layer(x), exact)


def test_what_is_trained_small_or_no_parameter_stays_as_it_is():
    trained, small = frozen(torch.nn.Linear(256, 512)).requires_grad_(), frozen(torch.nn.Linear(16, 16))
    weight = frozen(torch.nn.Linear(256, 512)).weight
    made = weight + 1.0  # as the host makes a patched weight for one forward
    half = torch.nn.Parameter(weight.half(), requires_grad=False)
    copies, linear = module.NarrowCopies(), torch.nn.functional.linear
    for w, x in ((trained.weight, random(1, 256)), (small.weight, random(1, 16)), (made, random(1, 256)),
                 (half, random(1, 256).half())):  # fmt: skip
        assert torch.equal(copies.product(linear, x, w), linear(x, w)) and not copies.made


def test_only_a_large_model_is_worth_it_and_only_with_memory_to_spare(monkeypatch, caplog):
    model, needed = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.Linear(16, 16)), 2 * 256 * 512
    monkeypatch.setattr(module, "multiplies_narrow", lambda: True)
    assert not module.is_worth_narrowing(model, 1 << 40)
    monkeypatch.setattr(module, "LARGE", needed)
    with caplog.at_level("INFO"):
        assert module.is_worth_narrowing(model, 2 * needed) and not caplog.text
        assert not module.is_worth_narrowing(model, 2 * needed - 1) and "trains in float32" in caplog.text
    monkeypatch.setattr(module, "multiplies_narrow", lambda: False)
    assert not module.is_worth_narrowing(model, 1 << 40)
