"""The real server and frontend, booted once, in headless Chromium.

Needs Debian's ``chromium`` (or CHROMIUM=/path); its absence is a failure.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from hyperdreambooth.cli.host_install import find_host

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
]


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """ComfyUI's base directory: models/, input/, output/, custom_nodes/."""
    base = tmp_path_factory.mktemp("browser") / "base"
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / folder).mkdir(parents=True)
    (base / "custom_nodes" / "ComfyUI-HyperDreamBooth").symlink_to(ROOT, target_is_directory=True)
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir()
    settings.write_text('{"Comfy.TutorialCompleted": true}')  # otherwise the template browser opens over the canvas
    return base


@pytest.fixture(scope="session")
def address(base):
    """Where the server listens, e.g. ``http://127.0.0.1:8199``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(find_host() / "main.py"), "--cpu", "--base-directory", str(base)]
    command += ["--port", str(port), "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    with (base / "log.txt").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=base)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.time() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{address}/system_stats", timeout=5)
                break
            except OSError:
                assert server.poll() is None and time.time() < deadline, (base / "log.txt").read_text()[-3000:]
                time.sleep(1)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="session")
def page(address):
    """A tab with the frontend; anything but the server is out of its reach."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert chromium, "Chromium was not found. Install it (Debian: apt-get install chromium) or set CHROMIUM."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1900, "height": 1000})
        tab.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort())
        open_frontend(tab, address)
        yield tab
        browser.close()


def open_frontend(tab, address: str) -> None:
    tab.goto(address)
    tab.wait_for_function("window.app && window.app.graph && window.LiteGraph", timeout=120_000)
    tab.wait_for_function("Object.keys(LiteGraph.registered_node_types).includes('HDB_ApplyLiDB')", timeout=120_000)
