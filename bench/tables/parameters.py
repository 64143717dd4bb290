"""The ruler of drawn parameters: a small network that reads a person's parameters off a photo.

Trained where it is needed, in a few minutes on one thread and from one seed, on people of the metrics' split, and kept beside the
records. It knows plain photos only; how well is printed and reported.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ...faceworld.metrics import Trunk
from ...faceworld.renderer.world import identity
from .world import METRICS, PARAMETERS, VALIDATION, photos, to_tensor, truth

PEOPLE, CHECKED_ON, EPOCHS, BATCH, RATE = 4000, 100, 24, 50, 2e-3
READABLE = 0.5  # share of the variance from which on a parameter is scored


class ParameterReader(nn.Module):
    """Pictures (N, 3, 128, 128) in 0..1 -> standardised parameters (N, P). ``explained (P,)``: of the variance, on others."""

    def __init__(self):
        super().__init__()
        self.net = Trunk(len(PARAMETERS), dropout=0.2)
        for name in ("center", "spread", "explained"):
            self.register_buffer(name, torch.zeros(len(PARAMETERS)))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.net(pictures * 2 - 1)

    def standardised(self, person) -> torch.Tensor:
        """The true parameters (P,) of a person."""
        return (torch.from_numpy(truth(person)).float() - self.center) / self.spread

    def readable(self) -> dict[str, float]:
        """The parameters that are scored -> how much of their variance was explained on people it had not seen."""
        found = dict(zip(PARAMETERS, self.explained.tolist(), strict=True))
        return {name: share for name, share in found.items() if share > READABLE}

    @torch.no_grad()
    def error(self, pictures: torch.Tensor, person) -> float:
        """Root mean square error in standard deviations, over the parameters that can be read at all."""
        wrong = (self(pictures) - self.standardised(person))[:, self.explained > READABLE]
        return wrong.square().mean().sqrt().item()


def parameter_reader(folder: Path) -> ParameterReader:
    """Loaded from ``folder``, or trained and kept there; another network or recipe is another file."""
    reader = ParameterReader()
    settings = [PEOPLE, EPOCHS, BATCH, RATE, [list(p.shape) for p in reader.parameters()]]
    path = folder / f"parameters-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]}.safetensors"
    if path.is_file():
        reader.load_state_dict(load_file(path))
        return reader.eval()
    reader = train()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(reader.state_dict(), path)
    return reader


@torch.inference_mode(False)
@torch.enable_grad()
def train() -> ParameterReader:
    """From one seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):  # start and dropout draw from the global stream, which is given back
        torch.manual_seed(0)
        return _train(ParameterReader(), torch.Generator().manual_seed(0))


def _train(reader: ParameterReader, draws: torch.Generator) -> ParameterReader:
    truths = torch.from_numpy(np.stack([truth(identity(METRICS, i)) for i in range(PEOPLE)])).float()
    reader.center, reader.spread = truths.mean(0), truths.std(0)
    wanted = (truths - reader.center) / reader.spread
    pictures = torch.from_numpy(np.concatenate([photos(METRICS, i, 1) for i in range(PEOPLE)]))
    total = EPOCHS * PEOPLE // BATCH
    optimizer = torch.optim.AdamW(reader.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total)
    for _ in range(EPOCHS):
        for rows in torch.randperm(PEOPLE, generator=draws).split(BATCH):
            loss = (reader(to_tensor(pictures[rows].numpy())) - wanted[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    reader.eval().requires_grad_(False)
    seen = to_tensor(np.concatenate([photos(VALIDATION, i, 1) for i in range(CHECKED_ON)]))
    true = torch.stack([reader.standardised(identity(VALIDATION, i)) for i in range(CHECKED_ON)])
    reader.explained = 1 - (reader(seen) - true).square().mean(0) / true.var(0)
    return reader
