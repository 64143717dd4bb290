"""The frozen random orthonormal bases ``A_aux`` and ``B_aux``, regenerated from a seed instead of being shipped.

An identity file is meaningless without its basis, so the basis must come out the same on every machine: NumPy's legacy
``RandomState`` stream (frozen by NumPy's own policy), float64 QR on the CPU, signs fixed by the diagonal of R, cast
last. One basis per side and distinct dimension, shared by all layers of that dimension. (Paper, section 4.1:
"random orthogonal incomplete basis".)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from .targets import TargetTable

ALGORITHM = 1
PROBE_TOLERANCE = 1e-4
MAX_SIZE = 4096
MAX_NUMBERS = 1 << 25  # of all frames together; the widest basis that SDXL can have (a = b = 640) has 15 million
_SIDES = {"A": 0, "B": 1}


@lru_cache(maxsize=64)
def _orthonormal(side: str, dim: int, rank: int, seed: int) -> torch.Tensor:
    """Columns of an orthonormal frame, (dim, rank) float32."""
    stream = np.random.RandomState([ALGORITHM, _SIDES[side], dim, rank, seed])
    Q, R = np.linalg.qr(stream.standard_normal((dim, rank)))
    Q = Q * np.where(np.diagonal(R) < 0, -1.0, 1.0)
    with torch.inference_mode(False):  # cached across calls: must be usable under autograd later
        return torch.from_numpy(Q.astype(np.float32))


@dataclass(frozen=True)
class Basis:
    """A random basis: ``a`` directions on every layer's input side, ``b`` on its output side.

    Raises:
        ValueError: on construction, if a size or the seed is out of range.
    """

    a: int = 100
    b: int = 50
    seed: int = 0

    def __post_init__(self):
        if not (1 <= self.a <= MAX_SIZE and 1 <= self.b <= MAX_SIZE and 0 <= self.seed < 2**32):
            raise ValueError(
                f"A basis needs 1 <= a, b <= {MAX_SIZE} and 0 <= seed < 2^32, but a={self.a}, b={self.b}, "
                f"seed={self.seed}."
            )

    def A_aux(self, n: int) -> torch.Tensor:
        """Input-side basis, (n, a) float32 with orthonormal columns."""
        return _orthonormal("A", n, self.a, self.seed)

    def B_aux(self, m: int) -> torch.Tensor:
        """Output-side basis, (b, m) float32 with orthonormal rows."""
        return _orthonormal("B", m, self.b, self.seed).T

    def check_fits(self, table: TargetTable) -> None:
        """Raise ValueError if a layer is narrower than the basis, or the frames together are too large to generate."""
        all_n, all_m = {t.in_features for t in table}, {t.out_features for t in table}
        n, m, numbers = min(all_n), min(all_m), self.a * sum(all_n) + self.b * sum(all_m)
        if self.a > n or self.b > m:
            raise ValueError(
                f"The basis (a={self.a}, b={self.b}) is wider than this model's narrowest layer ({n} in, {m} out). "
                f"Choose a <= {n} and b <= {m}."
            )
        if numbers > MAX_NUMBERS:
            raise ValueError(
                f"The basis (a={self.a}, b={self.b}) would have {numbers} numbers for these layers; at most {MAX_NUMBERS} "
                "are generated. Choose a smaller a and b."
            )

    def probe(self, table: TargetTable) -> list[float]:
        """A few inner products of the basis with fixed vectors, to be stored beside an identity.

        Two values per side and distinct dimension, in ascending order of dimension.
        """
        values = []
        for side, rank, dims in (
            ("A", self.a, sorted({t.in_features for t in table})),
            ("B", self.b, sorted({t.out_features for t in table})),
        ):
            for dim in dims:
                fixed = torch.cos(torch.arange(dim, dtype=torch.float64))
                values += (fixed @ _orthonormal(side, dim, rank, self.seed)[:, [0, -1]].double()).tolist()
        return values

    def check_probe(self, table: TargetTable, stored: Sequence[float]) -> None:
        """Raise ValueError if the basis regenerated here is not the one the stored probe came from."""
        here = self.probe(table)
        if len(here) != len(stored) or not np.allclose(here, stored, rtol=0, atol=PROBE_TOLERANCE):
            raise ValueError(
                f"The random basis regenerated from seed {self.seed} is not the one this identity was made with "
                "(its probe values differ), so the face would come out wrong. The file is damaged or was written by an "
                "incompatible program; predict or finetune the identity again."
            )
