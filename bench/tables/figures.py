"""Curves of the report."""

from pathlib import Path

import numpy as np

from . import arms as A
from .comparisons import SCORES
from .statistics import common, interval, values


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
    crowds, longer = (
        {int(arm.hypernet.split("_")[0]): arm for arm in curve} for curve in (A.CURVE_OF_PEOPLE, A.CURVE_OF_PEOPLE_LONG)
    )
    crowds[400] = A.all_arms()["predicted_denoising_only"]
    pictures = {
        label: {1: arm} | {a.references: a for a in A.SEVERAL if (a.method, a.steps) == (arm.method, arm.steps)}
        for label, arm in (("prediction", A.PREDICTED), ("from the prediction", A.FULL), ("from zero", A.FROM_ZERO))
    }
    starts = {"from the prediction": ours, "from zero": zero}
    plots = [
        *(("iterations", starts, metric) for metric in ("identity", "of_edits", "prompt")),
        ("pictures handed in", pictures, "identity"),
        ("iterations of DreamBooth", {"1e-4": low, "3e-4": high}, "identity"),
        ("a + b, a = 2b, from zero", {"40 steps": bases}, "identity"),
        ("relaxed rank", {"40 steps": ranks}, "identity"),
        ("people a HyperNet learnt from", {"900 steps": crowds, "3,600 steps": longer}, "identity"),
    ]
    figure, axes = plt.subplots(2, 4, figsize=(15, 6), layout="constrained")
    any_drawn = False
    for axis, (name, lines, metric) in zip(axes.flat, plots, strict=True):
        compared, shown = set(), set()
        for label, points in lines.items():
            there = {x: measured[arm.name] for x, arm in sorted(points.items()) if arm.name in measured}
            who = common({str(x): people for x, people in there.items()})
            if len(there) < 2 or not who:
                continue
            compared |= set(who)
            shown |= set(there)
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
        if metric != "prompt" and ceilings:
            axis.axhline(
                float(np.mean([scores[metric] for number, scores in ceilings.items() if number in compared])),
                color="grey",
                linestyle=":",
                linewidth=1,
            )
        axis.set(xlabel=name, ylabel=SCORES[metric])
        if not name.startswith("iterations"):  # doublings, each measured point a tick of its own
            axis.set_xscale("log")
            axis.set_xticks(sorted(shown), [f"{x:,}" for x in sorted(shown)])
            axis.minorticks_off()
        axis.legend(fontsize=7)
    path = folder / "curves.png"
    if any_drawn:
        figure.savefig(path, dpi=90)
    plt.close(figure)
    return path if any_drawn else None
