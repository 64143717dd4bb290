"""The real server and frontend, booted once, in headless Chromium.

Needs Debian's ``chromium`` (or CHROMIUM=/path); its absence is a failure.
"""

import json
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
SHOTS = ROOT / "output" / "browser"
START_SECONDS = 240
RUN_SECONDS = 300
WAIT = 60_000  # ms
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


@pytest.fixture
def frontend(page, address):
    """What a person does with the page; messages and panels of earlier tests are gone."""
    page.keyboard.press("Escape")
    page.evaluate("app.extensionManager.toast.removeAll()")
    return Frontend(page, address)


class Frontend:
    """Clicks, and what is seen after them. ``page`` is the tab, for everything else."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address

    def answer(self, path: str) -> bytes:
        return urllib.request.urlopen(f"{self.address}{path}", timeout=60).read()

    def load(self, workflow: dict) -> None:
        self.page.evaluate("async (ui) => { await app.loadGraphData(ui) }", workflow)
        self.page.wait_for_timeout(700)  # what is missing is found out after loading

    def complaints(self) -> list[str]:
        """What the frontend says about the open workflow: missing nodes, models and files, faulty values."""
        return [box.inner_text() for box in self.page.get_by_test_id("error-overlay").all()]

    def browse_templates(self) -> None:
        """The template browser, with ours chosen on its left side."""
        self.page.get_by_test_id("side-toolbar").get_by_role("button", name="Templates").click()
        self.page.get_by_role("dialog").get_by_text("ComfyUI-HyperDreamBooth").first.click()
        self.page.get_by_test_id("template-workflow-01_predict").wait_for(timeout=WAIT)

    def press_run(self) -> str:
        """The id of the job that the *Run* button began."""
        is_job = lambda answer: answer.url.endswith("/prompt") and answer.request.method == "POST"  # noqa: E731
        with self.page.expect_response(is_job, timeout=WAIT) as answer:
            self.page.get_by_test_id("queue-button").click()
        said = answer.value.json()
        assert not said.get("error") and not said["node_errors"], said
        return said["prompt_id"]

    def ended(self, job: str) -> dict:
        """The server's record of the job: ``outputs``, ``status``."""
        deadline = time.time() + RUN_SECONDS
        while not (record := json.loads(self.answer(f"/history/{job}"))):
            assert time.time() < deadline, f"the job has not ended after {RUN_SECONDS} s"
            self.page.wait_for_timeout(200)  # the page must go on hearing of it
        return record[job]

    def run(self) -> dict:
        """Press *Run*, wait, and hand over the record of a job without errors."""
        record = self.ended(self.press_run())
        assert record["status"]["status_str"] == "success", record["status"]["messages"]
        assert self.complaints() == []
        return record

    def shoot(self, name: str) -> None:
        """A picture of the page for a person to look at: output/browser/NAME.png."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(300)  # drawn
        self.page.screenshot(path=SHOTS / f"{name}.png")
