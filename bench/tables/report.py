"""docs/results.md: the tables, what they say about the paper's order, the curves and the sheets."""

import json
from pathlib import Path

from . import arms as A
from . import paper
from .arms import Arm
from .costs import costs_hardware, read_costs
from .figures import curves, sheets
from .records import Records
from .statistics import SMALLER_IS_BETTER, common, interval, order, relation, share, values

COLUMNS = {
    "identity": "identity", "rank_1": "rank-1", "parameters": "parameter error", "face_features": "face features",
    "of_edits": "identity of edits", "prompt": "prompt", "diversity": "diversity", "drift": "prior drift",
}  # fmt: skip
COSTS = ("iterations", "seconds", "file")
LIKENESS = ("identity", "rank_1", "parameters", "face_features")

ANCHORS = {arm.name for arm in (*A.CONTROLS, A.CEILING, A.CEILING_OF_CARTOONS, A.FULL, A.PREDICTED, A.FROM_ZERO)}
"""Rows that stand in several tables, measured for more people than some of them."""

FEWEST = 3
"""People without whom a table would say nothing."""

FINDINGS = Path(__file__).with_name("findings.md")

INTRO = """# HyperDreamBooth against its rivals

Written by `make tables` from `bench/results/tables/`; edit `bench/tables/`, not this page. Everything here happens in **faceworld**, a world of drawn faces, on
the embedded miniature model: it says which method does what and in which order, where identity is known exactly. It says nothing about photographs, and none of its
numbers can be laid beside the paper's. The paper's tables stand beside ours for the *order* of methods alone.

**How to read it.** Means over test people whom nothing was trained or tuned on, each with the 95 % interval of a bootstrap over people; rows of one table are compared on the
same people, prompts and sampling seeds. *plain model* is the floor; *another photo* scores a photo of the person that no method saw and is the ceiling; *wrong person* and *mean
prediction* are controls. The share is the way from floor to ceiling. One training seed everywhere; learning rates and steps were chosen on other people (`docs/ablations.md`). One choice was
made on these: that HyperDreamBooth relaxes in the full space by default was decided after these tables had shown it to be better.

| score | what it is | better |
|---|---|---|
| identity | cosine of faceworld's identity network with three other photos of the person (`faceworld/METRICS.md`; a look-alike earns 0.42) | higher |
| rank-1 | share of pictures whose nearest photo, among 100 people and a look-alike of each, is the person | higher |
| parameter error | error of those drawn parameters that a small network can read off a photo (`bench/tables/parameters.py`), in standard deviations; about 1 = guessing the average person | lower |
| face features | cosine inside the face's oval, of a network trained on styles and accessories, not on people | higher |
| identity of edits | the identity score of five edits: two styles, three contexts with accessories | higher |
| prompt | how far the five edits show what was asked (ceiling 0.97: drawn right, the ruler says 0.97) | higher |
| diversity | how unlike each other three photos of one prompt are; the plain model draws three different people | as other photos |
| prior drift | how far "a photo of a face" moves away from the plain model's | lower |
"""


