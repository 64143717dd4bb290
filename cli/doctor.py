"""Say what is installed, which host is used and what will work; ``--install-host`` makes sure there is a host."""

import argparse
import importlib.metadata
import os
import platform

from .host_install import find_host, install_host


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--install-host", action="store_true", help="install a private ComfyUI if none is found")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    host = install_host() if args.install_host else find_host()
    print(f"host        {host}")
    print(f"python      {platform.python_version()}, {os.cpu_count()} CPU cores")
    for package in ("torch", "transformers", "safetensors", "comfyui-frontend-package"):
        print(f"{package:11s} {importlib.metadata.version(package)}")
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: everything runs on the CPU"
    print(f"GPU         {gpu}")
