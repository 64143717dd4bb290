"""The HyperNets of the ablation, trained with the public commands on the same 400 people (but for the curve of people).

All that learn from noisy pictures take the same number of such steps; a warm-up on fitted LiDBs, where a recipe has one, comes
before and costs a tenth of it. They see far less than the embedded one (minutes in place of hours), so they are compared with
``ours`` of this file, not with it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ...cli.host_install import REPOSITORY
from ...cli.study import digest

CHECKPOINT = REPOSITORY / "faceworld" / "weights" / "checkpoints" / "faceworld.safetensors"
PEOPLE, STEPS, WARMUP = 400, 300, 300
SIZES = ["--a", "48", "--b", "24", "--steps", "40"]
RUN = ["--steps", str(STEPS), "--warmup-steps", str(WARMUP), "--report-every", "0", "--seed", "0"]

UNFITTED, NO_WEIGHTS = ["--fit", "0"], ["--warmup-steps", "0", "--weight-loss", "0"]
FITS = {"shared": [], "own": ["--own-start"], "wide": ["--a", "96", "--b", "48"], "50": UNFITTED, "3200": UNFITTED}
"""Folder of prepared people -> further arguments of ``precompute``; a number is how many people."""
HYPERNETS = {
    "ours": ("shared", []),
    "denoising_only": ("shared", NO_WEIGHTS),
    "weights_only": ("shared", ["--warmup-steps", str(WARMUP + STEPS), "--steps", "0"]),
    "learned_basis": ("wide", ["--basis", "BASIS"]),  # half of wide: the size of the others
    "paper": ("own", ["--recipe", "paper", "--warmup-steps", "0"]),
    "50_people": ("50", NO_WEIGHTS),
    "3200_people": ("3200", NO_WEIGHTS),
}
"""Name -> (prepared people, further arguments of ``train``)."""


def recipe(name: str) -> list | None:
    """All that decides a trained HyperNet, None for the embedded one."""
    if name not in HYPERNETS:
        return None
    data, further = HYPERNETS[name]
    return [PEOPLE, SIZES, FITS[data], data, RUN, further]


def hypernet_file(name: str, folder: Path) -> Path:
    """Where the HyperNet of today's recipe and checkpoint lies, or will; another of either is another file."""
    return folder / f"{name}-{_mark(recipe(name))}.safetensors"


def _mark(settings: list) -> str:
    return hashlib.sha256(json.dumps([digest(CHECKPOINT), *settings]).encode()).hexdigest()[:8]


def train_hypernet(name: str, folder: Path) -> Path:
    """Train it if it is not there; goes on where it was stopped. Needs no booted host. One CPU thread.

    Raises:
        subprocess.CalledProcessError: a command failed; it has said why.
    """
    target, (data, further) = hypernet_file(name, folder), HYPERNETS[name]
    if target.is_file():
        return target
    prepared = prepare(data, folder)
    if "BASIS" in further:
        if not (prepared / "basis.safetensors").is_file():
            command("basis", "--data", prepared)
        further = [str(prepared / "basis.safetensors") if arg == "BASIS" else arg for arg in further]
    command("train", "--data", prepared, "--out", folder / "runs" / target.stem, *RUN, *further)
    shutil.copyfile(folder / "runs" / target.stem / "hypernet.safetensors", target)
    return target


def prepare(data: str, folder: Path) -> Path:
    """Draw, encode and fit the people of one folder; goes on where it was stopped."""
    crowd = int(data) if data.isdigit() else PEOPLE
    drawn, settings = folder / f"people{crowd}", [*SIZES, *FITS[data]]
    if not (drawn / "faces" / f"{crowd - 1:05d}" / "edit_3.txt").is_file():
        command("faceworld", "render", "people", "--split", "11", "--count", crowd, "--files", "--out", drawn)
    prepared = folder / f"prepared_{data}-{_mark(settings)}"
    command("precompute", "--images", drawn / "faces", "--out", prepared, *settings)
    return prepared


def command(*words) -> None:
    """A verb of the command line, with one thread."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "hyperdreambooth", *map(str, words)], check=True, env=one_thread)
