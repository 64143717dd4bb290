"""Pictures on their way in: find the face's square, cut it out, bring it to a size. Shapes are the host's, NHWC 0..1."""

import io
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps

MIN_FACE_PIXELS = 48
SIDES = {"Faceworld": 128, "SD15": 512, "SD20": 768, "SDXL": 1024, "SDXLRefiner": 1024}
"""Host's name of an architecture -> side of the square pictures it was trained on."""
FLAT = 2.0 / 255
"""A picture file whose values spread less than this shows nothing."""
MOST_THUMBNAIL_PIXELS = 1024
"""Of a side; ours have 64."""
MASK_MARGIN = 1.6
"""A face mask or box is widened to this multiple of its larger side, so that hair and chin are inside."""


def only_source(**sources) -> str:
    """The name of the one connected input that says where the face is; empty if there is none.

    Raises:
        ValueError: two of them, which may disagree.
    """
    connected = [name for name, value in sources.items() if value is not None]
    if len(connected) > 1:
        raise ValueError(
            f"{' and '.join(connected)} are connected, and each says where the face is. Keep one of them and disconnect the rest."
        )
    return connected[0] if connected else ""


def crop_face(image: torch.Tensor, mask: torch.Tensor | None = None, box: dict | list | None = None) -> torch.Tensor:
    """Cut the square with the largest face out of every picture: (N, H, W, C) -> (N, S, S, 3).

    Arguments and errors are those of ``face_squares``.
    """
    return cut_squares(image, face_squares(image.shape, mask, box))


def face_squares(
    shape: tuple[int, ...],
    mask: torch.Tensor | None = None,
    box: dict | list | None = None,
    index: int = 0,
    margin: float = MASK_MARGIN,
    middle: bool = False,
) -> list[tuple[int, int, int]]:
    """The square around the face in every picture: (top, left, side) in pixels.

    Args:
        shape: the pictures', (N, H, W, C).
        mask: (N or 1, h, w), white on the face, of the picture's shape in any size.
        box: ``{"x", "y", "width", "height"}`` in pixels; or a list of them; or, as the host's detectors give it, a list
            of such lists, one per picture.
        index: which box of a list, counted from 0 with the largest first.
        margin: the square's side as a multiple of the mask's or box's larger side.
        middle: take the centred square of a picture whose list of boxes is empty, instead of raising.

    Returns:
        N squares. Without mask or box: the largest centred square.

    Raises:
        ValueError: fewer than 48 pixels across the face, an empty mask or one of another shape, masks for some pictures
            only, no box of that index, or a box outside the picture; the sentence names the picture.
    """
    N, H, W = shape[:3]
    squares = []
    if mask is not None and mask.shape[0] not in (1, N):
        raise ValueError(
            f"There are {mask.shape[0]} masks for {N} pictures, so it is unclear which belongs to which. Give one mask per picture, "
            "or one for all."
        )
    for i in range(N):
        if mask is not None:
            square = _around(*_mask_box(mask[min(i, mask.shape[0] - 1)], i, H, W), margin, H, W)
        elif box is not None:
            boxes = boxes_of(box, i)
            around = None if middle and not boxes else _checked_box(_chosen_box(boxes, index, i), i, H, W)
            square = _around(*around, margin, H, W) if around else centred_square(H, W)
        else:
            square = centred_square(H, W)
        if square[2] < MIN_FACE_PIXELS:
            raise ValueError(
                f"The face's square in picture {i + 1} is only {square[2]} x {square[2]} pixels (picture {W} x {H}); at least "
                f"{MIN_FACE_PIXELS} x {MIN_FACE_PIXELS} are needed. Use a larger picture or a larger mask."
            )
        squares.append(square)
    return squares


def centred_square(H: int, W: int) -> tuple[int, int, int]:
    """The largest square in the middle of a picture: (top, left, side)."""
    return (H - min(H, W)) // 2, (W - min(H, W)) // 2, min(H, W)


def check_shows_something(image: torch.Tensor) -> None:
    """Raise ValueError if one of the pictures (N, H, W, C) has no finite numbers or a single colour."""
    for i, picture in enumerate(image, 1):
        if not torch.isfinite(picture).all():
            raise ValueError(
                f"Picture {i} holds numbers that are not finite (NaN), so it is no picture. Something before has failed, often "
                "a VAE in half precision: make the picture again, or start ComfyUI with --fp32-vae."
            )
        if float(picture.std()) < FLAT:
            raise ValueError(f"Picture {i} has a single colour, so there is no face in it. Use another picture.")


def cut_squares(image: torch.Tensor, squares: list[tuple[int, int, int]]) -> torch.Tensor:
    """One square per picture, (N, H, W, C) -> (N, S, S, 3); squares of different size are brought to the largest one's."""
    crops = [image[i : i + 1, top : top + side, left : left + side, :3] for i, (top, left, side) in enumerate(squares)]
    most = max(side for _, _, side in squares)
    return torch.cat([resize(crop, most, most) for crop in crops])


