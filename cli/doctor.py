"""What is installed, which ComfyUI is used, and what will and will not work, in plain words.

Exit status 0: the main job (demo, predict, finetune) can run; 1: it cannot, and the lines say why. --install-host
installs a private ComfyUI first if there is none.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
from pathlib import Path

from ..nodes.host_version import OLDEST_HOST, too_old
from .host_install import PRIVATE_HOST, REPOSITORY, find_host, install_host

NODES_NEED = ("torch", "transformers", "safetensors", "einops", "numpy", "Pillow")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--install-host", action="store_true", help="install a private ComfyUI if none is found")
    parser.add_argument("--json", action="store_true", help="the same facts for programs")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    if args.install_host:
        install_host()
    facts = examine()
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        for section, lines in facts.items():
            print(section)
            for name, text in lines.items():
                print(f"  {name:14} {text}")
    sys.exit(0 if facts["works"]["main job"].startswith("yes") else 1)


def examine() -> dict[str, dict[str, str]]:
    """Sections ``versions``, ``machine``, ``host``, ``models``, ``works``; each line stands alone."""
    versions = {"python": platform.python_version()}
    for package in (*NODES_NEED, "comfyui-frontend-package", "accelerate", "tensorboard", "skia-python"):
        versions[package] = _version(package)
    host, host_lines = _host()
    missing = [p for p in NODES_NEED if versions[p] == "not installed"]
    torch_works, machine = _machine()
    facts = {"versions": versions, "machine": machine, "host": host_lines, "models": _models(host)}
    trouble = ["no ComfyUI (see host)"] * (host is None) + [f"{p} is not installed" for p in missing]
    version = host_lines.get("version", "")
    trouble += [f"ComfyUI {version}"] * ("too old" in version)
    trouble += [] if torch_works else ["torch cannot be imported"]
    has = lambda name: versions[name] != "not installed"  # noqa: E731
    if trouble:
        training = "no: the main job must run first"
    elif has("accelerate") and has("tensorboard"):
        training = "yes: precompute, train, basis"
    else:
        training = "no: run pip install -e '.[train]' in this extension's folder"
    facts["works"] = {
        "main job": f"no: {'; '.join(trouble)}" if trouble else "yes: predict, finetune, apply, save, export",
        "training": training,
        "drawing faces": "yes: faceworld render" if has("skia-python") else "no: faceworld render needs skia-python",
        "models": "Stable Diffusion 1.x (192 layers tested in shape); 2.x and XL by the same rule, untested",
        "training on XL": "no: many people at once need a model with one text encoder",
        "likeness": "scores exist for the drawn world only, none for photographs",
    }
    return facts


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _machine() -> tuple[bool, dict[str, str]]:
    lines = {}
    try:
        import torch

        from .hardware import processor

        lines["CPU"] = f"{processor()}, {os.cpu_count()} cores"
        for i in range(torch.cuda.device_count()):
            try:
                free, total = torch.cuda.mem_get_info(i)
                name = torch.cuda.get_device_name(i)
                lines[f"GPU {i}"] = f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free"
            except RuntimeError as error:  # driver mismatch, exclusive mode, fallen off the bus
                lines[f"GPU {i}"] = f"cannot be used ({error})"
        if not torch.cuda.device_count():
            lines["GPU"] = "none: everything runs on the CPU, at the speed the README names"
        works = True
    except (ImportError, OSError) as error:
        lines["torch"], works = f"cannot be imported ({error})", False
    try:
        import psutil

        memory = psutil.virtual_memory()
        lines["memory"] = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GB free"
    except ImportError:
        lines["memory"] = "unknown (psutil is not installed)"
    return works, lines


def _host() -> tuple[Path | None, dict[str, str]]:
    try:
        host = find_host()
    except ValueError as error:
        return None, {"ComfyUI": f"none. {error}"}
    how = "by COMFYUI_PATH" if os.environ.get("COMFYUI_PATH") else "around this repository"
    lines = {"ComfyUI": f"{host}, found {'as the private copy' if host == PRIVATE_HOST else how}"}
    version = host / "comfyui_version.py"
    found = re.search(r'"(.+)"', version.read_text().rsplit("__version__", 1)[-1]) if version.is_file() else None
    if found:
        lines["version"] = found[1] + (f": too old, {OLDEST_HOST} or newer is needed" if too_old(found[1]) else "")
    else:
        lines["version"] = "unknown"
    folder = host / "custom_nodes"
    linked = [p.name for p in folder.iterdir() if p.resolve() == REPOSITORY] if folder.is_dir() else []
    private = "no: the commands here link it themselves; for your own graphs clone or link it into custom_nodes"
    lines["extension"] = f"yes, as custom_nodes/{linked[0]}" if linked else private
    return host, lines


def _models(host: Path | None) -> dict[str, str]:
    """The default folders; the commands also see those of the host's extra_model_paths.yaml, which is not read here."""
    lines = {}
    for name in ("checkpoints", "hypernets", "lidb", "loras"):
        folders = [REPOSITORY / "faceworld" / "weights" / name] + ([host / "models" / name] if host else [])
        found = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("**/*.safetensors"))]
        told = ", ".join(path.name + (_base(path) if name == "hypernets" else "") for path in found[:4])
        lines[name] = f"{len(found)} files" + (f": {told}" if told else "") + (" ..." if len(found) > 4 else "")
    return lines


def _base(path: Path) -> str:
    """Which base model a HyperNet belongs to, from its metadata."""
    if not importlib.util.find_spec("safetensors"):
        return ""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return f" (for {(file.metadata() or {}).get('base', 'an unknown model')})"
    except (SafetensorError, OSError):
        return " (damaged)"
