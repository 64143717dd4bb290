"""What changes from photo to photo: pose, light, gaze, expression, clothes."""

import colorsys
from dataclasses import dataclass

import numpy as np

from .palette import Colour


@dataclass(frozen=True)
class Photo:
    yaw: float  # radians, to the right
    pitch: float
    roll: float
    scale: float
    dx: float  # hundredths of the picture
    dy: float
    light: float  # -1 from the right .. 1 from the left
    tint: tuple[float, float, float]
    gaze: tuple[float, float]
    shirt: Colour
    smile: float
    open: float
    brow: float
    lid: float  # 0 closed, 1 open
    round_mouth: bool
    seed: int  # of the background


def sample_photo(rng: np.random.Generator, expression: str = "neutral") -> Photo:
    """A new photo; as in ``sample_identity``, draws of the world's first version are made and not used."""
    U = rng.uniform
    for _ in range(3):
        rng.normal()
    rng.random(3)
    light = U(-1, 1)
    rng.random(5)
    seed = int(rng.integers(1 << 30))
    rng.random(3)
    smile, opened, brow, lid = U(-0.15, 0.5), max(0.0, U(-0.3, 0.35)), U(-0.15, 0.15), U(0.85, 1.05)
    if expression == "smiling":
        smile, opened = U(0.75, 1.0), U(0.25, 0.6)
    elif expression == "surprised":
        smile, opened, brow, lid = 0.0, U(0.9, 1.2), 0.5, 1.25
    elif expression == "sleeping":
        smile, opened, lid = U(0, 0.3), 0.0, 0.0
    yaw, pitch, roll = (
        float(np.clip(rng.normal(0, spread), -limit, limit))
        for spread, limit in ((0.1, 0.22), (0.05, 0.1), (0.03, 0.06))
    )
    scale, dx, dy = U(1.0, 1.06), U(-1, 1), U(0, 2)
    gaze = U(-0.15, 0.15), U(-0.1, 0.1)
    tint = U(-0.03, 0.03), U(-0.02, 0.02), U(-0.03, 0.03)
    shirt = colorsys.hsv_to_rgb(U(0, 1), U(0.45, 0.75), U(0.45, 0.9))
    if expression == "neutral":
        smile, opened = U(-0.1, 0.3), 0.0
    return Photo(
        yaw, pitch, roll, scale, dx, dy, light, tint, gaze, shirt, smile, opened, brow, lid, expression == "surprised",
        seed,
    )  # fmt: skip
