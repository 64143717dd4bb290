"""Between people: two ways to mix identities that live in the same basis.

A residual is bilinear in its factors, so mixing residuals and mixing factors are different things:

- ``blend_residuals``: the weighted sum of the residuals. It is exact, ``sum_i w_i A_i B_i`` is the concatenation of all
  ranks with ``w_i`` in one factor; the rank grows.
- ``blend_factors``: the weighted sum of the factors of rank-1 identities, ``(sum_i w_i A_i)(sum_i w_i B_i)``; the rank
  stays 1 and the result is an identity like a prediction. Factors are first aligned, since ``(c A)(B / c)`` and
  ``(-A)(-B)`` are the same residual and must give the same mixture.

Weights are shares: they are divided by their sum, so that mixing changes who it is and not how strong it is.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from .basis_form import describe
from .value import LiDB, split_full

SMALLEST_SUM = 1e-6


def shares(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum.

    Raises:
        ValueError: the sum is zero or below, so nobody would be left or everybody turned into the opposite.
    """
    total = sum(weights)
    if not total > SMALLEST_SUM:
        raise ValueError(
            f"The weights {', '.join(f'{w:g}' for w in weights)} add up to {total:g}. They are divided by their sum, so it must be "
            "above 0: give more to the people you want, or less below 0 to the others."
        )
    return [weight / total for weight in weights]


def check_same_basis(people: Sequence[LiDB], numbers: Sequence[int] = ()) -> None:
    """Raise ValueError if identities, called by ``numbers`` (from 1 without), do not share target layers and basis."""
    numbers = numbers or range(1, len(people) + 1)
    first, one = people[0], numbers[0]
    for i, other in zip(numbers[1:], people[1:], strict=True):
        if other.table.digest != first.table.digest:
            raise ValueError(
                f"LiDB {i} was made for {_base(other)} and LiDB {one} for {_base(first)}, so they cannot be blended. Use people "
                "of one base model."
            )
        if other.basis != first.basis:
            raise ValueError(
                f"LiDB {i} is written in another basis ({describe(other.basis)}) than LiDB {one} ({describe(first.basis)}), so their "
                "numbers cannot be added. Make both with the same HyperNet, or apply them one after the other."
            )


def blend_residuals(people: Sequence[LiDB], weights: Sequence[float]) -> LiDB:
    """The exact weighted sum of residuals; ranks add up. People of share 0 are left out, one of share 1 comes back as is.

    Raises:
        ValueError: different layers or basis, or weights that do not add up to more than zero.
    """
    chosen, parts = _chosen(people, weights)
    first = chosen[0]
    if len(chosen) == 1:
        return first
    A = torch.cat([share * person.A_train for person, share in zip(chosen, parts, strict=True)], dim=-1)
    B = torch.cat([person.B_train for person in chosen], dim=1)
    full = [(person, share) for person, share in zip(chosen, parts, strict=True) if person.full_rank]
    A_full = B_full = None
    if full:
        cut = [split_full(first.table, p.full_rank, share * p.A_full, p.B_full) for p, share in full]
        A_full = torch.cat([torch.cat([f[t.name][0] for f in cut], dim=-1).reshape(-1) for t in first.table])
        B_full = torch.cat([torch.cat([f[t.name][1] for f in cut], dim=0).reshape(-1) for t in first.table])
    return _blended(
        first,
        A_train=A,
        B_train=B,
        frozen_rank=A.shape[-1],
        full_rank=sum(p.full_rank for p, _ in full),
        A_full=A_full,
        B_full=B_full,
    )


def blend_factors(people: Sequence[LiDB], weights: Sequence[float]) -> LiDB:
    """The weighted mean of aligned rank-1 factors; the rank stays 1. One of share 1 comes back as is.

    Raises:
        ValueError: as ``blend_residuals``, or an identity of a rank other than 1.
    """
    chosen, parts = _chosen(people, weights)
    ranks = [person.rank + person.full_rank for person in chosen]
    if ranks != [1] * len(chosen):
        raise ValueError(
            f"Only predictions (rank 1) have factors that can be mixed one by one; these LiDBs have rank {ranks}. Blend the "
            "predictions and finetune afterwards, or choose the exact sum."
        )
    if len(chosen) == 1:
        return chosen[0]
    balanced = [_balanced(person) for person in chosen]
    A_0, B_0 = balanced[0]
    A, B = torch.zeros_like(A_0), torch.zeros_like(B_0)
    for (A_i, B_i), share in zip(balanced, parts, strict=True):
        agreement = (A_0 * A_i).sum((1, 2), keepdim=True) + (B_0 * B_i).sum((1, 2), keepdim=True)  # (L, 1, 1)
        sign = torch.where(agreement < 0, -1.0, 1.0)
        A, B = A + share * sign * A_i, B + share * sign * B_i
    return _blended(chosen[0], A_train=A, B_train=B, frozen_rank=1)


def _chosen(people: Sequence[LiDB], weights: Sequence[float]) -> tuple[list[LiDB], list[float]]:
    check_same_basis(people)
    pairs = [(person, share) for person, share in zip(people, shares(weights), strict=True) if share]
    return [person for person, _ in pairs], [share for _, share in pairs]


def _balanced(person: LiDB) -> tuple[torch.Tensor, torch.Tensor]:
    """The same residual with both factors of equal length in every layer: A (L, a, 1), B (L, 1, b)."""
    A, B = person.A_train, person.B_train
    length_A, length_B = A.norm(dim=(1, 2), keepdim=True), B.norm(dim=(1, 2), keepdim=True)  # (L, 1, 1)
    c = torch.where((length_A > 0) & (length_B > 0), (length_B / length_A.clamp(min=1e-30)).sqrt(), 0.0)
    return A * c, torch.where(c > 0, B / c.clamp(min=1e-30), 0.0)


def _blended(first: LiDB, **numbers) -> LiDB:
    facts = replace(first.facts, made_by="blended", steps=0, seed=0, final_loss=None, thumbnail=b"")
    return replace(first, **numbers, facts=facts)


def _base(person: LiDB) -> str:
    return f"{person.facts.base or 'an unnamed base'} ({person.table.describe()})"
