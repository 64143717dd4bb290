"""The ruler of drawn parameters: a small network that reads a person's parameters off a photo.

    python -m hyperdreambooth.bench.tables.parameters    trains it anew, in some minutes and from one seed

Trained on people of the metrics' split. It comes with the repository because two machines would train two readers, and rows
that they measured could not be compared. It knows plain photos only; how well is reported.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ...faceworld.metrics import Trunk
from ...faceworld.renderer.world import identity
from .world import METRICS, PARAMETERS, VALIDATION, photos, to_tensor, truth

READER = Path(__file__).with_name("parameters.safetensors")
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


def parameter_reader() -> ParameterReader:
    """The committed one."""
    reader = ParameterReader()
    reader.load_state_dict({name: tensor.float() for name, tensor in load_file(READER).items()})
    return reader.eval().requires_grad_(False)


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


if __name__ == "__main__":
    trained = train()
    save_file({name: tensor.half() for name, tensor in trained.state_dict().items()}, READER)
    print({name: round(share, 2) for name, share in trained.readable().items()})