class Report:
    """Everything that has been measured, as Markdown in ``folder``."""

    def __init__(self, records: Records, folder: Path):
        self.records, self.folder = records, folder
        self.arms = A.all_arms()
        self.measured = {name: found for name, arm in self.arms.items() if (found := records.everybody(arm))}
        self.costs = read_costs(records)

    def rows(self, chosen: list[Arm]) -> dict[str, dict[int, dict]]:
        """What was measured; a row that is still far behind the others would take them down to its few people."""
        there = {arm.name: self.measured[arm.name] for arm in chosen if arm.name in self.measured}
        most = max((len(people) for name, people in there.items() if name not in ANCHORS), default=0)
        return {name: people for name, people in there.items() if 4 * len(people) >= 3 * most}

    def table(self, chosen: list[Arm], with_costs: bool = False, floor: str = "plain", ceiling: Arm = A.CEILING) -> str:
        """One table between floor and ceiling; rows that nobody measured are left out."""
        rows = self.rows([self.arms[floor], *(arm for arm in chosen if arm.name != floor), ceiling])
        who = common(rows)
        if len(who) < FEWEST or not {floor, ceiling.name} <= set(rows) or set(rows) <= ANCHORS:
            return "*Not measured yet.*\n"
        ends = [values(rows[end], "identity", who) for end in (floor, ceiling.name)]
        heads = ["row", "share of the way", *COLUMNS.values(), *(COSTS if with_costs else ())]
        lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for name, people in rows.items():
            way = share(values(people, "identity", who), *ends)
            cells = [self._label(name), f"{100 * way.mean:.0f} % ({100 * way.low:.0f} to {100 * way.high:.0f})"]
            cells += [_cell(people, metric, who) for metric in COLUMNS]
            if with_costs:
                cells += self._cost(name)
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + f"\n\n{len(who)} people.\n"

    def _label(self, name: str) -> str:
        text = self.arms[name].label
        return f"**{text}**" if name == A.FULL.name else text

    def _cost(self, name: str) -> list[str]:
        cost = self.costs.get(name)
        if cost is None:
            return ["", "", ""]
        size = cost["bytes"]
        return [
            str(cost["steps"]),
            f"{cost['seconds']:.1f}",
            f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB",
        ]

    def orders(self, chosen: list[Arm], metrics: tuple[str, ...]) -> str:
        """One line per score: the rows from best to worst; ≈ where the paired interval holds zero."""
        rows = self.rows(chosen)
        who = common(rows)
        if len(rows) < 2 or not who:
            return ""
        lines = []
        for metric in metrics:
            scores = {self.arms[name].label: values(people, metric, who) for name, people in rows.items()}
            lines.append(f"- {COLUMNS[metric]}: {order(scores, metric in SMALLER_IS_BETTER)}")
        return "\n".join(lines) + "\n"

    def verdict(self, claims: list[tuple[str, str]]) -> str:
        """Does the paper's order hold? One sentence."""
        names = [name for claim in claims for name in claim]
        rows = self.rows([self.arms[name] for name in dict.fromkeys(names)])
        who = common(rows)
        if len(who) < 2 or not set(names) <= set(rows):
            return ""
        held, broken, open_ = [], [], []
        for better, worse in claims:
            for metric in LIKENESS:
                one, other = (values(rows[name], metric, who) for name in (better, worse))
                mark = relation(*((-one, -other) if metric in SMALLER_IS_BETTER else (one, other)))
                said = f"{self.arms[better].label} over {self.arms[worse].label} in {COLUMNS[metric]}"
                {">": held, "<": broken, "≈": open_}[mark].append(said)
        total = len(held) + len(broken) + len(open_)
        text = f"**Does the paper's order in likeness hold here ({len(who)} people)? In {len(held)} of {total} comparisons it does"
        text += f", in {len(broken)} the opposite holds ({'; '.join(broken)})" if broken else ", in none the opposite"
        return text + (f", in {len(open_)} no difference can be told ({'; '.join(open_)}).**\n" if open_ else ".**\n")

    def write(self, whole: bool) -> Path:
        """``whole``: with what was found, which a quick slice says nothing about."""
        pictures = self.folder / "results"
        pictures.mkdir(parents=True, exist_ok=True)
        parts = [INTRO, self._provenance(), *self._tables()]
        if drawn := sheets(self.records, self.measured, pictures):
            parts.append("## Pictures\n\nColumns: the picture handed in, the photo, five edits. Rows: methods. The same noise for all. Chosen by the identity "
                         "score of HyperDreamBooth among the people of table 1: best, median and worst.\n")  # fmt: skip
            parts += [f"![{name}](results/{path.name})\n" for name, path in drawn.items()]
        if whole:
            parts.append(FINDINGS.read_text())
        page = self.folder / "results.md"
        page.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts if part))
        return page

    def _provenance(self) -> str:
        machines = {machine for name in self.measured for machine in self.records.hardware(self.arms[name])}
        path = self.records.committed / "readable.json"
        readable = json.loads(path.read_text()) if path.is_file() else {}
        names = ", ".join(f"{name.replace('_', ' ')} {share:.2f}" for name, share in readable.items())
        text = f"Parameters that can be read, with the share of their variance that the reader explains on new people: {names}.\n\n"
        return (
            text + f"Measured on: {'; '.join(sorted(machines))}. Seconds in table 1: {costs_hardware(self.records)}.\n"
        )

    def _tables(self) -> list[str]:
        parts = ["## Table 1: one reference image\n", self.table([*A.CONTROLS, A.PREDICTED, A.FULL, A.IN_BASIS, *A.RIVALS], True),
                 self.verdict(paper.CLAIMS_1), self.orders([A.FULL, A.IN_BASIS, *A.RIVALS], (*LIKENESS, "of_edits", "prompt")), paper.markdown(paper.TABLE_1) + "\n"]  # fmt: skip
        parts += [
            "## Table 2: just train DreamBooth harder\n",
            self.table([A.FULL, *A.HARDER]),
            paper.markdown(paper.TABLE_2) + "\n",
        ]
        parts += ["## Table 3: what each part gives\n", self.table([*A.CONTROLS, A.FULL, *A.PARTS, *A.INSIDE_THE_BASIS]), self.verdict(paper.CLAIMS_3),
                  paper.markdown(paper.TABLE_3) + "\n",
                  "HyperNets trained for minutes on the same 400 people, one change each (`bench/tables/hypernets.py`); compare them with *ours* of this table:\n",
                  self.table([*A.TRAINED, *A.CURVE_OF_PEOPLE])]  # fmt: skip
        parts += ["## Table 4: what the paper never showed\n", "**Pictures unlike anything trained on** (each row's *other photos* are ordinary):\n",
                  self.table([arm for arm in A.OUT_OF_WORLD if "cartoon" not in arm.name]), "Of a cartoon, whose other photos are a cartoon's too:\n",
                  self.table([arm for arm in A.OUT_OF_WORLD if "cartoon" in arm.name], floor="plain_cartoon", ceiling=A.CEILING_OF_CARTOONS),
                  "**Two and five reference pictures:**\n", self.table([A.PREDICTED, A.FULL, A.FROM_ZERO, *A.SEVERAL]),
                  "**Iterations, bases and ranks:**\n", self.table([*A.CURVE_FROM_PREDICTION, *A.CURVE_FROM_ZERO, *A.BASES, *A.RANKS])]  # fmt: skip
        if path := curves(self.measured, self.measured.get(A.CEILING.name, {}), self.folder / "results"):
            parts.append(f"![curves](results/{path.name})\n")
        return parts


def _cell(people: dict[int, dict], metric: str, who: list[int]) -> str:
    """A score with its interval, in full where it matters most; empty where a row has none."""
    if metric not in next(iter(people.values())):
        return ""
    found = interval(values(people, metric, who))
    if metric in ("identity", "prompt"):
        return str(found)
    return f"{round(found.mean, 3) + 0.0:.3f} ± {(found.high - found.low) / 2:.3f}"  # + 0.0: no -0.000


def write_report(records: Records, folder: Path, whole: bool) -> None:
    print(f"Report: {Report(records, folder).write(whole)}")
