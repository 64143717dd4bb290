"""Train a HyperNet end to end: face photo -> identity -> denoising loss of *other* pictures of the same person.

Two stages: the encoder learns to read faces (regression of the people's known attributes), then the whole network is
trained through per-sample residuals of the frozen base model. Cures built in: deviations from a mean identity,
reference != target, edit captions, output-norm penalty, and noise levels where a person matters.
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
from .data import People
from .hypernet import HyperNet
from .losses import output_norm
from .muon import Muon


@dataclass(frozen=True)
class Recipe:
    """How to train. A step shows ``people`` different people, each with ``targets`` pictures under noise, so that one
    prediction is paid for once and judged several times.

    ``low_share`` of the samples have noise levels below the middle. There the picture itself shows who it is and an
    identity hardly lowers the loss (faceworld: by 0.002 below level 0.5, by 0.04 at 0.8, by 0.1 at 0.99).
    """

    minutes: float
    seed: int
    people: int = 12
    targets: int = 2
    lr: float = 2e-3
    norm_weight: float = 1e-4
    low_share: float = 0.12
    warmup: int = 50


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


def noise_levels(N: int, low_share: float, stream: torch.Generator) -> torch.Tensor:
    """Stratified levels (N,) in 0..1: ``low_share`` of them below 0.5, the rest evenly above; in random order."""
    u = (torch.randperm(N, generator=stream) + torch.rand(N, generator=stream)) / N
    return torch.where(u < low_share, 0.5 * u / max(low_share, 1e-9), 0.5 + 0.5 * (u - low_share) / (1 - low_share))


def start_mean(net: HyperNet, basis, seed: int) -> None:
    """Mean identity of a fresh network: random input side, zero output side, so it has no effect but a gradient."""
    stream = torch.Generator().manual_seed(seed)
    net.mean[:, : basis.a] = torch.randn(len(net.mean), basis.a, generator=stream) * basis.a**-0.5
    net.scale.fill_(0.3)


def train(
    net: HyperNet,
    identity: Identity,
    host,
    people: People,
    recipe: Recipe,
    report: Callable[[int, float, float, HyperNet], None] = lambda step, done, loss, net: None,
) -> HyperNet:
    """The end-to-end stage; call inside ``host.training``. A network that was trained before continues from its weights.

    Returns:
        the exponential moving average of the network. ``report`` gets it too, every 50 steps, to save or to measure;
        the time it takes does not count.
    """
    a, b, P, K = identity.basis.a, identity.basis.b, recipe.people, recipe.targets
    rng, stream = np.random.default_rng(recipe.seed), torch.Generator().manual_seed(recipe.seed)
    if not net.mean.any():
        start_mean(net, identity.basis, recipe.seed)
    net.mean = net.mean.detach().clone().requires_grad_()
    trained = {**dict(net.named_parameters()), "mean": net.mean}
    optimizer = Muon(trained, recipe.lr, adam_names=("encoder.embeddings", "layer_embedding", "mean", "head."))
    average = HyperNet(net.config).requires_grad_(False).eval()
    average.load_state_dict(net.state_dict())
    pictures = people.pictures.shape[1]
    started, paused, step, running = time.time(), 0.0, 0, None
    with Residuals(host.modules) as residuals:
        while (done := (time.time() - started - paused) / 60 / recipe.minutes) < 1:
            index = rng.integers(len(people.pictures), size=P)
            reference = rng.integers(people.photos, size=P)
            others = np.stack([1 + rng.permutation(pictures - 1)[:K] for _ in range(P)])  # (P, K), never the reference
            target = (reference[:, None] + others).reshape(-1) % pictures
            who = index.repeat(K)
            theta = net.refine(net.look(people.faces(index, reference)))
            A, B = (net.mean + net.scale * theta).repeat_interleave(K, 0).split([a, b], dim=-1)
            residuals.set(expand(identity.table, identity.basis, A.unsqueeze(-1), B.unsqueeze(-2)))
            context = host.encode_prompts([people.captions[i][k] for i, k in zip(who, target, strict=True)])
            x0 = torch.from_numpy(people.latents[who, target].astype(np.float32))
            S = len(host.sigmas)
            level = noise_levels(P * K, recipe.low_share, stream)
            sigma = host.sigmas.float()[(level * S).long().clamp(max=S - 1)]
            denoising = host.denoising_loss(x0, torch.randn(x0.shape, generator=stream), sigma, context).mean()
            (denoising + recipe.norm_weight * output_norm(theta)).backward()
            torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
            optimizer.step(recipe.lr * min(1.0, (step + 1) / recipe.warmup, 2.5 * (1 - done) + 0.02))
            step += 1
            decay = min(0.99, (1 + step) / (10 + step))
            for key, value in net.state_dict().items():
                average.state_dict()[key].lerp_(value.detach(), 1 - decay)
            running = denoising.item() if running is None else running + 0.02 * (denoising.item() - running)
            if step % 50 == 0:
                since = time.time()
                residuals.set(None)  # the report may run the model itself
                report(step, done, running, average)
                paused += time.time() - since
    return average


@torch.no_grad()
def controls(net: HyperNet, identity: Identity, host, people: People, count: int = 48) -> dict[str, list[float]]:
    """Denoising loss of a photo and of an edit, in the upper half of the noise levels, over ``count`` people.

    Rows ``predicted``, ``mean`` (the mean prediction), ``wrong`` (the next person's), ``plain`` (no residual) see the
    same pictures, noise and levels; call inside ``host.training``.
    """
    who = np.arange(min(count, len(people.pictures)))
    N, S = len(who), len(host.sigmas)
    predicted = net(people.faces(who, np.zeros(N, int)))
    rows = {"predicted": predicted, "mean": predicted.mean(0, keepdim=True).expand_as(predicted)}
    rows |= {"wrong": predicted.roll(1, 0), "plain": None}
    sigma = host.sigmas.float()[S // 2 + torch.arange(N) * (S - S // 2) // N]
    losses = {}
    with Residuals(host.modules) as residuals:
        for name, vectors in rows.items():
            if vectors is None:
                residuals.set(None)
            else:
                A, B = vectors.split([identity.basis.a, identity.basis.b], dim=-1)
                residuals.set(expand(identity.table, identity.basis, A.unsqueeze(-1), B.unsqueeze(-2)))
            losses[name] = []
            for k in (1, people.pictures.shape[1] - 1):
                x0 = torch.from_numpy(people.latents[who, k].astype(np.float32))
                noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
                context = host.encode_prompts([people.captions[i][k] for i in who])
                losses[name].append(host.denoising_loss(x0, noise, sigma, context).mean().item())
    return losses
