"""Who is compared: every row of the tables, as settings.

Learning rates were chosen on validation people (``docs/ablations.md``), none on the people of these tables; ``tuning.py`` tries
them again.
"""

from dataclasses import asdict, dataclass

from ...methods.defaults import DEFAULTS

HYPER_STEPS, HYPER_RATE = DEFAULTS["hyperdreambooth"]


@dataclass(frozen=True)
class Arm:
    """One row. ``method`` is what ``Bench.personalise`` knows; the rest are its settings.

    ``space`` is where a finetune's ranks are; ``refinements`` 0 is as trained; ``basis`` (a, b) of a LiDB from zero, None the
    usual one; ``reference`` the kind of the picture handed in, ``references`` how many.
    """

    name: str
    label: str
    method: str
    steps: int = 0
    rate: float = 0.0
    rank: int = 4
    batch: int = 4
    space: str = "full"
    refinements: int = 0
    hypernet: str = "faceworld"
    basis: tuple[int, int] | None = None
    reference: str = "photo"
    references: int = 1

    @property
    def settings(self) -> dict:
        """All that decides the pictures: everything but how the row is called."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "label")}


def _hyper(name: str, label: str, **changes) -> Arm:
    return Arm(name, label, **({"method": "hyperdreambooth", "steps": HYPER_STEPS, "rate": HYPER_RATE} | changes))


def _rival(name: str, label: str, method: str, **changes) -> Arm:
    steps, rate = DEFAULTS[method.split("+")[0]]
    space = "basis" if method == "lidb" else "full"
    return Arm(name, label, **({"method": method, "steps": steps, "rate": rate, "space": space} | changes))


CONTROLS = [
    Arm("plain", "plain model", "plain"),
    Arm("wrong_person", "wrong person's prediction", "wrong"),
    Arm("mean", "mean prediction", "mean"),
]
CEILING, CEILING_OF_CARTOONS = (
    Arm("ceiling", "another photo", "unseen photo"),
    Arm("ceiling_cartoon", "another photo", "unseen photo", reference="cartoon"),
)
"""A photo of the person that no method has seen, scored as if a model had drawn it."""
FULL = _hyper("hyperdreambooth", "HyperDreamBooth")
IN_BASIS = _hyper("hyperdreambooth_basis", "HyperDreamBooth, relaxed inside the basis", space="basis", rate=4e-2)
PREDICTED = Arm("predicted", "prediction alone", "predicted")
FROM_ZERO = _rival("lora_4", "LoRA-DreamBooth, rank 4 (no HyperNet)", "lora")
"""A rival, and the finetune without HyperNet as well: the same ranks in the same layers, each at its own best rate."""

SLOW = [
    _rival("textual_inversion", "Textual Inversion", "textual-inversion"),
    _rival("dreambooth_prior", "DreamBooth, prior preserved", "dreambooth+prior", steps=160),
    _rival("lidb_200", "LiDB alone, rank 1, 200 steps", "lidb", rank=1, steps=200),
]
RIVALS = [
    _rival("dreambooth", "DreamBooth", "dreambooth"),
    _rival("lora_1", "LoRA-DreamBooth, rank 1", "lora", rank=1, rate=3e-2),
    FROM_ZERO,
    *SLOW,
]

HARDER = [
    _rival(
        f"dreambooth_{steps}_{rate:g}",
        f"DreamBooth, {steps} steps at {rate:g}",
        "dreambooth",
        batch=1,
        steps=steps,
        rate=rate,
    )
    for steps, rate in ((40, 1e-4), (40, 3e-4), (40, 1e-3), (400, 3e-5), (400, 1e-4), (1200, 1e-5), (1200, 3e-5))
]

PARTS = [
    PREDICTED,
    FROM_ZERO,
    Arm("predicted_k1", "prediction alone, one refinement", "predicted", refinements=1),
    _hyper("hyperdreambooth_k1", "one refinement, then 40 steps", refinements=1),
    _hyper("relaxed_1", "relaxed to rank 1 more", rank=1),
    _hyper("relaxed_16", "relaxed to rank 16 more", rank=16),
]
INSIDE_THE_BASIS = [
    IN_BASIS,
    _rival("lidb_40", "inside the basis, no HyperNet", "lidb"),
    _hyper("basis_relaxed_1", "inside the basis, rank 1 more", space="basis", rate=4e-2, rank=1),
    _hyper("basis_relaxed_16", "inside the basis, rank 16 more", space="basis", rate=4e-2, rank=16),
]
RECIPES = ("ours", "denoising_only", "weights_only", "learned_basis", "paper")
"""HyperNets trained by ``hypernets.py`` on the same few people."""
TRAINED = [
    Arm(f"predicted_{recipe}", f"{recipe.replace('_', ' ')}, prediction alone", "predicted", hypernet=recipe)
    for recipe in RECIPES
] + [
    _hyper(f"hyper_{recipe}", f"{recipe.replace('_', ' ')}, then 40 steps", hypernet=recipe)
    for recipe in ("ours", "paper")
]

CROWDS = (50, 3200)
"""How many people a HyperNet has learnt from, by the denoising loss; ``denoising_only`` has learnt from 400."""
CURVE_OF_PEOPLE = [
    Arm(f"predicted_{crowd}_people", f"{crowd} people", "predicted", hypernet=f"{crowd}_people") for crowd in CROWDS
]
STEPS = (10, 20, 80, 200)
CURVE_FROM_PREDICTION = [_hyper(f"hyperdreambooth_{n}", f"from the prediction, {n} steps", steps=n) for n in STEPS]
CURVE_FROM_ZERO = [_rival(f"lora_4_{n}", f"from zero, {n} steps", "lora", steps=n) for n in STEPS]
BASES = [
    _rival(f"basis_{a}_{b}", f"from zero, a = {a}, b = {b}", "lidb", basis=(a, b))
    for a, b in ((6, 3), (12, 6), (24, 12), (48, 24))
]
RANKS = [_hyper(f"relaxed_{rank}", f"rank {rank} more", rank=rank) for rank in (2, 8)]
ODD = ("pose", "light", "occlusion", "cartoon")
OUT_OF_WORLD = [
    arm
    for kind in ODD
    for arm in (
        Arm(f"predicted_{kind}", f"{kind}: prediction alone", "predicted", reference=kind),
        _hyper(f"hyperdreambooth_{kind}", f"{kind}: HyperDreamBooth", reference=kind),
        _rival(f"lora_4_{kind}", f"{kind}: LoRA, no HyperNet", "lora", reference=kind),
    )
] + [Arm("plain_cartoon", "cartoon: plain model", "plain", reference="cartoon")]
SEVERAL = [
    arm
    for count in (2, 5)
    for arm in (
        Arm(f"predicted_{count}_references", f"{count} pictures: prediction alone", "predicted", references=count),
        _hyper(f"hyperdreambooth_{count}_references", f"{count} pictures: HyperDreamBooth", references=count),
        _rival(f"lora_4_{count}_references", f"{count} pictures: LoRA, no HyperNet", "lora", references=count),
    )
]

GROUPS: list[tuple[list[Arm], int]] = [
    ([CEILING, *CONTROLS, FULL, *PARTS, *INSIDE_THE_BASIS], 50),
    ([arm for arm in RIVALS if arm not in SLOW], 50),
    (SLOW[:1], 50),
    (SLOW[1:], 50),
    ([*TRAINED, *CURVE_OF_PEOPLE], 50),
    ([CEILING_OF_CARTOONS, *OUT_OF_WORLD, *SEVERAL], 50),
    ([*CURVE_FROM_PREDICTION, *CURVE_FROM_ZERO, *BASES, *RANKS], 50),
    (HARDER, 50),
    ([CEILING, *CONTROLS, FULL, PREDICTED, IN_BASIS, *RIVALS], 100),
]
"""In the order of measuring: everybody of a group person by person, so that a run that is stopped has whole people."""

QUICK = [CEILING, *CONTROLS, FULL, PREDICTED, FROM_ZERO, RIVALS[0], SLOW[0], RIVALS[1]]


def all_arms() -> dict[str, Arm]:
    """Name -> arm."""
    return {arm.name: arm for arms, _ in GROUPS for arm in arms}
