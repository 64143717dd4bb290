"""The four drawn styles, made from the photo picture by picture arithmetic. Pictures are (128, 128, 3) floats in 0..1."""

import numpy as np


def _blur(x: np.ndarray, radius: float) -> np.ndarray:
    reach = int(3 * radius + 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    kernel /= kernel.sum()
    y = np.pad(x, [(reach, reach)] * 2 + [(0, 0)] * (x.ndim - 2), mode="edge")
    H, W = x.shape[:2]
    y = sum(w * y[i : i + H] for i, w in enumerate(kernel))
    return sum(w * y[:, i : i + W] for i, w in enumerate(kernel))


def _luminance(x: np.ndarray) -> np.ndarray:
    return x @ np.array([0.3, 0.59, 0.11])


def _edges(x: np.ndarray) -> np.ndarray:
    g = _blur(x, 0.75)
    gx = np.abs(np.diff(g, axis=1, append=g[:, -1:])).max(-1)
    gy = np.abs(np.diff(g, axis=0, append=g[-1:])).max(-1)
    return np.sqrt(gx**2 + gy**2)


def stylize(photo: np.ndarray, style: str) -> np.ndarray:
    if style == "photo":
        return photo
    return {"pencil sketch": _sketch, "pixel art": _pixels, "pop art": _pop, "neon sign": _neon}[style](photo)


def _sketch(photo: np.ndarray) -> np.ndarray:
    L = _luminance(photo)
    lines = np.clip(_blur(np.clip(_edges(photo) * 5.5 - 0.1, 0, 1), 0.45) * 1.2, 0, 1)
    grey = np.clip((0.72 - _blur(L, 0.5)) * 0.85, 0, 0.55)
    return np.clip(0.97 - grey - 0.8 * lines, 0.06, 1)[..., None] * np.array([1, 0.985, 0.94])


def _pixels(photo: np.ndarray) -> np.ndarray:
    s = photo.reshape(32, 4, 32, 4, 3).mean((1, 3))
    s = np.round(np.clip((s - 0.5) * 1.12 + 0.5, 0, 1) * 9) / 9
    return np.kron(s, np.ones((4, 4, 1)))


def _pop(photo: np.ndarray) -> np.ndarray:
    L = _blur(_luminance(photo), 0.7)
    steps = np.quantile(L, [0.2, 0.48, 0.74]) * 0.6 + np.array([0.27, 0.47, 0.68]) * 0.4
    colours = np.array([[0.08, 0.06, 0.2], [0.86, 0.1, 0.42], [0.1, 0.7, 0.78], [1.0, 0.88, 0.2]])
    out = colours[0] * np.ones((*L.shape, 1))
    for step, colour in zip(steps, colours[1:], strict=True):
        w = np.clip((L - step) / 0.035 + 0.5, 0, 1)[..., None]
        out = out * (1 - w) + colour * w
    return out


def _neon(photo: np.ndarray) -> np.ndarray:
    lines = np.clip(_blur(np.clip(_edges(photo) * 6 - 0.08, 0, 1), 0.5) * 1.25, 0, 1)
    y, x = np.mgrid[: len(photo), : len(photo)]
    hue = (x / 128 * 0.35 + y / 128 * 0.3 + 0.75) % 1 * 6
    tubes = np.stack(
        [np.clip(np.abs(hue - 3) - 1, 0, 1), np.clip(2 - np.abs(hue - 2), 0, 1), np.clip(2 - np.abs(hue - 4), 0, 1)], -1
    )
    glow = 0.6 * _blur(lines, 2.2)[..., None] * tubes
    dim = np.array([0.03, 0.02, 0.08]) + 0.10 * photo * tubes
    return np.clip(dim + lines[..., None] * (tubes * 0.8 + 0.2) + glow, 0, 1)
