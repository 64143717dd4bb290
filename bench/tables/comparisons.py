"""What the measured rows say about one another: the paper's claims, differences person by person, and orders."""

from . import arms as A
from .arms import Arm
from .statistics import SMALLER_IS_BETTER, Interval, common, interval, order, relation, values

Rows = dict[str, dict[int, dict]]
SCORES = {
    "likeness": "likeness", "identity": "identity", "of_edits": "identity of edits", "prompt": "prompt", "parameters": "parameter error",
}  # fmt: skip
ENOUGH = 50
"""People by whom a difference can be told; of fewer a pair may have three quarters of what the others have."""
ANSWERS = {">": "yes", "<": "no, the opposite", "≈": "cannot be told"}
DIFFERENCES = [
    (A.FULL, A.DREAMBOOTH_40), (A.FULL, A.DREAMBOOTH), (A.FULL, A.LORA_4), (A.FULL, A.LORA_1),
    (A.FULL, A.TEXTUAL_INVERSION), (A.PREDICTED, A.TEXTUAL_INVERSION),
]  # fmt: skip
OF_LONG = [
    (A.LONGER, A.FULL), (A.LONGER, A.DREAMBOOTH), (A.LONGER, A.LORA_160), (A.FULL, A.PRIOR), (A.FULL, A.LIDB),
    (A.DREAMBOOTH, A.PRIOR), (A.DREAMBOOTH_40, A.LONGER),
]  # fmt: skip
OF_PIECES = [
    (A.DREAMBOOTH_40, A.LAYERS), (A.DREAMBOOTH_40, A.REST_OF_UNET), (A.DREAMBOOTH_40, A.REST_OF_TEXT_ENCODER), (A.LAYERS, A.LORA_4),
    (A.FULL, A.LAYERS), (A.FULL, A.REST_OF_UNET), (A.LORA_4, A.FROM_ZERO),
]  # fmt: skip
OF_HARDER = [*((A.FULL, arm) for arm in (*A.HARDER, A.PRIOR_HARDER)), (A.PRIOR_HARDER, A.PRIOR)]
OF_PARTS = [
    (A.FULL, A.FROM_ZERO), (A.FULL, A.PREDICTED), (A.FULL, A.IN_BASIS), (A.IN_BASIS, A.INSIDE_THE_BASIS[1]), (A.RANKS[-1], A.FULL),
    (A.FULL, A.RANKS[0]), (A.INSIDE_THE_BASIS[-1], A.IN_BASIS),
]  # fmt: skip
_BY_NAME = A.all_arms()
OF_RECIPES = [
    (_BY_NAME["predicted_ours"], _BY_NAME[f"predicted_{recipe}"]) for recipe in A.RECIPES if recipe != "ours"
] + [
    (_BY_NAME[one], _BY_NAME[other])
    for one, other in (
        ("predicted_ours", "wrong_ours"), ("predicted_paper", "wrong_paper"), ("predicted_paper_shared_start", "predicted_paper"),
        *((f"predicted_{name}", "predicted_paper_shared_start") for name in A.EXCHANGES if name.startswith("paper")),
        ("predicted_paper_warmed", "predicted_paper_levels"), ("predicted_by_adam", "predicted_paper_levels"),
        ("predicted_by_adam_faster", "predicted_by_adam"),
        ("hyper_ours", "hyper_one_refinement"), ("hyperdreambooth", "hyper_ours"),
        ("predicted_10000_people", "predicted_100_people"), ("predicted_10000_people_long", "predicted_100_people_long"),
    )
]  # fmt: skip
OF_SWEEPS = [
    *zip(A.CURVE_FROM_PREDICTION, A.CURVE_FROM_ZERO, strict=True),
    *((_BY_NAME[f"hyperdreambooth_{steps}"], A.FROM_ZERO) for steps in (10, 20)),
    *((A.FULL, _BY_NAME[f"zero_{steps}"]) for steps in (80, 200)),
    (_BY_NAME["basis_12_48"], _BY_NAME["basis_48_12"]), (_BY_NAME["basis_100_50"], A.INSIDE_THE_BASIS[1]),
]  # fmt: skip
OF_REFERENCES = [
    *((_BY_NAME[f"hyperdreambooth_{kind}"], _BY_NAME[f"zero_{kind}"]) for kind in (*A.ODD, *A.COUNTS)),
    *((_BY_NAME[f"hyperdreambooth_{kind}"], _BY_NAME[f"predicted_{kind}"]) for kind in A.ODD),
    *((_BY_NAME[f"hyperdreambooth_{kind}"], A.FULL) for kind in A.COUNTS),
    (_BY_NAME["predicted_5_references"], A.PREDICTED), (A.FIVE_LONGER, A.FULL), (A.FIVE_LONGER, A.LONGER),
]  # fmt: skip


