"""Beside the host's other ways to change a model: order does not matter, and a finetune leaves each of them as it was."""

from pathlib import Path

import comfy.model_patcher
import pytest
import torch

from hyperdreambooth.lidb.file import load_lidb
from hyperdreambooth.lidb.finetune import FinetuneSettings
from hyperdreambooth.nodes.apply_lidb import apply_lidb, as_lora, lora_hooks
from hyperdreambooth.nodes.finetune import run_finetune

WEIGHTS = Path(__file__).resolve().parents[2] / "faceworld" / "weights"
PROMPT = "a photo of a [V] face"
SKETCH = "faceworld_pencil_sketch.safetensors"
GREY = 1.01 / 255  # what two orders of the same sums, rounded to half precision, may differ by in a picture


def stock(host, kind: str, **inputs) -> tuple:
    """What a node of the host gives."""
    node = host.nodes.NODE_CLASS_MAPPINGS[kind]
    given = getattr(node(), node.FUNCTION)(**inputs)
    return getattr(given, "result", given)


def sketched(host, model, clip, kind: str = "LoraLoader", strength: float = 1.0):
    strengths = {"strength_model": strength, "strength_clip": strength}
    return stock(host, kind, model=model, clip=clip, lora_name=SKETCH, **strengths)


def merged(host, model, clip):
    """Half and half with another loading of the checkpoint, which carries the sketch."""
    other = sketched(host, *stock(host, "CheckpointLoaderSimple", ckpt_name="faceworld.safetensors")[:2])
    return (
        stock(host, "ModelMergeSimple", model1=model, model2=other[0], ratio=0.5)[0],
        stock(host, "CLIPMergeSimple", clip1=clip, clip2=other[1], ratio=0.5)[0],
    )


SAMPLING = {
    "FreeU": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "PerturbedAttentionGuidance": {"scale": 3.0},
    "RescaleCFG": {"multiplier": 0.7},
    "SelfAttentionGuidance": {"scale": 0.5, "blur_sigma": 2.0},
}
ORDERED = ["LoraLoader", "LoraLoaderBypass", "ModelSamplingDiscrete", *SAMPLING]


def changed(host, kind: str, model, clip):
    """(MODEL, CLIP) behind the host's node of that kind."""
    if kind.startswith("LoraLoader"):
        return sketched(host, model, clip, kind)
    if kind == "merge":
        return merged(host, model, clip)
    settings = SAMPLING.get(kind) or {"sampling": "v_prediction", "zsnr": True}
    return stock(host, kind, model=model, **settings)[0], clip


def draw(host, faceworld, model, clip, prompts=None) -> torch.Tensor:
    """A short sampling as a picture; ``prompts`` may be encoded already."""
    prompts = prompts or [stock(host, "CLIPTextEncode", clip=clip, text=text)[0] for text in (PROMPT, "")]
    latent = {"samples": torch.zeros(1, 8, 16, 16)}
    made = host.nodes.KSampler().sample(model, 3, 2, 3.0, "euler", "normal", *prompts, latent, 1.0)[0]
    return stock(host, "VAEDecode", vae=faceworld[2], samples=made)[0].clone()


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.fixture(scope="module")
def friend():
    return load_lidb(WEIGHTS / "lidb" / "hyperdreambooth_friend.lidb.safetensors")


@pytest.fixture(scope="module")
@torch.inference_mode()
def plain(host, faceworld) -> torch.Tensor:
    return draw(host, faceworld, *faceworld[:2])


@pytest.fixture(scope="module")
@torch.inference_mode()
def personal(host, faceworld, friend) -> torch.Tensor:
    return draw(host, faceworld, *apply_lidb(*faceworld[:2], friend, 1.0, 1.0))


@pytest.mark.parametrize("kind", ORDERED)
@torch.inference_mode()
def test_the_order_does_not_matter_and_both_are_seen(host, faceworld, friend, plain, personal, kind):
    pair = faceworld[:2]
    before = draw(host, faceworld, *changed(host, kind, *apply_lidb(*pair, friend, 1.0, 1.0)))
    after = draw(host, faceworld, *apply_lidb(*changed(host, kind, *pair), friend, 1.0, 1.0))
    alone = draw(host, faceworld, *changed(host, kind, *pair))
    assert far(before, after) <= GREY
    assert min(far(before, alone), far(before, personal), far(alone, plain)) > 10 * GREY
    assert torch.equal(draw(host, faceworld, *pair), plain)


@torch.inference_mode()
def test_a_bypass_lora_equals_a_baked_one_beside_a_person(host, faceworld, friend):
    pair = apply_lidb(*faceworld[:2], friend, 1.0, 1.0)
    baked, bypass = (draw(host, faceworld, *sketched(host, *pair, kind)) for kind in ("LoraLoader", "LoraLoaderBypass"))
    assert far(baked, bypass) <= GREY


@torch.inference_mode()
def test_half_a_merge_is_half_a_person(host, faceworld, friend, plain):
    """A merge weighs what came before it, as it does with any LoRA; what comes after has its full strength."""
    pair = faceworld[:2]
    before = draw(host, faceworld, *merged(host, *apply_lidb(*pair, friend, 1.0, 1.0)))
    after = draw(host, faceworld, *apply_lidb(*merged(host, *pair), friend, 0.5, 0.5))
    summed = draw(host, faceworld, *apply_lidb(*sketched(host, *pair, strength=0.5), friend, 0.5, 0.5))
    assert far(before, after) <= GREY and far(before, summed) <= GREY
    assert far(before, plain) > 10 * GREY
    assert torch.equal(draw(host, faceworld, *pair), plain)


