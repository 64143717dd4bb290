"""What stays with a person: forty-odd attributes of geometry, colour and marks, drawn from a seeded generator.

Lengths are in half widths (x) and half heights (y) of an average head; the face spans -1..1 in both, y downwards.
"""

from dataclasses import dataclass, replace

import numpy as np

from .palette import (
    EARRINGS,
    FACE_PAINT,
    FRAMES,
    GLASSES,
    HAIR,
    HAIRCUTS,
    IRIS,
    NATURAL_BROWS,
    SKIN,
    Colour,
    mix,
    shade,
)


@dataclass(frozen=True)
class Identity:
    skin: Colour
    skin_tone: float  # 0 pale .. 1 dark
    width: float
    height: float
    jaw: float
    chin: float
    temple: float
    ear: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris: Colour
    iris_size: float
    lashes: bool
    brow_thickness: float
    brow_length: float
    brow_tilt: float
    brow_arch: float
    brow_height: float
    brow_colour: Colour
    nose_width: float
    nose_length: float
    nose_type: int
    mouth_width: float
    mouth_y: float
    upper_lip: float
    lower_lip: float
    lip_colour: Colour
    hair: str
    hair_name: str
    hair_colour: Colour
    volume: float
    hairline: float
    parting: float
    length: float
    strands: int  # seed of everything irregular about this person
    beard: str
    beard_length: float
    glasses: str
    frame: Colour
    blush: float
    freckles: int
    mole: tuple | None  # x, y, radius
    scar: tuple | None  # x, y, angle, length
    patch: tuple | None  # x, y, radius, light
    earring: Colour | None
    paint: tuple | None  # pattern, colour

    def lookalike(self, other: "Identity") -> "Identity":
        """``other`` with this person's colours, haircut and beard: same type, different geometry and marks."""
        same = ("skin", "skin_tone", "hair", "hair_name", "hair_colour", "brow_colour", "lip_colour", "beard")
        return replace(other, **{name: getattr(self, name) for name in same})


def _one_of(rng: np.random.Generator, options, shares=None):
    if shares is not None:
        shares = np.array(shares)
        shares = shares / shares.sum()
    return options[rng.choice(len(options), p=shares)]


def _maybe(rng: np.random.Generator, chance: float, *ranges: tuple[float, float]) -> tuple | None:
    return tuple(rng.uniform(*r) for r in ranges) if rng.random() < chance else None


def sample_identity(rng: np.random.Generator) -> Identity:
    """A new person.

    The first version of the world drew many attributes from wider ranges. Its draws are still made, so that a seed keeps
    its person, but those redrawn further down are not used (``rng.random(n)`` alone on a line).
    """
    U = rng.uniform
    s = U(0, 5.999)
    r, g, b = mix(SKIN[int(s)], SKIN[int(s) + 1], s - int(s))
    tone = U(-0.03, 0.03)
    skin = (r, g + tone * 0.4, b - tone)
    rng.random(4)
    temple, ear = U(0.8, 0.95), U(0.11, 0.2)
    rng.random(5)
    iris = mix(IRIS[rng.integers(len(IRIS))], IRIS[rng.integers(len(IRIS))], U(0, 0.25))
    rng.random(1)
    lashes = rng.random() < 0.45
    rng.random(3)
    brow_arch = U(0, 0.08)
    rng.random(3)
    nose_type = int(rng.integers(3))
    rng.random(4)
    lip_colour = mix(shade(skin, 0.78), (0.8, 0.25, 0.3), U(0.15, 0.75))
    rng.random(6)
    volume, hairline, parting, length = U(0.08, 0.26), U(0.5, 0.74), U(-0.5, 0.5), U(0.5, 1.3)
    strands = int(rng.integers(1 << 30))
    rng.random(3)
    glasses = _one_of(rng, GLASSES, (0.76, 0.13, 0.11))
    frame = _one_of(rng, FRAMES)
    blush = U(0, 0.5) if rng.random() < 0.5 else 0.0
    if rng.random() < 0.22:
        rng.integers(10, 26)
    _maybe(rng, 0.3, *[(0, 1)] * 3)
    _maybe(rng, 0.15, *[(0, 1)] * 4)
    patch = (U(-0.7, 0.7), U(-0.6, 0.6), U(0.14, 0.28), bool(rng.random() < 0.5)) if rng.random() < 0.1 else None
    earring = _one_of(rng, EARRINGS) if rng.random() < 0.25 else None
    paint = (int(rng.integers(3)), _one_of(rng, FACE_PAINT)) if rng.random() < 0.08 else None
    rng.random(3)

    geometry = {
        name: U(low, high)
        for name, low, high in (
            ("width", 0.92, 1.1),
            ("height", 0.93, 1.07),
            ("jaw", 0.66, 0.92),
            ("chin", 0.3, 0.52),
            ("eye_x", 0.36, 0.47),
            ("eye_width", 0.18, 0.24),
            ("eye_height", 0.105, 0.175),
            ("eye_tilt", -0.25, 0.25),
            ("eye_y", -0.06, 0.05),
            ("iris_size", 0.68, 0.9),
            ("brow_thickness", 0.045, 0.1),
            ("brow_length", 0.19, 0.27),
            ("brow_tilt", -0.3, 0.3),
            ("brow_height", 0.24, 0.31),
            ("nose_width", 0.13, 0.24),
            ("nose_length", 0.3, 0.42),
            ("mouth_width", 0.25, 0.4),
            ("upper_lip", 0.03, 0.075),
            ("lower_lip", 0.05, 0.11),
            ("mouth_y", 0.56, 0.65),
        )
    }
    hair = _one_of(rng, list(HAIRCUTS), list(HAIRCUTS.values()))
    hair_name = _one_of(rng, list(HAIR), [share for _, share in HAIR.values()])
    hair_colour = tuple(float(c) for c in np.clip(np.array(HAIR[hair_name][0]) * U(0.9, 1.1), 0, 1))
    brow_colour = shade(hair_colour, 0.7) if hair_name in NATURAL_BROWS else (0.2, 0.14, 0.1)
    beards = (0.96, 0.02, 0.02) if hair in ("bob", "long", "bun") else (0.6, 0.17, 0.23)
    beard, beard_length = _one_of(rng, ("none", "mustache", "beard"), beards), U(0.05, 0.3)
    freckles = int(rng.integers(10, 20)) if rng.random() < 0.18 else 0
    mole = _maybe(rng, 0.25, (-0.6, 0.6), (0.2, 0.7), (0.045, 0.065))
    scar = _maybe(rng, 0.1, (-0.6, 0.6), (-0.45, 0.5), (-1.2, 1.2), (0.25, 0.4))
    if rng.random() < 0.4:
        patch = None
    return Identity(
        skin=skin, skin_tone=s / 6, temple=temple, ear=ear, iris=iris, lashes=lashes, brow_arch=brow_arch,
        brow_colour=brow_colour, nose_type=nose_type, lip_colour=lip_colour, hair=hair, hair_name=hair_name,
        hair_colour=hair_colour, volume=volume, hairline=hairline, parting=parting, length=length, strands=strands,
        beard=beard, beard_length=beard_length, glasses=glasses, frame=frame, blush=blush, freckles=freckles,
        mole=mole, scar=scar, patch=patch, earring=earring, paint=paint, **geometry,
    )  # fmt: skip
