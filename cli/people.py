"""Whom to evaluate: the committed test people, or a user's folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .host_install import REPOSITORY

PEOPLE = REPOSITORY / "faceworld" / "people"


@dataclass(frozen=True)
class Face:
    """``reference`` is the cropped picture that is handed in, ``other`` another photo of the person, if there is one."""

    reference: Image.Image
    other: Image.Image | None


def choose_people(images: Path | None, count: int | None) -> tuple[dict[str, Face], list[dict[str, str]]]:
    """Name -> face, and what was skipped with the reason.

    Raises:
        ValueError: no usable picture.
    """
    if images is None:
        numbers = sorted(int(p.name.split("_")[0]) for p in PEOPLE.glob("*_reference.png"))[:count]
        return {
            f"person{i:02d}": Face(
                Image.open(PEOPLE / f"{i:02d}_reference.png"), Image.open(PEOPLE / f"{i:02d}_photo1.png")
            )
            for i in numbers
        }, []
    from ..hypernet.picture_folder import find_people, is_reference, mask_of
    from ..nodes.pictures import read_square, to_pil

    faces, skipped = {}, []
    for person in find_people(images):
        found = []
        for picture in [p for p in person.pictures if is_reference(p)] or person.pictures:
            if len(found) == 2:
                break
            try:
                found.append(to_pil(read_square(picture, mask_of(picture))[0]))
            except (ValueError, OSError) as error:
                skipped.append({"picture": person.label(picture), "reason": str(error)})
        if found:
            name = re.sub(r"[^\w-]+", "_", person.name)
            name = name if name not in faces else f"{name}_{len(faces)}"
            faces[name] = Face(found[0], found[1] if len(found) == 2 else None)
        if count and len(faces) == count:
            break
    if not faces:
        raise ValueError(f"None of the pictures in {images} can be used; the first: {skipped[0]}. Give other pictures.")
    return faces, skipped
