"""The HOOKS output of *Apply LiDB to Model*, with the host's own hook nodes: the same person, where and when one wants."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.faceworld.metrics import IdentityMetric

PEOPLE = Path(__file__).resolve().parents[2] / "faceworld" / "people"
STEPS = 4


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def person(host, name: str, photo: str, strength: float = 1.0, strength_clip: float | None = None) -> dict:
    """Nodes that predict somebody and make hooks of them: ``NAME`` is *Apply LiDB to Model*, its outputs 0, 1 the patched pair."""
    (host.base / "input" / photo).write_bytes((PEOPLE / photo).read_bytes())
    return {
        f"{name} photo": node("LoadImage", image=photo),
        f"{name} lidb": node("HDB_PredictLiDB", hypernet=["net", 0], image=[f"{name} photo", 0]),
        name: node(
            "HDB_ApplyLiDB",
            model=["base", 0],
            clip=["base", 1],
            lidb=[f"{name} lidb", 0],
            strength_model=strength,
            strength_clip=strength if strength_clip is None else strength_clip,
        ),
    }


def draw(host, clip: list, model: list = ("base", 0), **more) -> np.ndarray:
    """A short sampling; ``more`` are other nodes, among which ``positive`` and ``negative`` may replace the prompts."""
    api = {
        "base": node("CheckpointLoaderSimple", ckpt_name="faceworld.safetensors"),
        "net": node("HDB_LoadHyperNet", hypernet_name="faceworld.safetensors"),
        "positive": node("CLIPTextEncode", text="a photo of a [V] face", clip=clip),
        "negative": node("CLIPTextEncode", text="", clip=clip),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "sample": node(
            "KSampler", seed=5, steps=STEPS, cfg=3.0, sampler_name="euler", scheduler="normal", denoise=1.0,
            model=list(model), positive=["positive", 0], negative=["negative", 0], latent_image=["latent", 0],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["base", 2]),
        "save": node("PreviewImage", images=["decode", 0]),
        **more,
    }  # fmt: skip
    return np.asarray(Image.open(host.saved(host.run(api)["save"])[0]).convert("RGB"), int)


def hooked(hooks: list, schedule: bool = False) -> dict:
    """The plain text encoder with hooks, which it hands on to the prompts it encodes."""
    return {"hooked": node("SetClipHooks", clip=["base", 1], hooks=hooks, apply_to_conds=True, schedule_clip=schedule)}


@pytest.fixture(scope="module")
def plain(host) -> np.ndarray:
    return draw(host, ["base", 1])


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_hooks_on_both_prompts_give_the_picture_of_the_patched_model(host, plain, strength):
    a = person(host, "a", "00_reference.png", strength)
    patched = draw(host, ["a", 1], ["a", 0], **a)
    by_hooks = draw(host, ["hooked", 0], **a, **hooked(["a", 3]))
    assert np.abs(by_hooks - patched).max() <= 1
    assert np.abs(patched - plain).max() > 50


def test_prompts_of_the_patched_clip_with_hooks_give_the_picture_of_the_patched_model(host, plain):
    """As workflow 05 and the help page wire it: the hooks carry the model's half, *clip* has written the prompts."""
    a = person(host, "a", "00_reference.png")
    words = {
        key: node("CLIPTextEncode", text=text, clip=["a", 1])
        for key, text in (("yes", "a photo of a [V] face"), ("no", ""))
    }
    pair = node(
        "PairConditioningSetProperties", positive_NEW=["yes", 0], negative_NEW=["no", 0], strength=1.0,
        set_cond_area="default", hooks=["a", 3],
    )  # fmt: skip
    sampler = node(
        "KSampler", seed=5, steps=STEPS, cfg=3.0, sampler_name="euler", scheduler="normal", denoise=1.0,
        model=["base", 0], positive=["pair", 0], negative=["pair", 1], latent_image=["latent", 0],
    )  # fmt: skip
    by_hooks = draw(host, ["base", 1], **a, **words, pair=pair, sample=sampler)
    patched = draw(host, ["a", 1], ["a", 0], **a)
    assert np.abs(by_hooks - patched).max() <= 1 and np.abs(patched - plain).max() > 50


@pytest.mark.parametrize("model, clip", [(1.0, 0.0), (0.0, 1.0)])
def test_each_strength_is_of_its_own_half(host, plain, model, clip):
    """At strength 0 a half is the checkpoint's own, patched or by hooks."""
    a = person(host, "a", "00_reference.png", model, clip)
    patched = draw(host, ["a", 1], ["a", 0], **a)
    whole = person(host, "a", "00_reference.png")
    half = draw(host, ["a" if clip else "base", 1], ["a" if model else "base", 0], **whole)
    assert np.array_equal(patched, half) and np.abs(patched - plain).max() > 20
    assert np.abs(draw(host, ["hooked", 0], **a, **hooked(["a", 3])) - half).max() <= 1


