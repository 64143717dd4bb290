"""Who is compared: every row of the tables, as settings.

Steps and learning rates were chosen on validation people by ``tuning.py`` (``docs/tuning.md``), none on the people of these
tables.
"""

from dataclasses import asdict, dataclass, replace

from ...methods.defaults import DEFAULTS

EMBEDDED, BASIS = "faceworld", (48, 24)  # the HyperNet that comes with the repository, and its basis
HYPER_STEPS, HYPER_RATE = DEFAULTS["hyperdreambooth"]


@dataclass(frozen=True)
class Arm:
    """One row. ``method`` is what ``Bench.personalise`` knows; the rest are its settings.

    ``space`` is where a finetune's ranks are; ``basis`` (a, b) of a LiDB from zero, None the usual one; ``reference`` the kind
    of the picture handed in, ``references`` how many.
    """

    name: str
    label: str
    method: str
    steps: int = 0
    rate: float = 0.0
    rank: int = 4
    batch: int = 4
    space: str = "full"
    hypernet: str = EMBEDDED
    basis: tuple[int, int] | None = None
    reference: str = "photo"
    references: int = 1

    @property
    def settings(self) -> dict:
        """All that decides the pictures: everything but how the row is called."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "label")}

    @property
    def wants_embedded(self) -> bool:
        """The embedded HyperNet has a part in its pictures."""
        return self.hypernet == EMBEDDED and self.method in ("wrong", "mean", "predicted", "hyperdreambooth")


def _hyper(name: str, label: str, **changes) -> Arm:
    return Arm(name, label, **({"method": "hyperdreambooth", "steps": HYPER_STEPS, "rate": HYPER_RATE} | changes))


def _rival(name: str, label: str, method: str, **changes) -> Arm:
    steps, rate = DEFAULTS[method.split("+")[0]]
    return Arm(name, label, **({"method": method, "steps": steps, "rate": rate} | changes))


def _inside(name: str, label: str, **changes) -> Arm:
    """From zero, inside the basis of the embedded HyperNet."""
    return _rival(name, label, "lidb", **({"space": "basis", "basis": BASIS, "rate": 4e-2} | changes))


CONTROLS = [
    Arm("plain", "plain model", "plain"),
    Arm("wrong_person", "wrong person's prediction", "wrong"),
    Arm("mean", "mean prediction", "mean"),
]
CEILING, CEILING_OF_CARTOONS = (
    Arm("ceiling", "another photo, edits drawn", "drawn"),
    Arm("ceiling_cartoon", "another photo, edits drawn", "drawn", reference="cartoon"),
)
"""A photo of the person that no method has seen, and their edits by the renderer, scored as if a model had drawn them."""
FULL = _hyper("hyperdreambooth", "HyperDreamBooth")
LONGER = _hyper("hyperdreambooth_160", "HyperDreamBooth, 160 steps", steps=160, rate=1e-2)
"""Four times the paper's iterations, for rivals that want as many."""
IN_BASIS = _hyper("hyperdreambooth_basis", "HyperDreamBooth, relaxed inside the basis", space="basis", rate=4e-2)
PREDICTED = Arm("predicted", "prediction alone", "predicted")
FROM_ZERO = _rival("zero", "no HyperNet: the same from zero", "lidb")

DREAMBOOTH, DREAMBOOTH_40 = (
    _rival("dreambooth", "DreamBooth, 160 steps", "dreambooth", rate=1e-3),
    _rival("dreambooth_40", "DreamBooth, 40 steps", "dreambooth", steps=40, rate=1e-3),
)
LORA_1 = _rival("lora_1", "LoRA-DreamBooth, rank 1", "lora", rank=1, rate=3e-2)
LORA_4 = _rival("lora_4", "LoRA-DreamBooth, rank 4", "lora", rate=3e-2)
TEXTUAL_INVERSION = _rival("textual_inversion", "Textual Inversion", "textual-inversion")
RIVALS = [DREAMBOOTH, DREAMBOOTH_40, LORA_1, LORA_4, TEXTUAL_INVERSION]

