"""DreamBooth (Ruiz et al. 2022): all weights of UNet and text encoder, with or without preservation of the class prior."""

import time
from pathlib import Path

import comfy.model_management as mm
import torch
from safetensors.torch import save_file

from ..lidb.descent import minimise
from ..lidb.residual import Residuals
from ..nodes.host import HostModel
from .person import Personalised, Settings, reference_latents, reference_loss, watched
from .prior import Prior

PRIOR_WEIGHT = 1.0  # lambda of the DreamBooth paper
PRIOR_STREAM = 1 << 32  # added to the seed, so that the class pictures have noise of their own


def dreambooth(
    model, clip, vae, image: torch.Tensor, settings: Settings, prior: Prior | None = None, only: set[str] | None = None
) -> Personalised:
    """Train a copy of all weights in float32; the host's own are put aside meanwhile and back afterwards.

    Args:
        image: the person's pictures (P, H, W, C) in 0..1.
        prior: pictures of anybody, of which a batch joins every step; None: without.
        only: the host's keys of the weights to train; None: all.

    Raises:
        ValueError: quantised weights, weights that no longer fit half precision, or what ``minimise`` raises.
    """
    started, host = time.time(), HostModel(model, clip, vae)
    x0 = reference_latents(host, image, settings)
    with host.training((settings.batch, *x0.shape[1:])), Weights(host, only) as weights:
        person = reference_loss(host, Residuals({}), x0, settings.prompt, settings, settings.seed)
        if prior is not None:
            latents = prior.latents.to(x0, copy=True)  # inference tensors cannot be saved for backward
            anybody = reference_loss(host, Residuals({}), latents, prior.prompt, settings, settings.seed + PRIOR_STREAM)

        def loss(step: int) -> torch.Tensor:
            weights.put()
            if prior is None:
                return person(step, None)
            return person(step, None) + PRIOR_WEIGHT * anybody(step, None)

        after = watched(settings.steps)
        losses = minimise(list(weights.leaves.values()), loss, settings.steps, settings.learning_rate, after)
        learned = weights.learned()
    model, clip = model.clone(), clip.clone()
    patches = {key: ("set", (weight,)) for key, weight in learned.items()}
    model.add_patches({key: patch for key, patch in patches.items() if key.startswith("diffusion_model.")})
    clip.add_patches({key: patch for key, patch in patches.items() if not key.startswith("diffusion_model.")})
    trained = sum(weight.numel() for weight in learned.values())
    return Personalised(
        model,
        clip,
        trained,
        losses,
        time.time() - started,
        settings.trigger,
        lambda path: write_checkpoint(path, model, clip, vae),
    )


class Weights:
    """The host's weights as float32 leaves, on which its modules run while the ``with`` block lasts.

    Raises:
        ValueError: on entering, for a weight that is stored in a way that cannot be trained.
    """

    def __init__(self, host: HostModel, only: set[str] | None = None):
        self.host, self.only = host, only

    def __enter__(self) -> "Weights":
        places = self.host.weights()
        self.places = {key: place for key, place in places.items() if self.only is None or key in self.only}
        self.originals = {key: module._parameters[name] for key, (module, name) in self.places.items()}
        for key, tensor in self.originals.items():
            if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.dtype not in (
                torch.float32,
                torch.float16,
                torch.bfloat16,
            ):
                raise ValueError(
                    f"The weight {key} is {type(tensor).__name__} of {tensor.dtype}; DreamBooth trains ordinary float weights "
                    "only. Load a checkpoint that is not quantised."
                )
        self.leaves = {
            key: tensor.detach().to(torch.float32, copy=True).requires_grad_() for key, tensor in self.originals.items()
        }
        return self

    def put(self) -> None:
        """Let the modules run on the leaves as they are now, in the type they compute in."""
        for key, (module, name) in self.places.items():
            module._parameters[name] = self.leaves[key].to(self.originals[key].dtype)

    def learned(self) -> dict[str, torch.Tensor]:
        """Host's key -> weight in half precision on the CPU, of all leaves that the loss reached."""
        learned = {
            key: leaf.detach().to("cpu", torch.float16) for key, leaf in self.leaves.items() if leaf.grad is not None
        }
        if bad := [key for key, weight in learned.items() if not torch.isfinite(weight).all()]:
            raise ValueError(
                f"{len(bad)} weights, the first is {bad[0]}, no longer fit half precision. Use a lower learning rate."
            )
        return learned

    def __exit__(self, *_) -> None:
        for key, (module, name) in self.places.items():
            module._parameters[name] = self.originals[key]


def write_checkpoint(path: Path, model, clip, vae) -> None:
    """A whole checkpoint in half precision, patches baked in, for the stock *Load Checkpoint*."""
    mm.load_models_gpu([model, clip.load_model()])
    state = model.state_dict_for_saving(clip.state_dict_for_saving(), vae.get_sd())
    halves = {}
    for key in list(state):
        weight = state.pop(key).to("cpu").detach()  # the host bakes its patches in here, one weight after the other
        halves[key] = (weight.half() if weight.is_floating_point() else weight).contiguous()
    save_file(halves, path)
