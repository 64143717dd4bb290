"""Remake the embedded default, stage by stage (see faceworld/RECIPE.md)."""

import argparse
import importlib

STAGES = {"autoencoder": "train_autoencoder", "export": "export", "metrics": "train_metrics"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", choices=STAGES)


def run(args: argparse.Namespace, rest: list[str]) -> None:
    importlib.import_module(f"...faceworld.{STAGES[args.stage]}", __name__).main(rest)
