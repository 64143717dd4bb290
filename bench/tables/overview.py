"""One picture of who does what: likeness, obedience and cost of every method, side by side."""

from pathlib import Path

from . import arms as A
from .arms import Arm
from .comparisons import Rows
from .statistics import common, interval, values

ROWS = [
    A.PREDICTED, A.FULL, A.IN_BASIS, A.FROM_ZERO, A.LORA_1, A.LORA_4, A.DREAMBOOTH_40, A.DREAMBOOTH, A.PRIOR, A.LIDB,
    A.TEXTUAL_INVERSION,
]  # fmt: skip
SCORES = {"identity": "identity in photos", "of_edits": "identity in edits", "prompt": "prompt"}
COSTS = {"seconds": "seconds a person", "bytes": "file, bytes"}
CEILING = A.CEILING.name


def overview(measured: Rows, costs: dict[str, dict], folder: Path) -> Path | None:
    """A row per method and a column per score, each with its 95 % interval over the people whom all rows have.

    The dotted line is the ceiling; red and orange are what the HyperNet has a part in. None, and no file, with fewer than two
    rows or without a ceiling.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = {arm.name: measured[arm.name] for arm in ROWS if arm.name in measured}
    who = common(rows | {CEILING: measured.get(CEILING, {})})
    if len(rows) < 2 or not who:
        return None
    arms = [arm for arm in ROWS if arm.name in rows][::-1]  # the first on top
    columns = len(SCORES) + (len(COSTS) if costs else 0)
    size = (3.2 + 2 * columns, 0.3 * len(arms) + 1)
    figure, axes = plt.subplots(1, columns, sharey=True, figsize=size, layout="constrained")
    for axis, (score, name) in zip(axes, SCORES.items(), strict=False):
        for y, arm in enumerate(arms):
            found = interval(values(rows[arm.name], score, who))
            axis.plot([found.low, found.high], [y, y], color=_colour(arm), linewidth=2)
            axis.plot(found.mean, y, marker="o", markersize=5, color=_colour(arm))
        axis.axvline(values(measured[CEILING], score, who).mean(), color="grey", linestyle=":", linewidth=1)
        axis.set_xlabel(f"{name} →")
    for axis, (cost, name) in zip(axes[len(SCORES) :], COSTS.items(), strict=False):
        for y, arm in enumerate(arms):
            if arm.name in costs:
                axis.plot(costs[arm.name][cost], y, marker="o", markersize=5, color=_colour(arm))
        axis.set_xscale("log")
        axis.minorticks_off()
        axis.set_xlabel(f"← {name}")
    axes[0].set_yticks(range(len(arms)), [arm.label for arm in arms])
    for axis in axes:
        axis.grid(axis="y", linewidth=0.4)
    figure.suptitle(f"{len(who)} people, with 95 % intervals", fontsize=9)
    path = folder / "overview.png"
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def _colour(arm: Arm) -> str:
    return "tab:red" if arm is A.FULL else "tab:orange" if arm.wants_embedded else "tab:blue"
