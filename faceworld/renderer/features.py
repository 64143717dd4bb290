"""Beard, mouth, nose, eyes and brows."""

import math

import numpy as np
import skia

from .canvas import Head, fill, linear, path, radial, spline, stroke
from .identity import Identity
from .palette import mix, shade
from .photo import Photo


def draw_beard(canvas, head: Head, person: Identity) -> None:
    if person.beard != "beard":
        return
    j, ch, my, length = person.jaw, person.chin, person.mouth_y, person.beard_length
    P = [
        (-0.96, 0.34), (-j * 0.98, 0.62), (-ch * 1.2, 0.98 + length * 0.5), (0, 1.02 + length),
        (ch * 1.2, 0.98 + length * 0.5), (j * 0.98, 0.62), (0.96, 0.34), (0.78, 0.5), (0.5, my), (0, my - 0.02),
        (-0.5, my), (-0.78, 0.5),
    ]  # fmt: skip
    c = shade(person.hair_colour, 0.8)
    shader = linear((0, head.cy), (0, head.cy + head.hh * (1 + length)), c, shade(c, 0.7))
    shift = np.array([[head.sin_yaw * 0.1 * head.hw, 0]])
    canvas.drawPath(path(head.flat(spline(P)) + shift), fill(c, shader=shader))


def draw_mouth(canvas, head: Head, person: Identity, photo: Photo) -> None:
    my, opened = person.mouth_y, photo.open * 0.14
    width = person.mouth_width * (1 + 0.25 * max(0, photo.smile))
    if photo.round_mouth:
        width *= 0.62
        opened *= 1.15
    x, smile = np.linspace(-1, 1, 9), photo.smile * 0.12
    curve = -smile * (x**2) + smile * 0.35
    top, bottom = my + curve - opened * 0.35 * (1 - x**2), my + curve + opened * (1 - x**2)
    between = lambda upper, lower, w: np.concatenate([np.stack([w, upper], 1), np.stack([w, lower], 1)[::-1]])  # noqa: E731
    if opened > 0.02:
        hole = path(head.surface(between(top, bottom, x * width), 0.05))
        canvas.drawPath(hole, fill((0.35, 0.08, 0.1)))
        canvas.save()
        canvas.clipPath(hole, doAntiAlias=True)
        teeth = between(top - 0.02, top + min(0.06, opened * 0.6), x * width * 0.9)
        canvas.drawPath(path(head.surface(teeth, 0.05)), fill((0.98, 0.97, 0.95)))
        tongue = head.surface([(0, my + opened * 0.95)], 0.05)[0]
        canvas.drawCircle(tongue[0], tongue[1], head.hw * width * 0.5, fill((0.85, 0.35, 0.38)))
        canvas.restore()
    bow = top - person.upper_lip * (1 - x**2) * (1 - 0.35 * np.exp(-((x / 0.18) ** 2))) - 0.006
    canvas.drawPath(path(head.surface(between(top, bow, x * width), 0.07)), fill(shade(person.lip_colour, 0.88)))
    lower = bottom + person.lower_lip * (1 - x**2) + 0.006
    canvas.drawPath(path(head.surface(between(bottom, lower, x * width * 0.94), 0.07)), fill(person.lip_colour))
    if opened <= 0.02:
        line = head.surface(np.stack([x * width, top], 1), 0.07)
        canvas.drawPath(path(line, False), stroke(shade(person.lip_colour, 0.5), 0.8))
    if person.beard in ("mustache", "beard"):
        length = person.beard_length
        m, tip = 0.3 + length * 0.35, my - 0.02 + length * 0.1
        P = [
            (0, my - 0.15), (m * 0.6, my - 0.14), (m, tip), (m * 0.55, my - 0.045), (0, my - 0.06), (-m * 0.55, my - 0.045),
            (-m, tip), (-m * 0.6, my - 0.14),
        ]  # fmt: skip
        c = shade(shade(person.hair_colour, 0.8), 0.92)
        canvas.drawPath(path(head.surface(spline(P), 0.1)), fill(c))


