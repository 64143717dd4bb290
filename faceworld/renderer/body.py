"""Neck, shirt, ears and the head's own shape, with the marks on its skin."""

import math

import numpy as np
import skia

from .canvas import Head, fill, linear, path, radial, spline, stroke
from .identity import Identity
from .palette import mix, shade
from .photo import Photo


def draw_body(canvas, head: Head, person: Identity, photo: Photo) -> None:
    cx, hw, skin, shirt = head.cx, head.hw, person.skin, photo.shirt
    neck = np.array([(-0.38, 0.6), (0.38, 0.6), (0.42, 1.35), (-0.42, 1.35)])
    canvas.drawPath(path(head.flat(neck)), fill(shade(skin, 0.78)))
    y = head.cy + head.hh * 1.22
    P = [
        (cx - hw * 0.46, y), (cx - hw * 1.1, y + 4), (cx - hw * 1.75, y + 11), (cx - hw * 1.95, 125), (cx + hw * 1.95, 125),
        (cx + hw * 1.75, y + 11), (cx + hw * 1.1, y + 4), (cx + hw * 0.46, y), (cx, y + 5),
    ]  # fmt: skip
    side = 30 * np.sign(photo.light)
    shader = linear((cx - side, 0), (cx + side, 0), shade(shirt, 1.1), shade(shirt, 0.7))
    canvas.drawPath(path(spline(P)), fill(shirt, shader=shader))
    for s in (-1, 1):
        x, y = head.flat(np.array([(s * 1.0 - head.sin_yaw * 0.1, 0.02 - head.sin_pitch * 0.2)]))[0]
        rx, ry = hw * person.ear * (1 + 0.5 * s * -head.sin_yaw), head.hh * person.ear * 1.15
        canvas.drawOval(skia.Rect(x - rx, y - ry, x + rx, y + ry), fill(shade(skin, 0.9)))
        canvas.drawOval(skia.Rect(x - rx * 0.5, y - ry * 0.6, x + rx * 0.5, y + ry * 0.6), fill(shade(skin, 0.72)))
        if person.earring is not None and person.hair not in ("bob", "long"):
            canvas.drawCircle(x + s * rx * 0.2, y + ry * 1.05, 1.5, fill(person.earring))


def draw_head(canvas, head: Head, person: Identity, photo: Photo, strands: np.random.Generator) -> None:
    skin, turn = person.skin, head.sin_yaw * 0.1
    right = [
        (0, -1), (person.temple * 0.62, -0.88), (person.temple, -0.5), (1, -0.05), (0.97, 0.25),
        (person.jaw * 0.96 + turn, 0.62), (person.chin + turn, 0.93),
    ]  # fmt: skip
    left = [(-x + 2 * turn * (y > 0.5), y) for x, y in right[1:]][::-1]
    outline = path(head.flat(spline([*right, (turn, 1.0), *left])))
    lit = (head.cx - photo.light * head.hw * 0.8, head.cy - head.hh * 0.25)
    canvas.drawPath(outline, fill(skin, shader=radial(lit, head.hh * 1.75, shade(skin, 1.1), shade(skin, 0.74))))
    canvas.save()
    canvas.clipPath(outline, doAntiAlias=True)
    _skin_marks(canvas, head, person, strands)
    canvas.restore()


def _skin_marks(canvas, head: Head, person: Identity, strands: np.random.Generator) -> None:
    skin = person.skin
    if person.patch:
        x, y, r, light = person.patch
        P = [
            (
                x + r * math.cos(a) * (1 + 0.25 * strands.standard_normal()),
                y + r * 0.9 * math.sin(a) * (1 + 0.25 * strands.standard_normal()),
            )
            for a in np.linspace(0, 6.283, 9, endpoint=False)
        ]
        c = mix(skin, (1, 0.93, 0.86), 0.6) if light else mix(skin, (0.5, 0.12, 0.15), 0.4)
        canvas.drawPath(path(head.surface(spline(P))), fill(c, 0.85))
    if person.blush:
        for s in (-1, 1):
            p = head.surface([(s * 0.56, 0.3)])[0]
            canvas.drawCircle(p[0], p[1], head.hw * 0.24, fill((0.95, 0.3, 0.3), person.blush * 0.7, blur=1.6))
    for _ in range(person.freckles):
        x = strands.choice([-1, 1]) * abs(strands.normal(0.38, 0.19))
        p = head.surface([(x, strands.normal(0.2, 0.1))])[0]
        canvas.drawCircle(p[0], p[1], 0.75, fill(mix(shade(skin, 0.55), (0.45, 0.2, 0.08), 0.4), 0.85))
    if person.paint:
        pattern, c = person.paint
        for s in (-1, 1):
            if pattern == 0:
                P = [(s * 0.36, 0.24), (s * 0.78, 0.18), (s * 0.78, 0.27), (s * 0.36, 0.33)]
                canvas.drawPath(path(head.surface(P)), fill(c, 0.9))
            elif pattern == 1:
                for q in (0, 0.12):
                    P = [(s * 0.4, 0.26 + q), (s * 0.74, 0.22 + q), (s * 0.74, 0.27 + q), (s * 0.4, 0.31 + q)]
                    canvas.drawPath(path(head.surface(P)), fill(c, 0.9))
            else:
                p = head.surface([(s * 0.55, 0.3)])[0]
                canvas.drawCircle(p[0], p[1], head.hw * 0.11, fill(c, 0.95))
    if person.beard == "beard":
        my = person.mouth_y
        P = [
            (-1.02, 0.02), (-0.86, 0.35), (-0.5, my - 0.17), (0, my - 0.16), (0.5, my - 0.17), (0.86, 0.35), (1.02, 0.02),
            (1.05, 0.9), (0, 1.3), (-1.05, 0.9),
        ]  # fmt: skip
        canvas.drawPath(path(head.surface(spline(P), amount=0.6)), fill(shade(person.hair_colour, 0.8)))


def draw_late_marks(canvas, head: Head, person: Identity) -> None:
    """Mole and scar: over the eyes and the beard."""
    skin = person.skin
    if person.mole:
        p = head.surface([person.mole[:2]])[0]
        c = mix(shade(skin, 0.35), (0.2, 0.08, 0.04), 0.5)
        canvas.drawCircle(p[0], p[1], head.hw * person.mole[2] * 1.25, fill(c))
    if person.scar:
        x, y, angle, length = person.scar
        dx, dy = math.cos(angle) * length * 0.5, math.sin(angle) * length * 0.5
        c = mix(skin, (0.65, 0.15, 0.2), 0.55)
        canvas.drawPath(path(head.surface([(x - dx, y - dy), (x, y + 0.02), (x + dx, y + dy)]), False), stroke(c, 1.1))
        for q in (-0.5, 0.5):
            P = [
                (x + dx * q - dy * 0.22, y + dy * q + dx * 0.22),
                (x + dx * q + dy * 0.22, y + dy * q - dx * 0.22),
            ]
            canvas.drawPath(path(head.surface(P), False), stroke(c, 0.8))
