"""The real ComfyUI, booted once in this process. A missing host is a failure, never a skip."""

import atexit
import shutil
import tempfile
from pathlib import Path

import pytest

from hyperdreambooth.cli.headless import HeadlessHost

ROOT = Path(__file__).resolve().parents[2]


# booted while pytest collects, because the test modules import node code, which imports the host
_BASE = Path(tempfile.mkdtemp(prefix="hyperdreambooth-tests-"))
atexit.register(shutil.rmtree, _BASE, ignore_errors=True)  # also where no test of this process asks for the host
_HOST = HeadlessHost(_BASE)


@pytest.fixture(scope="session")
def host():
    return _HOST


@pytest.fixture(scope="session")
def faceworld(host):
    """MODEL, CLIP, VAE of the embedded default, from the stock loader, as a node would get them."""
    import torch

    with torch.inference_mode():
        return host.nodes.CheckpointLoaderSimple().load_checkpoint("faceworld.safetensors")[:3]
