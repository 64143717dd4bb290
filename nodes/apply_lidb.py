"""*Apply LiDB to Model*: the identity as low-rank patches on clones of MODEL and CLIP, or as hooks for the plain ones."""

import comfy.hooks
import comfy.sd
from comfy_api.latest import io

from ..lidb.lora import to_lora
from ..lidb.value import LiDB
from .host import HostModel
from .wire import CATEGORY, LidbWire


def check_base(lidb: LiDB, model, clip) -> None:
    """Raise ValueError if the identity was made for another base model."""
    shapes = {name: (m.in_features, m.out_features) for name, m in HostModel(model, clip).linears().items()}
    missing = [t.name for t in lidb.table if shapes.get(t.name) != (t.in_features, t.out_features)]
    if missing and len(missing) < len(lidb.table) and all(name.startswith("lora_te") for name in missing):
        raise ValueError(
            f"This LiDB fits the connected model, but not the CLIP: {len(missing)} layers of the text encoder are missing or of "
            "another size. Connect the CLIP of the same checkpoint."
        )
    if missing:
        base = type(model.model.model_config).__name__
        raise ValueError(
            f"This LiDB was made for {lidb.facts.base or 'another base'} ({lidb.table.describe()}), but the connected model is "
            f"{base}, where {len(missing)} of its {len(lidb.table)} layers are missing or of another size. Load the "
            "checkpoint the LiDB was made for, or predict the LiDB again with a HyperNet for this one."
        )


def apply_lidb(model, clip, lidb: LiDB, strength_model: float, strength_clip: float):
    """Patched clones of MODEL and CLIP, through the very path a LoRA file takes.

    A strength of 0 and a neutral identity add no patch at all.

    Raises:
        ValueError: the identity belongs to another base model.
    """
    check_base(lidb, model, clip)
    return patched(model, clip, as_lora(lidb), strength_model, strength_clip)


def as_lora(lidb: LiDB) -> dict:
    """The identity in the host's terms; empty if it is neutral."""
    return to_lora(lidb) if lidb.rank + lidb.full_rank else {}


def patched(model, clip, lora: dict, strength_model: float, strength_clip: float):
    """Clones of MODEL and CLIP with a LoRA's patches."""
    unet = {key: value for key, value in lora.items() if key.startswith("lora_unet")}
    text = {key: value for key, value in lora.items() if not key.startswith("lora_unet")}
    if strength_model and unet:
        model = comfy.sd.load_lora_for_models(model, None, unet, strength_model, 0)[0]
    else:
        model = model.clone()
    if strength_clip and text:
        clip = comfy.sd.load_lora_for_models(None, clip, text, 0, strength_clip)[1]
    else:
        clip = clip.clone()
    return model, clip


def lora_hooks(lora: dict, strength_model: float, strength_clip: float) -> comfy.hooks.HookGroup:
    """An identity as the host's weight hooks, as *Create Hook LoRA* makes them of a file.

    Attached to a conditioning, they act on the plain model only where and when that conditioning does. Always one hook,
    also where it does nothing: of a group without any, *Set CLIP Hooks* makes an empty schedule, and so an empty prompt.
    """
    return comfy.hooks.create_hook_lora(lora, strength_model, strength_clip)


class ApplyLiDB(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_ApplyLiDB",
            display_name="Apply LiDB to Model",
            category=CATEGORY,
            description="Patches clones of the diffusion model and its text encoder with a person's LiDB. The trigger phrase "
            "output is what the prompt must contain for the person to appear. The hooks output is the same person for the plain "
            "model: for one part of a picture, or some steps of the sampling.",
            search_aliases=["hyperdreambooth", "apply identity", "personalize", "face", "hooks", "two people"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model to personalise. It is cloned, never changed."),
                io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint. It is cloned, never changed."),
                LidbWire.Input("lidb", tooltip="The person, from Predict LiDB, Rank-Relaxed Finetune or Load LiDB."),
                io.Float.Input(
                    "strength_model",
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How strongly the person acts on the diffusion model. 1 as predicted, 0 leaves the model as it is.",
                ),
                io.Float.Input(
                    "strength_clip",
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How strongly the person acts on the text encoder. 1 as predicted, 0 leaves it as it is.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The personalised diffusion model."),
                io.Clip.Output(
                    display_name="clip", tooltip="The personalised text encoder: encode your prompts with this one."
                ),
                io.String.Output(display_name="trigger", tooltip='The words that call the person, e.g. "[V] face".'),
                io.Hooks.Output(
                    display_name="hooks",
                    tooltip="The person as hooks, with these strengths, for the un-personalised model: encode the prompts with the "
                    "clip output, connect hooks to Cond Pair Set Props and sample the checkpoint's own model. Use it instead of "
                    "the model output; with both, the person is applied twice.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, clip, lidb, strength_model, strength_clip):
        check_base(lidb, model, clip)
        lora, strengths = as_lora(lidb), (strength_model, strength_clip)
        return io.NodeOutput(*patched(model, clip, lora, *strengths), lidb.facts.trigger, lora_hooks(lora, *strengths))
