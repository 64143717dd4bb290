"""The denoising loss of a person's own pictures, as the callable that ``lidb.finetune`` minimises."""

import torch

from ..lidb.residual import Residuals
from ..lidb.value import Factors
from .host import HostModel


class ReferenceLoss:
    """``loss(step, factors)`` on reference latents; noise and noise levels come from its own generator.

    The levels of one run cover the model's whole range evenly (stratified over all steps and samples), which lowers the
    gradient's variance where only 40 steps are taken.

    Args:
        x0: reference latents (P, c, h, w), one per photo; samples take the photos in turn.
        prompt: the sentence with the trigger phrase, e.g. "a photo of a [V] face".
        batch: noisy copies per step.
        weight: where the pictures count, (P, 1, h, w) with mean 1; None counts everything alike.
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
    ):
        self.weight = None if weight is None else weight.to(x0)
        self.host, self.residuals, self.x0, self.prompt, self.batch = host, residuals, x0, prompt, batch
        self.stream = torch.Generator().manual_seed(seed)
        total = steps * batch
        strata = torch.randperm(total, generator=self.stream)
        levels = (strata + torch.rand(total, generator=self.stream)) / total  # (steps * batch,) in 0..1
        sigmas = host.sigmas.detach().cpu().float()
        self.sigmas = sigmas[(levels * len(sigmas)).long().clamp(max=len(sigmas) - 1)].to(x0.device)

    def __call__(self, step: int, factors: Factors) -> torch.Tensor:
        first = step * self.batch
        photo = torch.arange(first, first + self.batch) % self.x0.shape[0]
        x0 = self.x0[photo.to(self.x0.device)]
        noise = torch.randn(x0.shape, generator=self.stream).to(x0)
        self.residuals.set(factors)
        context, pooled = self.host.encode_prompt(self.prompt)
        sigma = self.sigmas[first : first + self.batch]
        weight = None if self.weight is None else self.weight[photo.to(self.x0.device)]
        return self.host.denoising_loss(x0, noise, sigma, context, pooled, weight).mean()

    @torch.no_grad()
    def preview(self, factors: Factors) -> torch.Tensor:
        """The picture the model sees through strong noise now: x0 estimate (1, c, h, w) from a fixed draw."""
        stream = torch.Generator().manual_seed(0)
        noise = torch.randn(self.x0[:1].shape, generator=stream).to(self.x0)
        sigma = self.host.sigmas[int(0.7 * len(self.host.sigmas))].detach().clone().to(self.x0)[None]
        self.residuals.set(factors)
        context, pooled = self.host.encode_prompt(self.prompt)
        return self.host.denoise(self.x0[:1], noise, sigma, context, pooled)