def read_square(picture: Path, mask: Path | None = None) -> torch.Tensor:
    """The square with the face (1, S, S, 3) of a picture file, cut out as ``crop_face`` does.

    Raises:
        ValueError: the file is no picture, is too small or shows nothing.
        OSError: the file cannot be read, which is no fault of the picture.
    """
    content = io.BytesIO(picture.read_bytes())
    try:
        image = _eight_bits(ImageOps.exif_transpose(Image.open(content))).convert("RGB")
    except Exception as error:  # Pillow raises many kinds, some of them bare SyntaxError or DecompressionBombError
        raise ValueError(f"not a readable picture ({type(error).__name__})") from error
    white = None
    if mask:
        try:
            grey = _eight_bits(Image.open(mask)).convert("L")
        except Exception as error:
            raise ValueError(f"its mask is not a readable picture ({type(error).__name__})") from error
        white = torch.from_numpy(np.asarray(grey).copy())[None].float() / 255
    face = crop_face(torch.from_numpy(np.asarray(image).copy())[None].float() / 255, white)
    if float(face.std()) < FLAT:
        raise ValueError("the picture has a single colour, so there is no face in it")
    return face


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deep greyscale in 8 bits; Pillow's own conversion cuts it off at 255, which is nearly black of 65535."""
    if not image.mode.startswith(("I", "F")):
        return image
    grey = np.asarray(image, dtype=np.float32)
    most = float(grey.max())
    usual = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)  # other modes do not say
    white = next((white for white in usual if most <= white), most)
    return Image.fromarray((grey * (255 / white)).clip(0, 255).astype(np.uint8))


def _mask_box(mask: torch.Tensor, picture: int, H: int, W: int) -> tuple[float, float, float, float]:
    h, w = mask.shape
    if mask.any() and abs(w * H - h * W) > 0.02 * h * W:
        raise ValueError(
            f"The mask of picture {picture + 1} is {w} x {h}, the picture {W} x {H}: another shape, so it was made on another "
            "picture. Make the mask on the very picture that is connected."
        )
    if (h, w) != (H, W):
        mask = rearrange(resize(rearrange(mask, "h w -> 1 h w 1"), H, W), "1 h w 1 -> h w")
    rows, columns = (mask > 0.5).any(1).nonzero(), (mask > 0.5).any(0).nonzero()
    if not len(rows):
        raise ValueError(
            f"The mask of picture {picture + 1} is empty, so there is no face to cut out. Paint the face white, or leave the "
            "mask unconnected."
        )
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return left, top, right - left, bottom - top


def boxes_of(box: dict | list, picture: int) -> list[dict]:
    """One picture's boxes, the largest first, from any of the host's forms; may be empty."""
    if isinstance(box, list) and box and isinstance(box[0], list):
        box = box[min(picture, len(box) - 1)]
    boxes = [box] if isinstance(box, dict) else list(box)
    return sorted(boxes, key=lambda b: b["width"] * b["height"], reverse=True)


def _chosen_box(boxes: list[dict], index: int, picture: int) -> dict:
    if not boxes:
        raise ValueError(
            f"In picture {picture + 1} no face was found: its list of bounding boxes is empty. Lower the detector's confidence, "
            "mark the face with a mask, or use another picture. Without box and mask the middle is taken."
        )
    if index >= len(boxes):
        raise ValueError(
            f"Picture {picture + 1} has {len(boxes)} {'box' if len(boxes) == 1 else 'boxes'}, so there is none of index {index}. "
            f"Choose an index from 0 (the largest) to {len(boxes) - 1}, or let the detector find more faces."
        )
    return boxes[index]


def _checked_box(box: dict, picture: int, H: int, W: int) -> tuple[float, float, float, float]:
    x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0 or x >= W or y >= H or x + width <= 0 or y + height <= 0:
        raise ValueError(
            f"The bounding box x={x:g}, y={y:g}, width={width:g}, height={height:g} lies outside picture {picture + 1} of {W} x {H} pixels. "
            "Choose a box around the face."
        )
    return x, y, width, height


def _around(x: float, y: float, width: float, height: float, margin: float, H: int, W: int) -> tuple[int, int, int]:
    """The square around a box, widened by the margin and pushed inside the picture: (top, left, side)."""
    side = int(min(H, W, round(max(width, height) * margin)))
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


def read_thumbnail(data: bytes) -> Image.Image:
    """Inverse of ``jpeg_thumbnail``, for bytes of unknown origin.

    Raises:
        ValueError: they are no JPEG, or one far too large for a thumbnail.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=["JPEG"])
        if max(picture.size) > MOST_THUMBNAIL_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels")
        return picture.convert("RGB")
    except Exception as error:  # Pillow raises many kinds, some of them bare SyntaxError or DecompressionBombError
        raise ValueError(f"the thumbnail is no readable JPEG of a usual size ({type(error).__name__})") from error
