"""The main job on the embedded default, in the real ComfyUI: four unseen people, a picture sheet, files and scores."""

import argparse
import json
import shutil
import time
from pathlib import Path

from PIL import Image

from .host_install import REPOSITORY
from .people import Face, choose_people, one_person, save_references

OUT = REPOSITORY / "output" / "demo"
TILE = 160
NAMES = ("person", "person0", "person1", "person2", "person3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, help="use this picture instead of the four people")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    started = time.time()
    from .study import Study

    if args.image:
        people = {NAMES[0]: one_person(args.image.expanduser().resolve())}
    else:
        people = dict(zip(NAMES[1:], choose_people(None, 4)[0].values(), strict=True))
    clear(OUT)
    main_job(Study(OUT / "comfyui"), people, OUT, started)


def clear(out: Path) -> None:
    """Take away what an earlier demo made, so that files keep their names; nothing else there is touched."""
    old = [out / "sheet.png", out / "report.json", *(out / "comfyui" / "temp").glob("ComfyUI_temp_*.png")]
    for name in NAMES:
        old += [out / "comfyui" / "input" / f"{name}{kind}.png" for kind in ("", "_crop")]
        for kind in ("predicted", "finetuned", "zero_40"):
            for folder in (out, out / "comfyui" / "output" / "lidb"):
                old += folder.glob(f"{name}_{kind}_[0-9]*_.safetensors")
    for path in old:
        path.unlink(missing_ok=True)


def main_job(study, people: dict[str, Face], out: Path, started: float) -> None:
    """Run the study and leave sheet.png, report.json and the identity files in ``out``; print the figures."""
    from .scores import measure, on_reference_only, rows, table

    done = study.run(save_references(people, study.host.base / "input"))
    references = {name: person.reference for name, person in people.items()}
    others = {name: person.others for name, person in people.items()}
    scores = rows(measure(done, references, others, study.edits, study.seeds), done["seconds"])
    for path in done["paths"]:
        shutil.copy(path, out / path.name)
    sheet(done["pictures"], references).save(out / "sheet.png")
    report = {"rows": scores, "files": done["files"], "scored_on_reference": on_reference_only(done, others)}
    report["total_seconds"] = time.time() - started
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(table(scores))
    for name, size in done["files"].items():
        print(f"{name}: {size / 1000:.1f} KB")
    print(f"Sheet: {out / 'sheet.png'}   {report['total_seconds']:.0f} seconds")


def sheet(pictures: dict, references: dict[str, Image.Image]) -> Image.Image:
    """A row per person: reference, plain model, prediction, prediction + 40, then the edits."""
    rows = [
        [reference, pictures["plain"][n][0], pictures["predicted"][n][0], *pictures["finetuned"][n]]
        for n, reference in references.items()
    ]
    page = Image.new("RGB", (TILE * len(rows[0]), TILE * len(rows)))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            page.paste(picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS), (x * TILE, y * TILE))
    return page
