"""Means and 95 % bootstrap intervals over people, shares of the way from floor to ceiling, and paired differences."""

from dataclasses import dataclass

import numpy as np

from ...faceworld.metrics import bootstrap_interval

DRAWS = 4000
SMALLER_IS_BETTER = ("parameters", "drift")


@dataclass(frozen=True)
class Interval:
    """A mean over people and the interval that bootstrap over people gives it."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def common(rows: dict[str, dict[int, dict]]) -> list[int]:
    """The people whom every row has, so that rows are compared on the same ones."""
    everybody = [set(people) for people in rows.values()]
    return sorted(set.intersection(*everybody)) if everybody else []


def values(people: dict[int, dict], metric: str, who: list[int]) -> np.ndarray:
    """One score, person by person (people,); ``likeness`` is the mean of identity and the edits' identity."""
    if metric == "likeness":
        return (values(people, "identity", who) + values(people, "of_edits", who)) / 2
    return np.array([people[i][metric] for i in who])


def interval(scores: np.ndarray, claims: int = 1) -> Interval:
    """95 %; of several claims all together (Bonferroni)."""
    return Interval(*bootstrap_interval(scores, draws=DRAWS, level=1 - 0.05 / claims))


def share(scores: np.ndarray, floor: np.ndarray, ceiling: np.ndarray) -> Interval:
    """The way from floor (0) to ceiling (1), the same people drawn for all three."""
    index = np.random.default_rng(0).integers(len(scores), size=(DRAWS, len(scores)))
    here, low, high = (x[index].mean(1) for x in (scores, floor, ceiling))
    ways = (here - low) / (high - low)
    mean = (scores.mean() - floor.mean()) / (ceiling.mean() - floor.mean())
    return Interval(float(mean), *(float(p) for p in np.percentile(ways, [2.5, 97.5])))


def relation(one: np.ndarray, other: np.ndarray, claims: int = 1) -> str:
    """``>`` or ``<`` if the paired difference's interval leaves out zero, else ``≈``."""
    found = interval(one - other, claims)
    return ">" if found.low > 0 else "<" if found.high < 0 else "≈"


def order(scores: dict[str, np.ndarray], smaller_is_better: bool = False) -> str:
    """Names from best to worst with the relation of each to the next, e.g. ``A (0.90) > B (0.87) ≈ C (0.86)``."""
    sign = -1 if smaller_is_better else 1
    ranked = sorted(scores, key=lambda name: -sign * scores[name].mean())
    text = f"{ranked[0]} ({scores[ranked[0]].mean():.3f})"
    for better, worse in zip(ranked, ranked[1:], strict=False):
        mark = relation(sign * scores[better], sign * scores[worse])
        text += f" {mark} {worse} ({scores[worse].mean():.3f})"
    return text
