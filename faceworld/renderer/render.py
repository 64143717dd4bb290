"""One picture of one person."""

import math
from dataclasses import dataclass

import numpy as np
import skia

from .accessories import draw_accessory, draw_glasses
from .backgrounds import draw_background
from .body import draw_body, draw_head, draw_late_marks
from .canvas import Head
from .features import draw_beard, draw_eyes, draw_mouth, draw_nose
from .hair import draw_back, draw_front
from .identity import Identity
from .photo import Photo
from .styles import stylize

SIZE = 128
AMBIENT = {"night sky": (0.78, 0.8, 1.0), "sunset": (1.06, 0.92, 0.86)}


@dataclass(frozen=True)
class Scene:
    """What a prompt can ask for; ``background`` is the colour of the plain context."""

    style: str = "photo"
    context: str = "plain"
    accessory: str = "none"
    expression: str = "neutral"
    background: str = "gray"


def render(person: Identity, photo: Photo, scene: Scene) -> np.ndarray:
    """(128, 128, 3) uint8."""
    surface = skia.Surface(SIZE, SIZE)
    canvas = surface.getCanvas()
    canvas.scale(SIZE / 100, SIZE / 100)
    draw_background(canvas, scene.context, scene.background, np.random.default_rng(photo.seed))
    head, strands = Head(person, photo), np.random.default_rng(person.strands)
    canvas.save()
    canvas.rotate(math.degrees(photo.roll), head.cx, head.cy + head.hh)
    canvas.translate(50, 60)
    canvas.scale(photo.scale, photo.scale)
    canvas.translate(-50, -60)
    draw_back(canvas, head, person, photo, strands)
    draw_body(canvas, head, person, photo)
    draw_head(canvas, head, person, photo, strands)
    draw_beard(canvas, head, person)
    draw_mouth(canvas, head, person, photo)
    draw_nose(canvas, head, person, photo)
    draw_eyes(canvas, head, person, photo)
    draw_late_marks(canvas, head, person)
    draw_front(canvas, head, person, photo, strands)
    if person.glasses != "none" and scene.accessory != "sunglasses":
        draw_glasses(canvas, head, person)
    draw_accessory(canvas, head, person, scene.accessory)
    canvas.restore()
    picture = surface.makeImageSnapshot().toarray(colorType=skia.kRGB_888x_ColorType)[:, :, :3].astype(np.float32) / 255
    light = np.array(AMBIENT.get(scene.context, (1, 1, 1)))
    picture = np.clip(picture * light * (1 + np.array(photo.tint)), 0, 1)
    return (stylize(picture, scene.style) * 255 + 0.5).astype(np.uint8)
