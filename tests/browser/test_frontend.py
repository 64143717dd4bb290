"""Each shipped workflow as a new user meets it: opened, run, looked at, saved and opened again (``make test-browser``)."""

import io
import json
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hyperdreambooth.cli.workflow import load_workflow, to_api

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
TITLE = 30  # pixels above a node's position
WAIT = 60_000  # ms

# every [node id, file, its size] is a loaded picture on that node; the last live preview stays where it shows the same
SHOWN = """(files) => files.every(([id, file, width, height]) => (app.graph.getNodeById(id).imgs ?? []).some((i) =>
    i.complete && i.naturalWidth === width && i.naturalHeight === height
    && (i.src.startsWith("blob:") || new URL(i.src).searchParams.get("filename") === file)))"""
BOXES = "app.graph.nodes.map(n => [`${n.id} ${n.title}`, ...n.pos, ...n.size])"
GROUPS = "app.graph.groups.map(g => [...g.pos, ...g.size])"


def pictures_of(record: dict) -> dict[str, list[dict]]:
    """Node id -> the picture files that it handed out."""
    return {key: out["images"] for key, out in record["outputs"].items() if out.get("images")}


def overlaps(boxes: list) -> list[tuple[str, str]]:
    found = []
    for i, (a, ax, ay, aw, ah) in enumerate(boxes):
        for b, bx, by, bw, bh in boxes[i + 1 :]:
            if ax < bx + bw and bx < ax + aw and ay - TITLE < by + bh and by - TITLE < ay + ah:
                found.append((a, b))
    return found


def halfway_out(boxes: list, groups: list) -> list[str]:
    """Nodes over the edge of a group."""
    found = []
    for name, x, y, w, h in boxes:
        for gx, gy, gw, gh in groups:
            touches = x < gx + gw and gx < x + w and y - TITLE < gy + gh and gy < y + h
            inside = gx <= x and x + w <= gx + gw and gy <= y - TITLE and y + h <= gy + gh
            if touches and not inside:
                found.append(name)
    return found


def test_a_workflow_with_something_missing_is_complained_about(frontend):
    """Or the silence of the others would prove nothing."""
    workflow = load_workflow(WORKFLOWS[0])
    checkpoint = next(n for n in workflow["nodes"] if n["type"] == "CheckpointLoaderSimple")
    checkpoint["widgets_values"] = ["absent.safetensors"]
    frontend.load(workflow)
    frontend.page.get_by_test_id("error-overlay").wait_for(timeout=WAIT)
    checkpoint["widgets_values"] = ["faceworld.safetensors"]
    checkpoint["type"] = "NoSuchNode"
    frontend.load(workflow)
    frontend.page.get_by_test_id("error-overlay").wait_for(timeout=WAIT)
    assert frontend.complaints() != []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_opens_runs_shows_its_pictures_and_is_saved(frontend, base, path):
    page = frontend.page
    frontend.browse_templates()
    page.get_by_test_id(f"template-workflow-{path.stem}").click()
    page.wait_for_function("n => app.graph.nodes.length === n", arg=len(load_workflow(path)["nodes"]), timeout=WAIT)
    page.wait_for_timeout(700)
    assert frontend.complaints() == []
    unknown = "app.graph.nodes.filter(n => n.has_errors || !(n.type in LiteGraph.registered_node_types)).length"
    assert page.evaluate(unknown) == 0

    theirs = page.evaluate("async () => (await app.graphToPrompt()).output")
    ours = to_api(load_workflow(path), json.loads(frontend.answer("/object_info")))
    assert {k: (v["class_type"], v["inputs"]) for k, v in theirs.items()} == {
        k: (v["class_type"], v["inputs"]) for k, v in ours.items()
    }

    files = pictures_of(frontend.run())
    assert {key for key, node in theirs.items() if node["class_type"] in ("SaveImage", "PreviewImage")} <= set(files)
    expected = []
    for key, file in ((key, file) for key, pictures in files.items() for file in pictures):
        picture = Image.open(io.BytesIO(frontend.answer("/view?" + urllib.parse.urlencode(file)))).convert("RGB")
        assert min(picture.size) >= 64 and np.asarray(picture).std() > 10, file
        expected.append([key, file["filename"], *picture.size])
    page.wait_for_function(SHOWN, arg=expected, timeout=WAIT)

    frontend.shoot(path.stem)
    boxes, groups = page.evaluate(BOXES), page.evaluate(GROUPS)  # grown by what the nodes say

    saved = save(frontend, base, path.stem)
    assert [(n["id"], n["widgets_values"]) for n in saved["nodes"] if n.get("widgets_values")] == [
        (n["id"], n["widgets_values"]) for n in load_workflow(path)["nodes"] if n.get("widgets_values")
    ]
    frontend.load(saved)
    again = json.loads(page.evaluate("JSON.stringify(app.graph.serialize())"))
    assert again["nodes"] == saved["nodes"] and again["links"] == saved["links"] and again["groups"] == saved["groups"]
    assert page.evaluate("async () => (await app.graphToPrompt()).output") == theirs
    assert (overlaps(boxes), halfway_out(boxes, groups)) == ([], [])


def save(frontend, base: Path, name: str) -> dict:
    """Ctrl+S, Enter; the file that the server was given."""
    frontend.page.keyboard.press("Control+s")
    field = frontend.page.get_by_role("dialog").get_by_role("textbox")
    field.wait_for(timeout=WAIT)
    assert field.input_value() == name
    field.press("Enter")
    field.wait_for(state="detached", timeout=WAIT)
    file = base / "user" / "default" / "workflows" / f"{name}.json"
    for _ in range(100):
        if file.is_file() and file.stat().st_size:
            break
        frontend.page.wait_for_timeout(100)
    return json.loads(file.read_text())
