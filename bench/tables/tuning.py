"""Which learning rate and how many steps does each row want? Measured as the tables are, on validation people.

    python -m hyperdreambooth.bench.tables --tuning

What is chosen here becomes ``methods/defaults.py`` and ``arms.py`` and is then used on the test people, never the other way
round (a test compares them). Chosen is, for each row, the most likeness (photos and edits together) among the settings whose
edits obey within 5 % (7 % with fewer people) of the plain model's prompt score; where none does, the most obedient.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from . import arms as A
from .arms import Arm
from .records import Records
from .statistics import common, interval, values

PEOPLE, FEWER = 12, 6  # for the rows of table 1 and the parts; for the sweeps
OBEYS, NEARLY = 0.95, 0.93  # shares of the plain model's prompt score; six people do not tell a percent or two
PLAIN = A.CONTROLS[0]
_BY_NAME = A.all_arms()
GRIDS = {
    "hyperdreambooth": [(40, 3e-3), (40, 1e-2), (40, 2e-2), (40, 3e-2)],
    "hyperdreambooth_160": [(160, 3e-3), (160, 1e-2), (160, 2e-2)],
    "hyperdreambooth_basis": [(40, 2e-2), (40, 4e-2), (40, 8e-2)],
    "zero": [(40, 1e-2), (40, 2e-2), (40, 3e-2)],
    "zero_basis": [(40, 2e-2), (40, 4e-2), (40, 8e-2)],
    "lora_1": [(40, 1e-2), (40, 3e-2), (40, 6e-2)],
    "lora_4": [(40, 5e-3), (40, 1e-2), (40, 2e-2), (40, 3e-2), (40, 5e-2)],
    "lora_4_160": [(160, 3e-3), (160, 1e-2), (160, 2e-2)],
    "lidb": [(200, 5e-3), (200, 1e-2), (200, 2e-2), (200, 4e-2), (400, 3e-3), (400, 5e-3), (400, 1e-2)],
    "dreambooth_40": [(40, 3e-4), (40, 5e-4), (40, 1e-3), (40, 2e-3)],
    "dreambooth": [(160, 1e-4), (160, 3e-4), (160, 5e-4), (160, 1e-3), (160, 2e-3), (400, 1e-4)],
    "dreambooth_layers": [(40, 1e-3), (40, 2e-3), (40, 4e-3), (40, 8e-3)],
    "dreambooth_unet": [(40, 5e-4), (40, 1e-3), (40, 2e-3)],
    "dreambooth_text": [(40, 2e-3), (40, 4e-3), (40, 8e-3)],
    "dreambooth_prior": [(160, 3e-4), (160, 5e-4), (160, 1e-3), (160, 2e-3), (400, 5e-4), (400, 7e-4), (400, 1e-3)],
    "textual_inversion": [(150, 0.1), (150, 0.3), (400, 3e-2), (400, 0.1), (400, 0.3), (1200, 0.1)],
    "relaxed_1": [(40, 1e-2), (40, 2e-2), (40, 4e-2)],
    "relaxed_2": [(40, 1e-2), (40, 2e-2), (40, 4e-2)],
    "relaxed_8": [(40, 1e-2), (40, 2e-2), (40, 3e-2)],
    "relaxed_16": [(40, 5e-3), (40, 1e-2), (40, 2e-2)],
}
"""Row of the tables -> (steps, learning rate) to try."""
SWEEPS = {
    "harder_prior": [(1200, 3e-4), (1200, 5e-4), (1200, 8e-4)],
    "basis_relaxed_1": [(40, 2e-2), (40, 4e-2), (40, 8e-2)],
    "basis_relaxed_16": [(40, 1e-2), (40, 2e-2), (40, 4e-2)],
    "hyperdreambooth_10": [(10, 2e-2), (10, 4e-2), (10, 8e-2)],
    "hyperdreambooth_20": [(20, 1e-2), (20, 2e-2), (20, 3e-2)],
    "hyperdreambooth_80": [(80, 5e-3), (80, 1e-2), (80, 2e-2)],
    "hyperdreambooth_200": [(200, 3e-3), (200, 1e-2), (200, 2e-2)],
    "zero_10": [(10, 2e-2), (10, 4e-2), (10, 8e-2)],
    "zero_20": [(20, 1e-2), (20, 2e-2), (20, 3e-2)],
    "zero_80": [(80, 5e-3), (80, 1e-2), (80, 2e-2)],
    "zero_200": [(200, 3e-3), (200, 5e-3), (200, 1e-2)],
    "basis_6_3": [(40, 4e-2), (40, 8e-2), (40, 0.16), (40, 0.32), (40, 0.64)],
    "basis_12_6": [(40, 4e-2), (40, 8e-2), (40, 0.16), (40, 0.32)],
    "basis_24_12": [(40, 2e-2), (40, 4e-2), (40, 6e-2), (40, 8e-2)],
    "basis_100_50": [(40, 1e-2), (40, 2e-2), (40, 4e-2)],
    "basis_12_48": [(40, 2e-2), (40, 4e-2), (40, 8e-2)],
    "basis_48_12": [(40, 2e-2), (40, 4e-2), (40, 8e-2)],
}
"""The same for rows of which the tables want a curve, on fewer people."""
INHERITED = {
    "hyper_ours": "hyperdreambooth", "hyper_one_refinement": "hyperdreambooth", "hyper_paper": "hyperdreambooth",
    **{f"hyperdreambooth_{kind}": "hyperdreambooth" for kind in (*A.ODD, *A.COUNTS)},
    **{f"zero_{kind}": "zero" for kind in (*A.ODD, *A.COUNTS)},
    A.FIVE_LONGER.name: A.LONGER.name,
}  # fmt: skip
"""Rows that take the setting of another. DreamBooth one by one (``arms.HARDER``) has none to choose: it is a grid itself."""


def settings_of(name: str) -> list[Arm]:
    """A row of the tables under every setting of its grid."""
    grid = (GRIDS | SWEEPS)[name]
    return [replace(_BY_NAME[name], name=f"{name}_{steps}_{rate:g}", steps=steps, rate=rate) for steps, rate in grid]


TUNING = [
    ([PLAIN, *(arm for name in GRIDS for arm in settings_of(name))], PEOPLE),
    ([arm for name in SWEEPS for arm in settings_of(name)], FEWER),
]


def chosen(rows: dict[str, dict[int, dict]], name: str, who: list[int]) -> str:
    """The best setting of a row, by name; the most obedient if every setting disobeys."""
    enough = (OBEYS if name in GRIDS else NEARLY) * values(rows[PLAIN.name], "prompt", who).mean()
    tried = [arm.name for arm in settings_of(name)]
    likeness, prompt = ({n: values(rows[n], metric, who).mean() for n in tried} for metric in ("likeness", "prompt"))
    obeying = [n for n in tried if prompt[n] >= enough]
    return max(obeying, key=likeness.get) if obeying else max(tried, key=prompt.get)


def committed_choice(folder: Path, name: str) -> str | None:
    """What the committed records choose for a row, whatever weights they belong to; None if they are not complete."""
    rows = {}
    for arm in (PLAIN, *settings_of(name)):
        path = folder / f"{arm.name}.json"
        people = json.loads(path.read_text())["people"] if path.is_file() else {}
        rows[arm.name] = {int(number): scores for number, scores in people.items()}
    people = PEOPLE if name in GRIDS else FEWER
    who = common(rows)[:people]
    return chosen(rows, name, who) if len(who) == people else None


def write_tuning(records: Records, page: Path) -> None:
    """``page`` as Markdown: all rows whose people are complete, the chosen setting of each in bold."""
    found = {arm.name: records.everybody(arm) for arms, _ in TUNING for arm in arms}
    parts = [f"# Rates of the methods\n\n{_ABOUT}\n"]
    for grids, people in ((GRIDS, PEOPLE), (SWEEPS, FEWER)):
        whole = [name for name in grids if all(len(found[arm.name]) >= people for arm in settings_of(name))]
        who = list(range(people))
        lines = [
            f"{people} people:\n\n| row | steps | learning rate | identity | of edits | prompt |",
            "|---|---|---|---|---|---|",
        ]
        if whole and set(who) <= set(found[PLAIN.name]):
            lines.append(_line(PLAIN, found[PLAIN.name], who, False))
            for name in whole:
                best = chosen(found, name, who)
                lines += [_line(arm, found[arm.name], who, arm.name == best) for arm in settings_of(name)]
        parts.append("\n".join(lines) + "\n")
    page.write_text("\n".join(parts))
    print(f"Table: {page}")


def _line(arm: Arm, people: dict[int, dict], who: list[int], best: bool) -> str:
    edits, prompt = (np.mean(values(people, metric, who)) for metric in ("of_edits", "prompt"))
    row = re.sub(r", \d+ steps", "", arm.label)  # which are the row's in the tables
    label, steps = (f"**{row}**" if best else row), (f"{arm.steps} | {arm.rate:g}" if arm.steps else " | ")
    return f"| {label} | {steps} | {interval(values(people, 'identity', who))} | {edits:.3f} | {prompt:.3f} |"


_ABOUT = f"""Written by `python -m hyperdreambooth.bench.tables --tuning`; edit `bench/tables/tuning.py`, not this page. Validation people of faceworld, whom the tables of
`results.md` never show; one training seed. *identity* is the cosine with their other photos and its 95 % interval over people, *of edits* the same of five edits, *prompt* how far those obey. Bold: the
most likeness of photos and edits together among a row's settings whose prompt score is at least {OBEYS:.0%} of the plain model's ({NEARLY:.0%} with six people); where none is, the one that obeys most. The rates are faceworld's, not Stable
Diffusion's: there DreamBooth wants 1e-6 to 5e-6."""