LORA_160 = _rival("lora_4_160", "LoRA-DreamBooth, rank 4, 160 steps", "lora", steps=160, rate=1e-2)
PRIOR = _rival("dreambooth_prior", "DreamBooth, prior preserved, 400 steps", "dreambooth+prior", steps=400, rate=7e-4)
LIDB = _rival("lidb", "LiDB alone, rank 1, 400 steps", "lidb", rank=1, steps=400, rate=5e-3, space="basis")
LONG = [LONGER, DREAMBOOTH, LORA_160, PRIOR, LIDB]
"""More steps than HyperDreamBooth's forty, as each wants them."""
PIECES = LAYERS, REST_OF_UNET, REST_OF_TEXT_ENCODER = (
    _rival("dreambooth_layers", "DreamBooth of a LiDB's layers, 40 steps", "dreambooth+layers", steps=40, rate=4e-3),
    _rival(
        "dreambooth_unet", "DreamBooth of the UNet's other weights, 40 steps", "dreambooth+unet", steps=40, rate=1e-3
    ),
    _rival(
        "dreambooth_text",
        "DreamBooth of the text encoder's other weights, 40 steps",
        "dreambooth+text",
        steps=40,
        rate=4e-3,
    ),
)
"""Where DreamBooth's likeness comes from."""

HARDER = [
    _rival(f"harder_{steps}_{rate:g}", f"DreamBooth, {steps} steps of one, {rate:g}", "dreambooth", batch=1, steps=steps, rate=rate)
    for steps, rate in ((40, 3e-4), (40, 1e-3), (400, 1e-4), (400, 3e-4), (1200, 3e-5), (1200, 1e-4))
]  # fmt: skip
PRIOR_HARDER = _rival(
    "harder_prior",
    "DreamBooth, prior preserved, 1,200 steps of one",
    "dreambooth+prior",
    batch=1,
    steps=1200,
    rate=5e-4,
)

RANK_RATES = {1: 2e-2, 2: 2e-2, 8: 2e-2, 16: 1e-2}
RANKS = [_hyper(f"relaxed_{rank}", f"relaxed to rank {rank} more", rank=rank, rate=r) for rank, r in RANK_RATES.items()]
PARTS = [PREDICTED, FROM_ZERO, RANKS[0], RANKS[-1]]
INSIDE_THE_BASIS = [
    IN_BASIS,
    _inside("zero_basis", "inside the basis, no HyperNet"),
    _hyper("basis_relaxed_1", "inside the basis, rank 1 more", space="basis", rate=4e-2, rank=1),
    _hyper("basis_relaxed_16", "inside the basis, rank 16 more", space="basis", rate=2e-2, rank=16),
]
EXCHANGES = {
    "paper_levels": "the paper's recipe, one start, our noise levels",
    "paper_warmed": "the paper's recipe, one start, our noise levels, rate and warm-up",
    "even_levels": "ours, the paper's noise levels",
    "raw_weights": "ours, the paper's weight error",
    "own_target": "ours, the photo handed in as target",
    "by_adam": "ours, all weights by Adam",
    "by_adam_faster": "ours, all weights by Adam at twice the rate",
}
"""What of the paper's recipe fails: things of ours in it, or one of it in ours."""
RECIPES = {
    "ours": "warm-up, then denoising",
    "denoising_only": "denoising loss only",
    "weights_only": "weight loss only",
    "learned_basis": "learned basis",
    "one_refinement": "one refinement",
    "own_start": "everybody fitted from a start of their own",
    "paper": "the paper's recipe",
    "paper_shared_start": "the paper's recipe, one start for all",
    **EXCHANGES,
}
"""HyperNets trained by ``hypernets.py`` on the same few people."""
TRAINED = [
    *(Arm(f"predicted_{recipe}", f"{label}: prediction alone", "predicted", hypernet=recipe) for recipe, label in RECIPES.items()),
    *(Arm(f"wrong_{recipe}", f"{RECIPES[recipe]}: wrong person's prediction", "wrong", hypernet=recipe) for recipe in ("ours", "paper")),
    *(_hyper(f"hyper_{recipe}", f"{RECIPES[recipe]}: and 40 steps", hypernet=recipe) for recipe in ("ours", "one_refinement", "paper")),
]  # fmt: skip

