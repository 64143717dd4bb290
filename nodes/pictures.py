"""Pictures on their way in: find the face's square, cut it out, bring it to a size. Shapes are the host's, NHWC 0..1."""

import io
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps

MIN_FACE_PIXELS = 48
RESOLUTION = {"Faceworld": 128, "SD15": 512, "SD20": 768, "SDXL": 1024}
"""Host's name of a base -> side of the square pictures it was trained on; 512 where none is listed."""
FLAT = 2.0 / 255
"""A picture file whose values spread less than this shows nothing."""
MASK_MARGIN = 1.6
"""A face mask or box is widened to this multiple of its larger side, so that hair and chin are inside."""


def crop_face(image: torch.Tensor, mask: torch.Tensor | None = None, box: dict | list | None = None) -> torch.Tensor:
    """Cut the square with the face out of every picture.

    Args:
        image: (N, H, W, C) in 0..1; only the first three channels are used.
        mask: (N or 1, H, W), white on the face.
        box: ``{"x", "y", "width", "height"}`` in pixels; or a list of them, of which the largest counts; or, as the
            host's detectors give it, a list of such lists, one per picture.

    Returns:
        (N, S, S, 3). Without mask or box: the largest centred square. Squares of different size are brought to the
        first one's.

    Raises:
        ValueError: fewer than 48 pixels across the face, an empty mask, or a box outside the picture.
    """
    image = image[..., :3]
    N, H, W = image.shape[:3]
    crops = []
    for i in range(N):
        if mask is not None:
            square = _around(*_mask_box(mask[min(i, mask.shape[0] - 1)], H, W), H, W)
        elif box is not None:
            square = _around(*_checked_box(_largest_box(box, i), H, W), H, W)
        else:
            side = min(H, W)
            square = ((H - side) // 2, (W - side) // 2, side)
        top, left, side = square
        if side < MIN_FACE_PIXELS:
            raise ValueError(
                f"The face's square is only {side} x {side} pixels (picture {W} x {H}); at least "
                f"{MIN_FACE_PIXELS} x {MIN_FACE_PIXELS} are needed. Use a larger picture or a larger mask."
            )
        crops.append(image[i : i + 1, top : top + side, left : left + side])
    return torch.cat([resize(crop, crops[0].shape[1], crops[0].shape[1]) for crop in crops])


def read_square(picture: Path, mask: Path | None = None) -> torch.Tensor:
    """The square with the face (1, S, S, 3) of a picture file, cut out as ``crop_face`` does.

    Raises:
        ValueError: the file is no picture, is too small or shows nothing.
    """
    try:
        image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
    except Exception as error:  # Pillow raises many kinds, some of them bare SyntaxError or DecompressionBombError
        raise ValueError(f"not a readable picture ({type(error).__name__})") from error
    white = None
    if mask:
        white = torch.from_numpy(np.asarray(Image.open(mask).convert("L")).copy())[None].float() / 255
    face = crop_face(torch.from_numpy(np.asarray(image).copy())[None].float() / 255, white)
    if float(face.std()) < FLAT:
        raise ValueError("the picture has a single colour, so there is no face in it")
    return face


def _mask_box(mask: torch.Tensor, H: int, W: int) -> tuple[float, float, float, float]:
    if mask.shape != (H, W):
        mask = rearrange(resize(rearrange(mask, "h w -> 1 h w 1"), H, W), "1 h w 1 -> h w")
    rows, columns = (mask > 0.5).any(1).nonzero(), (mask > 0.5).any(0).nonzero()
    if not len(rows):
        raise ValueError(
            "The mask is empty, so there is no face to cut out. Paint the face white, or leave the mask unconnected."
        )
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return left, top, right - left, bottom - top


def _largest_box(box: dict | list, picture: int) -> dict:
    if isinstance(box, list) and box and isinstance(box[0], list):
        box = box[min(picture, len(box) - 1)]
    if isinstance(box, dict):
        return box
    if not box:
        raise ValueError(
            f"The bounding boxes of picture {picture + 1} are empty: no face was found. Use another picture, or leave the "
            "box unconnected."
        )
    return max(box, key=lambda b: b["width"] * b["height"])


def _checked_box(box: dict, H: int, W: int) -> tuple[float, float, float, float]:
    x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0 or x >= W or y >= H or x + width <= 0 or y + height <= 0:
        raise ValueError(
            f"The bounding box {box} lies outside the picture of {W} x {H} pixels. Choose a box around the face."
        )
    return x, y, width, height


def _around(x: float, y: float, width: float, height: float, H: int, W: int) -> tuple[int, int, int]:
    """The square around a box, widened by the margin and pushed inside the picture: (top, left, side)."""
    side = int(min(H, W, round(max(width, height) * MASK_MARGIN)))
    left = int(min(max(round(x + width / 2 - side / 2), 0), W - side))
    top = int(min(max(round(y + height / 2 - side / 2), 0), H - side))
    return top, left, side


def resize(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Antialiased bilinear resize, NHWC; a picture of that size comes back untouched."""
    if image.shape[1:3] == (height, width):
        return image
    resized = torch.nn.functional.interpolate(
        rearrange(image, "n h w c -> n c h w").float(), size=(height, width), mode="bilinear", antialias=True
    )
    return rearrange(resized, "n c h w -> n h w c").clamp(0, 1)


def to_pil(image: torch.Tensor) -> Image.Image:
    """One picture (H, W, 3) in 0..1."""
    return Image.fromarray(
        (image.detach().cpu().float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy().astype(np.uint8)
    )


def jpeg_thumbnail(image: torch.Tensor, side: int = 64) -> bytes:
    """A small JPEG of one picture (H, W, 3), about 1.5 KB."""
    buffer = io.BytesIO()
    picture = to_pil(image)
    picture.thumbnail((side, side))
    picture.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()
