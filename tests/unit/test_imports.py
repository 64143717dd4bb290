"""Imports point one way, and nothing that ComfyUI loads can reach a shell or a network."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "lidb": {"lidb"},
    "hypernet": {"hypernet", "lidb"},
    "nodes": {"nodes", "hypernet", "lidb", "faceworld"},
    "faceworld": {"faceworld", "nodes", "hypernet", "lidb"},
    "methods": {"methods", "nodes", "hypernet", "lidb"},
    "cli": {"cli", "methods", "faceworld", "nodes", "hypernet", "lidb"},
    "bench": {"bench", "cli", "methods", "faceworld", "nodes", "hypernet", "lidb"},
}
HOST = {"comfy", "comfy_api", "folder_paths", "nodes", "latent_preview", "execution", "server"}
LOADED = HOST | {
    "torch", "numpy", "safetensors", "transformers", "einops", "PIL", "scipy", "kornia", "skia", "comfyui_version",
    "argparse", "base64", "collections", "colorsys", "contextlib", "copy", "dataclasses", "functools", "hashlib", "io", "json",
    "logging", "math", "multiprocessing", "os", "pathlib", "re", "sys", "time", "typing", "uuid", "zlib",
}  # fmt: skip
"""What the rooms that ComfyUI loads may import: neither a shell nor a network nor pickle is among it."""
SHELL = r"(?<![\w.])(eval|exec|__import__)\(|torch\.load\(|allow_pickle|os\.(system|popen|exec|spawn|posix_spawn|fork)"


def imports(path: Path):
    """(top-level module or our room, is ours) for every import in a file."""
    room = path.relative_to(ROOT).parts[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            yield (room if node.level == 1 else node.module.split(".")[0]), True


def sources(*rooms):
    return [p for room in rooms for p in sorted((ROOT / room).rglob("*.py"))]


def test_rooms_import_one_way():
    for path in sources(*ALLOWED):
        room = path.relative_to(ROOT).parts[0]
        for name, ours in imports(path):
            assert not ours or name in ALLOWED[room], f"{path.name} of {room} imports {name}"
            assert name != "hyperdreambooth", f"{path} imports itself by an absolute name"
            if room in ("lidb", "hypernet"):
                assert ours or name not in HOST, f"{path} knows the host"


def test_nodes_use_only_the_start_up_of_faceworld():
    for path in sources("nodes"):
        text = path.read_text()
        assert "faceworld" not in text or path.name == "extension.py"


def test_nothing_the_host_loads_is_dangerous():
    for path in [ROOT / "__init__.py", *sources("lidb", "hypernet", "nodes", "faceworld")]:
        names = {name for name, ours in imports(path) if not ours}
        assert names <= LOADED, f"{path} imports {names - LOADED}"
        assert not re.search(SHELL, path.read_text()) and not re.search(r"from os import", path.read_text()), path


def test_files_stay_small():
    for path in ROOT.glob("**/*.py"):
        if not {".venv", ".host"} & set(path.parts):
            assert len(path.read_text().splitlines()) <= 380, path
