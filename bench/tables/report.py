"""docs/results.md: the tables, what they say about the paper's order, the figures and the sheets."""

import hashlib
import json
import re
from pathlib import Path

from . import arms as A
from . import comparisons as C
from . import paper
from .arms import Arm
from .costs import costs_hardware, read_costs
from .figures import curves
from .overview import overview
from .parameters import parameter_reader
from .records import Records
from .sheets import ODD, sheets
from .statistics import common, interval, share, values

COLUMNS = {
    "identity": "identity", "rank_1": "rank-1", "parameters": "parameter error", "face_features": "face features",
    "of_edits": "identity of edits", "prompt": "prompt", "diversity": "diversity", "drift": "prior drift",
}  # fmt: skip
COSTS = ("iterations", "seconds", "file")
ORDERED = {name: COLUMNS[name] for name in ("identity", "rank_1", "parameters", "face_features", "of_edits", "prompt")}

ANCHORS = {arm.name for arm in (*A.CONTROLS, A.CEILING, A.CEILING_OF_CARTOONS, A.FULL, A.PREDICTED, A.FROM_ZERO)}
"""Rows that stand in several tables, measured for more people than some of them."""

FEWEST = 3
"""People without whom a table would say nothing."""
MANY, MOST = C.ENOUGH, 100
"""People that a table wants, and table 1."""

FINDINGS = Path(__file__).with_name("findings.md")

TITLE = """# HyperDreamBooth against its rivals

Written by `make tables` from `bench/results/tables/`; edit `bench/tables/`, not this page. Everything here happens in **faceworld**, a world of drawn faces, on
the embedded miniature model: it says which method does what and in which order, where identity is known exactly. It says nothing about photographs, and none of its
numbers can be laid beside the paper's. The paper's tables, as reported second-hand, stand beside ours for the *order* of methods alone.

A **LiDB** is one person: for each of some layers (a UNet's attention and the gates of its feed-forwards, the text encoder's attention) a rank-1 change inside a fixed random **basis**, a + b numbers. The **HyperNet** predicts it from one picture. A **relaxed** finetune
keeps the prediction and trains a few ranks more beside it: of the full space as a LoRA's are (the default: four), or inside the basis. *From zero*: the same finetune without a prediction. *Fitted people*: LiDBs trained one by one, which a HyperNet may learn to predict.
"""
READING = """**How to read it.** Means over test people, each with the 95 % interval of a bootstrap over people; rows of one table are compared on the
same people, prompts and sampling seeds, and every person has a training seed of their own. *plain model* is the floor; *another photo, edits drawn* scores a photo of the person that no method saw, and
edits by the renderer, and is the ceiling; *wrong person* and *mean prediction* are controls. The shares are the way from floor to ceiling. Differences are read one pair at a time; only the sentences on the paper's order hold
for their claims together. In the orders ≈ says that two neighbours cannot be told apart; the two ends of a chain of them may differ.

**What the intervals leave out.** The luck of training a HyperNet: there is one of each. The choice of rates and steps, made on twelve other people, some by little (`docs/tuning.md`). And that the first fifty test people were looked at five times with earlier weights, which led to two of HyperDreamBooth's
settings (the HyperNet's share of low noise levels, and that it relaxes in the full space), to none of its rivals'; the other people were not. Rows were measured on different CPUs (each file of
`bench/results/tables/` names its own), which round differently: ten people of HyperDreamBooth, the only row that was tried on two kinds, differed by 0.0003 at most in likeness and prompt.

**The embedded HyperNet** is that of all rows but those called *trained for minutes*. It saw 590,000 noisy pictures of up to 8,000 people, in stages, and its encoder had first learnt to read those people's attributes (`faceworld/RECIPE_HYPERNET.md`). None of
them is a test person.

All methods train on the host's own modules through one loop (`methods/`): the same optimiser and noise levels, each row at its own rate. LiDBs, predicted or from zero, train the text encoder at every fourth step, which is faster and no worse (`docs/ablations.md`), the others at every step. *DreamBooth* trains all weights, without prior preservation unless a row says so. (How fast the
host's own *Train LoRA* and diffusers + peft are is in `docs/speed.md`.) The class pictures of prior preservation are made once for everybody and are not in its seconds.

| score | what it is | better |
|---|---|---|
| identity | cosine of faceworld's identity network with three other photos of the person (`faceworld/METRICS.md`; a look-alike earns 0.42) | higher |
| rank-1 | share of pictures whose nearest photo, among 100 people and a look-alike of each, is the person | higher |
| parameter error | error of those drawn parameters that a small network can read off a photo (`bench/tables/parameters.py`), in standard deviations; about 1 = guessing the average person | lower |
| face features | cosine of a network trained on styles and accessories, not on people, which sees the face's oval alone | higher |
| identity of edits | the identity score of five edits: two styles, three contexts with accessories | higher |
| prompt | how far the five edits show what was asked (the ceiling is what it says of edits drawn right) | higher |
| diversity | how unlike each other three photos of one prompt are; the plain model draws three different people | as other photos |
| prior drift | how far "a photo of a face" and "a pencil sketch of a face" move away from the plain model's | lower |
"""

