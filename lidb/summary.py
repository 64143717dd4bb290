"""What is in an identity, in words and numbers that a person can read."""

import re

from .learned_basis import LearnedBasis
from .value import LiDB

_PLACES = {"down_blocks": "UNet down", "mid_block": "UNet middle", "up_blocks": "UNet up"}
_KINDS = {"attn1": "self-attention", "attn2": "cross-attention", "ff": "feed-forward"}


def layer_group(name: str) -> str:
    """Kohya layer name -> e.g. ``UNet up, cross-attention`` or ``text encoder``."""
    place = re.match(r"lora_unet_(down_blocks|mid_block|up_blocks)_", name)
    kind = re.search(r"_(attn1|attn2|ff)_", name)
    if not place or not kind:
        return "text encoder" if name.startswith("lora_te") else "other"
    return f"{_PLACES[place[1]]}, {_KINDS[kind[1]]}"


def layer_norms(lidb: LiDB) -> dict[str, float]:
    """Layer name -> Frobenius norm of its residual ``A B``, from the factors' Gram matrices (no dense matrix is made)."""
    norms = {}
    for name, (A, B) in lidb.factors().items():
        A, B = A.double(), B.double()
        norms[name] = float(((A.T @ A) * (B @ B.T)).sum().clamp(min=0).sqrt())  # trace(A^T A B B^T)
    return norms


def group_norms(lidb: LiDB) -> dict[str, tuple[int, float]]:
    """Group -> (number of layers, Frobenius norm of all of them together), in the table's order."""
    squares: dict[str, tuple[int, float]] = {}
    for name, norm in layer_norms(lidb).items():
        layers, square = squares.get(layer_group(name), (0, 0.0))
        squares[layer_group(name)] = (layers + 1, square + norm**2)
    return {group: (layers, square**0.5) for group, (layers, square) in squares.items()}


def summarise(lidb: LiDB) -> str:
    """Several lines: trigger, base, origin, rank, basis, size, and how much each group of layers is changed."""
    facts, basis = lidb.facts, lidb.basis
    made = facts.made_by
    if facts.steps:
        made += f", {facts.steps} steps, seed {facts.seed}"
    if facts.final_loss is not None:
        made += f", loss {facts.final_loss:.4f} at the end"
    named = f"learned, digest {basis.digest}" if isinstance(basis, LearnedBasis) else f"random, seed {basis.seed}"
    rank = f"{lidb.rank} inside the basis"
    if 0 < lidb.frozen_rank < lidb.rank:
        rank += f" ({lidb.frozen_rank} kept, {lidb.rank - lidb.frozen_rank} finetuned)"
    if lidb.full_rank:
        rank += f", {lidb.full_rank} in the full space"
    groups = group_norms(lidb)
    width = max(map(len, groups))
    return "\n".join(
        [
            f'trigger phrase: "{facts.trigger}"',
            f"base model: {facts.base or 'not named'}, {lidb.table.describe()}",
            f"made: {made}",
            f"rank: {rank}",
            f"basis: {named}, a = {basis.a}, b = {basis.b}",
            f"size: {lidb.numbers:,} numbers, {lidb.numbers * 4 / 1000:,.1f} KB as float32, {lidb.numbers * 2 / 1000:,.1f} KB as float16",
            f"thumbnail: {f'{len(facts.thumbnail) / 1000:.1f} KB' if facts.thumbnail else 'none'}",
            f"norm of the change: {sum(norm**2 for _, norm in groups.values()) ** 0.5:.3f}, by group (layers):",
            *[f"  {group:<{width}}  {norm:7.2f}  ({layers})" for group, (layers, norm) in groups.items()],
        ]
    )
