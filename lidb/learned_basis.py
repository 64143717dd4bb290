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

ORTHONORMAL_TOLERANCE = 1e-5  # float32 frames are off by 1e-7, half-precision ones by 1e-4


class LearnedBasis:
    """Frames ``A[n] (n, a)`` and ``B[m] (b, m)``; the same interface as the random ``Basis``.

    Raises:
        ValueError: on construction, if a frame has another size, is not finite or not orthonormal.
    """

    def __init__(self, A: Mapping[int, torch.Tensor], B: Mapping[int, torch.Tensor]):
        with torch.inference_mode(False):  # shared by every later use: must be usable under autograd
            self.A, self.B = (
                {dim: side[dim].detach().to("cpu", torch.float32, copy=True).contiguous() for dim in sorted(side)}
                for side in (A, B)
            )
        if not self.A or not self.B:
            raise ValueError("A learned basis needs at least one frame on each side, but one side is empty.")
        first_A, first_B = next(iter(self.A.values())), next(iter(self.B.values()))
        self.a, self.b = (first_A.shape[-1] if first_A.ndim else 0), (first_B.shape[0] if first_B.ndim else 0)
        for side, frames, size in (("A", self.A, self.a), ("B", self.B, self.b)):
            for dim, frame in frames.items():
                if frame.shape != ((dim, size) if side == "A" else (size, dim)) or not 1 <= size <= dim:
                    raise ValueError(
                        f"The basis frame {side}.{dim} is {tuple(frame.shape)}; expected {dim} numbers in each of "
                        f"{size} directions, and between 1 and {dim} directions. Learn the basis again."
                    )
                columns = frame if side == "A" else frame.T  # (dim, size)
                error = (columns.T.double() @ columns.double() - torch.eye(size, dtype=torch.float64)).abs().max()
                if not error < ORTHONORMAL_TOLERANCE:  # also true for NaN
                    raise ValueError(
                        f"The basis frame {side}.{dim} is not orthonormal (off by {float(error):.2g}, allowed "
                        f"{ORTHONORMAL_TOLERANCE:g}); it is damaged or was rounded. Get the file again."
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
        return self._frame("A", n)

    def B_aux(self, m: int) -> torch.Tensor:
        """Output-side basis, (b, m) float32 with orthonormal rows."""
        return self._frame("B", m)

    def _frame(self, side: str, dim: int) -> torch.Tensor:
        frames = self.A if side == "A" else self.B
        if dim not in frames:
            raise ValueError(
                f"The learned basis {self.digest} has no frame for layers of width {dim} on their "
                f"{'input' if side == 'A' else 'output'} side. Use the base model that it was learned on."
            )
        return frames[dim]

    def check_fits(self, table: TargetTable) -> None:
        """Raise ValueError if a layer has a dimension that nothing was learned for."""
        for target in table:
            self._frame("A", target.in_features)
            self._frame("B", target.out_features)

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
        ValueError: sizes that cannot be, numbers that are not finite, or people without any effect. A layer that nobody
            uses (the text encoder's last one, where the model reads an earlier one) has no say.
    """
    if not (1 <= a <= wide.a and 1 <= b <= wide.b):
        raise ValueError(
            f"A basis of a={a}, b={b} cannot be learned from people fitted in a={wide.a}, b={wide.b}. Choose smaller "
            "numbers, or fit in a wider basis (precompute --a --b)."
        )
    if thetas.ndim != 3 or thetas.shape[1:] != (len(table), wide.a + wide.b):
        raise ValueError(
            f"The fitted people are {tuple(thetas.shape)}, expected (people, {len(table)}, {wide.a + wide.b}). Use the "
            "basis and the layers that they were fitted with."
        )
    if not torch.isfinite(thetas).all():
        bad = int((~torch.isfinite(thetas)).sum())
        raise ValueError(f"The fitted people hold {bad} numbers that are not finite (NaN or infinity). Fit them again.")
    u, v = thetas.double().split([wide.a, wide.b], dim=-1)
    power = u.norm(dim=-1, keepdim=True) * v.norm(dim=-1, keepdim=True)  # (P, L, 1): |delta_W|, free of the gauge
    if not power.any():
        raise ValueError(
            "The fitted people have no effect at all, so nothing can be learned from them. Fit them longer."
        )
    power = power / power.pow(2).mean(0, keepdim=True).sqrt().clamp_min(1e-30)  # every used layer counts alike
    sides = []
    for factors, size, dims in (
        (u, a, [t.in_features for t in table]),
        (v, b, [t.out_features for t in table]),
    ):
        unit = factors / factors.norm(dim=-1, keepdim=True).clamp_min(1e-30) * power
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
        the new vectors, and per person and layer the share of ``|delta_W|^2`` that is kept, (P, L); 1 where there is none.
    """
    u, v = thetas.float().split([old.a, old.b], dim=-1)
    turn_A = {n: old.A_aux(n).T @ new.A_aux(n) for n in {t.in_features for t in table}}  # (a, a')
    turn_B = {m: old.B_aux(m) @ new.B_aux(m).T for m in {t.out_features for t in table}}  # (b, b')
    u2 = torch.stack([u[:, i] @ turn_A[t.in_features] for i, t in enumerate(table)], dim=1)
    v2 = torch.stack([v[:, i] @ turn_B[t.out_features] for i, t in enumerate(table)], dim=1)
    before, after = (x.double().pow(2).sum(-1) * y.double().pow(2).sum(-1) for x, y in ((u, v), (u2, v2)))
    kept = torch.where(before > 0, after / before, 1.0).float()
    return torch.cat([u2, v2], dim=-1), kept
