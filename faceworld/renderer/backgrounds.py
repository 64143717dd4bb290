"""The five contexts, behind everything else."""

import numpy as np
import skia

from .canvas import fill, linear, path, radial
from .palette import BACKGROUNDS, from_hex, shade


def draw_background(canvas, context: str, background: str, rng: np.random.Generator) -> None:
    {"plain": _plain, "beach": _beach, "night sky": _night_sky, "forest": _forest, "sunset": _sunset}[context](
        canvas, background, rng.uniform
    )


def _whole(canvas, *colours: str, bottom: float = 100) -> None:
    shader = linear((0, 0), (0, bottom), *map(from_hex, colours))
    canvas.drawRect(skia.Rect(0, 0, 100, 100), fill((0, 0, 0), shader=shader))


def _plain(canvas, background, U) -> None:
    c = shade(BACKGROUNDS[background], U(0.92, 1.05))
    canvas.drawRect(skia.Rect(0, 0, 100, 100), fill(c, shader=radial((50, 40), 80, shade(c, 1.1), shade(c, 0.82))))


def _beach(canvas, _background, U) -> None:
    horizon = U(52, 57)
    _whole(canvas, "6fc3f2", "d6f1fb", bottom=horizon)
    sea = linear((0, horizon), (0, horizon + 18), from_hex("1f7fb8"), from_hex("5fd0d8"))
    canvas.drawRect(skia.Rect(0, horizon, 100, horizon + 18), fill(from_hex("2a9cc4"), shader=sea))
    canvas.drawRect(skia.Rect(0, horizon + 16, 100, 100), fill(from_hex("f0d79a")))
    canvas.drawCircle(14 if U(0, 1) < 0.5 else 86, 16, 8, fill(from_hex("fff0a0")))


def _night_sky(canvas, _background, U) -> None:
    _whole(canvas, "0b1038", "3a2f6b")
    for _ in range(12):
        canvas.drawCircle(U(0, 100), U(0, 75), U(0.8, 1.4), fill(from_hex("fff7d8")))
    x = 13 if U(0, 1) < 0.5 else 87
    canvas.drawCircle(x, 17, 9, fill(from_hex("fdf3c0")))
    canvas.drawCircle(x + 4.5, 14.5, 7.6, fill(from_hex("11163f")))


def _forest(canvas, _background, U) -> None:
    _whole(canvas, "d6efc0", "7fb56f")
    for i, x in enumerate((4, 20, 80, 96, 12, 88)):
        x += U(-2, 2)
        near = i < 4
        height = U(50, 66) if near else U(34, 42)
        green = from_hex("2f7a45" if near else "1f5a34")
        for k in range(3):
            y, half = 92 - height + k * height * 0.27, 12 * (0.6 + 0.25 * k)
            canvas.drawPath(path([(x, y - 12), (x - half, y + 16), (x + half, y + 16)]), fill(green))
    canvas.drawRect(skia.Rect(0, 90, 100, 100), fill(from_hex("3f7040")))


def _sunset(canvas, _background, U) -> None:
    _whole(canvas, "4b2a6b", "e0567a", "fbb04c", "fde79a")
    canvas.drawCircle(16 if U(0, 1) < 0.5 else 84, 56, 11, fill(from_hex("fff3b0")))
    hills = [(0, 82), (20, 76), (45, 80), (75, 75), (100, 80), (100, 100), (0, 100)]
    canvas.drawPath(path(hills), fill(from_hex("4a2350")))
