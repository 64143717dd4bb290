"""A learned basis: the directions that fitted people really use, in place of random ones.

Fitted in a wide random basis, people's factors fill few directions of it. The frames here are the principal ones, one per
side and distinct dimension like the random basis, shared by layers; they are stored in the HyperNet's file and named by
their digest, since no seed can regenerate them.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from .basis import PROBE_TOLERANCE, Basis
from .targets import TargetTable

ORTHONORMAL_TOLERANCE = 1e-3


class LearnedBasis:
    """Frames ``A[n] (n, a)`` and ``B[m] (b, m)``; the same interface as the random ``Basis``.

    Raises:
        ValueError: on construction, if a frame has another size, is not finite or not orthonormal.
    """

    def __init__(self, A: Mapping[int, torch.Tensor], B: Mapping[int, torch.Tensor]):
        self.A = {n: A[n].detach().float().cpu().contiguous() for n in sorted(A)}
        self.B = {m: B[m].detach().float().cpu().contiguous() for m in sorted(B)}
        if not self.A or not self.B:
            raise ValueError("A learned basis needs at least one frame on each side, but one side is empty.")
        self.a, self.b = next(iter(self.A.values())).shape[-1], next(iter(self.B.values())).shape[0]
        for side, frames, size in (("A", self.A, self.a), ("B", self.B, self.b)):
            for dim, frame in frames.items():
                columns = frame if side == "A" else frame.T  # (dim, size)
                if columns.shape != (dim, size):
                    raise ValueError(f"The basis frame {side}.{dim} is {tuple(frame.shape)}, expected {dim} x {size}.")
                error = (columns.T.double() @ columns.double() - torch.eye(size, dtype=torch.float64)).abs().max()
                if not error < ORTHONORMAL_TOLERANCE:  # also true for NaN
                    raise ValueError(
                        f"The basis frame {side}.{dim} is not orthonormal (off by {float(error):.2g}); the file is "
                        "damaged. Get it again."
                    )
        content = hashlib.sha256()
        for side, frames in (("A", self.A), ("B", self.B)):
            for dim, frame in frames.items():
                content.update(f"{side}{dim}".encode() + frame.numpy().astype("<f4").tobytes())
        self.digest = content.hexdigest()[:16]

    def __eq__(self, other) -> bool:
        return isinstance(other, LearnedBasis) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def A_aux(self, n: int) -> torch.Tensor:
        """Input-side basis, (n, a) float32 with orthonormal columns."""
        return self.A[n]

    def B_aux(self, m: int) -> torch.Tensor:
        """Output-side basis, (b, m) float32 with orthonormal rows."""
        return self.B[m]

    def check_fits(self, table: TargetTable) -> None:
        """Raise ValueError if a layer has a dimension that nothing was learned for."""
        missing = {t.in_features for t in table} - self.A.keys() or {t.out_features for t in table} - self.B.keys()
        if missing:
            raise ValueError(
                f"The learned basis {self.digest} has no frame for layers of width {min(missing)}. Use the base model "
                "that it was learned on."
            )

    def probe(self, table: TargetTable) -> list[float]:
        """As ``Basis.probe``."""
        values = []
        for frames, dims in ((self.A, {t.in_features for t in table}), (self.B, {t.out_features for t in table})):
            for dim in sorted(dims):
                frame = frames[dim] if frames is self.A else frames[dim].T
                values += (torch.cos(torch.arange(dim, dtype=torch.float64)) @ frame[:, [0, -1]].double()).tolist()
        return values

    def check_probe(self, table: TargetTable, stored: Sequence[float]) -> None:
        """As ``Basis.check_probe``."""
        here = self.probe(table)
        if len(here) != len(stored) or not np.allclose(here, stored, rtol=0, atol=PROBE_TOLERANCE):
            raise ValueError(
                f"The learned basis {self.digest} found here is not the one this identity was made with (its probe values "
                "differ). Predict or finetune the identity again."
            )


def learn_basis(table: TargetTable, wide: Basis, thetas: torch.Tensor, a: int, b: int) -> LearnedBasis:
    """Principal directions of fitted people's factors.

    Args:
        wide: the basis that ``thetas (P, L, wide.a + wide.b)`` are written in; a and b are at most its sizes.

    Raises:
        ValueError: sizes that cannot be, or people without an effect.
    """
    if not (1 <= a <= wide.a and 1 <= b <= wide.b):
        raise ValueError(
            f"A basis of a={a}, b={b} cannot be learned from people fitted in a={wide.a}, b={wide.b}. Choose smaller "
            "numbers, or fit in a wider basis (precompute --a --b)."
        )
    u, v = thetas.double().split([wide.a, wide.b], dim=-1)
    power = u.norm(dim=-1, keepdim=True) * v.norm(dim=-1, keepdim=True)  # (P, L, 1): |delta_W|, free of the gauge
    if not (power.sum(0) > 0).all():
        raise ValueError("Some layers of the fitted people have no effect at all, so nothing can be learned from them.")
    power = power / power.pow(2).mean(0, keepdim=True).sqrt()  # every layer counts alike
    sides = []
    for factors, size, dims in (
        (u, a, [t.in_features for t in table]),
        (v, b, [t.out_features for t in table]),
    ):
        unit = factors / factors.norm(dim=-1, keepdim=True).clamp_min(1e-12) * power
        frames = {}
        for dim in sorted(set(dims)):
            rows = unit[:, [i for i, d in enumerate(dims) if d == dim]].flatten(0, 1)  # (P layers, wide size)
            _, vectors = torch.linalg.eigh(rows.T @ rows)  # ascending
            frames[dim] = vectors.flip(-1)[:, :size]  # (wide size, size)
        sides.append(frames)
    A = {n: wide.A_aux(n).double() @ E for n, E in sides[0].items()}
    B = {m: E.T @ wide.B_aux(m).double() for m, E in sides[1].items()}
    return LearnedBasis(A, B)


def project(table: TargetTable, old, new, thetas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rank-1 identities (P, L, a+b) written in another basis, as near as it comes.

    Returns:
        the new vectors, and per person and layer the share of ``|delta_W|^2`` that is kept, (P, L).
    """
    u, v = thetas.float().split([old.a, old.b], dim=-1)
    turn_A = {n: old.A_aux(n).T @ new.A_aux(n) for n in {t.in_features for t in table}}  # (a, a')
    turn_B = {m: old.B_aux(m) @ new.B_aux(m).T for m in {t.out_features for t in table}}  # (b, b')
    u2 = torch.stack([u[:, i] @ turn_A[t.in_features] for i, t in enumerate(table)], dim=1)
    v2 = torch.stack([v[:, i] @ turn_B[t.out_features] for i, t in enumerate(table)], dim=1)
    before, after = (x.pow(2).sum(-1) * y.pow(2).sum(-1) for x, y in ((u, v), (u2, v2)))
    return torch.cat([u2, v2], dim=-1), after / before.clamp_min(1e-30)
