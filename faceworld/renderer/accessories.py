"""Glasses, which belong to a person, and the accessories that a prompt asks for."""

import numpy as np
import skia

from .canvas import Head, fill, linear, path, spline, stroke
from .identity import Identity
from .palette import from_hex


def draw_glasses(canvas, head: Head, person: Identity) -> None:
    hw = head.hw
    lenses = head.surface([(s * person.eye_x, person.eye_y + 0.02) for s in (-1, 1)], 0.12)
    corner = 1 if person.glasses == "round" else 0.25
    for x, y in lenses:
        r = hw * 0.3
        rect = skia.Rect(x - r, y - r * 0.85, x + r, y + r * 0.85)
        for paint in (fill((0.8, 0.9, 1), 0.18), stroke(person.frame, 1.5)):
            canvas.drawRoundRect(rect, r * corner, r * corner, paint)
    (x0, y0), (x1, y1) = lenses
    canvas.drawLine(x0 + hw * 0.3, y0, x1 - hw * 0.3, y1, stroke(person.frame, 1.4))


def draw_accessory(canvas, head: Head, person: Identity, accessory: str) -> None:
    if accessory == "sunglasses":
        _sunglasses(canvas, head, person)
    elif accessory != "none":
        x, y = head.before([(0, -0.78)], 0.12)[0]
        {"red hat": _red_hat, "santa hat": _santa_hat, "crown": _crown}[accessory](canvas, head, x, y)


def _sunglasses(canvas, head: Head, person: Identity) -> None:
    hw = head.hw
    lenses = head.surface([(s * 0.42, person.eye_y + 0.03) for s in (-1, 1)], 0.12)
    for x, y in lenses:
        r = hw * 0.37
        P = [
            (x - r, y - r * 0.6), (x, y - r * 0.68), (x + r, y - r * 0.6), (x + r * 0.8, y + r * 0.55), (x, y + r * 0.8),
            (x - r * 0.8, y + r * 0.55),
        ]  # fmt: skip
        shader = linear((0, y - r), (0, y + r), (0.03, 0.03, 0.06), (0.3, 0.3, 0.38))
        canvas.drawPath(path(spline(P)), fill((0.05, 0.05, 0.08), shader=shader))
        canvas.drawLine(x - r * 0.5, y - r * 0.3, x - r * 0.1, y - r * 0.5, stroke((1, 1, 1), 1.0, 0.7))
    (x0, y0), (x1, y1) = lenses
    bridge = stroke((0.05, 0.05, 0.08), 1.7)
    canvas.drawLine(x0 + hw * 0.3, y0 - hw * 0.15, x1 - hw * 0.3, y1 - hw * 0.15, bridge)


def _red_hat(canvas, head: Head, x: float, y: float) -> None:
    hw, hh = head.hw, head.hh
    P = [
        (x - hw * 0.85, y), (x - hw * 0.78, y - hh * 0.55), (x - hw * 0.2, y - hh * 0.66), (x + hw * 0.5, y - hh * 0.64),
        (x + hw * 0.8, y - hh * 0.5), (x + hw * 0.85, y),
    ]  # fmt: skip
    shader = linear((x - hw, 0), (x + hw, 0), from_hex("e8444a"), from_hex("a31c26"))
    canvas.drawPath(path(spline(P)), fill(from_hex("d02c34"), shader=shader))
    band = [
        (x - hw * 0.86, y - hh * 0.14), (x + hw * 0.86, y - hh * 0.14), (x + hw * 0.88, y + 0.5), (x - hw * 0.88, y + 0.5),
    ]  # fmt: skip
    canvas.drawPath(path(band), fill(from_hex("2b2b38")))
    brim = skia.Rect(x - hw * 1.5, y - hh * 0.07, x + hw * 1.5, y + hh * 0.12)
    canvas.drawOval(brim, fill(from_hex("c0262f")))


def _santa_hat(canvas, head: Head, x: float, y: float) -> None:
    hw, hh = head.hw, head.hh
    P = [
        (x - hw * 1.02, y + 1), (x - hw * 0.85, y - hh * 0.5), (x, y - hh * 0.85), (x + hw * 0.8, y - hh * 0.7),
        (x + hw * 1.35, y - hh * 0.1), (x + hw * 1.2, y - hh * 0.08), (x + hw * 0.95, y - hh * 0.3), (x + hw * 1.02, y + 1),
    ]  # fmt: skip
    canvas.drawPath(path(spline(P, steps=5)), fill(from_hex("d3242e")))
    white = fill((0.98, 0.98, 1))
    canvas.drawRoundRect(skia.Rect(x - hw * 1.15, y - hh * 0.1, x + hw * 1.15, y + hh * 0.13), 4, 4, white)
    canvas.drawCircle(x + hw * 1.28, y - hh * 0.02, hw * 0.22, white)


def _crown(canvas, head: Head, x: float, y: float) -> None:
    hw, hh = head.hw, head.hh
    points = [(-0.85, 0), (-0.95, -0.5), (-0.5, -0.22), (0, -0.62), (0.5, -0.22), (0.95, -0.5), (0.85, 0)]
    shader = linear((x - hw, 0), (x + hw, 0), from_hex("fbe17a"), from_hex("d79a1b"))
    canvas.drawPath(
        path(np.array([(x + a * hw, y + b * hh) for a, b in points])), fill(from_hex("f3c32f"), shader=shader)
    )
    for a, b, code in ((-0.5, -0.1, "d8343c"), (0, -0.12, "3a7bd5"), (0.5, -0.1, "d8343c")):
        canvas.drawCircle(x + a * hw, y + b * hh, 1.6, fill(from_hex(code)))
