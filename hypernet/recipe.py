"""How a HyperNet is trained, and what every step shows. All draws of step k come from (seed, k) alone, so a run can be
resumed anywhere, and divided among any number of processes, without a change of what is drawn."""

from dataclasses import dataclass

import numpy as np
import torch

from .precompute import noise_levels
from .shards import PreparedPeople

KINDS = ("plus", "paper")
CURES = ("gauge", "norm", "mean", "others", "muon")


@dataclass(frozen=True)
class Recipe:
    """``plus``: warm-up on fitted LiDBs without gauge, as deviations from the mean identity, every layer counting alike;
    then end to end through the denoising loss of *other* pictures of the person, with their captions. ``paper``: both
    losses at once on the raw numbers, the reference itself as target, the plain caption.

    A step shows ``people`` different people, each with ``targets`` pictures under noise, so that one prediction is paid
    for once and judged several times. ``low_share`` as in precompute. ``weight_loss`` weighs |theta_hat - theta|^2 after
    the warm-up, ``norm_weight`` the size of the deviation from the mean.

    ``without`` takes cures away, to see what each gives. Of the weight loss, ``gauge``: squared error on the raw numbers in
    place of the distance of the residuals; ``norm``: layers are not divided by how much people differ in them; ``mean``:
    the network starts without the mean identity and its scale. Of the rest, ``others``: the reference itself is the target,
    under the plain caption; ``muon``: Adam for all weights.

    Raises:
        ValueError: on construction, for values that cannot be meant.
    """

    kind: str = "plus"
    warmup_steps: int = 0
    steps: int = 2000
    people: int = 12
    targets: int = 2
    lr: float = 2e-3
    weight_loss: float = 0.01
    norm_weight: float = 1e-4
    low_share: float = 0.12
    ema: float = 0.99
    seed: int = 0
    without: tuple[str, ...] = ()

    def __post_init__(self):
        counts = self.warmup_steps >= 0 and self.steps >= 0 and self.people >= 1 and self.targets >= 1
        rates = self.lr > 0 and self.weight_loss >= 0 and self.norm_weight >= 0 and 0 <= self.ema < 1
        if self.kind not in KINDS or not counts or not rates or not 0 <= self.low_share <= 1:
            raise ValueError(f"A recipe is one of {KINDS} with counts and rates that are not negative, but got {self}.")
        if set(self.without) - set(CURES) or (self.without and self.kind == "paper"):
            raise ValueError(
                f"The cures {', '.join(CURES)} can be taken from the recipe plus; paper has none of them. Got "
                f"{', '.join(self.without)} from {self.kind}."
            )

    @property
    def explains_the_reference(self) -> bool:
        """The target is the reference itself, not another picture of the person."""
        return self.kind == "paper" or "others" in self.without

    @property
    def by_adam(self) -> bool:
        return self.kind == "paper" or "muon" in self.without  # the paper's sources use Adam throughout

    @property
    def total(self) -> int:
        return self.warmup_steps + self.steps

    def warming_up(self, step: int) -> bool:
        return step < self.warmup_steps

    def lr_at(self, step: int) -> float:
        """Each stage: 50 steps up, then level, then a linear fall over its last 40 %."""
        length, step = (self.warmup_steps, step) if self.warming_up(step) else (self.steps, step - self.warmup_steps)
        return self.lr * min(1.0, (step + 1) / 50, 2.5 * (1 - step / length) + 0.02)


@dataclass(frozen=True)
class Draw:
    """One step: ``people (P,)``, ``reference (P,)`` and ``target (P, K)`` picture numbers, ``level (P, K)`` in 0..1,
    ``noise (P, K, c, h, w)``."""

    people: np.ndarray
    reference: np.ndarray
    target: np.ndarray
    level: torch.Tensor
    noise: torch.Tensor

    def part(self, index: int, of: int) -> "Draw":
        """The ``index``-th of ``of`` equal shares."""
        P = len(self.people) // of
        rows = slice(index * P, (index + 1) * P)
        return Draw(*(getattr(self, f)[rows] for f in ("people", "reference", "target", "level", "noise")))


def draw(data: PreparedPeople, pool: np.ndarray, step: int, recipe: Recipe, latent_shape: tuple[int, ...]) -> Draw:
    """Step number ``step`` with people out of ``pool``."""
    rng = np.random.default_rng([recipe.seed, step])
    stream = torch.Generator().manual_seed(int(rng.integers(2**63)))
    P, K = recipe.people, recipe.targets
    people = rng.choice(pool, P, replace=len(pool) < P)
    reference, target = np.empty(P, int), np.empty((P, K), int)
    for i, p in enumerate(people):
        reference[i] = rng.choice(data.references[p])
        others = data.pictures[p][data.pictures[p] != reference[i]]
        if recipe.explains_the_reference or not len(others):
            others = reference[i : i + 1]
        target[i] = rng.permutation(np.resize(rng.permutation(others), K))
    level = noise_levels(P * K, recipe.low_share, stream).view(P, K)
    return Draw(people, reference, target, level, torch.randn(P, K, *latent_shape, generator=stream))
