"""The HyperNets of the ablation, trained with the public commands on the same 400 people (but for the curve of people).

All that learn from noisy pictures take the same number of such steps (two of the curve of people four times as many); a
warm-up on fitted LiDBs, where a recipe has one, comes before and costs a tenth of it. They see far less than the embedded one
(minutes in place of hours), so they are compared with one another, not with it. The embedded one learnt by the loss of
``denoising_only``, in several stages and from an encoder that had learnt attributes first (``faceworld/RECIPE_HYPERNET.md``).
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...cli.host_install import REPOSITORY
from ...cli.study import digest

CHECKPOINT = REPOSITORY / "faceworld" / "weights" / "checkpoints" / "faceworld.safetensors"
PEOPLE, STEPS, LONG_STEPS, WARMUP = 400, 900, 3600, 300
SIZES = ["--a", "48", "--b", "24", "--steps", "40"]
RUN = ["--steps", str(STEPS), "--warmup-steps", str(WARMUP), "--report-every", "0", "--seed", "0"]

PAPER = ["--recipe", "paper", "--warmup-steps", "0"]
OUR_LEVELS, OUR_RATE = ["--low-share", "0.12"], ["--lr", "4e-3"]  # of which the paper's recipe takes half
UNFITTED, NO_WEIGHTS = ["--fit", "0"], ["--warmup-steps", "0", "--weight-loss", "0"]
CROWDS = ("100", "400", "1000", "4000", "10000")
FITS = {"shared": [], "own": ["--own-start"], "wide": ["--a", "96", "--b", "48"], **dict.fromkeys(CROWDS, UNFITTED)}
"""Folder of prepared people -> further arguments of ``precompute``; a number is how many people."""
HYPERNETS = {
    "ours": ("shared", []),
    "one_refinement": ("shared", ["--refinements", "1"]),
    "weights_only": ("shared", ["--warmup-steps", str(WARMUP + STEPS), "--steps", "0"]),
    "learned_basis": ("wide", ["--basis", "BASIS"]),  # half of wide: the size of the others
    "own_start": ("own", []),
    "paper": ("own", PAPER),
    "paper_shared_start": ("shared", PAPER),
    "paper_levels": ("shared", [*PAPER, *OUR_LEVELS]),
    "paper_warmed": ("shared", ["--recipe", "paper", *OUR_LEVELS, *OUR_RATE]),
    "even_levels": ("shared", ["--low-share", "0.5"]),
    "raw_weights": ("shared", ["--without", "gauge", "--without", "norm", "--without", "mean"]),
    "own_target": ("shared", ["--without", "others"]),
    "by_adam": ("shared", ["--without", "muon"]),
    "by_adam_faster": ("shared", ["--without", "muon", *OUR_RATE]),
    "denoising_only": ("400", NO_WEIGHTS),
    **{f"{crowd}_people": (crowd, NO_WEIGHTS) for crowd in CROWDS if crowd != "400"},
    **{f"{crowd}_people_long": (crowd, [*NO_WEIGHTS, "--steps", str(LONG_STEPS)]) for crowd in (CROWDS[0], CROWDS[-1])},
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


def train_hypernets(names: set[str], folder: Path, together: int) -> None:
    """Those of ``names`` that are not there yet, ``together`` at a time; goes on where it was stopped. Needs no booted host.

    Raises:
        subprocess.CalledProcessError: a command failed; it has said why.
    """
    missing = [name for name in HYPERNETS if name in names and not hypernet_file(name, folder).is_file()]
    by_data = {HYPERNETS[name][0]: [] for name in missing}
    for name in missing:
        by_data[HYPERNETS[name][0]].append(name)
    for data in by_data:
        render(data, folder)
    with ThreadPoolExecutor(together) as pool:  # whoever shares prepared people waits for one another
        list(pool.map(lambda group: [train_hypernet(name, folder) for name in group], by_data.values()))


def train_hypernet(name: str, folder: Path) -> Path:
    """Train one on one CPU thread.

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


def render(data: str, folder: Path) -> Path:
    """Draw the people of one folder, once for all that have as many."""
    crowd = int(data) if data.isdigit() else PEOPLE
    drawn = folder / f"people{crowd}"
    if not (drawn / "faces" / f"{crowd - 1:05d}" / "edit_3.txt").is_file():
        command("faceworld", "render", "people", "--split", "11", "--count", crowd, "--files", "--out", drawn)
    return drawn


def prepare(data: str, folder: Path) -> Path:
    """Encode and fit the people of one folder; goes on where it was stopped."""
    settings = [*SIZES, *FITS[data]]
    prepared = folder / f"prepared_{data}-{_mark(settings)}"
    command("precompute", "--images", render(data, folder) / "faces", "--out", prepared, *settings)
    return prepared


def command(*words) -> None:
    """A verb of the command line, with one thread."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "hyperdreambooth", *map(str, words)], check=True, env=one_thread)
