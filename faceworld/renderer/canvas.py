"""Smooth outlines, paints and gradients on a skia canvas of 100 x 100 units; and the head's coordinates on it."""

import math

import numpy as np
import skia

from .identity import Identity
from .palette import Colour
from .photo import Photo


def spline(points, closed: bool = True, steps: int = 8) -> np.ndarray:
    """Catmull-Rom curve through points (n, 2) -> (m, 2)."""
    P = np.asarray(points, float)
    ends = (P[-1:], P[:2]) if closed else (2 * P[:1] - P[1:2], 2 * P[-1:] - P[-2:-1])
    Q = np.concatenate([ends[0], P, ends[1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    out = []
    for i in range(len(P) if closed else len(P) - 1):
        a, b, c, d = Q[i : i + 4]
        out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    if not closed:
        out.append(P[-1:])
    return np.concatenate(out)


def circle(x: float, y: float, rx: float, ry: float, count: int) -> list[tuple[float, float]]:
    angles = np.linspace(0, 6.283, count, endpoint=False)
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def path(points, closed: bool = True) -> skia.Path:
    builder = skia.PathBuilder()
    builder.addPolygon([skia.Point(float(x), float(y)) for x, y in points], closed)
    return builder.detach()


def colour(c: Colour, alpha: float = 1.0) -> int:
    return skia.Color4f(*(float(np.clip(v, 0, 1)) for v in (*c, alpha))).toColor()


def fill(c: Colour, alpha: float = 1.0, shader=None, blur: float = 0) -> skia.Paint:
    paint = skia.Paint(AntiAlias=True, Color=colour(c, alpha))
    if shader is not None:
        paint.setShader(shader)
    if blur:
        paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
    return paint


def stroke(c: Colour, width: float, alpha: float = 1.0, blur: float = 0) -> skia.Paint:
    paint = skia.Paint(
        AntiAlias=True,
        Color=colour(c, alpha),
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=width,
        StrokeCap=skia.Paint.kRound_Cap,
        StrokeJoin=skia.Paint.kRound_Join,
    )
    if blur:
        paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
    return paint


def linear(start, end, *colours: Colour):
    return skia.GradientShader.MakeLinear([skia.Point(*start), skia.Point(*end)], [colour(c) for c in colours])


def radial(centre, radius: float, inner: Colour, outer: Colour):
    return skia.GradientShader.MakeRadial(
        skia.Point(*map(float, centre)), float(radius), [colour(inner), colour(outer)]
    )


class Head:
    """Where a head of this size and pose is: face coordinates (-1..1, y down) -> canvas units."""

    def __init__(self, person: Identity, photo: Photo):
        self.hw, self.hh = 24.5 * person.width, 31 * person.height
        self.cx, self.cy = 50 + photo.dx, 50 + photo.dy
        self.cos_yaw, self.sin_yaw = math.cos(photo.yaw), math.sin(photo.yaw)
        self.cos_pitch, self.sin_pitch = math.cos(photo.pitch), math.sin(photo.pitch)

    def surface(self, points, depth: float = 0.0, amount: float = 1.0) -> np.ndarray:
        """Points on the rounded face, which turns with the head; ``depth`` lifts them towards the viewer."""
        P = np.atleast_2d(np.asarray(points, float))
        x, y = P[:, 0], P[:, 1]
        z = np.sqrt(np.clip(1 - 0.8 * x * x - 0.55 * y * y, 0.0, 1)) * 0.85 + depth
        X = x * (1 + (self.cos_yaw - 1) * amount) + z * self.sin_yaw * amount * 0.9
        Y = y * (1 + (self.cos_pitch - 1) * amount) + z * self.sin_pitch * amount * 0.7
        return np.stack([self.cx + self.hw * X, self.cy + self.hh * Y], 1)

    def flat(self, points) -> np.ndarray:
        """Points of the silhouette, which does not turn."""
        P = np.asarray(points)
        return np.stack([self.cx + self.hw * P[:, 0], self.cy + self.hh * P[:, 1]], 1)

    def behind(self, points, amount: float = 0.12) -> np.ndarray:
        """Points behind the head: they move against the turn."""
        return self.flat(np.asarray(points) + np.array([[-self.sin_yaw * amount, -self.sin_pitch * amount]]))

    def before(self, points, amount: float = 0.25) -> np.ndarray:
        """Points in front of the silhouette: they move with the turn."""
        return self.flat(np.asarray(points) + np.array([[self.sin_yaw * amount, self.sin_pitch * amount]]))
