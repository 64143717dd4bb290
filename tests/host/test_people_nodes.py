"""*Blend LiDBs*, *LiDB Info* and *Identity Score* in the real executor."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.cli.headless import NodeFailed
from hyperdreambooth.faceworld.metrics import IdentityMetric
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.file import save_lidb
from hyperdreambooth.lidb.value import Facts, LiDB
from hyperdreambooth.nodes.apply_lidb import check_base
from hyperdreambooth.nodes.finetune import starting_basis
from hyperdreambooth.nodes.host import HostModel
from hyperdreambooth.nodes.pictures import jpeg_thumbnail

PEOPLE = Path(__file__).resolve().parents[2] / "faceworld" / "people"
BLEND = {f"weight_{i}": 1.0 for i in range(1, 5)} | {"how": "exact sum"}


def load_picture(host, name: str) -> dict:
    target = host.base / "input" / name
    if not target.exists():
        target.write_bytes((PEOPLE / name).read_bytes())
    return {"class_type": "LoadImage", "inputs": {"image": name}}


def predictions(host, *names: str) -> dict:
    """A graph that predicts one person per photo: nodes ``person0``, ``person1``, ..."""
    api = {"net": {"class_type": "HDB_LoadHyperNet", "inputs": {"hypernet_name": "faceworld.safetensors"}}}
    for i, name in enumerate(names):
        api[f"photo{i}"] = load_picture(host, name)
        api[f"person{i}"] = {
            "class_type": "HDB_PredictLiDB", "inputs": {"hypernet": ["net", 0], "image": [f"photo{i}", 0]}
        }  # fmt: skip
    return api


def blend(*people: list, **widgets) -> dict:
    inputs = {f"lidb_{i}": person for i, person in enumerate(people, 1)}
    return {"class_type": "HDB_BlendLiDBs", "inputs": inputs | BLEND | widgets}


def draw(lidb: list) -> dict:
    """A short sampling with a person applied; the picture comes out of node ``save``."""
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "faceworld.safetensors"}}
    apply = {"model": ["base", 0], "clip": ["base", 1], "lidb": lidb, "strength_model": 1.0, "strength_clip": 1.0}
    sampling = {
        "seed": 5, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
        "model": ["apply", 0], "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["latent", 0],
    }  # fmt: skip
    return {
        "base": loader,
        "apply": {"class_type": "HDB_ApplyLiDB", "inputs": apply},
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"text": "a photo of a [V] face", "clip": ["apply", 1]}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["apply", 1]}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "sample": {"class_type": "KSampler", "inputs": sampling},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["base", 2]}},
        "save": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
    }


def pixels(host, output: dict) -> np.ndarray:
    return np.asarray(Image.open(host.saved(output)[0]).convert("RGB"), int)


@pytest.mark.parametrize("how", ["exact sum", "morph"])
def test_a_blend_with_everything_on_one_person_draws_that_person(host, how):
    api = predictions(host, "00_reference.png", "03_reference.png")
    pictures = {}
    for name, lidb in (("first", ["person0", 0]), ("all of the first", ["blend", 0]), ("half", ["halves", 0])):
        graph = api | draw(lidb) | {
            "blend": blend(["person0", 0], ["person1", 0], weight_1=0.7, weight_2=0.0, how=how),
            "halves": blend(["person0", 0], ["person1", 0], how=how),
        }  # fmt: skip
        pictures[name] = pixels(host, host.run(graph)["save"])
    assert np.array_equal(pictures["all of the first"], pictures["first"])
    assert np.abs(pictures["half"] - pictures["first"]).max() > 20


def test_a_blend_says_its_shares_and_shows_everybody(host):
    names = ["00_reference.png", "03_reference.png", "05_reference.png"]
    people = [[f"person{i}", 0] for i in range(3)]
    api = predictions(host, *names) | {
        "blend": blend(*people, weight_1=2.0),
        "info": {"class_type": "HDB_LiDBInfo", "inputs": {"lidb": ["blend", 0]}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["blend", 2]}},
    }
    outputs = host.run(api)
    shares = "50 % of person 1 + 25 % of person 2 + 25 % of person 3"
    assert outputs["report"]["text"][0].startswith(f"{shares}; rank 3, ")
    assert (
        "made: blended\n" in outputs["info"]["text"][0] and "rank: 3 inside the basis\n" in outputs["info"]["text"][0]
    )
    assert Image.open(host.saved(outputs["info"])[0]).size == (3 * 64, 64)  # the thumbnails side by side


def save_person(host, faceworld, name: str, basis: Basis | None = None, width: int = 1, **facts) -> dict:
    """A random person as a file in models/lidb -> a *Load LiDB* node with it."""
    table = HostModel(*faceworld[:2]).table
    if width > 1:
        wide = tuple(replace(t, in_features=width * t.in_features) for t in table)
        table = replace(table, targets=wide)
    basis = basis or starting_basis(table)
    stream = torch.Generator().manual_seed(0)
    A, B = torch.randn(len(table), basis.a, 1, generator=stream), torch.randn(len(table), 1, basis.b, generator=stream)
    path = host.base / "models" / "lidb" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_lidb(path, LiDB(table, basis, A, B, frozen_rank=1, facts=Facts(**{"base": "Faceworld"} | facts)))
    return {"class_type": "HDB_LoadLiDB", "inputs": {"lidb_name": path.name}}


def test_people_who_cannot_be_blended_are_refused_and_other_triggers_are_said(host, faceworld):
    basis = starting_basis(HostModel(*faceworld[:2]).table)
    api = {
        "a": save_person(host, faceworld, "a"),
        "seed": save_person(host, faceworld, "seed", basis=replace(basis, seed=9)),
        "wide": save_person(host, faceworld, "wide", width=2, base="Widebase"),
        "named": save_person(host, faceworld, "named", trigger="[V] person"),
        "text": {"class_type": "PreviewAny", "inputs": {"source": ["blend", 2]}},
    }
    for other, widgets, says in (
        ("seed", {}, "LiDB 2 is written in another basis .*'seed': 9.* than LiDB 1"),
        ("wide", {}, "LiDB 2 was made for Widebase .* and LiDB 1 for Faceworld"),
        ("a", {"weight_1": -1.0}, "add up to 0"),
    ):
        graph = api | {"blend": blend(["a", 0], [other, 0], **widgets)}
        with pytest.raises(NodeFailed, match=says) as failure:
            host.run(graph)
        assert "\n" not in str(failure.value) and str(failure.value).endswith(".")
    four = blend(["a", 0], ["a", 0]) | {}
    four["inputs"]["lidb_4"] = ["wide", 0]
    with pytest.raises(NodeFailed, match="LiDB 4 was made for Widebase"):
        host.run(api | {"blend": four})
    report = host.run(api | {"blend": blend(["named", 0], ["a", 0])})["text"]["text"][0]
    assert '"[V] person" is kept' in report and "[V] face, [V] person" in report
    left_out = host.run(api | {"blend": blend(["a", 0], ["a", 0], ["named", 0], weight_3=0.0)})["text"]["text"][0]
    assert left_out.startswith("50 % of person 1 + 50 % of person 2;") and "differ" not in left_out


def test_info_shows_the_thumbnail_and_survives_a_damaged_one(host, faceworld):
    api = predictions(host, "00_reference.png")
    api["info"] = {"class_type": "HDB_LiDBInfo", "inputs": {"lidb": ["person0", 0]}}
    shown = host.run(api)["info"]
    for part in (
        'trigger phrase: "[V] face"',
        "base model: Faceworld",
        "made: predicted\n",
        "rank: 1 inside the basis",
        "float16\nthumbnail: ",
    ):
        assert part in shown["text"][0], (part, shown["text"][0])
    photo = np.asarray(Image.open(PEOPLE / "00_reference.png").convert("RGB").resize((64, 64)), int)
    assert np.abs(pixels(host, shown) - photo).mean() < 12  # the picture it was predicted from
    damaged = {"load": save_person(host, faceworld, "damaged", thumbnail=b"no jpeg at all")}
    damaged["info"] = {"class_type": "HDB_LiDBInfo", "inputs": {"lidb": ["load", 0]}}
    shown = host.run(damaged)["info"]
    assert "not shown: the thumbnail is no readable JPEG" in shown["text"][0] and not shown["images"]
    huge = io.BytesIO()
    Image.new("L", (20000, 8)).save(huge, "JPEG")
    damaged = {"load": save_person(host, faceworld, "huge", thumbnail=huge.getvalue()), "info": damaged["info"]}
    assert "of a usual size" in host.run(damaged)["info"]["text"][0]


def test_a_person_who_was_overwritten_on_disk_is_read_again(host, faceworld):
    api = {"load": save_person(host, faceworld, "again")}
    api["info"] = {"class_type": "HDB_LiDBInfo", "inputs": {"lidb": ["load", 0]}}
    assert 'trigger phrase: "[V] face"' in host.run(api)["info"]["text"][0]
    save_person(host, faceworld, "again", trigger="[V] somebody else")
    assert 'trigger phrase: "[V] somebody else"' in host.run(api)["info"]["text"][0]


def save(host, prefix: str, kind: str = "HDB_SaveLiDB", precision: str = "float16") -> str:
    """Save the friend under a prefix -> where in the output folder."""
    api = {
        "load": {"class_type": "HDB_LoadLiDB", "inputs": {"lidb_name": "hyperdreambooth_friend.lidb.safetensors"}},
        "save": {"class_type": kind, "inputs": {"lidb": ["load", 0], "filename_prefix": prefix}},
    }
    if kind == "HDB_SaveLiDB":
        api["save"]["inputs"]["precision"] = precision
    [path] = host.saved(host.run(api)["save"])
    assert path.is_file()
    return str(path.relative_to(host.base / "output"))


def test_nobody_is_overwritten_or_hidden_by_somebody_of_the_same_name(host):
    in_a_folder = [save(host, "lidb/family/", precision=p) for p in ("float16", "float32")]
    assert in_a_folder == [f"lidb/family/person_0000{i}_.safetensors" for i in (1, 2)]
    assert save(host, "elsewhere/people") == "elsewhere/people_00001_.safetensors"
    first = save(host, "lidb/twin")
    assert first == "lidb/twin_00001_.safetensors"
    for kind, node in (("lidb", "HDB_SaveLiDB"), ("loras", "HDB_ExportLoRA")):
        taken = host.base / "models" / kind / "shared_00001_.safetensors"  # Load LiDB would find this one first
        taken.parent.mkdir(exist_ok=True)
        taken.write_bytes((host.base / "output" / first).read_bytes())
        assert save(host, f"{kind}/shared", node) == f"{kind}/shared_00002_.safetensors"


def test_a_folder_that_cannot_be_written_is_said_and_nothing_stays_behind(host, monkeypatch):
    (host.base / "output" / "lidb" / "full").mkdir(parents=True, exist_ok=True)

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    [written] = [m for m in list(sys.modules.values()) if (getattr(m, "__file__", "") or "").endswith("/lidb/file.py")
                 and not m.__name__.startswith("hyperdreambooth.")]  # fmt: skip
    monkeypatch.setattr(written, "save_file", full)
    with pytest.raises(NodeFailed, match="could not be written into .*No space left.*Make room"):
        save(host, "lidb/full/a")
    assert list((host.base / "output" / "lidb" / "full").iterdir()) == []


def test_a_name_that_comes_through_a_link_runs_again_only_if_a_file_changed(host):
    for name, kind in (("HDB_LoadLiDB", "lidb"), ("HDB_LoadHyperNet", "hypernets")):
        stamp = host.nodes.NODE_CLASS_MAPPINGS[name].fingerprint_inputs
        path = host.base / "models" / kind / "stamped.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"one")
        before = stamp(None)
        assert stamp(None) == before
        path.write_bytes(b"another")
        assert stamp(None) != before
        path.unlink()


def test_a_list_of_people_with_and_without_a_picture_is_shown(host, faceworld):
    """The host puts the texts and pictures of a list together by the first one's keys."""
    picture = jpeg_thumbnail(torch.rand(64, 64, 3))
    for first, last in ((picture, b""), (b"", picture)):
        api = {
            "a": save_person(host, faceworld, "first", thumbnail=first),
            "b": save_person(host, faceworld, "last", thumbnail=last),
            "both": {"class_type": "CreateList", "inputs": {"inputs.input0": ["a", 0], "inputs.input1": ["b", 0]}},
            "info": {"class_type": "HDB_LiDBInfo", "inputs": {"lidb": ["both", 0]}},
        }
        shown = host.run(api)["info"]
        assert len(shown["text"]) == 2 and len(shown["images"]) == 1


