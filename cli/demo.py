"""The main job on the embedded default, in the real ComfyUI: four unseen people, a picture sheet, files and scores."""

import argparse
import json
import shutil
import time
from pathlib import Path

from PIL import Image

from .host_install import REPOSITORY
from .people import PEOPLE
from .scores import measure, rows, table
from .study import EDITS, Study

OUT = REPOSITORY / "output" / "demo"
TILE = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, help="use this picture instead of the four people")


def sheet(study: dict, people: dict[str, Path]) -> Image.Image:
    """A row per person: reference, plain model, prediction, prediction + 40, then the edits."""
    pictures = study["pictures"]
    rows = [
        [Image.open(path), pictures["plain"][n][0], pictures["predicted"][n][0], *pictures["finetuned"][n]]
        for n, path in people.items()
    ]
    page = Image.new("RGB", (TILE * len(rows[0]), TILE * len(rows)))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS), (x * TILE, y * TILE))
    return page


def run(args: argparse.Namespace, rest: list[str]) -> None:
    if args.image:
        if not args.image.is_file():
            raise ValueError(f"There is no picture at {args.image}. Give the path of a PNG or JPEG.")
        people = {"person": args.image.resolve()}
    else:
        people = {f"person{i}": PEOPLE / f"{i:02d}_reference.png" for i in range(4)}
    started = time.time()
    OUT.mkdir(parents=True, exist_ok=True)
    study = Study(OUT / "comfyui").run(people)
    references = {name: Image.open(path) for name, path in people.items()}
    others = {} if args.image else {n: Image.open(str(p).replace("_reference", "_photo1")) for n, p in people.items()}
    scores = rows(measure(study, references, others, EDITS, seeds=1), study["seconds"])
    for name in study["files"]:
        shutil.copy(OUT / "comfyui" / "output" / "lidb" / name, OUT / name)
    sheet(study, people).save(OUT / "sheet.png")
    (OUT / "report.json").write_text(json.dumps({"rows": scores, "files": study["files"]}, indent=1) + "\n")
    print(table(scores))
    for name, size in study["files"].items():
        print(f"{name}: {size / 1000:.1f} KB")
    print(f"Sheet: {OUT / 'sheet.png'}   {time.time() - started:.0f} seconds")
