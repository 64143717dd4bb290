"""The HyperNets of the ablation, trained with the public commands: same people, same number of noisy pictures, one change each.

They see far less than the embedded one (minutes in place of hours), so they are compared with ``ours`` of this file, not with it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PEOPLE, STEPS, WARMUP = 800, 300, 300
SIZES = ["--a", "48", "--b", "24", "--steps", "40"]
RUN = ["--steps", str(STEPS), "--warmup-steps", str(WARMUP), "--report-every", "0", "--seed", "0"]

FITS = {"shared": [], "own": ["--own-start"], "50": [], "200": []}
"""Folder of prepared people -> further arguments of ``precompute``; a number is how many people."""
HYPERNETS = {
    "ours": ("shared", []),
    "denoising_only": ("shared", ["--warmup-steps", "0", "--weight-loss", "0"]),
    "weights_only": ("shared", ["--warmup-steps", str(WARMUP + STEPS), "--steps", "0"]),
    "learned_basis": ("shared", ["--basis", "BASIS"]),
    "paper": ("own", ["--recipe", "paper", "--warmup-steps", "0"]),
    "50_people": ("50", []),
    "200_people": ("200", []),
}
"""Name -> (prepared people, further arguments of ``train``)."""


def recipe(name: str) -> list | None:
    """All that decides a trained HyperNet, None for the embedded one."""
    if name not in HYPERNETS:
        return None
    data, further = HYPERNETS[name]
    return [PEOPLE, SIZES, FITS[data], data, RUN, further]


def train_hypernet(name: str, folder: Path) -> Path:
    """``folder/NAME.safetensors``, trained if it is not there; needs no booted host. One CPU thread.

    Raises:
        subprocess.CalledProcessError: a command failed; it has said why.
    """
    target = folder / f"{name}.safetensors"
    if target.is_file():
        return target
    data, further = HYPERNETS[name]
    prepared = prepare(data, folder)
    if "BASIS" in further:
        if not (prepared / "basis.safetensors").is_file():
            command("basis", "--data", prepared)
        further = [str(prepared / "basis.safetensors") if arg == "BASIS" else arg for arg in further]
    command("train", "--data", prepared, "--out", folder / "runs" / name, *RUN, *further)
    shutil.copyfile(folder / "runs" / name / "hypernet.safetensors", target)
    return target


def prepare(data: str, folder: Path) -> Path:
    """Draw, encode and fit the people of one folder; goes on where it was stopped."""
    crowd = int(data) if data.isdigit() else PEOPLE
    drawn = folder / f"people{crowd}"
    if not (drawn / "faces" / f"{crowd - 1:05d}" / "edit_1.txt").is_file():
        command("faceworld", "render", "people", "--split", "11", "--count", crowd, "--files", "--out", drawn)
    prepared = folder / f"prepared_{data}"
    command("precompute", "--images", drawn / "faces", "--out", prepared, *SIZES, *FITS[data])
    return prepared


def command(*words) -> None:
    """A verb of the command line, with one thread."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "hyperdreambooth", *map(str, words)], check=True, env=one_thread)
