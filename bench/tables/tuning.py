"""Which learning rate and how many steps does each method want? Measured as the tables are, on validation people.

    python -m hyperdreambooth.bench.tables --tuning

What is chosen here becomes ``methods/defaults.py`` and ``arms.py`` and is then used on the test people, never the other way
round. Chosen is, for each method, the most likeness (photos and edits together) among the settings whose edits obey within
5 % of the plain model's prompt score.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from . import arms as A
from .arms import Arm
from .records import Records
from .statistics import common, interval, values

PEOPLE = 12
OBEYS = 0.95  # share of the plain model's prompt score
PLAIN = A.CONTROLS[0]
_BY_NAME = A.all_arms()
GRIDS = {
    "hyperdreambooth": [(40, 3e-3), (40, 1e-2), (40, 2e-2)],
    "hyperdreambooth_basis": [(40, 2e-2), (40, 4e-2), (40, 8e-2)],
    "lora_1": [(40, 1e-2), (40, 3e-2), (40, 6e-2)],
    "lora_4": [(40, 5e-3), (40, 1e-2), (40, 2e-2), (40, 3e-2)],
    "lidb_40": [(40, 1e-2), (40, 2e-2), (40, 4e-2)],
    "lidb_200": [(200, 2e-2), (200, 4e-2)],
    "dreambooth": [(40, 3e-4), (40, 5e-4), (40, 1e-3), (160, 1e-4), (160, 3e-4)],
    "dreambooth_prior": [(160, 3e-4), (160, 5e-4), (160, 1e-3)],
    "textual_inversion": [(150, 0.1), (150, 0.3), (400, 3e-2), (400, 0.1)],
}
"""Row of the tables -> (steps, learning rate) to try."""


def settings_of(name: str) -> list[Arm]:
    """A row of the tables under every setting of its grid."""
    return [
        replace(_BY_NAME[name], name=f"{name}_{steps}_{rate:g}", steps=steps, rate=rate) for steps, rate in GRIDS[name]
    ]


TUNING = [PLAIN, *(arm for name in GRIDS for arm in settings_of(name))]


def chosen(rows: dict[str, dict[int, dict]], name: str, who: list[int]) -> str | None:
    """The best setting of a row, by name; None if every setting disobeys."""
    enough = OBEYS * values(rows[PLAIN.name], "prompt", who).mean()
    likeness = {
        arm.name: values(rows[arm.name], "identity", who).mean() + values(rows[arm.name], "of_edits", who).mean()
        for arm in settings_of(name)
        if values(rows[arm.name], "prompt", who).mean() >= enough
    }
    return max(likeness, key=likeness.get) if likeness else None


def write_tuning(records: Records, page: Path) -> None:
    """``page`` as Markdown: all methods measured so far, the chosen setting of each in bold."""
    found = {arm.name: records.everybody(arm) for arm in TUNING}
    whole = [name for name in GRIDS if all(found[arm.name] for arm in settings_of(name))]
    lines = ["| method | steps | learning rate | identity | of edits | prompt |", "|---|---|---|---|---|---|"]
    for name in whole:
        rows = {arm.name: found[arm.name] for arm in (PLAIN, *settings_of(name))}
        who = common(rows)
        best = chosen(rows, name, who)
        if name == whole[0]:
            lines.append(_line(PLAIN, rows[PLAIN.name], who, False))
        lines += [_line(arm, rows[arm.name], who, arm.name == best) for arm in settings_of(name)]
    page.write_text(f"# Rates of the methods\n\n{_ABOUT}\n\n" + "\n".join(lines) + "\n")
    print(f"Table: {page}")


def _line(arm: Arm, people: dict[int, dict], who: list[int], best: bool) -> str:
    edits, prompt = (np.mean(values(people, metric, who)) for metric in ("of_edits", "prompt"))
    label, steps = (f"**{arm.label}**" if best else arm.label), (f"{arm.steps} | {arm.rate:g}" if arm.steps else " | ")
    return f"| {label} | {steps} | {interval(values(people, 'identity', who))} | {edits:.3f} | {prompt:.3f} |"


_ABOUT = f"""Written by `python -m hyperdreambooth.bench.tables --tuning`; edit `bench/tables/tuning.py`, not this page. {PEOPLE} validation people of faceworld, whom the tables of
`results.md` never show; one seed. *identity* is the cosine with their other photos and its 95 % interval over people, *of edits* the same of five edits, *prompt* how far those obey. Bold: the
most likeness of photos and edits together among a method's settings whose prompt score is at least {OBEYS:.0%} of the plain model's. The rates are faceworld's, not Stable Diffusion's: there DreamBooth
wants 1e-6 to 5e-6."""