def without_stragglers(found: dict, most: int) -> dict:
    """Those (rows, or pairs of rows) that have at least three quarters of ``most`` people."""
    return {name: people for name, people in found.items() if 4 * len(people) >= 3 * most}


def measured(rows: Rows, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """Pair of rows -> the people whom both have, but for pairs with far fewer than the others."""
    people = {pair: common({name: rows[name] for name in pair}) for pair in pairs if set(pair) <= set(rows)}
    most = max(map(len, people.values()), default=0)
    return {pair: who for pair, who in without_stragglers(people, min(ENOUGH, most)).items() if len(who) >= 2}


def verdict(rows: Rows, claims: list[tuple[str, str]]) -> str:
    """Does the paper's order in likeness hold here? A sentence with each measured claim's difference, all judged together."""
    there = measured(rows, claims)
    marks, parts = [], []
    for (better, worse), who in there.items():
        one, other = (values(rows[name], "likeness", who) for name in (better, worse))
        marks.append(relation(one, other, len(there)))
        said = signed(interval(one - other, len(there)))
        parts.append(f"{_BY_NAME[better].label} over {_BY_NAME[worse].label}: {ANSWERS[marks[-1]]}, {said}")
    if not parts:
        return ""
    whole = "holds" if set(marks) == {">"} else "does not hold" if "<" in marks else "cannot be told in full"
    people = " or ".join(str(count) for count in sorted({len(who) for who in there.values()}))
    return (
        f"**The paper's order in likeness {whole} here ({people} people).** Likeness is the mean of photos and edits, by which "
        f"settings were chosen too; intervals hold for all claims together: {'; '.join(parts)}.\n"
    )


def differences(rows: Rows, pairs: list[tuple[Arm, Arm]]) -> str:
    """A table of paired differences with their 95 % intervals, each pair on all people that both have."""
    lines = [
        "| difference, person by person | " + " | ".join(SCORES.values()) + " | people |",
        "|---" * (len(SCORES) + 2) + "|",
    ]
    for (one, other), who in measured(rows, [(one.name, other.name) for one, other in pairs]).items():
        cells = " | ".join(_difference(rows[one], rows[other], score, who) for score in SCORES)
        lines.append(f"| {_BY_NAME[one].label} less {_BY_NAME[other].label} | {cells} | {len(who)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _difference(one: dict[int, dict], other: dict[int, dict], score: str, who: list[int]) -> str:
    if score == "parameters" and not all(score in rows[i] for rows in (one, other) for i in who):
        return ""  # of cartoons
    return signed(interval(values(one, score, who) - values(other, score, who)))


def side_by_side(rows: Rows, chosen: list[Arm]) -> str:
    """Rows with the interval of each mean, on all people that every one of them has."""
    there = {arm.name: rows[arm.name] for arm in chosen if arm.name in rows}
    who = common(there)
    if len(there) < len(chosen) or not who:
        return ""
    lines = [f"| {len(who)} people | " + " | ".join(SCORES.values()) + " |", "|---" * (len(SCORES) + 1) + "|"]
    for arm in chosen:
        cells = " | ".join(str(interval(values(rows[arm.name], score, who))) for score in SCORES)
        lines.append(f"| {arm.label} | {cells} |")
    return "\n".join(lines) + "\n"


def orders(rows: Rows, metrics: dict[str, str]) -> str:
    """One line per score: the rows from best to worst; ≈ where the paired interval of neighbours holds zero."""
    who = common(rows)
    if len(rows) < 2 or not who:
        return ""
    lines = []
    for metric, name in metrics.items():
        scores = {_BY_NAME[row].label: values(people, metric, who) for row, people in rows.items()}
        lines.append(f"- {name}: {order(scores, metric in SMALLER_IS_BETTER)}")
    return "\n".join(lines) + "\n"


def signed(found: Interval) -> str:
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
