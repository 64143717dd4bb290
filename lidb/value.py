"""The LiDB value: one person, as numbers."""

from dataclasses import dataclass, field, replace
from math import isfinite

import torch
from einops import rearrange

from .basis_form import AnyBasis
from .targets import TargetTable

Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Layer name -> (A (..., n, r), B (..., r, m)); a leading dimension means one residual per sample of a batch."""


@dataclass(frozen=True)
class Facts:
    """How an identity came to be; travels in the file.

    Raises:
        ValueError: on construction, if a fact is of another type.
    """

    trigger: str = "[V] face"
    base: str = ""
    made_by: str = "predicted"
    steps: int = 0
    seed: int = 0
    final_loss: float | None = None
    thumbnail: bytes = b""

    def __post_init__(self):
        kinds = {"trigger": str, "base": str, "made_by": str, "steps": int, "seed": int, "thumbnail": bytes}
        wrong = [key for key, kind in kinds.items() if type(getattr(self, key)) is not kind]
        if not (self.final_loss is None or type(self.final_loss) in (int, float) and isfinite(self.final_loss)):
            wrong.append("final_loss")
        if wrong:
            raise ValueError(f"its {wrong[0]} cannot be {str(getattr(self, wrong[0]))[:40]!r}")


@dataclass(frozen=True, eq=False)
class LiDB:
    """One identity on one table of target layers.

    ``A_train (L, a, r)`` and ``B_train (L, r, b)`` live inside the basis (the KB-sized form). ``A_full`` and ``B_full``
    hold what a finetune added in the full space (MBs): flat, layer after layer, ``(n, q)`` and ``(q, m)`` each, q =
    ``full_rank``. The first ``frozen_rank`` ranks are the prediction; a continued finetune trains only those after it.
    r = 0 is the neutral identity.

    Raises:
        ValueError: on construction, if shapes disagree with the table or a number is not finite.
    """

    table: TargetTable
    basis: AnyBasis
    A_train: torch.Tensor
    B_train: torch.Tensor
    frozen_rank: int = 0
    full_rank: int = 0
    A_full: torch.Tensor | None = None
    B_full: torch.Tensor | None = None
    facts: Facts = field(default_factory=Facts)

    def __post_init__(self):
        L, (a, b) = len(self.table), (self.basis.a, self.basis.b)
        r = self.A_train.shape[-1]
        if self.A_train.shape != (L, a, r) or self.B_train.shape != (L, r, b):
            raise ValueError(
                f"An identity on {L} layers in a basis of a={a}, b={b} needs A_train ({L}, {a}, r) and B_train "
                f"({L}, r, {b}), but they are {tuple(self.A_train.shape)} and {tuple(self.B_train.shape)}."
            )
        if not 0 <= self.frozen_rank <= r:
            raise ValueError(f"An identity of rank {r} cannot have {self.frozen_rank} frozen ranks.")
        q, shapes = self.full_rank, [None if t is None else t.shape for t in (self.A_full, self.B_full)]
        sides = sum(t.in_features for t in self.table), sum(t.out_features for t in self.table)
        if shapes != ([(side * q,) for side in sides] if q else [None, None]):
            raise ValueError(
                f"An identity of full rank {q} needs A_full ({sides[0]} x {q}) and B_full ({sides[1]} x {q}) as flat "
                f"tensors, or neither if it is 0, but they are {shapes}."
            )
        self.basis.check_fits(self.table)
        for name, tensor in (
            ("A_train", self.A_train),
            ("B_train", self.B_train),
            ("A_full", self.A_full),
            ("B_full", self.B_full),
        ):
            if tensor is not None and not torch.isfinite(tensor).all():
                bad = int((~torch.isfinite(tensor)).sum())
                raise ValueError(
                    f"The identity's {name} holds {bad} numbers that are not finite (NaN or infinity); it cannot be "
                    "used. Predict it again, or finetune with a lower learning rate."
                )

    @staticmethod
    def zeros(table: TargetTable, basis: AnyBasis, rank: int = 0, facts: Facts | None = None) -> "LiDB":
        """The neutral identity of the given rank."""
        L = len(table)
        A, B = torch.zeros(L, basis.a, rank), torch.zeros(L, rank, basis.b)
        return LiDB(table, basis, A, B, frozen_rank=rank, facts=facts or Facts(made_by="zero"))

    @staticmethod
    def from_vector(table: TargetTable, basis: AnyBasis, vector: torch.Tensor, facts: Facts | None = None) -> "LiDB":
        """A rank-1 identity from a HyperNet's output ``vector (L, a + b)``."""
        A, B = vector.detach().float().cpu().split([basis.a, basis.b], dim=-1)
        A, B = rearrange(A, "l a -> l a 1").contiguous(), rearrange(B, "l b -> l 1 b").contiguous()
        return LiDB(table, basis, A, B, frozen_rank=1, facts=facts or Facts())

    def vector(self) -> torch.Tensor:
        """Inverse of ``from_vector``; (L, a + b). Only a rank-1 identity has one."""
        if self.rank != 1 or self.full_rank:
            raise ValueError(
                f"Only a rank-1 identity is a single vector; this one has rank {self.rank + self.full_rank}."
            )
        return torch.cat([self.A_train[..., 0], self.B_train[:, 0]], dim=-1)

    @property
    def rank(self) -> int:
        """Ranks inside the basis."""
        return self.A_train.shape[-1]

    @property
    def numbers(self) -> int:
        """How many numbers the identity consists of."""
        full = 0 if self.A_full is None else self.A_full.numel() + self.B_full.numel()
        return self.A_train.numel() + self.B_train.numel() + full

    def factors(self) -> Factors:
        """The residual of every layer as ``A (n, R)``, ``B (R, m)``, R = rank + full_rank."""
        inside = expand(self.table, self.basis, self.A_train, self.B_train)
        if not self.full_rank:
            return inside
        outside = split_full(self.table, self.full_rank, self.A_full, self.B_full)
        return concatenate(inside, outside)

    def delta_W(self, name: str) -> torch.Tensor:
        """The dense residual of one layer in torch's orientation, (m, n)."""
        A, B = self.factors()[name]
        return (A @ B).T

    def with_facts(self, **changes) -> "LiDB":
        return replace(self, facts=replace(self.facts, **changes))


