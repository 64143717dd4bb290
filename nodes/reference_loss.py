"""The denoising loss of a person's own pictures, as the callable that ``lidb.finetune`` minimises."""

import torch

from ..lidb.residual import Residuals
from ..lidb.value import Factors
from .host import HostModel

TEXT_EVERY = 4  # steps between two forwards and backwards of the text encoder; every step was no better (docs/speed.md)
DREAMT = 0.6  # through noise above this share of the levels the model paints the person rather than copies the picture


class ReferenceLoss:
    """``loss(step, factors)`` on reference latents; noise and noise levels come from its own generator.

    The levels of one run cover the model's whole range evenly (stratified over all steps and samples), which lowers the
    gradient's variance where only 40 steps are taken. The text encoder runs, and its residuals learn, at every
    ``text_every``-th step; between them its last output is used again.

    Args:
        x0: reference latents (P, c, h, w), one per photo; samples take the photos in turn.
        prompt: the sentence with the trigger phrase, e.g. "a photo of a [V] face".
        batch: noisy copies per step.
        weight: where the pictures count, (P, 1, h, w) with mean 1; None counts everything alike.

    ``seen`` is the latest estimate (1, c, h, w) of the picture through strong noise, None before there was one: a preview
    that costs nothing, because the loss has made it.
    """

    def __init__(
        self,
        host: HostModel,
        residuals: Residuals,
        x0: torch.Tensor,
        prompt: str,
        batch: int,
        steps: int,
        seed: int,
        weight: torch.Tensor | None = None,
        text_every: int = TEXT_EVERY,
    ):
        self.weight = None if weight is None else weight.to(x0)
        self.host, self.residuals, self.x0, self.prompt, self.batch = host, residuals, x0, prompt, batch
        self.text_every, self.stream = text_every, torch.Generator().manual_seed(seed)
        total = steps * batch
        strata = torch.randperm(total, generator=self.stream)
        levels = (strata + torch.rand(total, generator=self.stream)) / total  # (steps * batch,) in 0..1
        self.levels, self.seen = levels, None
        sigmas = host.sigmas.detach().cpu().float()
        self.sigmas = sigmas[(levels * len(sigmas)).long().clamp(max=len(sigmas) - 1)].to(x0.device)

    def __call__(self, step: int, factors: Factors) -> torch.Tensor:
        first = step * self.batch
        photo = torch.arange(first, first + self.batch) % self.x0.shape[0]
        x0 = self.x0[photo.to(self.x0.device)]
        noise = torch.randn(x0.shape, generator=self.stream).to(x0)
        self.residuals.set(factors)
        if step % self.text_every == 0:
            text = self.host.encode_prompt(self.prompt)
            self.text = tuple(None if part is None else part.detach() for part in text)
        else:
            text = self.text
        sigma = self.sigmas[first : first + self.batch]
        weight = None if self.weight is None else self.weight[photo.to(self.x0.device)]
        denoised = self.host.denoise(x0, noise, sigma, *text)
        level, sample = self.levels[first : first + self.batch].max(0)
        if level > DREAMT:
            self.seen = denoised[sample, None].detach()
        return self.host.prediction_error(denoised, x0, sigma, weight).mean()
