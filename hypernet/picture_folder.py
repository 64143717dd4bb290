"""A folder of faces: one sub-folder per person with several pictures, or one picture file per person.

Beside a picture may lie ``NAME.txt``, its caption with the trigger phrase (kohya's habit), and ``NAME.mask.png``, white
on the face. A picture named ``edit``, ``edit_2``, ``edit-sketch`` ... (a sketch, a costume) is something to learn from, never
a reference: nobody hands those in.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
TOO_DEEP = "its pictures lie further down, where they are not looked for; move them up into this sub-folder"


@dataclass(frozen=True)
class Person:
    """``name`` is the sub-folder's or the file's; ``pictures`` in natural order, none if they are ``TOO_DEEP``."""

    name: str
    pictures: tuple[Path, ...]

    def label(self, picture: Path) -> str:
        """The picture as a user would find it in the folder."""
        return picture.name if picture.name == self.name else f"{self.name}/{picture.name}"


def find_people(folder: Path) -> list[Person]:
    """Everybody in a folder, in natural order of their names; also those whose pictures lie too deep, to be told of.

    Raises:
        ValueError: there is no such folder, or no picture in it or one folder down.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Give a folder with one sub-folder or one picture per person.")
    people = []
    for entry in sorted(folder.iterdir(), key=_natural):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            pictures = tuple(sorted((p for p in entry.iterdir() if _is_picture(p)), key=_natural))
            if pictures or any(_is_picture(p) for p in entry.rglob("*")):
                people.append(Person(entry.name, pictures))
        elif _is_picture(entry):
            people.append(Person(entry.name, (entry,)))
    if not any(person.pictures for person in people):
        raise ValueError(
            f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))}), neither directly nor one folder down. Give a "
            "folder with one sub-folder or one picture per person."
        )
    return people


def is_reference(picture: Path) -> bool:
    return not re.match(r"edit(?![a-z])", picture.stem)  # edith.jpg is a person


def fingerprint(person: Person) -> str:
    """Changes with the names and sizes of a person's pictures, captions and masks."""
    files = [f for p in person.pictures for f in (p, p.with_suffix(".txt"), p.with_name(f"{p.stem}.mask.png"))]
    found = [(f.name, f.stat().st_size) for f in files if f.is_file()]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def caption_of(picture: Path, otherwise: str, trigger: str) -> str:
    """The caption beside a picture.

    Raises:
        ValueError: it lacks the trigger phrase, so the picture could not be called by it later; or an edit has none, and would
            be learnt as a plain photo.
    """
    sidecar = picture.with_suffix(".txt")
    if not is_reference(picture) and not sidecar.is_file():
        raise ValueError(f"it is an edit without a caption; write what it shows into {sidecar.name}")
    caption = sidecar.read_text(encoding="utf-8-sig").strip() if sidecar.is_file() else otherwise
    if trigger not in caption:
        raise ValueError(f"its caption {caption!r} lacks the trigger phrase {trigger!r}; write it into {sidecar.name}")
    return caption


def mask_of(picture: Path) -> Path | None:
    mask = picture.with_name(f"{picture.stem}.mask.png")
    return mask if mask.is_file() else None


def _is_picture(path: Path) -> bool:
    hidden_or_mask = path.name.startswith(".") or path.name.endswith(".mask.png")
    return path.suffix.lower() in SUFFIXES and not hidden_or_mask


def _natural(path: Path) -> list:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
