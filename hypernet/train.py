"""Train a HyperNet end to end: face photo -> identity -> denoising loss of *another* picture of the same person.

Three stages: the encoder learns to read faces (regression of the people's known attributes), the mean identity is found
by denoising, then the whole network is trained through per-sample residuals of the frozen base model. Cures built in:
one shared noise stream, deviations from a mean identity, reference != target, edit captions, output-norm penalty.
The base model is borrowed: ``host`` has ``encode_prompts``, ``denoising_loss``, ``sigmas`` and ``modules``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..lidb.residual import Residuals
from ..lidb.value import expand
from .checkpoint import Identity
from .hypernet import HyperNet
from .losses import output_norm

LOWEST_LEVEL = 0.45


@dataclass(frozen=True)
class People:
    """Training people: pictures (P, K, H, W, 3) uint8, latents (P, K, c, h, w), captions [P][K]; the first ``photos``
    pictures are plain photos (references), all are targets. ``attributes (P, F)`` standardised, or None."""

    pictures: np.ndarray
    latents: np.ndarray
    captions: list[list[str]]
    photos: int
    attributes: np.ndarray | None = None

    def faces(self, index: np.ndarray, photo: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.pictures[index, photo]).permute(0, 3, 1, 2).float() / 255


def pretrain_encoder(
    net: HyperNet, people: People, minutes: float, seed: int, batch: int = 32, lr: float = 1e-3
) -> float:
    """Attribute regression; returns the last running loss (1.0 = knows nothing)."""
    rng = np.random.default_rng(seed)
    head = nn.Linear(net.config.encoder_width, people.attributes.shape[1])
    parameters = [*net.encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=0.01)
    started, running = time.time(), 1.0
    while (done := (time.time() - started) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 20 * done + 0.05, 3 * (1 - done) + 0.02)
        index = rng.integers(len(people.pictures), size=batch)
        faces = people.faces(index, rng.integers(people.photos, size=batch))
        wanted = torch.from_numpy(people.attributes[index]).float()
        loss = (head(net.look(faces).mean(1)) - wanted).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        running += 0.02 * (loss.item() - running)
    return running


def train(
    net: HyperNet,
    identity: Identity,
    host,
    people: People,
    minutes: float,
    seed: int,
    batch: int = 16,
    lr: float = 5e-4,
    norm_weight: float = 1e-3,
    mean_fraction: float = 0.12,
    report: Callable[[int, float, float], None] = lambda step, done, loss: None,
) -> HyperNet:
    """Stages 2 and 3; call inside ``host.training``. Returns the exponential moving average of the network."""
    a, b = identity.basis.a, identity.basis.b
    rng, stream = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    if not net.mean.any():
        net.mean[:, :a] = torch.randn(len(identity.table), a, generator=stream) * (a**-0.5)
        net.scale.fill_(0.3)
    net.mean = net.mean.detach().clone().requires_grad_()
    trained = [p for p in net.parameters()]
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.AdamW(
        [{"params": trained, "base": lr}, {"params": [net.mean], "base": 10 * lr}],
        lr,
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    started, step, running = time.time(), 0, None
    with Residuals(host.modules) as residuals:
        while (done := (time.time() - started) / 60 / minutes) < 1:
            only_mean = done < mean_fraction
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * min(1.0, (step + 1) / 50, 2.5 * (1 - done) + 0.02)
            index = rng.integers(len(people.pictures), size=batch)
            reference = rng.integers(people.photos, size=batch)
            target = (reference + 1 + rng.integers(people.pictures.shape[1] - 1, size=batch)) % people.pictures.shape[1]
            x0 = torch.from_numpy(people.latents[index, target].astype(np.float32))
            theta = None if only_mean else net.refine(net.look(people.faces(index, reference)))
            vectors = net.mean.expand(batch, -1, -1) if only_mean else net.mean + net.scale * theta
            A, B = vectors.split([a, b], dim=-1)
            residuals.set(expand(identity.table, identity.basis, A.unsqueeze(-1), B.unsqueeze(-2)))
            context = host.encode_prompts([people.captions[i][k] for i, k in zip(index, target, strict=True)])
            # noise levels: stratified over the upper part, where a person's traits are decided (below it the picture
            # itself shows them, and the identity hardly lowers the loss)
            level = (
                LOWEST_LEVEL + (1 - LOWEST_LEVEL) * (torch.arange(batch) + torch.rand(batch, generator=stream)) / batch
            )
            sigma = host.sigmas.float()[(level * len(host.sigmas)).long().clamp(max=len(host.sigmas) - 1)]
            noise = torch.randn(x0.shape, generator=stream)
            loss = denoising = host.denoising_loss(x0, noise, sigma, context).mean()
            if theta is not None:
                loss = loss + norm_weight * output_norm(theta)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*trained, net.mean], 1.0)
            optimizer.step()
            step += 1
            decay = min(0.995, (1 + step) / (10 + step))
            for key, value in net.state_dict().items():
                average[key].lerp_(value.detach(), 1 - decay)
            running = denoising.item() if running is None else running + 0.02 * (denoising.item() - running)
            if step % 50 == 0:
                residuals.set(None)  # the report may run the model itself
                report(step, done, running)
    result = HyperNet(net.config)
    result.load_state_dict(average)
    return result.eval()
