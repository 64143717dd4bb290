"""ComfyUI as users start it: main.py in its own process, the extension linked into custom_nodes, graphs over HTTP."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from hyperdreambooth.cli.host_install import find_host
from hyperdreambooth.cli.workflow import load_workflow, to_api

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--cpu", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
START_SECONDS, RUN_SECONDS = 240, 300


def base_directory(path: Path, linked: bool = True) -> Path:
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (path / folder).mkdir(parents=True)
    if linked:
        (path / "custom_nodes" / "ComfyUI-HyperDreamBooth").symlink_to(ROOT, target_is_directory=True)
    return path


def command(base: Path, *more: str) -> list[str]:
    return [sys.executable, str(find_host() / "main.py"), "--base-directory", str(base), *FLAGS, *more]


def boot_log(base: Path) -> set[str]:
    """The lines a start prints, without what differs between any two starts: figures and the base directory's name."""
    run = subprocess.run(
        command(base, "--quick-test-for-ci"), capture_output=True, text=True, timeout=START_SECONDS, cwd=base
    )
    log = run.stdout + run.stderr
    assert run.returncode == 0, log[-3000:]
    log = re.sub(r"\x1b\[[\d;]*m|\[INFO\]", "", log.replace(str(base), "BASE"))
    return {re.sub(r"[\d.]+", "0", line).strip() for line in log.splitlines()} - {""}


def test_the_extension_adds_nothing_to_the_boot_log_but_its_import_time(tmp_path):
    """A warning of ours, or one of the host's or Python's that we cause, is a line that was not there before."""
    without = boot_log(base_directory(tmp_path / "without", linked=False))
    added = boot_log(base_directory(tmp_path / "with")) - without
    assert added == {"Import times for custom nodes:", "0 seconds: BASE/custom_nodes/ComfyUI-HyperDreamBooth"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = base_directory(tmp_path_factory.mktemp("server") / "base")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (base / "log.txt").open("w")
    process = subprocess.Popen(
        command(base, "--port", str(port)), stdout=log, stderr=subprocess.STDOUT, cwd=base, env=dict(os.environ)
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.time() + START_SECONDS
        while True:
            try:
                get(address, "/system_stats")
                break
            except OSError:
                assert process.poll() is None and time.time() < deadline, (base / "log.txt").read_text()[-3000:]
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def get(address: str, path: str, raw: bool = False):
    with urllib.request.urlopen(address + path, timeout=60) as answer:
        return answer.read() if raw else json.loads(answer.read())


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda p: p.stem)
def test_each_shipped_workflow_runs_over_http(server, path):
    prompt = to_api(load_workflow(path), get(server, "/object_info"))
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 4
        if node["class_type"] == "HDB_RankRelaxedFinetune":
            node["inputs"]["steps"] = 4
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(server + "/prompt", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        queued = json.loads(answer.read())
    assert not queued["node_errors"]
    deadline = time.time() + RUN_SECONDS
    while not (history := get(server, f"/history/{queued['prompt_id']}")):
        assert time.time() < deadline
        time.sleep(0.5)
    result = history[queued["prompt_id"]]
    assert result["status"]["status_str"] == "success", result["status"]
    shown = [key for key, node in prompt.items() if node["class_type"] in ("SaveImage", "PreviewImage")]
    assert shown and all(result["outputs"][key]["images"] for key in shown)
    pictures = [i for o in result["outputs"].values() for i in o.get("images", [])]
    for picture in pictures:
        assert get(server, "/view?" + urllib.parse.urlencode(picture), raw=True)[:8] == b"\x89PNG\r\n\x1a\n"


def test_help_pages_templates_and_blueprints_are_served(server):
    assert b"Predict" in get(server, "/extensions/ComfyUI-HyperDreamBooth/docs/HDB_PredictLiDB.md", raw=True)
    shipped = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert sorted(get(server, "/workflow_templates")["ComfyUI-HyperDreamBooth"]) == shipped
    for path in (ROOT / "subgraphs").glob("*.json"):
        entries = get(server, "/global_subgraphs")
        identifier = next(key for key, entry in entries.items() if entry["name"] == path.stem)
        assert json.loads(get(server, f"/global_subgraphs/{identifier}")["data"]) == json.loads(path.read_text())
