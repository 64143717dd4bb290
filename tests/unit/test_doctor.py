"""The doctor speaks even when everything is missing."""

import json

import pytest

from hyperdreambooth.cli import main
from hyperdreambooth.cli.doctor import REPOSITORY, examine


def host(folder, version):
    for name in ("main.py", "comfyui_version.py"):
        (folder / name).write_text(f'__version__ = "{version}"\n')
    (folder / "comfy").mkdir()


def test_no_host_is_said_and_exits_with_one(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    shown = capsys.readouterr().out
    assert left.value.code == 1 and "no main.py" in shown and "main job       no: no ComfyUI" in shown
    assert "training       no: the main job must run first" in shown and "pip install" not in shown
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["models"]["hypernets"].startswith("1 files: faceworld.safetensors (for Faceworld)")


def test_where_everything_is_there_it_says_yes_and_exits_with_zero(monkeypatch, tmp_path, capsys):
    host(tmp_path, "0.30.0")
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "mine").symlink_to(REPOSITORY)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert left.value.code == 0 and facts["works"]["main job"].startswith("yes")
    assert facts["works"]["training"].startswith("yes") and facts["host"]["version"] == "0.30.0"
    assert facts["host"]["extension"] == "yes, as custom_nodes/mine"


def test_missing_training_packages_are_not_sought_in_a_registry(monkeypatch, tmp_path):
    import hyperdreambooth.cli.doctor as doctor

    host(tmp_path, "0.30.0")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    there = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda p: "not installed" if p == "accelerate" else there(p))
    works = examine()["works"]
    assert works["main job"].startswith("yes")
    assert works["training"] == "no: run pip install -e '.[train]' in this extension's folder"


def test_an_old_host_and_a_missing_package_are_named(monkeypatch, tmp_path):
    host(tmp_path, "0.3.9")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setattr("hyperdreambooth.cli.doctor.NODES_NEED", ("no-such-package",))
    facts = examine()
    assert "too old, 0.30.0 or newer" in facts["host"]["version"] and "by COMFYUI_PATH" in facts["host"]["ComfyUI"]
    assert facts["works"]["main job"].startswith("no: no-such-package is not installed; ComfyUI 0.3.9: too old")


def test_a_gpu_that_cannot_be_asked_is_said_to_be_so(monkeypatch):
    import torch

    def broken(_):
        raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    machine = examine()["machine"]
    assert machine["GPU 0"] == "cannot be used (CUDA driver version is insufficient)"