CROWDS = (100, 1000, 4000, 10000)
"""How many people a HyperNet has learnt from, by the denoising loss; ``denoising_only`` has learnt from 400."""
CURVE_OF_PEOPLE = [
    Arm(f"predicted_{crowd}_people", f"{crowd:,} people", "predicted", hypernet=f"{crowd}_people") for crowd in CROWDS
]
CURVE_OF_PEOPLE_LONG = [
    Arm(f"predicted_{crowd}_people_long", f"{crowd:,} people, four times as long", "predicted", hypernet=f"{crowd}_people_long")
    for crowd in (CROWDS[0], CROWDS[-1])
]  # fmt: skip
STEP_RATES = {10: (4e-2, 4e-2), 20: (2e-2, 2e-2), 80: (1e-2, 1e-2), 200: (1e-2, 5e-3)}
"""Iterations -> rate from the prediction and from zero."""
CURVE_FROM_PREDICTION = [
    _hyper(f"hyperdreambooth_{n}", f"from the prediction, {n} steps", steps=n, rate=rate)
    for n, (rate, _) in STEP_RATES.items()
]
CURVE_FROM_ZERO = [
    _rival(f"zero_{n}", f"from zero, {n} steps", "lidb", steps=n, rate=rate) for n, (_, rate) in STEP_RATES.items()
]
BASIS_RATES = {
    (6, 3): 0.32, (12, 6): 0.16, (24, 12): 4e-2, (100, 50): 2e-2, (12, 48): 4e-2, (48, 12): 4e-2,
}  # fmt: skip
BASES = [
    _inside(f"basis_{a}_{b}", f"from zero, a = {a}, b = {b}", basis=(a, b), rate=r) for (a, b), r in BASIS_RATES.items()
]
ODD = ("pose", "light", "occlusion", "cartoon")
OUT_OF_WORLD = [
    arm
    for kind in ODD
    for arm in (
        Arm(f"predicted_{kind}", f"{kind}: prediction alone", "predicted", reference=kind),
        _hyper(f"hyperdreambooth_{kind}", f"{kind}: HyperDreamBooth", reference=kind),
        _rival(f"zero_{kind}", f"{kind}: no HyperNet", "lidb", reference=kind),
    )
] + [
    Arm("plain_cartoon", "cartoon: plain model", "plain", reference="cartoon"),
    Arm("wrong_cartoon", "cartoon: wrong person's prediction", "wrong", reference="cartoon"),
    Arm("mean_cartoon", "cartoon: mean prediction", "mean", reference="cartoon"),
]
FIVE_LONGER = replace(
    LONGER, name="hyperdreambooth_5_references_160", label="5 pictures: HyperDreamBooth, 160 steps", references=5
)
"""Are forty steps too few to share among five?"""
COUNTS = {f"{count}_references": count for count in (2, 3, 4, 5)}
"""How rows of several pictures end -> how many."""
SEVERAL = [
    arm
    for kind, count in COUNTS.items()
    for arm in (
        Arm(f"predicted_{kind}", f"{count} pictures: prediction alone", "predicted", references=count),
        _hyper(f"hyperdreambooth_{kind}", f"{count} pictures: HyperDreamBooth", references=count),
        _rival(f"zero_{kind}", f"{count} pictures: no HyperNet", "lidb", references=count),
    )
] + [FIVE_LONGER]

GROUPS: list[tuple[list[Arm], int]] = [
    ([CEILING, *CONTROLS, FULL, *PARTS, *INSIDE_THE_BASIS], 50),
    ([DREAMBOOTH, DREAMBOOTH_40, LORA_1, LORA_4, LONGER, LORA_160], 50),
    ([TEXTUAL_INVERSION], 50),
    ([LIDB, PRIOR], 50),
    (TRAINED, 50),
    ([*CURVE_OF_PEOPLE, *CURVE_OF_PEOPLE_LONG], 50),
    ([CEILING_OF_CARTOONS, *OUT_OF_WORLD, *SEVERAL], 50),
    ([*CURVE_FROM_PREDICTION, *CURVE_FROM_ZERO, *BASES, *RANKS], 50),
    ([*HARDER, PRIOR_HARDER], 50),
    ([CEILING, *CONTROLS, FULL, PREDICTED, IN_BASIS, FROM_ZERO, *RIVALS], 100),
    ([FULL, FROM_ZERO], 200),
    ([*PIECES], 50),
]
"""In the order of measuring: everybody of a group person by person, so that a run that is stopped has whole people."""

QUICK = [CEILING, *CONTROLS, FULL, PREDICTED, FROM_ZERO, DREAMBOOTH, TEXTUAL_INVERSION, LORA_1]


def all_arms() -> dict[str, Arm]:
    """Name -> arm."""
    return {arm.name: arm for arms, _ in GROUPS for arm in arms}
