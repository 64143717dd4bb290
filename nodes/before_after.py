"""What a finetune changed, to the eye: the prompt drawn from the same noise by the start and by the finished person."""

import comfy.model_management as mm
import comfy.samplers
import numpy as np
import torch
from comfy.k_diffusion.sampling import sample_dpmpp_2m
from latent_preview import Latent2RGBPreviewer

from ..lidb.residual import Residuals
from ..lidb.value import LiDB
from .host import HostModel

STEPS = 4  # without guidance: coarse, but the eight forwards for both take as long as one training step of batch four
FEW, STEPS_OF_FEW = 128, 2  # noisy pictures of a training so short that the drawing would be a tenth of the work


class BeforeAfter:
    """Given to ``run_finetune``, which calls it while the modules are still at hand; ``pictures`` decodes afterwards.

    The draw has a generator of its own and keeps the trained numbers as they are.

    Args:
        samples: noisy pictures of the whole training, steps times batch.
    """

    def __init__(self, prompt: str, seed: int, samples: int):
        self.prompt, self.seed, self.samples = prompt, seed, samples

    def __call__(self, host: HostModel, residuals: Residuals, start: LiDB, finished: LiDB, x0: torch.Tensor) -> None:
        """Draw both at the size of the reference latents x0 (P, c, h, w). Call inside ``host.training``."""
        self.host = host
        self.latents = torch.cat([self._draw(residuals, person, x0) for person in (start, finished)])  # (2, c, h, w)

    @torch.no_grad()
    def _draw(self, residuals: Residuals, person: LiDB, x0: torch.Tensor) -> torch.Tensor:
        factors = person.factors()
        residuals.set({name: (A.to(x0.device), B.to(x0.device)) for name, (A, B) in factors.items()})
        text = self.host.encode_prompt(self.prompt)

        def clean(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            mm.throw_exception_if_processing_interrupted()
            return self.host.clean(x, sigma, *text)

        sampling = self.host.model.get_model_object("model_sampling")
        steps = STEPS_OF_FEW if self.samples < FEW else STEPS
        sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps).to(x0)
        noise = torch.randn(x0[:1].shape, generator=torch.Generator().manual_seed(self.seed)).to(x0)
        x = sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)
        return sample_dpmpp_2m(clean, x, sigmas, disable=True)

    def pictures(self) -> torch.Tensor:
        """Before and after, (2, H, W, 3) in 0..1 on the CPU; of a short training on a CPU, one pixel per latent."""
        mm.throw_exception_if_processing_interrupted()
        form = self.host.model.model.latent_format
        if self.samples < FEW and self.host.device.type == "cpu" and form.latent_rgb_factors:
            previewer = Latent2RGBPreviewer(form.latent_rgb_factors, form.latent_rgb_factors_bias)
            latents = form.process_out(self.latents).split(1)
            seen = [np.asarray(previewer.decode_latent_to_preview(one)).copy() for one in latents]
            return torch.from_numpy(np.stack(seen)).float() / 255
        return self.host.decode(self.latents).movedim(1, -1)
