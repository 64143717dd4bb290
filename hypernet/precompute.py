"""A LiDB for each of many people at once, as targets for the HyperNet's weight loss (paper, section 4.2).

All people share one start, one stream of noise and one stream of noise levels, so that what differs between their
numbers is what differs between their faces; a start of its own for everybody is noise that no picture explains. Their
residuals are per sample, so one forward of the model serves them all, and Adam works number by number, so it does not
matter who is in the batch with whom.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import repeat

from ..lidb.basis import Basis
from ..lidb.descent import LOSS_SCALE
from ..lidb.residual import Residuals
from ..lidb.value import expand


@dataclass(frozen=True)
class FitSettings:
    """``samples`` noisy pictures per person and step. ``own_start``: everybody has their own random start and noise, as
    in public re-implementations of the paper (for comparison; it leaves the targets hard to learn).

    Raises:
        ValueError: on construction, for values that cannot be meant.
    """

    steps: int = 60
    lr: float = 2e-2
    samples: int = 2
    low_share: float = 0.12
    seed: int = 0
    own_start: bool = False

    def __post_init__(self):
        if self.steps < 1 or self.samples < 1 or not self.lr > 0 or not 0 <= self.low_share <= 1:
            raise ValueError(
                f"Fitting needs steps >= 1, samples >= 1, lr > 0 and 0 <= low_share <= 1, but got steps={self.steps}, "
                f"samples={self.samples}, lr={self.lr}, low_share={self.low_share}."
            )


def noise_levels(N: int, low_share: float, stream: torch.Generator) -> torch.Tensor:
    """Stratified levels (N,) in 0..1: ``low_share`` of them below 0.5, the rest evenly above; in random order.

    Below the middle the picture itself shows who it is and an identity hardly lowers the loss (faceworld: by 0.002 below
    level 0.5, by 0.04 at 0.8, by 0.1 at 0.99).
    """
    u = (torch.randperm(N, generator=stream) + torch.rand(N, generator=stream)) / N
    return torch.where(u < low_share, 0.5 * u / max(low_share, 1e-9), 0.5 + 0.5 * (u - low_share) / (1 - low_share))


def sigma_at(host, level: torch.Tensor) -> torch.Tensor:
    """Noise levels 0..1 -> the model's sigmas (N,)."""
    S = len(host.sigmas)
    return host.sigmas.detach().float()[(level * S).long().clamp(max=S - 1).to(host.sigmas.device)]


def fit_people(
    host,
    basis: Basis,
    latents: list[torch.Tensor],
    captions: list[list[str]],
    settings: FitSettings,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    first: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit everybody; call inside ``host.training``.

    Args:
        host: has ``table``, ``modules``, ``sigmas``, ``encode_prompts``, ``denoising_loss``, ``device``.
        latents: per person (k, c, h, w), taken in turn; ``captions`` the same.
        on_step: gets (steps done, mean loss); it may raise to stop.
        first: number of the first person, which seeds their own start if they have one.

    Returns:
        theta (P, L, a+b) and the final loss (P,), both on the CPU. The final loss is each person's mean over 8 fixed
        noise levels of their first picture, the same noise for everybody.
    """
    P, S, device, table = len(latents), settings.samples, host.device, host.table
    with torch.enable_grad():
        A, B = _start(len(table), basis, P, settings, first)
        A, B = A.to(device).requires_grad_(), B.to(device).requires_grad_()
        optimizer = torch.optim.Adam([A, B], settings.lr, betas=(0.9, 0.99))
        shared = torch.Generator().manual_seed(settings.seed)
        levels = noise_levels(settings.steps * S, settings.low_share, shared).view(settings.steps, S)
        own = [torch.Generator().manual_seed(settings.seed + 1_000_003 * (first + p + 1)) for p in range(P)]
        shape = latents[0].shape[1:]
        with Residuals(host.modules) as residuals:
            for step in range(settings.steps):
                turn = [[(step * S + s) % len(z) for s in range(S)] for z in latents]
                x0 = torch.cat([z[t] for z, t in zip(latents, turn, strict=True)]).float().to(device)  # (P S, c, h, w)
                texts = [c[i] for c, t in zip(captions, turn, strict=True) for i in t]
                if settings.own_start:
                    noise = torch.cat([torch.randn(S, *shape, generator=g) for g in own])
                else:
                    noise = repeat(torch.randn(S, *shape, generator=shared), "s c h w -> (p s) c h w", p=P)
                sigma = repeat(sigma_at(host, levels[step]), "s -> (p s)", p=P)
                residuals.set(expand(table, basis, A.repeat_interleave(S, 0), B.repeat_interleave(S, 0)))
                loss = host.denoising_loss(x0, noise.to(device), sigma.to(device), host.encode_prompts(texts))
                optimizer.zero_grad()
                (loss.sum() / S * LOSS_SCALE).backward()  # a sum over people: nobody's step depends on the others
                A.grad /= LOSS_SCALE
                B.grad /= LOSS_SCALE
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * min(1.0, 2 * (1 - step / settings.steps))
                optimizer.step()
                on_step(step + 1, loss.mean().item())
            final = _final_loss(host, residuals, basis, latents, captions, A.detach(), B.detach())
    theta = torch.cat([A.detach()[..., 0], B.detach()[:, :, 0]], dim=-1).float().cpu()  # (P, L, a+b)
    return theta, final


def _start(L: int, basis: Basis, P: int, settings: FitSettings, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (P, L, a, 1) random, B (P, L, 1, b) zero: no effect yet, but a gradient."""

    def draw(seed: int) -> torch.Tensor:
        return torch.randn(L, basis.a, 1, generator=torch.Generator().manual_seed(seed)) * basis.a**-0.5

    seeds = [settings.seed + (first + p + 1 if settings.own_start else 0) for p in range(P)]
    return torch.stack([draw(seed) for seed in seeds]), torch.zeros(P, L, 1, basis.b)


@torch.no_grad()
def _final_loss(host, residuals, basis, latents, captions, A, B, levels: int = 8) -> torch.Tensor:
    stream = torch.Generator().manual_seed(99)
    x0 = torch.stack([z[0] for z in latents]).float().to(host.device)
    context = None
    total = torch.zeros(len(latents))
    residuals.set(expand(host.table, basis, A, B))
    for k in range(levels):
        context = host.encode_prompts([c[0] for c in captions]) if context is None else context
        noise = torch.randn(x0.shape[1:], generator=stream).expand(x0.shape).to(host.device)
        sigma = sigma_at(host, torch.full((len(x0),), (k + 0.5) / levels)).to(host.device)
        total += host.denoising_loss(x0, noise, sigma, context).float().cpu() / levels
    return total
