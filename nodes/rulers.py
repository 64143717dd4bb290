"""The identity measures that *Identity Score* offers.

A measure is only as good as the pictures its network was trained on, and it belongs to whoever has that network. So the
nodes know no network: the extension's start-up registers each measure here, under a name that says what it is for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch


class Measure(Protocol):
    """A loaded network."""

    def similarity(self, pictures: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, S, S) in 0..1 and references (N or 1, 3, S, S) -> (N,)."""


@dataclass(frozen=True)
class Ruler:
    """A measure that is not loaded yet.

    Args:
        name: what it measures and on which pictures it is valid; it stands before every score.
        side: the pictures it looks at are ``side x side`` pixels, no others.
        marks: what its numbers mean, one sentence.
        load: reads its network.
    """

    name: str
    side: int
    marks: str
    load: Callable[[], Measure]


RULERS: dict[str, Ruler] = {}


def register_ruler(ruler: Ruler) -> None:
    """Offer a measure; registering it again changes nothing."""
    RULERS.setdefault(ruler.name, ruler)


@lru_cache(maxsize=4)
def load_measure(name: str) -> Measure:
    """The network of a registered ruler, read once."""
    return RULERS[name].load()
