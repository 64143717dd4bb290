"""Haircuts: the part behind the head and the part before it."""

import math

import numpy as np

from .canvas import Head, circle, fill, linear, path, radial, spline, stroke
from .identity import Identity
from .palette import mix, shade
from .photo import Photo


def _tones(person: Identity):
    """(dark, plain, light) of the hair's colour."""
    c = person.hair_colour
    return shade(c, 0.68), c, mix(c, (1, 1, 1), 0.22)


def _shine(head: Head, person: Identity, photo: Photo):
    dark, _, light = _tones(person)
    side = 1 if photo.light < 0 else -1
    start = (head.cx - head.hw * 0.6 * side, head.cy - head.hh * 1.2)
    return linear(start, (head.cx + head.hw * 0.6 * side, head.cy + head.hh), light, dark)


def draw_back(canvas, head: Head, person: Identity, photo: Photo, strands: np.random.Generator) -> None:
    v, hair = person.volume, person.hair
    dark, plain, light = _tones(person)
    if hair in ("bob", "long"):
        L = 0.62 + 0.25 * person.length if hair == "bob" else 0.9 + 0.6 * person.length
        w, low = 1.08 + v * 0.9, 1.08 if hair == "bob" else 1.1
        P = [
            (0, -1 - v), (0.6, -0.93 - v * 0.8), (w * 0.97, -0.5), (w * 1.06, 0.1), (w * low, L * 0.7), (w * 0.95, L),
            (0.4, L * 0.98), (-0.4, L * 0.98), (-w * 0.95, L), (-w * low, L * 0.7), (-w * 1.06, 0.1), (-w * 0.97, -0.5),
            (-0.6, -0.93 - v * 0.8),
        ]  # fmt: skip
        shader = linear((0, head.cy - head.hh), (0, head.cy + head.hh * L), shade(plain, 0.85), shade(plain, 0.55))
        canvas.drawPath(path(head.behind(spline(P, steps=10))), fill(dark, shader=shader))
    elif hair == "afro":
        r = 1.18 + v * 1.6
        P = [
            (
                r * math.cos(a) * (1 + 0.03 * strands.standard_normal()),
                -0.32 + r * 0.92 * math.sin(a) * (1 + 0.03 * strands.standard_normal()),
            )
            for a in np.linspace(0, 2 * np.pi, 26, endpoint=False)
        ]
        shader = radial((head.cx - 6 * photo.light, head.cy - head.hh * 0.8), head.hw * 1.9, light, dark)
        canvas.drawPath(path(head.behind(spline(P, steps=4))), fill(plain, shader=shader))
    elif hair == "bun":
        P = circle(0.0, -1.22 - v, 0.36 * (1 + v), 0.27 * (1 + v), 12)
        canvas.drawPath(path(head.behind(spline(P), 0.2)), fill(plain, shader=_shine(head, person, photo)))


def _cap(person: Identity, v: float, side: float = 0.0, drop: float = -0.05) -> np.ndarray:
    """Outline of hair that covers the skull down to the hairline."""
    line = -person.hairline
    outer = [
        (-1.04, drop), (-1.07, -0.42), (-0.72, -0.9 - v * 0.6), (0, -1 - v), (0.72, -0.9 - v * 0.6), (1.07, -0.42),
        (1.04, drop),
    ]  # fmt: skip
    inner = [
        (0.93, drop), (0.86, -0.42), (0.5 + side * 0.2, line - 0.04 + 0.1 * side), (side * 0.6, line - 0.08 * (side != 0)),
        (-0.5 + side * 0.2, line - 0.04 - 0.1 * side), (-0.86, -0.42), (-0.93, drop),
    ]  # fmt: skip
    return np.concatenate([spline(outer, False), spline(inner, False)])


