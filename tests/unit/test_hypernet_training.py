"""The training loop on a toy host: one linear layer that must learn to shift by a person's colour."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hyperdreambooth.hypernet.checkpoint import Identity
from hyperdreambooth.hypernet.data import People, attribute_table, load_people
from hyperdreambooth.hypernet.hypernet import HyperNet, HyperNetConfig
from hyperdreambooth.hypernet.train import Recipe, controls, noise_levels, train
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.targets import Target, TargetTable

NAME = "lora_unet_0_attn1_to_q"
TABLE = TargetTable((Target(NAME, 12, 12),))


class ToyHost:
    """Predicts x0 from a constant input: without a residual, it can only say zero."""

    def __init__(self):
        self.linear = torch.nn.Linear(12, 12, bias=False).requires_grad_(False)
        torch.nn.init.zeros_(self.linear.weight)
        self.modules, self.sigmas = {NAME: self.linear}, torch.linspace(0.1, 10, 100)

    def encode_prompts(self, prompts):
        return torch.ones(len(prompts), 1, 12)

    def denoising_loss(self, x0, noise, sigma, context):
        return (self.linear(context)[:, 0] - x0.flatten(1)).pow(2).mean(1)


def two_people():
    pictures = np.zeros((2, 3, 16, 16, 3), np.uint8)
    pictures[0, ..., 0], pictures[1, ..., 2] = 255, 255
    x0 = np.random.default_rng(0).normal(size=(2, 1, 3, 2, 2)).repeat(3, 1)
    return People(pictures, x0.astype(np.float32), [["a [V] face"] * 3] * 2, photos=2)


def test_two_people_are_learnt_and_told_apart():
    torch.manual_seed(0)
    net, host, people = HyperNet(HyperNetConfig(16, 8, 16, 1, 2, 16, 1, 2, 2, 1, 24)), ToyHost(), two_people()
    identity = Identity(TABLE, Basis(12, 12), "[V] face", "toy", {})
    recipe = Recipe(minutes=0.1, seed=0, people=4, targets=2, lr=1e-2, norm_weight=0.0)
    average = train(net, identity, host, people, recipe)
    losses = controls(average, identity, host, people)
    assert losses["predicted"][0] < 0.1 * losses["plain"][0]
    assert losses["predicted"][0] < 0.5 * min(losses["mean"][0], losses["wrong"][0])
    assert torch.equal(host.linear(torch.ones(1, 12)), torch.zeros(1, 12))


def test_levels_are_stratified_and_lean_to_the_upper_half():
    level = noise_levels(1000, 0.1, torch.Generator().manual_seed(0))
    assert level.min() >= 0 and level.max() < 1 and abs((level < 0.5).float().mean() - 0.1) < 0.01


def test_attributes_become_numbers():
    people = [{"w": 1.0, "hair": "bob", "mole": None}, {"w": 3.0, "hair": "bun", "mole": [0.1, 0.2]}]
    assert attribute_table(people).tolist() == [[-1, 1, -1, -1], [1, -1, 1, 1]]


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no people.npy"):
        load_people(tmp_path, 1, SimpleNamespace())
