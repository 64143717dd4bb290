"""Picture sheets of the report: every method for the best, the median and the worst person; and odd pictures handed in."""

import re
from pathlib import Path

from PIL import Image, ImageDraw

from ...nodes.pictures import to_pil
from . import arms as A
from .arms import Arm
from .records import Records
from .statistics import common
from .world import Subject

SIDE, LABEL = 96, 150
SHOWN = [
    A.CONTROLS[0], A.PREDICTED, A.FULL, A.FROM_ZERO, A.IN_BASIS, A.DREAMBOOTH_40, A.DREAMBOOTH, A.PRIOR, A.LORA_4, A.LIDB,
    A.TEXTUAL_INVERSION,
]  # fmt: skip
ODD = "odd"
COLUMNS = (0, 3, 4, 5, 6, 7)  # of a strip: the first photo and the five edits


def shown_rows(records: Records) -> dict[str, dict[int, dict]]:
    """Row -> person -> scores, of the shown rows that anybody measured."""
    return {arm.name: found for arm in SHOWN if (found := records.everybody(arm))}


def exemplars(rows: dict[str, dict[int, dict]]) -> dict[str, int]:
    """The best, median and worst person by HyperDreamBooth's identity score, of those that all rows have."""
    who = common(rows)
    if A.FULL.name not in rows or not who:
        return {}
    ranked = sorted(who, key=lambda i: rows[A.FULL.name][i]["identity"])
    return {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


def pages(records: Records) -> dict[str, list[tuple[Arm, int]]]:
    """Name of a sheet -> its (row, person): a person by all methods, and what becomes of odd pictures of the median one."""
    rows = shown_rows(records)
    people = exemplars(rows)
    found = {name: [(arm, number) for arm in SHOWN if arm.name in rows] for name, number in people.items()}
    odd = [(arm, people.get("median")) for arm in A.OUT_OF_WORLD if arm.method in ("predicted", "hyperdreambooth")]
    if all(number in records.everybody(arm) for arm, number in odd):
        found[ODD] = odd
    return found


def undrawn(records: Records) -> list[tuple[Arm, int]]:
    """(row, person) of the sheets of which there are scores and no pictures: they were measured elsewhere."""
    return [place for page in pages(records).values() for place in page if records.strip(*place) is None]


def sheets(records: Records, folder: Path) -> dict[str, Path]:
    """Name -> file; a sheet that lacks a picture is left out."""
    drawn = {}
    for name, page in pages(records).items():
        strips = [records.strip(arm, number) for arm, number in page]
        path = folder / f"{name}.jpg"
        path.unlink(missing_ok=True)  # of another person, or of other weights
        if None not in strips:
            _sheet(page, strips).save(path, quality=88)
            drawn[name] = path
    return drawn


def _sheet(page: list[tuple[Arm, int]], strips: list[Image.Image]) -> Image.Image:
    """What was handed in, the photo and the edits, row by row."""
    sheet = Image.new("RGB", (LABEL + SIDE * (1 + len(COLUMNS)), SIDE * len(page)), "white")
    pen = ImageDraw.Draw(sheet)
    for y, ((arm, number), strip) in enumerate(zip(page, strips, strict=True)):
        handed_in = to_pil(Subject(number).references(arm.reference)[0])
        pen.multiline_text((6, SIDE * y + SIDE // 2 - 12), re.sub("[,:] ", "\n", arm.label), fill="black")
        for x, (source, column) in enumerate([(handed_in, 0), *((strip, c) for c in COLUMNS)]):
            side = source.height
            cut = source.crop((side * column, 0, side * (column + 1), side))
            sheet.paste(cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (LABEL + SIDE * x, SIDE * y))
    return sheet