def test_a_text_encoder_of_another_family_is_named(host, faceworld):
    model, clip, _ = faceworld
    table = HostModel(model, clip).table
    wide = replace(table, targets=tuple(replace(t, out_features=2 * t.out_features) if t.is_text else t for t in table))
    with pytest.raises(ValueError, match="fits the connected model, but not the CLIP: 8 layers"):
        check_base(LiDB.zeros(wide, starting_basis(table)), model, clip)


def test_the_score_is_the_measures_own_and_prefers_the_right_person(host):
    (ruler,) = host.object_info()["HDB_IdentityScore"]["input"]["required"]["metric"][1]["options"]
    assert ruler == "faceworld identity (drawn faces only)"
    files = ["00_photo1.png", "00_photo2.png", "03_photo1.png", "00_reference.png"]
    api = {f"p{i}": load_picture(host, name) for i, name in enumerate(files)}
    api["pair"] = {"class_type": "BatchImagesNode", "inputs": {"images.image0": ["p0", 0], "images.image1": ["p1", 0]}}
    wanted = {}
    metric = IdentityMetric()
    tensors = [
        torch.from_numpy(np.asarray(Image.open(PEOPLE / f).convert("RGB")).copy()).movedim(-1, 0)[None] / 255
        for f in files
    ]
    for name, image, reference, own in (
        ("same", ["pair", 0], ["p3", 0], tensors[:2]), ("other", ["p2", 0], ["p3", 0], tensors[2:3]),
        ("several references", ["p3", 0], ["pair", 0], tensors[:2]),
    ):  # fmt: skip
        inputs = {"image": image, "reference": reference, "metric": ruler}
        api[name] = {"class_type": "HDB_IdentityScore", "inputs": inputs}
        api[f"{name} as text"] = {"class_type": "PreviewAny", "inputs": {"source": [name, 0]}}
        wanted[name] = float(metric.similarity(torch.cat(own), tensors[3]).mean())
    outputs = host.run(api)
    found = {name: float(outputs[f"{name} as text"]["text"][0]) for name in wanted}
    assert found == pytest.approx(wanted, abs=1e-5) and found["same"] > found["other"] + 0.3
    report = outputs["same"]["text"][0].split("\n")
    assert report[0] == f"{ruler}: {found['same']:.3f} (mean of 2 x 1 comparisons)" and len(report) == 4
    assert report[2].startswith("picture 2: ")


def test_the_score_refuses_pictures_its_network_never_saw(host):
    api = {"photo": load_picture(host, "00_photo1.png")}
    api["large"] = {"class_type": "ImageScale", "inputs": {
        "image": ["photo", 0], "width": 512, "height": 512, "upscale_method": "bilinear", "crop": "disabled"}}  # fmt: skip
    for inputs, says in (
        ({"image": ["large", 0], "reference": ["photo", 0]}, "but image has 512 x 512"),
        ({"image": ["photo", 0], "reference": ["large", 0]}, "but reference has 512 x 512"),
    ):
        metric = {"metric": "faceworld identity (drawn faces only)"}
        api["score"] = {"class_type": "HDB_IdentityScore", "inputs": inputs | metric}
        with pytest.raises(
            NodeFailed, match=f"drawn faces only.*128 x 128 pixels.*{says}.*for photographs.*no measure"
        ) as failure:
            host.run(api)
        assert "\n" not in str(failure.value) and str(failure.value).endswith(".")
