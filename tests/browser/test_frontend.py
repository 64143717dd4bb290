"""The shipped workflows in the real frontend, in headless Chromium (``make test-browser``)."""

import json
import os
import urllib.request
from pathlib import Path

import pytest

from hyperdreambooth.cli.workflow import load_workflow, to_api

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda p: p.stem)
def test_a_workflow_opens_green_and_converts_as_we_convert_it(page, address, path, tmp_path):
    page.evaluate("async (ui) => { await window.app.loadGraphData(ui) }", load_workflow(path))
    page.wait_for_timeout(1500)
    missing = page.evaluate(
        "window.app.graph._nodes.filter(n => n.has_errors || n.type in LiteGraph.registered_node_types === false).map(n => n.type)"
    )
    assert missing == []
    theirs = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    info = json.loads(urllib.request.urlopen(f"{address}/object_info", timeout=60).read())
    ours = to_api(load_workflow(path), info)
    assert {k: (v["class_type"], v["inputs"]) for k, v in theirs.items()} == {
        k: (v["class_type"], v["inputs"]) for k, v in ours.items()
    }
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{path.stem}.png")
