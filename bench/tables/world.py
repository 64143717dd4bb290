"""The people of the tables, drawn on the spot: what is handed in, what is compared, and who they truly are.

Seeds are those of the test split, or of the validation split where settings are chosen; nothing was trained on these people.
Needs skia-python.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch

from ...faceworld.renderer.identity import Identity
from ...faceworld.renderer.photo import sample_photo
from ...faceworld.renderer.render import Scene, render
from ...faceworld.renderer.world import identity, person_pictures

TEST, METRICS, VALIDATION = 19, 13, 17
OTHERS, GALLERY, HANDED_IN, UNSEEN = (1, 2, 3), 4, (0, 5, 6, 7, 8), 9  # which photo of a person is what
PARAMETERS = (
    "width", "height", "jaw", "chin", "temple", "ear", "eye_x", "eye_y", "eye_width", "eye_height", "eye_tilt", "iris_size",
    "brow_thickness", "brow_length", "brow_tilt", "brow_arch", "brow_height", "nose_width", "nose_length", "mouth_width",
    "mouth_y", "upper_lip", "lower_lip", "skin_tone", "hairline", "volume",
)  # fmt: skip
"""Attributes that are lengths, angles or shades; colours by name and marks are not among them."""


def truth(person: Identity) -> np.ndarray:
    """The parameters (26,) of a person."""
    return np.array([float(getattr(person, name)) for name in PARAMETERS])


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class Subject:
    """One person of a split, by number."""

    number: int
    split: int = TEST

    @cached_property
    def _photos(self) -> np.ndarray:
        return photos(self.split, self.number, 10)

    def references(self, kind: str = "photo", count: int = 1) -> torch.Tensor:
        """What is handed in (count, H, W, 3) in 0..1: ordinary photos, or one odd picture."""
        if kind == "photo":
            drawn = self._photos[list(HANDED_IN[:count])]
        else:
            drawn = odd_picture(self.number, kind, self.split)[None]
        return to_tensor(drawn).movedim(1, -1)

    def others(self, kind: str = "photo") -> torch.Tensor:
        """What pictures are compared with (3, 3, H, W): ordinary photos of the person, or of their cartoon."""
        if kind != "cartoon":
            return to_tensor(self._photos[list(OTHERS)])
        return to_tensor(np.stack([self._cartoon(k) for k in OTHERS]))

    def unseen(self, kind: str = "photo") -> torch.Tensor:
        """One more of those (1, 3, H, W), which nobody is given and nothing is compared with: the ceiling."""
        return to_tensor((self._cartoon(UNSEEN) if kind == "cartoon" else self._photos[UNSEEN])[None])

    def edits(self, kind: str, wanted: list[dict[str, str]]) -> torch.Tensor:
        """What prompts ask for, drawn right (E, 3, H, W): the ceiling of edits."""
        rng = np.random.default_rng([self.split, self.number, 800])
        return to_tensor(np.stack([render(self.person(kind), sample_photo(rng), Scene(**edit)) for edit in wanted]))

    def _cartoon(self, photo: int) -> np.ndarray:
        rng = np.random.default_rng([self.split, self.number, 700 + photo])
        return render(self.person("cartoon"), sample_photo(rng), Scene())

    def person(self, kind: str = "photo") -> Identity:
        """Who they are."""
        person = identity(self.split, self.number)
        return cartoon(person) if kind == "cartoon" else person


@lru_cache(maxsize=256)
def photos(split: int, index: int, count: int, lookalike: bool = False) -> np.ndarray:
    """Plain photos (count, H, W, 3) uint8 of a person."""
    return person_pictures(split, count, 0, (index, lookalike))[0]


def cartoon(person: Identity) -> Identity:
    """Somebody outside of everything the world draws otherwise: huge eyes, wide jaw, green hair."""
    return replace(
        person, eye_width=1.45 * person.eye_width, eye_height=1.7 * person.eye_height, jaw=1.12, chin=0.6, nose_length=0.2,
        mouth_width=1.35 * person.mouth_width, hair_colour=(0.2, 0.65, 0.3),
    )  # fmt: skip


def odd_picture(number: int, kind: str, split: int = TEST) -> np.ndarray:
    """A picture (H, W, 3) uint8 unlike those that anything was trained on.

    ``pose``: turned and tilted two to three times as far as ever; ``light``: one side in the dark; ``occlusion``: sunglasses
    and a bar over the mouth; ``cartoon``: features out of range.

    Raises:
        ValueError: no such kind.
    """
    person, photo, scene = identity(split, number), sample_photo(np.random.default_rng([split, number, 600])), Scene()
    side = 1 if number % 2 else -1
    if kind == "pose":
        return render(person, replace(photo, yaw=0.5 * side, pitch=0.15, roll=0.2 * side), scene)
    if kind == "light":
        drawn = render(person, replace(photo, light=float(side)), scene).astype(np.float32)
        shade = np.linspace(0.12, 1.25, drawn.shape[1])[::side, None]
        return (drawn * shade).clip(0, 255).astype(np.uint8)
    if kind == "occlusion":
        drawn = render(person, photo, replace(scene, accessory="sunglasses")).copy()
        drawn[84:104, 30:98] = (60, 90, 150)
        return drawn
    if kind == "cartoon":
        return render(cartoon(person), photo, scene)
    raise ValueError(f"There is no odd picture of the kind {kind!r}.")