def expand(table: TargetTable, basis: AnyBasis, A_train: torch.Tensor, B_train: torch.Tensor) -> Factors:
    """Leave the basis: ``A = A_aux A_train`` and ``B = B_train B_aux`` for every layer. Differentiable.

    Args:
        A_train: (..., L, a, r); B_train: (..., L, r, b). A leading batch dimension gives per-sample factors.
    """
    A_of, B_of = {}, {}
    for n in {t.in_features for t in table}:
        rows = [i for i, t in enumerate(table) if t.in_features == n]
        A = basis.A_aux(n).to(A_train) @ A_train[..., rows, :, :]  # (..., rows, n, r)
        A_of.update(zip(rows, A.unbind(-3), strict=True))
    for m in {t.out_features for t in table}:
        rows = [i for i, t in enumerate(table) if t.out_features == m]
        B = B_train[..., rows, :, :] @ basis.B_aux(m).to(B_train)  # (..., rows, r, m)
        B_of.update(zip(rows, B.unbind(-3), strict=True))
    return {t.name: (A_of[i], B_of[i]) for i, t in enumerate(table)}


def split_full(table: TargetTable, q: int, A_full: torch.Tensor, B_full: torch.Tensor) -> Factors:
    """Cut the flat full-space factors into layers: ``A (n, q)``, ``B (q, m)``."""
    A = A_full.split([t.in_features * q for t in table])
    B = B_full.split([t.out_features * q for t in table])
    return {t.name: (x.view(t.in_features, q), y.view(q, t.out_features)) for t, x, y in zip(table, A, B, strict=True)}


def concatenate(first: Factors, second: Factors) -> Factors:
    """The sum of two residuals, exactly, as one of rank r1 + r2."""
    return {
        name: (torch.cat([A, second[name][0]], dim=-1), torch.cat([B, second[name][1]], dim=-2))
        for name, (A, B) in first.items()
    }