def draw_front(canvas, head: Head, person: Identity, photo: Photo, strands: np.random.Generator) -> None:
    v, hair, line, part = person.volume, person.hair, -person.hairline, person.parting
    dark, plain, light = _tones(person)
    shine = fill(plain, shader=_shine(head, person, photo))
    if hair in ("short", "bob", "long"):
        drop = {"short": -0.1, "bob": 0.25, "long": 0.4}[hair]
        canvas.drawPath(path(head.before(_cap(person, v, part, drop), 0.06)), shine)
        for k in range(3):
            q = strands.uniform(-0.6, 0.6)
            P = spline([(q * 0.5 + part * 0.3, -1 - v * 0.7), (q, -0.93 - v * 0.1), (q * 1.25, line - 0.06)], False)
            canvas.drawPath(path(head.before(P, 0.06), False), stroke(dark if k else light, 0.9, 0.55))
    elif hair == "quiff":
        canvas.drawPath(path(head.before(_cap(person, 0.05, 0, -0.12), 0.05)), fill(dark))
        s = 1 if part > 0 else -1
        P = [
            (-0.85 * s, -0.62), (-0.7 * s, -1.05), (-0.1 * s, -1.22 - v), (0.6 * s, -1.28 - v * 1.3), (0.95 * s, -1.0),
            (0.78 * s, -0.68), (0.2 * s, -0.68), (-0.4 * s, -0.62),
        ]  # fmt: skip
        canvas.drawPath(path(head.before(spline(P), 0.1)), shine)
    elif hair == "spiky":
        spikes = int(6 + strands.integers(4))
        P = [(-1.04, -0.1)]
        for i, x in enumerate(np.linspace(-1.02, 1.02, spikes * 2 + 1)):
            r = 1.0 + (v * 1.7 + 0.08 if i % 2 else 0.0)
            P.append((1.06 * r * math.sin(x * 1.35), -r * math.cos(x * 1.2)))
        P += [(1.04, -0.1), (0.86, -0.42)]
        P += [(x, line + (0.1 if i % 2 else -0.06)) for i, x in enumerate(np.linspace(0.65, -0.65, 7))]
        canvas.drawPath(path(head.before([*P, (-0.86, -0.42)], 0.06)), shine)
    elif hair == "afro":
        canvas.drawPath(path(head.before(_cap(person, v * 0.5, 0, -0.15), 0.05)), shine)
        for _ in range(12):
            a, r = np.pi * (1 + strands.uniform(0.02, 0.98)), strands.uniform(0.8, 1.02 + v)
            p = head.before([(r * 1.03 * math.cos(a), r * 1.03 * math.sin(a) - 0.06)], 0.06)[0]
            if p[1] > head.cy + head.hh * (line + 0.12) and abs(p[0] - head.cx) < head.hw * 0.8:
                continue
            radius = head.hw * strands.uniform(0.14, 0.24)
            canvas.drawCircle(p[0], p[1], radius, fill(mix(dark, light, strands.uniform(0.1, 0.9))))
    elif hair == "bun":
        canvas.drawPath(path(head.before(_cap(person, v * 0.6, 0, 0.0), 0.05)), shine)
    elif hair == "mohawk":
        canvas.drawPath(path(head.before(_cap(person, 0.02, 0, -0.15), 0.03)), fill(dark, 0.35))
        P = [
            (-0.26, line + 0.02), (-0.3, -1.0), (-0.22, -1.35 - v), (0, -1.5 - v * 1.4), (0.22, -1.35 - v), (0.3, -1.0),
            (0.26, line + 0.02), (0, line + 0.1),
        ]  # fmt: skip
        canvas.drawPath(path(head.before(spline(P), 0.12)), shine)
    elif hair == "bowl":
        y = -0.36 - 0.1 * person.hairline
        outer = [
            (-1.1, 0.05), (-1.14, -0.5), (-0.7, -1 - v * 0.7), (0, -1.08 - v), (0.7, -1 - v * 0.7), (1.14, -0.5), (1.1, 0.05),
        ]  # fmt: skip
        inner = [
            (0.92, 0.05), (0.86, y), (0.4, y + 0.06), (0, y + 0.02), (-0.4, y + 0.06), (-0.86, y), (-0.92, 0.05),
        ]  # fmt: skip
        canvas.drawPath(path(head.before(np.concatenate([spline(outer, False), spline(inner, False)]), 0.06)), shine)
