"""One picture of a finetune: the photo, the person before and after it, and how the loss fell."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .pictures import to_pil

SIDE, CURVE, CAPTION, GAP, LETTERS = 256, 150, 38, 6, 24  # pixels
FINE = 2  # the curve is drawn this much larger and brought down, which smooths its edges
PAPER, INK, FAINT, STRONG = (32, 32, 36), (225, 225, 225), (96, 104, 116), (255, 170, 60)
SPAN = 6  # the smoothed loss is a mean over this fraction of the steps


def smooth(losses: list[float]) -> np.ndarray:
    """Centred running mean over a sixth of the steps, shorter at both ends: one number per step."""
    reach = len(losses) // (2 * SPAN)
    return np.array([np.mean(losses[max(0, i - reach) : i + reach + 1]) for i in range(len(losses))])


def loss_picture(photo: torch.Tensor, before: torch.Tensor, after: torch.Tensor, losses: list[float]) -> torch.Tensor:
    """The four together, (1, H, W, 3) in 0..1.

    Args:
        photo, before, after: one picture (H, W, 3) each, of any size.
        losses: before each step; each is of its own noise level, so only the smoothed curve can be read.
    """
    width = 3 * SIDE + 2 * GAP
    sheet = Image.new("RGB", (width, CAPTION + SIDE + GAP + CAPTION + CURVE), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    for i, (name, picture) in enumerate((("photo", photo), ("before", before), ("after", after))):
        left = i * (SIDE + GAP)
        draw.text((left + GAP, CAPTION // 2), name, INK, font, anchor="lm")
        small = _fit(to_pil(picture))
        sheet.paste(small, (left + (SIDE - small.width) // 2, CAPTION + (SIDE - small.height) // 2))
    mean, top = smooth(losses), CAPTION + SIDE + GAP
    words = f"loss {mean[0]:.3g} to {mean[-1]:.3g}, {len(losses)} {'step' if len(losses) == 1 else 'steps'}, smoothed"
    draw.text((GAP, top + CAPTION // 2), words, INK, font, anchor="lm")
    sheet.paste(_curve(losses, mean, width, CURVE), (0, top + CAPTION))
    return torch.from_numpy(np.asarray(sheet).copy())[None].float() / 255


def _fit(picture: Image.Image) -> Image.Image:
    scale = SIDE / max(picture.size)
    return picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)


def _curve(losses: list[float], mean: np.ndarray, width: int, height: int) -> Image.Image:
    """The smoothed loss, and faintly behind it the raw one; zero is the lower edge."""
    W, H, edge = FINE * width, FINE * height, FINE * GAP
    x = edge + (W - 2 * edge) * (np.arange(len(losses)) / max(1, len(losses) - 1))
    most = max(losses)
    picture = Image.new("RGB", (W, H), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.line([(edge, H - edge), (W - edge, H - edge)], FAINT, FINE)
    for values, colour, thick in ((losses, FAINT, FINE), (mean, STRONG, 3 * FINE)):
        y = H - edge - (H - 2 * edge) * (np.asarray(values) / most if most else np.zeros(len(losses)))
        points = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
        draw.line(points, colour, thick, joint="curve")
        for a, b in (points[0], points[-1]):
            draw.ellipse([a - thick, b - thick, a + thick, b + thick], colour)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