ONLY_A_SLICE = """**This is a slice**: so few people that it settles nothing, whatever its intervals say, and few of the rows. It shows that everything
runs, on your machine. What was measured on all, and what follows from it, is in `docs/results.md`.
"""


class Report:
    """Everything that has been measured, as Markdown in ``folder``; ``whole``: with what was found, and what is missing."""

    def __init__(self, records: Records, folder: Path, whole: bool = True):
        self.records, self.folder, self.whole = records, folder, whole
        self.arms = A.all_arms()
        self.measured = {name: found for name, arm in self.arms.items() if (found := records.everybody(arm))}
        self.costs = read_costs(records)

    def rows(self, chosen: list[Arm], wanted: int) -> dict[str, dict[int, dict]]:
        """What was measured; a row that is still far behind the others, or ``wanted``, would take them down to its few people."""
        there = {arm.name: self.measured[arm.name] for arm in chosen if arm.name in self.measured}
        most = max((len(people) for name, people in there.items() if name not in ANCHORS), default=0)
        return C.without_stragglers(there, min(wanted, most))

    def table(
        self, chosen: list[Arm], costs: bool = False, floor: str = "plain", ceiling: Arm = A.CEILING, wanted: int = MANY
    ) -> str:
        """One table between floor and ceiling; rows that nobody measured are left out."""
        rows = self.rows([self.arms[floor], *(arm for arm in chosen if arm.name != floor), ceiling], wanted)
        who = common(rows)
        if len(who) < FEWEST or not {floor, ceiling.name} <= set(rows) or set(rows) <= ANCHORS:
            return "*Not measured yet.*\n"
        heads = ["row", "share of the way", "of edits' way", *COLUMNS.values(), *(COSTS if costs else ())]
        lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for name, people in rows.items():
            ways = []
            for metric in ("identity", "of_edits"):
                ends = [values(rows[end], metric, who) for end in (floor, ceiling.name)]
                way = share(values(people, metric, who), *ends)
                ways.append(f"{100 * way.mean:.0f} % ({100 * way.low:.0f} to {100 * way.high:.0f})")
            cells = [self._label(name), *ways, *(_cell(people, metric, who) for metric in COLUMNS)]
            lines.append("| " + " | ".join([*cells, *(self._cost(name) if costs else ())]) + " |")
        lacking = sorted({arm.label for arm in chosen} - {self.arms[name].label for name in rows})
        text = "\n".join(lines) + f"\n\n{len(who)} people"
        missing = [f"{wanted} are wanted"] if len(who) < wanted else []
        missing += [f"not measured yet: {', '.join(lacking)}"] if lacking else []
        if self.whole and missing:
            text += f" (**not finished**; {'; '.join(missing)})"
        return text + ".\n"

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

    def orders(self, chosen: list[Arm], wanted: int) -> str:
        return C.orders(self.rows(chosen, wanted), ORDERED)

    def verdict(self, claims: list[tuple[str, str]]) -> str:
        return C.verdict(self.measured, claims) if self.whole else ""

    def write(self) -> Path:
        pictures = self.folder / "results"
        pictures.mkdir(parents=True, exist_ok=True)
        parts = [TITLE, "" if self.whole else ONLY_A_SLICE]
        most = max(map(len, self.measured.values()), default=0)
        if seen := overview(C.without_stragglers(self.measured, min(MANY, most)), self.costs, pictures):
            parts.append(
                f"![overview](results/{seen.name})\n\nRed and orange: the HyperNet has a part. Dotted: the ceiling.\n"
            )
        drawn = sheets(self.records, pictures)
        said = self._findings() if self.whole else {}
        parts += [
            said.get("short", ""),
            READING,
            self._provenance(),
            *self._tables(drawn.pop(ODD, None), said),
        ]
        if drawn:
            parts.append("## Pictures\n\nColumns: the picture handed in, the photo, five edits. Rows: methods. The same noise for all. Chosen by the identity "
                         "score of HyperDreamBooth among those whom all these rows have learnt: best, median and worst.\n")  # fmt: skip
            parts += [f"![{name}](results/{path.name})\n" for name, path in drawn.items()]
        page = self.folder / "results.md"
        page.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts if part))
        return page

    def _findings(self) -> dict[str, str]:
        """The hand-written part, if it was written about these very results: ``short``, and what belongs to which table."""
        first, _, text = FINDINGS.read_text().partition("\n")
        head = f"<!-- results {results_mark(self.measured)} -->"
        if first == head:
            _, *pieces = re.split(r"^<!-- (.+) -->\n", text, flags=re.MULTILINE)
            return dict(zip(pieces[::2], pieces[1::2], strict=True))
        print(f"{FINDINGS} is about other results and left out. Read the tables, mend it, and let it begin with {head}")
        return {}

    def _provenance(self) -> str:
        machines = {machine for name in self.measured for machine in self.records.hardware(self.arms[name])}
        readable = parameter_reader().readable()
        names = ", ".join(f"{name.replace('_', ' ')} {share:.2f}" for name, share in readable.items())
        text = f"Parameters that can be read, with the share of their variance that the reader explains on new people: {names}.\n\n"
        return (
            text + f"Measured on: {'; '.join(sorted(machines))}. Seconds in table 1: {costs_hardware(self.records)}.\n"
        )

    def _tables(self, odd: Path | None, said: dict[str, str]) -> list[str]:
        first = [A.PREDICTED, A.FULL, A.IN_BASIS, A.FROM_ZERO, *A.RIVALS]
        cartoons = [arm for arm in A.OUT_OF_WORLD if "cartoon" in arm.name]
        found, controls = self.measured, A.CONTROLS
        parts = [
            "## Table 1: one reference image\n", said.get("table 1", ""), self.table([*controls, *first], costs=True, wanted=MOST), self.verdict(paper.CLAIMS_1),
            self.orders(first[1:], MOST), C.differences(found, C.DIFFERENCES), paper.markdown(paper.TABLE_1),
            "More steps, as each wants them:\n", self.table([*controls, A.FULL, *A.LONG], costs=True), C.differences(found, C.OF_LONG),
            "Which of DreamBooth's weights do it:\n",
            self.table([*controls, A.FULL, A.FROM_ZERO, A.LORA_4, A.DREAMBOOTH_40, *A.PIECES]), C.differences(found, C.OF_PIECES),
            "## Table 2: just train DreamBooth harder\n", said.get("table 2", ""), "One noisy picture a step, as is usual for DreamBooth, in rows *of one*; four in all others and in the other tables.\n",
            self.table([*controls, A.FULL, *A.HARDER, A.PRIOR, A.PRIOR_HARDER]), C.differences(found, C.OF_HARDER), paper.markdown(paper.TABLE_2),
            "## Table 3: what each part gives\n", said.get("table 3", ""), self.table([*controls, A.FULL, *A.PARTS, *A.INSIDE_THE_BASIS]), self.verdict(paper.CLAIMS_3),
            C.side_by_side(found, [A.FULL, A.FROM_ZERO]),
            C.differences(found, C.OF_PARTS), paper.markdown(paper.TABLE_3),
            "HyperNets trained for minutes, not hours, on 400 people but for the last rows, which learn by the denoising loss alone (`bench/tables/hypernets.py`); compare them with one another:\n",
            self.table([*controls, *A.TRAINED, *A.CURVE_OF_PEOPLE, *A.CURVE_OF_PEOPLE_LONG]), C.differences(found, C.OF_RECIPES),
            "## Table 4: what the paper never showed\n", said.get("table 4", ""), "**Pictures unlike anything trained on** (each row's *other photos* are ordinary):\n",
            self.table([*controls, *(arm for arm in A.OUT_OF_WORLD if arm not in cartoons)]), "Of a cartoon, whose other photos are a cartoon's too:\n",
            self.table(cartoons, floor="plain_cartoon", ceiling=A.CEILING_OF_CARTOONS),
            f"![odd](results/{odd.name})\n\nThe picture handed in, the photo and five edits of it.\n" if odd else "",
            "**Two to five reference pictures:**\n", self.table([*controls, A.PREDICTED, A.FULL, A.LONGER, A.FROM_ZERO, *A.SEVERAL]),
            C.differences(found, C.OF_REFERENCES), "**Iterations, bases and ranks:**\n",
            self.table([*controls, *A.CURVE_FROM_PREDICTION, *A.CURVE_FROM_ZERO, *A.BASES, A.INSIDE_THE_BASIS[1], *A.RANKS]),
            C.differences(found, C.OF_SWEEPS),
        ]  # fmt: skip
        if self.whole and (path := curves(found, found.get(A.CEILING.name, {}), self.folder / "results")):
            parts.append(f"![curves](results/{path.name})\n")
        return parts


def results_mark(measured: dict[str, dict[int, dict]]) -> str:
    """A digest of all scores, which ``findings.md`` begins with: prose about other ones is not shown."""
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]


def _cell(people: dict[int, dict], metric: str, who: list[int]) -> str:
    """A score with its interval, in full where it matters most; empty where a row has none."""
    if metric not in next(iter(people.values())):
        return ""
    found = interval(values(people, metric, who))
    if metric in ("identity", "prompt"):
        return str(found)
    return f"{round(found.mean, 3) + 0.0:.3f} ± {(found.high - found.low) / 2:.3f}"  # + 0.0: no -0.000


def write_report(records: Records, folder: Path, whole: bool) -> None:
    print(f"Report: {Report(records, folder, whole).write()}")
