"""The shipped workflows in the real frontend, in headless Chromium (``make test-browser``).

Needs Debian's ``chromium`` (or CHROMIUM=/path); its absence is a failure.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from hyperdreambooth.cli.host_install import find_host
from hyperdreambooth.cli.workflow import load_workflow, to_api

ROOT = Path(__file__).resolve().parents[2]
PORT = 8199
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
FLAGS += ["--disable-component-update"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    base = tmp_path_factory.mktemp("browser") / "base"
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / folder).mkdir(parents=True)
    (base / "custom_nodes" / "ComfyUI-HyperDreamBooth").symlink_to(ROOT, target_is_directory=True)
    command = [
        sys.executable,
        str(find_host() / "main.py"),
        "--cpu",
        "--base-directory",
        str(base),
        "--port",
        str(PORT),
    ]
    command += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=base)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert chromium, "Chromium was not found. Install it (Debian: apt-get install chromium) or set CHROMIUM."
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/system_stats", timeout=5)
                break
            except OSError:
                time.sleep(1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            tab = browser.new_page(viewport={"width": 1900, "height": 1000})
            tab.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort())
            tab.goto(f"http://127.0.0.1:{PORT}")
            tab.wait_for_function("window.app && window.app.graph && window.LiteGraph", timeout=120_000)
            tab.wait_for_function(
                "Object.keys(LiteGraph.registered_node_types).includes('HDB_ApplyLiDB')", timeout=120_000
            )
            yield tab
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda p: p.stem)
def test_a_workflow_opens_green_and_converts_as_we_convert_it(page, path, tmp_path):
    page.evaluate("async (ui) => { await window.app.loadGraphData(ui) }", load_workflow(path))
    page.wait_for_timeout(1500)
    missing = page.evaluate(
        "window.app.graph._nodes.filter(n => n.has_errors || n.type in LiteGraph.registered_node_types === false).map(n => n.type)"
    )
    assert missing == []
    theirs = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    info = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{PORT}/object_info", timeout=60).read())
    ours = to_api(load_workflow(path), info)
    assert {k: (v["class_type"], v["inputs"]) for k, v in theirs.items()} == {
        k: (v["class_type"], v["inputs"]) for k, v in ours.items()
    }
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{path.stem}.png")
