"""The doctor speaks even when everything is missing."""

import json

import pytest

from hyperdreambooth.cli import main
from hyperdreambooth.cli.doctor import examine


def test_no_host_is_said_and_exits_with_one(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    shown = capsys.readouterr().out
    assert left.value.code == 1 and "no main.py" in shown and "main job       no: no ComfyUI" in shown
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["models"]["hypernets"].startswith("1 files: faceworld.safetensors (for Faceworld)")


def test_an_old_host_and_a_missing_package_are_named(monkeypatch, tmp_path):
    for name in ("main.py", "comfyui_version.py"):
        (tmp_path / name).write_text('__version__ = "0.3.9"\n')
    (tmp_path / "comfy").mkdir()
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setattr("hyperdreambooth.cli.doctor.NODES_NEED", ("no-such-package",))
    facts = examine()
    assert "too old, 0.30 or newer" in facts["host"]["version"] and "by COMFYUI_PATH" in facts["host"]["ComfyUI"]
    assert facts["works"]["main job"].startswith("no: no-such-package is not installed; ComfyUI 0.3.9: too old")
