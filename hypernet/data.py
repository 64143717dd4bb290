"""Training people: several pictures of each, some plain photos, the others edits, all with personal captions.

A folder holds ``people.npy`` (P, K, H, W, 3) uint8 and ``people.json``: per person ``pictures`` (each with its
``caption``, which contains the trigger phrase) and optionally ``identity``, known attributes that the encoder may learn.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class People:
    """Pictures (P, K, H, W, 3) uint8, latents (P, K, c, h, w), captions [P][K]; the first ``photos`` pictures are plain
    photos (references), all are targets. ``attributes (P, F)`` standardised, or None."""

    pictures: np.ndarray
    latents: np.ndarray
    captions: list[list[str]]
    photos: int
    attributes: np.ndarray | None = None

    def faces(self, index: np.ndarray, photo: np.ndarray) -> torch.Tensor:
        """References (N, 3, H, W) in 0..1."""
        return torch.from_numpy(self.pictures[index, photo]).permute(0, 3, 1, 2).float() / 255


def load_people(folder: Path, photos: int, encode: Callable[[torch.Tensor], torch.Tensor]) -> People:
    """Read a folder; ``encode`` makes latents of pictures (N, H, W, 3) in 0..1, once, kept as ``latents.npy``.

    Raises:
        ValueError: the folder's two files are missing or disagree.
    """
    missing = [name for name in ("people.npy", "people.json") if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} has no {missing[0]}; a folder of training people needs people.npy and people.json.")
    pictures = np.load(folder / "people.npy", mmap_mode="r")
    people = json.loads((folder / "people.json").read_text())
    P, K = pictures.shape[:2]
    if len(people) != P or any(len(p["pictures"]) != K for p in people) or not 1 <= photos <= K or K < 2:
        raise ValueError(
            f"{folder}: people.npy holds {P} people with {K} pictures ({photos} of them photos), people.json describes "
            f"{len(people)} people. Both must agree, with at least two pictures each."
        )
    cache = folder / "latents.npy"
    if not cache.is_file():
        flat = pictures.reshape(P * K, *pictures.shape[2:])
        parts = [encode(torch.from_numpy(flat[i : i + 64]).float() / 255).half() for i in range(0, P * K, 64)]
        np.save(cache, torch.cat(parts).unflatten(0, (P, K)).cpu().numpy())
    captions = [[q["caption"] for q in p["pictures"]] for p in people]
    known = [p.get("identity") for p in people]
    return People(pictures, np.load(cache), captions, photos, attribute_table(known) if all(known) else None)


def attribute_table(people: list[dict]) -> np.ndarray:
    """Attributes of any kind -> (P, F), standardised: numbers as they are, words one-hot, None as absence.

    An attribute that is a list for some and missing for others (a mole's place) counts as present or absent.
    """
    columns = []
    for key in people[0]:
        values = [p[key] for p in people]
        if all(isinstance(v, (int, float)) for v in values):
            columns += [values]
        elif all(isinstance(v, (list, tuple)) and len(v) == len(values[0]) for v in values):
            columns += [list(c) for c in zip(*values, strict=True)]
        elif all(isinstance(v, str) for v in values):
            columns += [[float(v == word) for v in values] for word in sorted(set(values))]
        else:
            columns += [[float(v is not None) for v in values]]
    table = np.asarray(columns, np.float32).T
    spread = table.std(0)
    table = table[:, spread > 1e-6]
    return (table - table.mean(0)) / table.std(0)
