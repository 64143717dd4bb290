"""Curves and picture sheets of the report."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...nodes.pictures import to_pil
from . import arms as A
from .arms import Arm
from .records import Records
from .statistics import common, interval, values
from .world import Subject

SIDE, LABEL = 96, 150
SHOWN = [A.CONTROLS[0], A.PREDICTED, A.FULL, A.IN_BASIS, A.FROM_ZERO, A.DREAMBOOTH, A.TEXTUAL_INVERSION]
COLUMNS = (0, 3, 4, 5, 6, 7)  # of a strip: the first photo and the five edits


def sheets(records: Records, measured: dict[str, dict], folder: Path) -> dict[str, Path]:
    """The best, median and worst person by HyperDreamBooth's identity score; what was not drawn here stays as it is."""
    rows = {arm.name: measured[arm.name] for arm in SHOWN if arm.name in measured}
    who = common(rows)
    if A.FULL.name not in rows or not who:
        return {}
    ranked = sorted(who, key=lambda i: rows[A.FULL.name][i]["identity"])
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    drawn = {}
    for name, number in chosen.items():
        path = folder / f"{name}.jpg"
        if page := _sheet(records, [arm for arm in SHOWN if arm.name in rows], number):
            page.save(path, quality=88)
        if path.is_file():
            drawn[name] = path
    return drawn


def _sheet(records: Records, shown: list[Arm], number: int) -> Image.Image | None:
    """One person, a row per method; None if a picture is missing."""
    strips = [records.strip(arm, number) for arm in shown]
    if None in strips:
        return None
    handed_in = to_pil(Subject(number).references()[0])
    page = Image.new("RGB", (LABEL + SIDE * (1 + len(COLUMNS)), SIDE * len(shown)), "white")
    pen = ImageDraw.Draw(page)
    for y, (arm, strip) in enumerate(zip(shown, strips, strict=True)):
        pen.multiline_text((6, SIDE * y + SIDE // 2 - 12), arm.label.replace(", ", "\n"), fill="black")
        for x, (source, column) in enumerate([(handed_in, 0), *((strip, c) for c in COLUMNS)]):
            side = source.height
            cut = source.crop((side * column, 0, side * (column + 1), side)).resize(
                (SIDE, SIDE), Image.Resampling.LANCZOS
            )
            page.paste(cut, (LABEL + SIDE * x, SIDE * y))
    return page


def curves(measured: dict[str, dict], ceilings: dict[int, dict], folder: Path) -> Path | None:
    """Small plots in one picture; those with fewer than two points are left out."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ours, zero = {0: A.PREDICTED, A.FULL.steps: A.FULL}, {0: A.CONTROLS[0], A.FROM_ZERO.steps: A.FROM_ZERO}
    ours |= {arm.steps: arm for arm in A.CURVE_FROM_PREDICTION}
    zero |= {arm.steps: arm for arm in A.CURVE_FROM_ZERO}
    low, high = ({arm.steps: arm for arm in A.HARDER if arm.rate == rate} for rate in (1e-4, 3e-4))
    bases = {sum(arm.basis): arm for arm in (*A.BASES, A.INSIDE_THE_BASIS[1]) if arm.basis[0] == 2 * arm.basis[1]}
    ranks = {arm.rank: arm for arm in (*A.RANKS, A.FULL)}
    crowds = {int(arm.hypernet.split("_")[0]): arm for arm in A.CURVE_OF_PEOPLE} | {
        400: A.all_arms()["predicted_denoising_only"]
    }
    plots = [
        ("iterations", {"from the prediction": ours, "from zero": zero}, "identity"),
        ("iterations", {"from the prediction": ours, "from zero": zero}, "prompt"),
        ("iterations of DreamBooth", {"1e-4": low, "3e-4": high}, "identity"),
        ("a + b, a = 2b, from zero", {"40 steps": bases}, "identity"),
        ("relaxed rank", {"40 steps": ranks}, "identity"),
        ("people a HyperNet learnt from", {"prediction alone": crowds}, "identity"),
    ]
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    any_drawn = False
    for axis, (name, lines, metric) in zip(axes.flat, plots, strict=True):
        compared: set[int] = set()
        for label, points in lines.items():
            there = {x: measured[arm.name] for x, arm in sorted(points.items()) if arm.name in measured}
            who = common({str(x): people for x, people in there.items()})
            if len(there) < 2 or not who:
                continue
            compared |= set(who)
            found = [interval(values(people, metric, who)) for people in there.values()]
            means, ends = (
                [f.mean for f in found],
                np.array([[f.mean - f.low for f in found], [f.high - f.mean for f in found]]),
            )
            axis.errorbar(
                list(there), means, ends, label=f"{label} ({len(who)} people)", marker="o", markersize=3, capsize=2
            )
            any_drawn = True
        if not axis.lines:
            axis.set_axis_off()
            continue
        if metric == "identity" and ceilings:
            axis.axhline(
                float(np.mean([scores["identity"] for number, scores in ceilings.items() if number in compared])),
                color="grey",
                linestyle=":",
                linewidth=1,
            )
        axis.set(xlabel=name, ylabel=metric)
        axis.legend(fontsize=7)
    path = folder / "curves.png"
    if any_drawn:
        figure.savefig(path, dpi=90)
    plt.close(figure)
    return path if any_drawn else None
