"""Pictures of just anybody, drawn by the plain model: what DreamBooth holds the class to."""

from dataclasses import dataclass

import comfy.sample
import comfy.utils
import torch

from ..nodes.host import HostModel

STEPS, GUIDANCE, SAMPLER, SCHEDULER = 20, 3.0, "euler_ancestral", "normal"  # as in the workflows
TOGETHER = 8


@dataclass(frozen=True)
class Prior:
    """Class pictures as latents (N, c, h, w) in the model's own scale, and the prompt that they were drawn by."""

    latents: torch.Tensor
    prompt: str


@torch.inference_mode()
def class_pictures(model, clip, prompt: str, count: int, seed: int = 0, resolution: int = 0) -> Prior:
    """``count`` pictures of the class prompt by the host's own sampler; one prior serves all people.

    They never become pixels, so the VAE's losses are not learned.

    Args:
        resolution: side in pixels; 0: the model's own.

    Raises:
        ValueError: no pictures were asked for.
    """
    if count < 1:
        raise ValueError(
            f"Prior preservation needs at least one class picture, not {count}. Leave it out to train without."
        )
    host = HostModel(model, clip)
    side = (resolution or host.side) // 8
    shape = model.model.latent_format.latent_channels, side, side
    named, empty = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, ""))
    stream, drawn, bar = torch.Generator().manual_seed(seed), [], comfy.utils.ProgressBar(count)
    for first in range(0, count, TOGETHER):
        noise = torch.randn(min(TOGETHER, count - first), *shape, generator=stream)
        drawn.append(
            comfy.sample.sample(
                model, noise, STEPS, GUIDANCE, SAMPLER, SCHEDULER, named, empty, torch.zeros_like(noise),
                disable_pbar=True, seed=seed + first,
            )
        )  # fmt: skip
        bar.update(len(noise))
    return Prior(model.model.process_latent_in(torch.cat(drawn)).clone(), prompt)