@torch.inference_mode()
def test_hooks_of_both_kinds_stand_beside_patches_of_both_kinds(host, faceworld, friend, plain):
    pair = faceworld[:2]
    theirs = stock(host, "CreateHookLora", lora_name=SKETCH, strength_model=1.0, strength_clip=1.0)[0]
    ours = lora_hooks(as_lora(friend), 1.0, 1.0)
    together = stock(host, "CombineHooks2", hooks_A=theirs, hooks_B=ours)[0]

    def hooked(model, clip, hooks):
        clip = stock(host, "SetClipHooks", clip=clip, schedule_clip=False, apply_to_conds=True, hooks=hooks)[0]
        return draw(host, faceworld, model, clip)

    wanted = draw(host, faceworld, *apply_lidb(*sketched(host, *pair), friend, 1.0, 1.0))
    for got in (
        hooked(*apply_lidb(*pair, friend, 1.0, 1.0), theirs),
        hooked(*sketched(host, *pair), ours),
        hooked(*pair, together),
        hooked(*sketched(host, *pair, "LoraLoaderBypass"), ours),
    ):
        assert far(got, wanted) <= GREY < far(got, plain)
    assert torch.equal(draw(host, faceworld, *pair), plain)


def weights(host, model, clip) -> dict[str, torch.Tensor]:
    """The bits of every weight without any patch; one that no file gives the host may hold NaN, equal to nothing."""
    host.mm.unload_all_models()
    stores = {"model": model.model, "clip": clip.cond_stage_model}
    values = {f"{name}.{key}": value for name, store in stores.items() for key, value in store.state_dict().items()}
    return {key: value.reshape(-1).clone().view(torch.uint8) for key, value in values.items()}


def carried(patcher) -> tuple:
    """Everything that a patcher would change in its model: the very objects."""
    patches = {key: [tuple(map(id, entry)) for entry in entries] for key, entries in patcher.patches.items()}
    injections = {key: list(map(id, value)) for key, value in patcher.injections.items()}
    options = comfy.model_patcher.create_model_options_clone(patcher.model_options)
    return patcher.patches_uuid, patches, dict(patcher.object_patches), injections, options


def photo(host) -> torch.Tensor:
    return stock(host, "LoadImage", image="hyperdreambooth_person.png")[0]


def losses(host, faceworld, model, clip) -> list[float]:
    return run_finetune(model, clip, faceworld[2], photo(host), None, FinetuneSettings(steps=2), 1, PROMPT, 0)[1]


@pytest.mark.parametrize("kind", ["merge", *ORDERED])
@torch.inference_mode()
def test_a_finetune_leaves_a_changed_model_as_it_was(host, faceworld, friend, plain, kind):
    pair = faceworld[:2]
    untouched = weights(host, *pair)
    model, clip = changed(host, kind, *apply_lidb(*pair, friend, 1.0, 1.0))
    picture = draw(host, faceworld, model, clip)
    held = carried(model), carried(clip.patcher)
    losses(host, faceworld, model, clip)
    assert (carried(model), carried(clip.patcher)) == held
    assert torch.equal(draw(host, faceworld, model, clip), picture)
    assert torch.equal(draw(host, faceworld, *pair), plain)
    now = weights(host, *pair)
    assert now.keys() == untouched.keys() and not [key for key in now if not torch.equal(now[key], untouched[key])]
    for module in [*pair[0].model.modules(), *pair[1].cond_stage_model.modules()]:
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert module.forward.__func__ is type(module).forward  # the bypass puts this one back, on the module itself


@torch.inference_mode()
def test_a_finetune_learns_beside_weights_and_not_beside_what_acts_on_sampling(host, faceworld):
    pair = faceworld[:2]
    bare = losses(host, faceworld, *pair)
    for kind in SAMPLING:
        assert losses(host, faceworld, *changed(host, kind, *pair)) == bare, kind
    baked, bypass = (losses(host, faceworld, *changed(host, kind, *pair)) for kind in ORDERED[:2])
    assert bypass == pytest.approx(baked, rel=1e-3) and abs(baked[0] - bare[0]) > 0.01 * bare[0]
    levels = losses(host, faceworld, *changed(host, "ModelSamplingDiscrete", *pair))
    assert abs(levels[1] - bare[1]) > 0.01 * bare[1]  # other noise levels are what the model is trained at
    half = losses(host, faceworld, *sketched(host, *pair, strength=0.5))
    assert losses(host, faceworld, *merged(host, *pair)) == pytest.approx(half, rel=1e-3)


@torch.inference_mode()
def test_a_clip_with_hooks_is_refused(host, faceworld, plain):
    pair = faceworld[:2]
    hooks = stock(host, "CreateHookLora", lora_name=SKETCH, strength_model=1.0, strength_clip=1.0)[0]
    clip = stock(host, "SetClipHooks", clip=pair[1], schedule_clip=False, apply_to_conds=True, hooks=hooks)[0]
    with pytest.raises(ValueError, match="This CLIP carries hooks"):
        losses(host, faceworld, pair[0], clip)
    assert torch.equal(draw(host, faceworld, *pair), plain)
