"""Remake the embedded default, stage by stage (see faceworld/RECIPE.md)."""

import argparse
import importlib
import importlib.util
import sys

STAGES = {
    "render": "renderer.world",
    "autoencoder": "train_autoencoder",
    "base": "train_base",
    "export": "export",
    "metrics": "train_metrics",
    "controlnet": "train_controlnet",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", choices=STAGES, nargs="?")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    if args.stage is None:
        raise ValueError(f"Choose a stage: {', '.join(STAGES)}. Each has a --help of its own.")
    if args.stage in ("render", "controlnet") and not importlib.util.find_spec("skia"):
        raise ValueError("The renderer needs skia-python, which is not installed: pip install skia-python")
    if args.stage in ("base", "controlnet"):  # train the host's own modules
        import torch

        from .host_install import find_host

        sys.path.insert(0, str(find_host()))
        from comfy.cli_args import args as host_args

        host_args.cpu = not torch.cuda.is_available()
    importlib.import_module(f"...faceworld.{STAGES[args.stage]}", __name__).main(rest)
