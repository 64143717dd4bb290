"""An older ComfyUI is told what it is, what is needed and what to do, and starts all the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hyperdreambooth.nodes.host_version import OLDEST_HOST, complaint

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", ["0.3.64", "0.3.9", "v0.3.75", "0.16.3", "0.9", "0.29", "0.3.64-12-gabc", ""])
def test_an_old_host_gets_one_clear_sentence(version):
    told = complaint(version)
    assert f"needs ComfyUI {OLDEST_HOST} or newer" in told and (version or "does not tell its number") in told
    assert "update ComfyUI" in told and "\n" not in told


@pytest.mark.parametrize("version", [OLDEST_HOST, "0.30.0", "v0.30.1", "0.31", "1.0", "fork", None])
def test_others_get_none(version):
    assert complaint(version) is None


# What a ComfyUI of any age does with an extension: import its file by path, then look for nodes (nodes.py, load_custom_node).
LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("hyperdreambooth_in_a_host", sys.argv[1] + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules["hyperdreambooth_in_a_host"] = module
spec.loader.exec_module(module)
print(getattr(module, "NODE_CLASS_MAPPINGS", None), module.WEB_DIRECTORY, callable(module.comfy_entrypoint))
"""


@pytest.mark.parametrize("version", ["0.3.64", None, OLDEST_HOST])
def test_an_old_host_starts_without_the_nodes(tmp_path, version):
    """In a process of its own, with a host's files: no nodes, no frontend, one line in the log, no traceback."""
    (tmp_path / "folder_paths.py").write_text("")
    if version:
        (tmp_path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import folder_paths" + LOAD, ROOT]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    if version == OLDEST_HOST:
        assert ran.stdout.split() == ["None", "./web", "True"] and not ran.stderr
    else:
        assert ran.stdout.split() == ["{}", "None", "True"]
        assert re.fullmatch(rf"ERROR:root:{re.escape(complaint(version or ''))}\n", ran.stderr)