@pytest.mark.parametrize("schedule", [False, True])
def test_a_keyframe_at_strength_0_gives_the_plain_picture(host, plain, schedule):
    """The stock encoder ignores keyframes unless told to follow them, so unscheduled hooks go to the conditioning alone."""
    a = person(host, "a", "00_reference.png")
    off = {
        "frame": node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0),
        "keyed": node("SetHookKeyframes", hooks=["a", 3], hook_kf=["frame", 0]),
    }
    if schedule:
        picture = draw(host, ["hooked", 0], **a, **off, **hooked(["keyed", 0], schedule=True))
    else:
        prompts = {"words": node("CLIPTextEncode", text="a photo of a [V] face", clip=["base", 1]),
                   "no words": node("CLIPTextEncode", text="", clip=["base", 1])}  # fmt: skip
        both = {
            key: node(
                "ConditioningSetProperties",
                cond_NEW=[words, 0],
                strength=1.0,
                set_cond_area="default",
                hooks=["keyed", 0],
            )
            for key, words in (("positive", "words"), ("negative", "no words"))
        }
        picture = draw(host, ["base", 1], **a, **off, **prompts, **both)
    assert np.array_equal(picture, plain)


def test_a_schedule_that_begins_late_lies_between_plain_and_person(host, plain):
    a = person(host, "a", "00_reference.png")
    late = {
        "off": node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0),
        "on": node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=["off", 0]),
        "keyed": node("SetHookKeyframes", hooks=["a", 3], hook_kf=["on", 0]),
    }
    whole = draw(host, ["hooked", 0], **a, **hooked(["a", 3]))
    half = draw(host, ["hooked", 0], **a, **late, **hooked(["keyed", 0], schedule=True))
    distance = [np.abs(one - other).mean() for one, other in ((plain, half), (half, whole), (plain, whole))]
    assert min(distance[:2]) > 1 and max(distance[:2]) < distance[2]


@pytest.mark.parametrize("schedule", [False, True])
def test_strength_0_gives_hooks_that_do_nothing(host, plain, schedule):
    a = person(host, "a", "00_reference.png", strength=0.0)
    assert np.array_equal(draw(host, ["hooked", 0], **a, **hooked(["a", 3], schedule)), plain)


def as_batch(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float() / 255


def two_people(host, left: str, right: str) -> np.ndarray:
    """One picture, two prompts with a mask each, and a person on each prompt."""
    api = person(host, "left", left) | person(host, "right", right)
    api |= {
        "white": node("SolidMask", value=1.0, width=128, height=128),
        "black": node("SolidMask", value=0.0, width=256, height=128),
    }
    for side, x in (("left", 0), ("right", 128)):
        api |= {
            f"{side} mask": node(
                "MaskComposite", destination=["black", 0], source=["white", 0], x=x, y=0, operation="add"
            ),
            f"{side} clip": node(
                "SetClipHooks", clip=["base", 1], hooks=[side, 3], apply_to_conds=True, schedule_clip=False
            ),
            f"{side} yes": node("CLIPTextEncode", text="a photo of a [V] face", clip=[f"{side} clip", 0]),
            f"{side} no": node("CLIPTextEncode", text="", clip=[f"{side} clip", 0]),
            f"{side} pair": node(
                "PairConditioningSetProperties", positive_NEW=[f"{side} yes", 0], negative_NEW=[f"{side} no", 0], strength=1.0,
                set_cond_area="default", mask=[f"{side} mask", 0],
            ),
        }  # fmt: skip
    for slot, key in enumerate(("positive", "negative")):
        api[key] = node("ConditioningCombine", conditioning_1=["left pair", slot], conditioning_2=["right pair", slot])
    api["latent"] = node("EmptyLatentImage", width=256, height=128, batch_size=1)
    return draw(host, ["base", 1], **api)


def test_two_people_share_a_picture_each_in_their_own_half(host):
    files = ["00_reference.png", "05_reference.png"]
    both, metric = two_people(host, *files), IdentityMetric()
    halves = as_batch(both[:, :128], both[:, 128:])
    photos = as_batch(*[np.asarray(Image.open(PEOPLE / name).convert("RGB")) for name in files])
    likeness = metric.embed(halves) @ metric.embed(photos).T  # (half, person)
    assert likeness[0, 0] > likeness[0, 1] + 0.1 and likeness[1, 1] > likeness[1, 0] + 0.1