def draw_nose(canvas, head: Head, person: Identity, photo: Photo) -> None:
    hw, hh, skin, w = head.hw, head.hh, person.skin, person.nose_width
    tip = head.surface([(0, person.eye_y + person.nose_length)], 0.22)[0]
    side = 1 if photo.light > 0 else -1
    bridge = head.surface([(side * 0.07, person.eye_y - 0.02)], 0.02)[0]
    if person.nose_type == 0:
        P = [
            bridge,
            [0.45 * bridge[0] + 0.55 * tip[0] + side * hw * w * 0.35, 0.4 * bridge[1] + 0.6 * tip[1]],
            [tip[0] + side * hw * w, tip[1] - hh * 0.02],
            [tip[0] + side * hw * w * 0.6, tip[1] + hh * 0.05],
            [tip[0] - side * hw * w * 0.5, tip[1] + hh * 0.05],
        ]
        canvas.drawPath(path(spline(P, False), False), stroke(shade(skin, 0.66), 1.15, 0.9))
    elif person.nose_type == 1:
        r = hw * w * 0.95
        lit = (tip[0] - photo.light * r * 0.5, tip[1] - r * 0.3)
        shader = radial(lit, r * 1.5, mix(skin, (1, 0.7, 0.6), 0.25), shade(skin, 0.68))
        oval = skia.Rect(tip[0] - r, tip[1] - r * 0.75, tip[0] + r, tip[1] + r * 0.85)
        canvas.drawOval(oval, fill(shade(skin, 0.84), shader=shader))
    else:
        P = [
            bridge,
            [tip[0] + side * hw * w * 1.1, tip[1] + hh * 0.02],
            [tip[0] - side * hw * w * 0.3, tip[1] + hh * 0.055],
            [tip[0] - side * hw * 0.02, tip[1] - hh * 0.1],
        ]
        canvas.drawPath(path(P), fill(shade(skin, 0.74), 0.9))
    if person.nose_type != 2:
        for s in (-1, 1):
            x, y = tip[0] + s * hw * w * 0.42, tip[1] + hh * 0.042
            canvas.drawCircle(x, y, 0.75, fill(shade(skin, 0.42), 0.8))


def draw_eyes(canvas, head: Head, person: Identity, photo: Photo) -> None:
    for s in (-1, 1):
        _eye(canvas, head, person, photo, s)
        if photo.lid > 0.05:  # with eyes closed, brows are not drawn either
            _brow(canvas, head, person, photo, s)


def _eye(canvas, head: Head, person: Identity, photo: Photo, s: int) -> None:
    hw, hh = head.hw, head.hh
    ex, ey, w, h = s * person.eye_x, person.eye_y, person.eye_width, person.eye_height * photo.lid
    cos, sin = math.cos(person.eye_tilt * 0.6), -s * math.sin(person.eye_tilt * 0.6)

    def around(points) -> np.ndarray:
        """Eye coordinates, tilted -> canvas units."""
        P = np.asarray(points)
        return head.surface(np.stack([ex + P[:, 0] * cos, ey + P[:, 1] + P[:, 0] * sin * (hw / hh)], 1), 0.02)

    x, y = around([(0, 0)])[0]
    socket = skia.Rect(x - hw * w * 1.25, y - hh * 0.16, x + hw * w * 1.25, y + hh * 0.1)
    canvas.drawOval(socket, fill(shade(person.skin, 0.62), 0.3, blur=1.3))
    t = np.linspace(-1, 1, 11)
    if photo.lid <= 0.05:
        canvas.drawPath(path(around(np.stack([t * w, 0.05 * (1 - t**2)], 1)), False), stroke((0.13, 0.08, 0.08), 1.5))
        return
    lid = 1 - np.abs(t) ** 2.2
    upper = np.stack([t * w, -h * lid], 1)
    white = path(around(np.concatenate([upper, np.stack([t * w, h * 0.8 * lid], 1)[::-1]])))
    canvas.drawPath(white, fill((0.97, 0.96, 0.94)))
    canvas.save()
    canvas.clipPath(white, doAntiAlias=True)
    x, y = around([(photo.gaze[0] * w * 0.7, photo.gaze[1] * h * 0.5)])[0]
    r = hh * person.eye_height * person.iris_size * 1.02
    shader = radial((x, y + r * 0.4), r * 1.3, mix(person.iris, (1, 1, 1), 0.25), shade(person.iris, 0.75))
    canvas.drawCircle(x, y, r, fill(person.iris, shader=shader))
    canvas.drawCircle(x, y, r * 0.48, fill((0.03, 0.03, 0.05)))
    canvas.drawPath(path(around(np.stack([t * w, -h * lid + 0.012], 1)), False), stroke((0, 0, 0), 1.6, 0.3))
    canvas.restore()
    glint = x - r * 0.3 * (1 if photo.light > 0 else -1)
    canvas.drawCircle(glint, y - r * 0.38, max(0.55, r * 0.26), fill((1, 1, 1), 0.95))
    line = (0.12, 0.07, 0.07)
    canvas.drawPath(path(around(np.stack([t * w * 1.04, -h * lid], 1)), False), stroke(line, 0.9 + 0.6 * person.lashes))
    if person.lashes:
        lash = around([(s * w * 0.85, -h * 0.35), (s * w * 1.35, -h * 0.95)])
        canvas.drawPath(path(lash, False), stroke(line, 1.0))


def _brow(canvas, head: Head, person: Identity, photo: Photo, s: int) -> None:
    ex, half, length = s * person.eye_x, person.brow_thickness, person.brow_length
    y = person.eye_y - person.brow_height - photo.brow * 0.12 - 0.02
    X = np.linspace(-1, 1, 7)
    Y = y - s * X * length * (person.brow_tilt * 0.35) - person.brow_arch * (1 - X**2)
    taper = half * 0.5 * (1 - 0.55 * np.maximum(0, s * X))
    P = np.concatenate([np.stack([ex + X * length, Y - taper], 1), np.stack([ex + X * length, Y + taper], 1)[::-1]])
    canvas.drawPath(path(head.surface(P, 0.04)), fill(person.brow_colour))
