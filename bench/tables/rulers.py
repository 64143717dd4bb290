"""How pictures are scored. Every ruler is faceworld's own and named for what it is.

identity       cosine of the identity network, with other photos of the person (``faceworld/METRICS.md``)
rank_1         share of pictures whose nearest photo, of 100 people and a look-alike of each, is the person's
parameters     error of the drawn face's parameters as a small network reads them; 1 is a guess at the average person
face_features  cosine of the attribute network's features (not trained to know people) of a picture with all but the face's oval grey
prompt         mean probability of the attributes that a prompt names
diversity      how unlike each other pictures of one prompt are, by the same features over the whole picture
drift          how far a photo and a pencil sketch of "a face" move away from the plain model's, by the same features
"""

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from ...faceworld.metrics import STAGE_LAYERS, AttributeMetric, IdentityMetric
from .parameters import ParameterReader
from .world import GALLERY, METRICS, TEST, photos, to_tensor

FEATURE_LAYERS = 4 * STAGE_LAYERS  # of the attribute network: four of its five stages, (112, 8, 8) left
CROWD = 500  # whose photos say how much each feature varies


class Rulers:
    """All of them.

    Args:
        reader: the network of ``parameters.py``.
        gallery: how many people of the split, and a look-alike of each, are told apart.
    """

    def __init__(self, reader: ParameterReader, gallery: int = 100, split: int = TEST):
        self.reader, self.people = reader, gallery
        self.identity, self.attributes = IdentityMetric(), AttributeMetric()
        self.face, self.places = oval(128), oval(8)
        self.look = torch.nn.Sequential(*list(self.attributes.net)[:FEATURE_LAYERS])
        pictures = to_tensor(np.concatenate([photos(METRICS, i, 1) for i in range(CROWD)]))
        self.levels = [_level(features) for features in self._looked_at(pictures)]
        people = [photos(split, i, GALLERY + 1)[GALLERY] for i in range(gallery)]
        twins = [photos(split, i, 1, lookalike=True)[0] for i in range(gallery)]
        self.gallery = self.identity.embed(to_tensor(np.stack(people + twins)))

    @torch.no_grad()
    def _looked_at(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, 128, 128) -> features of the whole picture (N, 112, 64) and of the face alone (N, 112, places in the oval)."""
        alone = torch.where(self.face, pictures, torch.tensor(0.5))
        return self.look(pictures).flatten(2), self.look(alone)[..., self.places]

    def features(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, standardised, one row a picture (N, .)."""
        seen = zip(self._looked_at(pictures), self.levels, strict=True)
        whole, face = (((x - mean) / spread).flatten(1) for x, (mean, spread) in seen)
        return whole, face

    def likeness(self, pictures: torch.Tensor, others: torch.Tensor, person, number: int | None) -> dict[str, float]:
        """The scores of pictures (N, ...) as one person, whose other photos are ``others``; no ``rank_1`` without a number.

        ``person`` None: somebody unlike all that the reader of parameters has learnt from, so that their error would say nothing.
        """
        scores = {"identity": self.cosine(pictures, others)}
        if person is not None:
            scores["parameters"] = self.reader.error(pictures, person)
        scores["face_features"] = _cosines(self.features(pictures)[1], self.features(others)[1]).mean().item()
        if number is not None:
            found = (self.identity.embed(pictures) @ self.gallery.T).argmax(1)
            scores["rank_1"] = (found == number).float().mean().item()
        return scores

    def cosine(self, pictures: torch.Tensor, others: torch.Tensor) -> float:
        """Mean cosine of the identity network over all pairs of pictures (N, ...) and other photos (M, ...)."""
        return (self.identity.embed(pictures) @ self.identity.embed(others).T).mean().item()

    def diversity(self, pictures: torch.Tensor) -> float:
        """Mean of 1 - cosine over all pairs of pictures."""
        cosine = _cosines(*[self.features(pictures)[0]] * 2)
        return 1 - cosine[~torch.eye(len(cosine), dtype=torch.bool)].mean().item()

    def drift(self, pictures: torch.Tensor, plain: torch.Tensor) -> float:
        """Mean of 1 - cosine, picture by picture."""
        return 1 - _cosines(self.features(pictures)[0], self.features(plain)[0]).diagonal().mean().item()


def _level(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread (1, 112, 1) of each feature."""
    return features.mean((0, 2), keepdim=True), features.std((0, 2), keepdim=True)


def _cosines(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Of all pairs of rows (N, F) and (M, F): (N, M)."""
    return cosine_similarity(one[:, None], other[None], dim=-1)


def oval(side: int) -> torch.Tensor:
    """Which places of a picture (side, side) lie in the face."""
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) * 128 / side] * 2, indexing="ij")
    return ((x - 64) / 34).square() + ((y - 68) / 44).square() < 1
