"""Whom to evaluate: the committed test people, or a user's folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .host_install import REPOSITORY

PEOPLE = REPOSITORY / "faceworld" / "people"
LARGEST = 1024  # side of a picture in pixels, as large as any model's own


@dataclass(frozen=True)
class Face:
    """``reference`` is the cropped picture that is handed in, ``others`` further photos of the person, if there are any."""

    reference: Image.Image
    others: Sequence[Image.Image]


def choose_people(images: Path | None, count: int | None) -> tuple[dict[str, Face], list[dict[str, str]]]:
    """Name -> face, and what was skipped with the reason.

    Raises:
        ValueError: no usable picture.
    """
    if images is None:
        references = sorted(PEOPLE.glob("*_reference.png"))[:count]
        if not references:
            raise ValueError(
                f"The test people are not in {PEOPLE}: they are part of the repository, not of what the registry installs. "
                "Give pictures of your own, or clone the repository."
            )
        return {f"person{path.name[:2]}": _committed(path) for path in references}, []
    from ..hypernet.picture_folder import TOO_DEEP, find_people, is_reference, mask_of
    from ..nodes.pictures import read_square, to_pil

    faces, skipped = {}, []
    for person in find_people(images):
        found = []
        if not person.pictures:
            skipped.append({"picture": person.name, "reason": TOO_DEEP})
        for picture in [p for p in person.pictures if is_reference(p)] or person.pictures:
            try:
                found.append(to_pil(read_square(picture, mask_of(picture))[0]))
                found[-1].thumbnail((LARGEST, LARGEST))  # everybody is held at once
            except (ValueError, OSError) as error:
                skipped.append({"picture": person.label(picture), "reason": str(error)})
        if found:
            name = plain = re.sub(r"[^\w-]+", "_", person.name)
            while name in faces:
                name = f"{plain}_{int(name.removeprefix(plain).strip('_') or 1) + 1}"
            faces[name] = Face(found[0], found[1:])
        if count and len(faces) == count:
            break
    if not faces:
        first = f"{skipped[0]['picture']}: {skipped[0]['reason']}"
        raise ValueError(f"None of the pictures in {images} can be used ({first}). Give other pictures.")
    return faces, skipped


def one_person(picture: Path) -> Face:
    """A person of whom there is one picture only, cut square as *Predict LiDB* does.

    Raises:
        ValueError: there is no such picture, or it is unreadable, too small or shows nothing.
    """
    from ..nodes.pictures import read_square, to_pil

    if not picture.is_file():
        raise ValueError(f"There is no picture at {picture}. Give the path of a PNG or JPEG.")
    try:
        return Face(to_pil(read_square(picture)[0]), ())
    except ValueError as error:
        raise ValueError(f"{picture} cannot be used: {str(error).rstrip('.')}. Give another PNG or JPEG.") from error


def save_references(people: dict[str, Face], folder: Path) -> dict[str, Path]:
    """Write the pictures to hand in as NAME_crop.png; name -> file."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}_crop.png" for name in people}
    for name, path in paths.items():
        people[name].reference.save(path)
    return paths


def _committed(reference: Path) -> Face:
    number = reference.name.split("_")[0]
    return Face(*_read(reference), _read(*sorted(PEOPLE.glob(f"{number}_photo*.png"))))


def _read(*paths: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in paths]
