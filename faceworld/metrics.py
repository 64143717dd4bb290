"""Faceworld's own measures: an identity network and an attribute network, trained on people nobody else saw.

They are rulers for drawn faces only (see METRICS.md for how straight they are) and are not comparable with scores of
networks for photographs.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

WEIGHTS = Path(__file__).resolve().parent / "weights" / "metrics"
ATTRIBUTES = {
    "style": ("photo", "pencil sketch", "pixel art", "pop art", "neon sign"),
    "context": ("plain", "beach", "night sky", "forest", "sunset"),
    "accessory": ("none", "sunglasses", "red hat", "crown", "santa hat"),
    "expression": ("neutral", "smiling", "surprised", "sleeping"),
}


STAGE_LAYERS = 6  # of a stage, which halves the side


class Trunk(nn.Sequential):
    """Pictures (N, 3, 128, 128) in 0..1 -> features (N, out), through five stages."""

    def __init__(self, out: int, dropout: float = 0.0):
        layers: list[nn.Module] = []
        widths = (3, 24, 48, 80, 112, 112)
        for n_in, n_out in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1, stride=2), nn.GroupNorm(8, n_out), nn.SiLU()]
            layers += [nn.Conv2d(n_out, n_out, 3, padding=1, groups=n_out), nn.Conv2d(n_out, n_out, 1), nn.SiLU()]
        super().__init__(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1] * 16, out))


def _check(pictures: torch.Tensor) -> torch.Tensor:
    if pictures.ndim != 4 or pictures.shape[1:] != (3, 128, 128):
        raise ValueError(f"Faceworld's metrics look at pictures (N, 3, 128, 128) in 0..1, got {tuple(pictures.shape)}.")
    return pictures


def _load(net: nn.Module, name: str) -> nn.Module:
    with safe_open(WEIGHTS / f"{name}.safetensors", "pt") as file:
        net.load_state_dict({k: file.get_tensor(k).float() for k in file.keys()})
    return net.eval().requires_grad_(False)


class IdentityMetric:
    """Cosine similarity of faces: about 1 for one person, about 0 for two."""

    def __init__(self):
        self.net = _load(Trunk(64), "identity")

    @torch.no_grad()
    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, 128, 128) in 0..1 -> unit vectors (N, 64). Raises ValueError for another shape."""
        return nn.functional.normalize(self.net(_check(pictures)), dim=-1)

    def similarity(self, pictures: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Cosine (N,) of pictures (N, ...) with reference pictures (N or 1, ...)."""
        return (self.embed(pictures) * self.embed(reference)).sum(-1)


class AttributeMetric:
    """Does a picture show what its prompt names?"""

    def __init__(self):
        self.net = _load(Trunk(sum(map(len, ATTRIBUTES.values()))), "attributes")

    @torch.no_grad()
    def probabilities(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Head -> (N, classes)."""
        logits = self.net(_check(pictures)).split([len(v) for v in ATTRIBUTES.values()], dim=-1)
        return {head: part.softmax(-1) for head, part in zip(ATTRIBUTES, logits, strict=True)}

    def prompt_score(self, pictures: torch.Tensor, named: list[dict[str, str]]) -> torch.Tensor:
        """Mean probability (N,) of the attributes each prompt names, e.g. ``{"style": "photo", "accessory": "crown"}``."""
        heads = self.probabilities(pictures)
        scores = [
            torch.stack([heads[head][i, ATTRIBUTES[head].index(value)] for head, value in wanted.items()]).mean()
            for i, wanted in enumerate(named)
        ]
        return torch.stack(scores)


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, draws: int = 4000, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean and interval over identities; ``values (people,)``."""
    values = np.asarray(values, dtype=np.float64)
    index = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[index].mean(1), [50 - 50 * level, 50 + 50 * level])
    return float(values.mean()), float(low), float(high)
