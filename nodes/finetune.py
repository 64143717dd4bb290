"""*Rank-Relaxed Finetune*: sharpen a predicted person on the reference pictures, inside the running host."""

from collections.abc import Callable

import comfy.model_management as mm
import latent_preview
import torch
from comfy_api.latest import io, ui

from ..lidb.basis import Basis
from ..lidb.finetune import SPACES, FinetuneSettings, finetune
from ..lidb.residual import Residuals
from ..lidb.value import Facts, LiDB
from .apply_lidb import check_base
from .before_after import BeforeAfter
from .host import HostModel
from .loss_picture import loss_picture
from .pictures import MIN_FACE_PIXELS, jpeg_thumbnail, resize, to_pil
from .progress import StepProgress, show_result
from .reference_loss import ReferenceLoss
from .wire import CATEGORY, LidbWire, LossMapWire

PREVIEW_EVERY = 5
MAX_SIDE = 1024
DEFAULT_TRIGGER = "[V] face"


def fit_to_model(image: torch.Tensor, resolution: int, own: int) -> torch.Tensor:
    """Bring reference pictures (N, H, W, C) to the training size, (N, H', W', 3) with sides divisible by 8.

    Args:
        resolution: the shorter side in pixels; 0: as many pixels as a square of side ``own``, and no more than the
            picture has, because enlarging adds time but no detail.

    Raises:
        ValueError: the picture is too small to show a face.
    """
    H, W = image.shape[1:3]
    if min(H, W) < MIN_FACE_PIXELS:
        raise ValueError(
            f"The reference picture has only {W} x {H} pixels; at least {MIN_FACE_PIXELS} x {MIN_FACE_PIXELS} are needed."
        )
    scale = resolution / min(H, W) if resolution else min(1.0, own / (H * W) ** 0.5)
    height, width = (max(8, int(round(side * scale)) // 8 * 8) for side in (H, W))
    return resize(image[..., :3], height, width)


def starting_basis(table) -> Basis:
    """The basis of an identity that begins from nothing: the paper's a=100, b=50 where the layers are wide enough."""
    return Basis(a=min(100, min(t.in_features for t in table)), b=min(50, min(t.out_features for t in table)))


def mask_weight(mask: torch.Tensor, image: torch.Tensor, latent: torch.Size) -> torch.Tensor:
    """Mask (N or 1, H, W), white on the person -> weights (P, 1, h, w) of the loss, mean 1 for each picture.

    Args:
        image: the pictures (P, H, W, C) as they came in; latent: shape of their latents, (..., h, w).

    Raises:
        ValueError: the mask is not of the picture's size, or is empty for one of the pictures.
    """
    (P, H, W), (h, w) = image.shape[:3], latent[-2:]
    if mask.any() and (mask.shape[0] not in (1, P) or mask.shape[1:] != (H, W)):  # a crop's is not the whole photo's
        raise ValueError(
            f"The mask is {mask.shape[2]} x {mask.shape[1]} ({mask.shape[0]} of them), the reference picture {W} x {H} ({P} of "
            "them); they must cover the same picture. Make the mask on the very picture that the finetune gets."
        )
    weight = torch.nn.functional.adaptive_avg_pool2d(mask[:, None].float(), (h, w)).expand(P, 1, h, w)
    mean = weight.mean((2, 3), keepdim=True)
    if not (mean > 0).all():
        raise ValueError(
            "The mask is empty, so nothing would be learnt. Paint the person white, or disconnect the mask."
        )
    return weight / mean


def check_trigger(trigger: str, prompt: str) -> None:
    """ValueError if the prompt does not contain the trigger phrase."""
    if trigger not in prompt:
        raise ValueError(
            f"The prompt {prompt!r} does not contain the trigger phrase {trigger!r}, so the person would be learned under "
            f'other words. Write the phrase into the prompt, e.g. "a photo of a {trigger}".'
        )


def run_finetune(
    model,
    clip,
    vae,
    image,
    start: LiDB | None,
    settings: FinetuneSettings,
    batch: int,
    prompt: str,
    resolution: int,
    mask: torch.Tensor | None = None,
    node_id: str | None = None,
    finished: Callable[[HostModel, Residuals, LiDB, LiDB, torch.Tensor], None] | None = None,
):
    """Finetune on the host's modules; nothing of the host is changed, also after an interruption or an error.

    Args:
        node_id: the node that shows seconds per step and time left.
        finished: called once with host, residuals, start, result and reference latents, while all of them can be run.

    Returns:
        (LiDB, losses per step).
    """
    host = HostModel(model, clip, vae)
    fitted = fit_to_model(image, resolution, host.side)
    if start is None:
        start = LiDB.zeros(host.table, starting_basis(host.table), facts=Facts(trigger=DEFAULT_TRIGGER, base=host.base))
        start = start.with_facts(thumbnail=jpeg_thumbnail(fitted[0]))
    check_base(start, model, clip)
    check_trigger(start.facts.trigger, prompt)
    x0 = host.encode_image(fitted)
    with torch.inference_mode(False):
        weight = None if mask is None else mask_weight(mask.clone(), image, x0.shape)
    factors = model.model.latent_format.latent_rgb_factors
    previewer = (
        latent_preview.Latent2RGBPreviewer(factors, model.model.latent_format.latent_rgb_factors_bias)
        if factors
        else None
    )
    with host.training((batch, *x0.shape[1:])), Residuals(host.modules) as residuals:
        progress = StepProgress(settings.steps, node_id)
        loss = ReferenceLoss(host, residuals, x0, prompt, batch, settings.steps, settings.seed, weight)

        def on_step(step: int, ranks) -> None:
            mm.throw_exception_if_processing_interrupted()
            picture = None
            if previewer and loss.seen is not None and (step % PREVIEW_EVERY == 0 or step == settings.steps):
                latent = model.model.process_latent_out(loss.seen)
                picture = ("JPEG", previewer.decode_latent_to_preview(latent), 256)
            progress.update(step, picture)

        mm.throw_exception_if_processing_interrupted()
        person, losses = finetune(start, loss, settings, host.device, on_step)
        if finished is not None:
            finished(host, residuals, start, person, x0)
        return person, losses


class RankRelaxedFinetune(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_RankRelaxedFinetune",
            has_intermediate_output=True,  # the picture comes back after the page was loaded again
            display_name="Rank-Relaxed Finetune",
            category=CATEGORY,
            description="Sharpens a person on the reference picture: the prediction stays and a few more ranks are trained "
            "beside it, 40 iterations in the paper. Without a LiDB it starts from zero and works on any Stable Diffusion "
            "checkpoint, no HyperNet needed.",
            search_aliases=["hyperdreambooth", "train face", "dreambooth", "train lora"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The un-personalised model. It is not changed; LoRAs applied to it count as part of it.",
                ),
                io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint; it encodes the reference picture."),
                io.Image.Input(
                    "image", tooltip="The face: the crop from Predict LiDB, or several photos of one person as a batch."
                ),
                LidbWire.Input(
                    "lidb",
                    optional=True,
                    tooltip="Where to start: a prediction, or an earlier finetune to continue. Unconnected: from zero.",
                ),
                io.Int.Input(
                    "steps",
                    default=40,
                    min=1,
                    max=2000,
                    tooltip="Iterations. The paper uses 40; more is sharper but stiffer.",
                ),
                io.Int.Input(
                    "rank",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="How many ranks are added to the prediction (rank relaxation).",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.01,
                    min=1e-5,
                    max=1.0,
                    step=1e-4,
                    round=1e-6,
                    tooltip="Step size. Too high loses the prompt or breaks the picture, too low changes nothing.",
                ),
                io.Int.Input(
                    "batch_size", default=4, min=1, max=64, tooltip="Noisy copies of the picture per iteration."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Seeds the noise and the new ranks. The same seed gives the same person.",
                ),
                io.String.Input(
                    "prompt",
                    default="a photo of a [V] face",
                    tooltip="What the reference shows, with the trigger phrase in it.",
                ),
                io.Combo.Input(
                    "space",
                    options=list(SPACES),
                    default="full",
                    tooltip="full: the new ranks are those of an ordinary LoRA, as in the paper; more like the person. basis: they "
                    "stay inside the LiDB basis; smaller files.",
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    step=8,
                    tooltip="Shorter side of the training picture in pixels. 0: the model's own size (SD 1.x 512, SD 2.x 768, SDXL "
                    "1024, the miniature 128), and never larger than the picture.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where the person is, on the same picture. Only that part is learnt, not the background.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                LidbWire.Output(display_name="lidb", tooltip="The sharpened person."),
                LossMapWire.Output(
                    display_name="loss_map", tooltip="Loss per iteration, for the stock Plot Loss Graph node."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        image,
        steps,
        rank,
        learning_rate,
        batch_size,
        seed,
        prompt,
        space,
        resolution,
        lidb=None,
        mask=None,
    ):
        settings = FinetuneSettings(steps=steps, rank=rank, learning_rate=learning_rate, space=space, seed=seed)
        node_id = cls.hidden and cls.hidden.unique_id  # None when called without the executor
        drawn = BeforeAfter(prompt, seed, steps * batch_size)
        lidb, losses = run_finetune(
            model, clip, vae, image, lidb, settings, batch_size, prompt, resolution, mask, node_id, drawn
        )
        sheet = loss_picture(image[0, ..., :3], *drawn.pictures(), losses)
        show_result(to_pil(sheet[0]), steps)
        return io.NodeOutput(lidb, {"loss": losses}, ui=ui.PreviewImage(sheet, cls=cls))
