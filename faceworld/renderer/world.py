"""Draw the sets of pictures that the embedded default is trained and tested on. A seed fixes every pixel.

    hyperdreambooth faceworld render base --count 44000 --out DIR
    hyperdreambooth faceworld render people --split 11 --count 4000 --photos 2 --edits 2 --out DIR

``base``: one person per picture, seeds ``[7, i]``; ``x.npy`` (N, 128, 128, 3) uint8 and ``captions.json``.
``people``: several pictures of each person, photos first, then edits, seeds ``[split, i]``; ``people.npy``
(P, K, 128, 128, 3) uint8 and ``people.json``. With ``--lookalikes`` a second half follows: for each person a look-alike.
Splits in use: 11 HyperNet, 13 metrics, 17 validation, 19 test.
"""

import argparse
import json
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from .captions import describe, personal
from .identity import Identity, sample_identity
from .palette import ACCESSORIES, BACKGROUNDS, CONTEXTS, EXPRESSIONS, STYLES
from .photo import Photo, sample_photo
from .render import SIZE, Scene, render

BASE_SPLIT = 7


def _either(rng: np.random.Generator, options: tuple[str, ...], first: float) -> str:
    """The first option with probability ``first``, otherwise any of the others."""
    return options[0] if rng.random() < first else options[1 + rng.integers(len(options) - 1)]


def _scene(rng: np.random.Generator, style: float, context: float, accessory: float, expression: float) -> Scene:
    """Arguments: probabilities of photo, plain, none and neutral."""
    drawn = [
        _either(rng, options, first)
        for options, first in (
            (STYLES, style),
            (CONTEXTS, context),
            (ACCESSORIES, accessory),
            (EXPRESSIONS, expression),
        )
    ]
    return Scene(*drawn, background=list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))])


def base_scene(index: int) -> tuple[Identity, Photo, Scene, np.random.Generator]:
    """What picture ``index`` of the base model's set shows, and the generator that goes on to word its caption."""
    rng = np.random.default_rng([BASE_SPLIT, index])
    person = sample_identity(rng)
    scene = _scene(rng, 0.46, 0.5, 0.6, 0.6)
    return person, sample_photo(rng, scene.expression), scene, rng


def base_picture(index: int) -> tuple[np.ndarray, dict]:
    """Picture ``index`` of the base model's set, and its caption and scene."""
    person, photo, scene, rng = base_scene(index)
    return render(person, photo, scene), {"caption": describe(person, scene, rng), **asdict(scene)}


def identity(split: int, index: int, lookalike: bool = False) -> Identity:
    person = sample_identity(np.random.default_rng([split, index]))
    return person.lookalike(sample_identity(np.random.default_rng([split, index, 999]))) if lookalike else person


def person_pictures(split: int, photos: int, edits: int, job: tuple[int, bool]) -> tuple[np.ndarray, dict]:
    """Pictures (photos + edits, 128, 128, 3) of person ``job[0]``, or of their look-alike, and their record."""
    index, lookalike = job
    person = identity(split, index, lookalike)
    pictures, records = [], []
    for k in range(photos + edits):
        rng = np.random.default_rng([split, index, 1 + k + (500 if lookalike else 0)])
        if k < photos:
            expression = "neutral" if rng.random() < 0.7 else "smiling"
            background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
            scene = replace(Scene(), expression=expression, background=background)
        else:
            scene = _scene(rng, 0.35, 0.5, 0.5, 0.7)
        pictures.append(render(person, sample_photo(rng, scene.expression), scene))
        records.append({"caption": personal(scene, rng), **asdict(scene)})
    record = {"pictures": records, "identity": asdict(person), "lookalike_of": index if lookalike else None}
    return np.stack(pictures), record


def _collect(work, jobs: list, path: Path, processes: int) -> list[dict]:
    """Run ``work`` over ``jobs``; pictures go straight to ``path``, records come back."""
    first, _ = work(jobs[0])
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (len(jobs), *first.shape))
    records = []
    with Pool(processes) as pool:
        for i, (pictures, record) in enumerate(pool.imap(work, jobs, chunksize=20)):
            array[i] = pictures
            records.append(record)
            if i % 2000 == 1999:
                print(f"{i + 1} of {len(jobs)}", flush=True)
    array.flush()
    return records


def _write_files(out: Path, records: list[dict], photos: int) -> None:
    """``faces/00007/photo_0.png`` ... ``edit_3.png`` with a caption beside each: what ``precompute --images`` reads."""
    array = np.load(out / "people.npy", mmap_mode="r")
    for p, record in enumerate(records):
        folder = out / "faces" / f"{p:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        for k, (pixels, scene) in enumerate(zip(array[p], record["pictures"], strict=True)):
            name = f"{'photo' if k < photos else 'edit'}_{k}"
            Image.fromarray(pixels).save(folder / f"{name}.png", compress_level=1)
            (folder / f"{name}.txt").write_text(scene["caption"])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("base", "people"))
    parser.add_argument("--count", type=int, required=True, help="pictures (base) or people (people)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", type=int, default=11, help="which people; see above")
    parser.add_argument("--photos", type=int, default=2)
    parser.add_argument("--edits", type=int, default=2)
    parser.add_argument("--lookalikes", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--files", action="store_true", help="also a folder of pictures and captions per person")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.set == "base":
        records = _collect(base_picture, list(range(args.count)), args.out / "x.npy", args.processes)
        (args.out / "captions.json").write_text(json.dumps(records))
    else:
        jobs = [(i, twin) for twin in ((False, True) if args.lookalikes else (False,)) for i in range(args.count)]
        work = partial(person_pictures, args.split, args.photos, args.edits)
        records = _collect(work, jobs, args.out / "people.npy", args.processes)
        (args.out / "people.json").write_text(json.dumps(records))
        if args.files:
            _write_files(args.out, records, args.photos)
    print(f"{len(records)} in {args.out}, {SIZE} px")
