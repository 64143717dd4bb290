"""Rank-relaxed fast finetuning (paper, section 4.3): the prediction stays, r more ranks are trained beside it.

The new ranks begin without effect (one factor random, the other zero), so step 0 of the finetune *is* the prediction;
the result is exactly an identity of rank 1 + r. ``space="full"`` is the paper's relaxation to an ordinary LoRA (3 MB for
SD 1.5); ``space="basis"`` keeps the new ranks inside the LiDB basis (a tenth of that).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .descent import minimise
from .value import Factors, LiDB, concatenate, expand, split_full

SPACES = ("basis", "full")
WIDTH = 128  # inputs of the layers on which learning rates were chosen (faceworld)


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of one finetune.

    Raises:
        ValueError: on construction, for values that cannot be meant.
    """

    steps: int = 40
    rank: int = 4
    learning_rate: float = 1e-2
    space: str = "full"
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1 or self.rank < 1 or not self.learning_rate > 0 or self.space not in SPACES:
            raise ValueError(
                f"A finetune needs steps >= 1, rank >= 1, a learning rate > 0 and a space out of {SPACES}, but got "
                f"steps={self.steps}, rank={self.rank}, learning_rate={self.learning_rate}, space={self.space!r}."
            )


class RelaxedRanks:
    """The trainable part of a finetune as ONE flat leaf, and the identity it adds up to.

    A start that was already finetuned with the same rank and space is continued; any other start is kept as it is, and
    new ranks are added beside it.

    Adam moves every number by the learning rate, and a down factor's n numbers add up over a layer's n inputs. In the full
    space they are held divided by ``pace`` = 128 / n, so that a rate means the same in layers of any width (Yang et al.
    2022, arXiv 2203.03466); inside the basis there are a numbers whatever the width.
    """

    def __init__(self, start: LiDB, settings: FinetuneSettings, device: torch.device):
        self.start, self.space, r = start, settings.space, settings.rank
        table, basis = start.table, start.basis
        L, self.pace = len(table), torch.ones(())
        stream = torch.Generator().manual_seed(settings.seed)
        if self.space == "basis":
            self.shapes = (L, basis.a, r), (L, r, basis.b)
            resumed = start.rank - start.frozen_rank == r and start.rank > 0
            kept = start.frozen_rank if resumed else start.rank
            parts = (start.A_train[..., kept:], start.B_train[:, kept:]) if resumed else None
            spread = basis.a**-0.5
        else:
            self.shapes = (sum(t.in_features for t in table) * r,), (sum(t.out_features for t in table) * r,)
            resumed, kept = start.full_rank == r, start.rank
            if start.full_rank and not resumed:
                raise ValueError(
                    f"This identity was relaxed in the full space with rank {start.full_rank} and cannot be continued "
                    f"with rank {r}. Set rank to {start.full_rank}, or start from the prediction again."
                )
            parts = (start.A_full, start.B_full) if resumed else None
            spread = max(t.in_features for t in table) ** -0.5
            self.pace = torch.cat([torch.full((t.in_features * r,), WIDTH / t.in_features) for t in table])
        if parts is None:
            A, B = torch.randn(self.shapes[0], generator=stream) * spread, torch.zeros(self.shapes[1])
        else:
            A, B = parts
        self.kept = start.A_train[..., :kept].to(device), start.B_train[:, :kept].to(device)
        held = torch.cat([(A / self.pace).reshape(-1), B.reshape(-1)])
        self.flat, self.pace = held.to(device, torch.float32).requires_grad_(), self.pace.to(device)
        with torch.no_grad():
            self._fixed = self._fixed_factors(device)

    def _fixed_factors(self, device: torch.device) -> Factors:
        """What the training cannot change: the prediction, and a full-space part when training inside the basis."""
        fixed = expand(self.start.table, self.start.basis, *self.kept)
        if self.space == "basis" and self.start.full_rank:
            full = self.start.A_full.to(device), self.start.B_full.to(device)
            fixed = concatenate(fixed, split_full(self.start.table, self.start.full_rank, *full))
        return fixed

    def _split(self) -> tuple[torch.Tensor, torch.Tensor]:
        sizes = [torch.Size(s).numel() for s in self.shapes]
        A, B = self.flat.split(sizes)
        return A.view(self.shapes[0]) * self.pace, B.view(self.shapes[1])

    def factors(self) -> Factors:
        """Every layer's residual (fixed ranks and trained ranks), with gradients to ``flat``."""
        A, B = self._split()
        if self.space == "basis":
            trained = expand(self.start.table, self.start.basis, A, B)
        else:
            trained = split_full(
                self.start.table, self.shapes[0][0] // sum(t.in_features for t in self.start.table), A, B
            )
        return concatenate(self._fixed, trained)

    def identity(self) -> LiDB:
        """The identity as it stands, detached, on the CPU."""
        A, B = (part.detach().float().cpu().clone() for part in self._split())
        if self.space == "full":
            r = A.numel() // sum(t.in_features for t in self.start.table)
            return replace(self.start, full_rank=r, A_full=A, B_full=B)
        kept_A, kept_B = (part.cpu() for part in self.kept)
        A, B = torch.cat([kept_A, A], dim=-1), torch.cat([kept_B, B], dim=1)
        return replace(self.start, A_train=A, B_train=B, frozen_rank=kept_A.shape[-1])


def finetune(
    start: LiDB,
    loss: Callable[[int, Factors], torch.Tensor],
    settings: FinetuneSettings,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, RelaxedRanks], None] = lambda step, ranks: None,
) -> tuple[LiDB, list[float]]:
    """Minimise ``loss(step, factors)`` over the relaxed ranks.

    Args:
        start: the prediction, an earlier finetune, or ``LiDB.zeros`` to begin from nothing.
        loss: the denoising loss of this step's noise under these residuals, a scalar tensor.
        on_step: called after every step with (steps done, ranks); it may raise to stop the work.

    Returns:
        The sharpened identity and the loss before each step, ``settings.steps`` numbers.

    Raises:
        ValueError: the loss or the identity became NaN or infinite.
    """
    ranks = RelaxedRanks(start, settings, torch.device(device))
    history = minimise(
        [ranks.flat],
        lambda step: loss(step, ranks.factors()),
        settings.steps,
        settings.learning_rate,
        lambda step: on_step(step, ranks),
    )
    facts = replace(
        start.facts,
        made_by="finetuned",
        steps=start.facts.steps + settings.steps,
        seed=settings.seed,
        final_loss=sum(history[-5:]) / len(history[-5:]),
    )
    return replace(ranks.identity(), facts=facts), history
