"""The nodes inside the real executor: shipped workflows, files, errors as users meet them."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hyperdreambooth.cli.workflow import find, load_workflow, to_api

ROOT = Path(__file__).resolve().parents[2]
STOCK = {"nodes", "comfy_extras"}
CONTROLS = ("fixed", "increment", "decrement", "randomize")
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


def graph(host, name):
    return to_api(load_workflow(ROOT / "workflows" / name), host.object_info())


def quick(api):
    for node in api.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 3
        if node["class_type"] == "HDB_RankRelaxedFinetune":
            node["inputs"] |= {"steps": 3, "batch_size": 2}
    return api


def test_the_shipped_workflows_have_stock_nodes_and_ours_only(host):
    stock = {
        n
        for n, c in host.nodes.NODE_CLASS_MAPPINGS.items()
        if getattr(c, "RELATIVE_PYTHON_MODULE", "nodes").split(".")[0] in STOCK
    }
    ours = {n for n in host.nodes.NODE_CLASS_MAPPINGS if n.startswith("HDB_")}
    assert len(WORKFLOWS) >= 3 and not stock & ours
    for path in WORKFLOWS:
        workflow = load_workflow(path)
        types = {n["type"] for n in workflow["nodes"]}
        assert "MarkdownNote" in types and types - {"MarkdownNote"} <= stock | ours, path.name
        assert [g["title"].split()[0] for g in workflow["groups"]] == [
            str(i + 1) for i in range(len(workflow["groups"]))
        ]
        seeds = [v for n in workflow["nodes"] for v in n.get("widgets_values") or [] if v in CONTROLS]
        assert seeds and set(seeds) == {"fixed"}, path.name
        with Image.open(path.with_suffix(".jpg")) as thumbnail:
            assert thumbnail.format == "JPEG" and min(thumbnail.size) >= 128


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_each_workflow_gives_its_pictures(host, path):
    outputs = host.run(quick(graph(host, path.name)))
    pictures = [p for o in outputs.values() for p in host.saved(o) if p.suffix == ".png"]
    assert pictures
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) >= 64 and np.asarray(image.convert("RGB")).std() > 10, picture.name


def test_the_blueprint_gives_a_personalised_model(host):
    """Its inside, wired to a photo and a sampler as a user wires the box; every slot of the box leads inside."""
    file = load_workflow(ROOT / "subgraphs" / "Photo to Personalised Model.json")
    (box,), (inside,) = file["nodes"], file["definitions"]["subgraphs"]
    assert box["type"] == inside["id"]
    for side in ("inputs", "outputs"):
        assert [(s["name"], s["type"]) for s in box[side]] == [(s["name"], s["type"]) for s in inside[side]]
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [[link[key] for key in keys] for link in inside["links"]]
    within = [link for link in links if link[1] > 0 and link[3] > 0]
    nodes = copy.deepcopy(inside["nodes"])
    for slot in (slot for node in nodes for slot in node["inputs"]):
        slot["link"] = slot["link"] if slot["link"] in [link[0] for link in within] else None
    api = quick(to_api({"nodes": nodes, "links": within}, host.object_info()))
    photo = next(link for link in links if link[1] < 0 and link[5] == "IMAGE")
    api[str(photo[3])]["inputs"]["image"] = ["photo", 0]
    out = {link[5]: [str(link[1]), link[2]] for link in links if link[3] < 0}
    assert list(out) == ["MODEL", "CLIP", "VAE", "LIDB"]
    graph_around = {
        "photo": ("LoadImage", {"image": "hyperdreambooth_person.png"}),
        "positive": ("CLIPTextEncode", {"clip": out["CLIP"], "text": "a photo of a [V] face"}),
        "negative": ("CLIPTextEncode", {"clip": out["CLIP"], "text": ""}),
        "latent": ("EmptyLatentImage", {"width": 128, "height": 128, "batch_size": 1}),
        "sample": ("KSampler", {"model": out["MODEL"], "positive": ["positive", 0], "negative": ["negative", 0],
            "latent_image": ["latent", 0], "seed": 5, "steps": 3, "cfg": 3.0, "sampler_name": "euler",
            "scheduler": "normal", "denoise": 1.0}),
        "decode": ("VAEDecode", {"samples": ["sample", 0], "vae": out["VAE"]}),
        "picture": ("SaveImage", {"images": ["decode", 0], "filename_prefix": "blueprint"}),
        "file": ("HDB_SaveLiDB", {"lidb": out["LIDB"], "filename_prefix": "lidb/blueprint", "precision": "float16"}),
    }  # fmt: skip
    api |= {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in graph_around.items()}
    outputs = host.run(api)
    assert host.saved(outputs["picture"])[0].is_file() and host.saved(outputs["file"])[0].is_file()


def test_every_node_has_tooltips_and_a_help_page(host):
    ours = {k: v for k, v in host.object_info().items() if k.startswith("HDB_")}
    assert len(ours) == 11
    for name, info in ours.items():
        for group in ("required", "optional"):
            for key, spec in (info["input"].get(group) or {}).items():
                assert len(spec) > 1 and spec[1].get("tooltip"), f"{name}.{key} has no tooltip"
        assert (ROOT / "web" / "docs" / f"{name}.md").is_file(), name


def test_export_is_listed_by_load_lora_and_gives_the_same_picture(host):
    api = quick(graph(host, "03_finetune_without_hypernet.json"))
    outputs = host.run(api)
    export = find(api, "HDB_ExportLoRA")
    lora = host.saved(outputs[export])[0]
    picture = find(api, "SaveImage")  # the finetune shows one too
    applied = Image.open(host.saved(outputs[picture])[0])
    import folder_paths

    assert lora.name in folder_paths.get_filename_list("loras")
    apply, checkpoint = find(api, "HDB_ApplyLiDB"), find(api, "CheckpointLoaderSimple")
    links = {"model": [checkpoint, 0], "clip": [checkpoint, 1]}
    api[apply] = {
        "class_type": "LoraLoader",
        "inputs": {**links, "lora_name": lora.name, "strength_model": 1.0, "strength_clip": 1.0},
    }
    del api[export], api[find(api, "HDB_RankRelaxedFinetune")]
    outputs = host.run(api)
    reloaded = Image.open(host.saved(outputs[picture])[0])
    assert reloaded.tobytes() == applied.tobytes()
    assert len(load_file(lora)) == 3 * 44


def test_a_saved_person_is_listed_and_gives_the_same_picture(host):
    api = quick(graph(host, "01_predict.json"))
    save = find(api, "HDB_SaveLiDB")
    api[save]["inputs"]["precision"] = "float32"
    outputs = host.run(api)
    first = Image.open(next(p for o in outputs.values() for p in host.saved(o) if p.suffix == ".png"))
    file = host.saved(outputs[save])[0]
    api["load"] = {"class_type": "HDB_LoadLiDB", "inputs": {"lidb_name": file.name}}
    api[find(api, "HDB_ApplyLiDB")]["inputs"]["lidb"] = ["load", 0]
    for kind in ("HDB_SaveLiDB", "HDB_PredictLiDB", "HDB_LoadHyperNet", "LoadImage"):
        del api[find(api, kind)]
    outputs = host.run(api)
    second = Image.open(next(p for o in outputs.values() for p in host.saved(o) if p.suffix == ".png"))
    assert second.tobytes() == first.tobytes()


def test_half_precision_changes_no_pixel_by_more_than_two_steps(host):
    """The default precision: half the size, the same picture to the eye."""
    api = quick(graph(host, "01_predict.json"))
    assert api[find(api, "HDB_SaveLiDB")]["inputs"]["precision"] == "float16"
    outputs = host.run(api)
    first = Image.open(next(p for o in outputs.values() for p in host.saved(o) if p.suffix == ".png"))
    file = host.saved(outputs[find(api, "HDB_SaveLiDB")])[0]
    api["load"] = {"class_type": "HDB_LoadLiDB", "inputs": {"lidb_name": file.name}}
    api[find(api, "HDB_ApplyLiDB")]["inputs"]["lidb"] = ["load", 0]
    for kind in ("HDB_SaveLiDB", "HDB_PredictLiDB", "HDB_LoadHyperNet", "LoadImage"):
        del api[find(api, kind)]
    second = Image.open(next(p for o in host.run(api).values() for p in host.saved(o) if p.suffix == ".png"))
    assert np.abs(np.asarray(first, int) - np.asarray(second, int)).max() <= 2


def test_masks_and_boxes_choose_the_face():
    from hyperdreambooth.nodes.pictures import crop_face

    image = torch.rand(1, 100, 200, 3)
    mask = torch.zeros(1, 100, 200)
    mask[:, 30:70, 140:180] = 1
    square = crop_face(image, mask)
    assert torch.equal(square, image[:, 18:82, 128:192])
    assert torch.equal(crop_face(image, box={"x": 140, "y": 30, "width": 40, "height": 40}), square)
    assert crop_face(image).shape == (1, 100, 100, 3)
    small, large = {"x": 0, "y": 0, "width": 30, "height": 30}, {"x": 140, "y": 30, "width": 40, "height": 40}
    assert torch.equal(crop_face(image, box=[small, large]), square)  # the largest face
    two = crop_face(image.repeat(2, 1, 1, 1), box=[[large], [small]])  # one list per picture, as detectors give it
    assert torch.equal(two[:1], square) and not torch.equal(two[1:], square)
    assert torch.equal(crop_face(image, mask[:, ::2, ::2]), square)  # the same picture at half the size
    for bad, words in (
        ({"mask": mask * 0}, "empty"),
        ({"mask": mask[:, :, 100:]}, "is 100 x 100, the picture 200 x 100: another shape"),
        ({"mask": mask.repeat(2, 1, 1)}, "2 masks for 1 pictures"),
        ({"box": {"x": 300, "y": 0, "width": 9, "height": 9}}, "outside"),
        ({"box": [[]]}, "no face was found"),
    ):
        with pytest.raises(ValueError, match=words):
            crop_face(image, **bad)


def test_a_picture_that_shows_nothing_becomes_nobody():
    from hyperdreambooth.nodes.pictures import check_shows_something

    pictures = torch.rand(2, 64, 64, 3)
    check_shows_something(pictures)
    for value, words in ((0.0, "Picture 2 has a single colour"), (float("nan"), "Picture 2 holds .* not finite")):
        pictures[1] = value
        with pytest.raises(ValueError, match=words):
            check_shows_something(pictures)


def test_a_box_and_a_mask_come_in_over_the_wire(host):
    api = graph(host, "01_predict.json")
    predict, photo = find(api, "HDB_PredictLiDB"), find(api, "LoadImage")
    small = {k: v for k, v in api.items() if v["class_type"] in ("LoadImage", "HDB_LoadHyperNet", "HDB_PredictLiDB")}
    small["crop"] = {"class_type": "PreviewImage", "inputs": {"images": [predict, 1]}}
    small["box"] = {
        "class_type": "CreateBoundingBoxes",
        "inputs": {
            "width": 128,
            "height": 128,
            "editor_state": {"__value__": [{"x": 32, "y": 32, "width": 51, "height": 51}]},
        },
    }
    small["mask"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 128, "height": 128}}
    whole = Image.open(host.base / "input" / api[photo]["inputs"]["image"]).convert("RGB")
    for key, source, side in (("bounding_box", ["box", 1], 82), ("mask", ["mask", 0], 128)):
        wired = copy.deepcopy(small)  # the host unwraps values in place
        wired[predict]["inputs"][key] = source
        crop = Image.open(host.saved(host.run(wired)["crop"])[0])
        assert crop.size == (side, side), key
    assert crop.convert("RGB").tobytes() == whole.tobytes()
