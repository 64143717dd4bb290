"""The miniature autoencoder: f8, eight latent channels, in the TAESD layout that the host's stock loader can size.

The layout asks for a residual block at full resolution, which a CPU can hardly train. ``SlimTAESD`` is the same network
with some blocks left out; ``to_taesd`` embeds it exactly in the full layout: an absent block is zero, and a zero block is
``relu(x)``, which its neighbours have applied already. ``wake`` lets channels that an earlier, narrower network left at
zero begin to learn.
"""

import torch
from torch import nn

LATENT_CHANNELS = 8
WIDE = 64
VAE_SCALE = 0.4  # the layout squashes latents beyond 3; the decoder sees them scaled by this


class Block(nn.Module):
    """``relu(conv(x) + x)`` with three 3x3 convolutions, as in the TAESD layout."""

    def __init__(self, width: int):
        super().__init__()
        c = lambda: nn.Conv2d(width, width, 3, padding=1)  # noqa: E731
        self.conv = nn.Sequential(c(), nn.ReLU(), c(), nn.ReLU(), c())

    def forward(self, x):
        return torch.relu(self.conv(x) + x)


class Down(nn.Module):
    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1, stride=2, bias=False)

    def forward(self, x):
        return self.conv(x)


class SlimTAESD(nn.Module):
    """Pictures in 0..1 <-> latents; ``encoder_blocks`` and ``decoder_blocks`` at 128, 64, 32 and 16 pixels."""

    def __init__(self, encoder_blocks=(0, 1, 3, 3), decoder_blocks=(0, 3, 3, 3)):
        super().__init__()
        encoder, decoder = {}, {}
        encoder[0] = nn.Conv2d(3, WIDE, 3, padding=1)
        for start, count in zip((1, 3, 7, 11), encoder_blocks, strict=True):
            encoder |= {start + k: Block(WIDE) for k in range(count)}
        encoder |= {index: Down(WIDE, WIDE) for index in (2, 6, 10)}
        encoder[14] = nn.Conv2d(WIDE, LATENT_CHANNELS, 3, padding=1)
        decoder[1] = nn.Conv2d(LATENT_CHANNELS, WIDE, 3, padding=1)
        for start, count in zip((18, 13, 8, 3), decoder_blocks, strict=True):
            decoder |= {start + k: Block(WIDE) for k in range(count)}
        decoder |= {index: nn.Conv2d(WIDE, WIDE, 3, padding=1, bias=False) for index in (7, 12, 17)}
        decoder[19] = nn.Conv2d(WIDE, 3, 3, padding=1)
        self.encoder = nn.ModuleDict({str(k): encoder[k] for k in sorted(encoder)})
        self.decoder = nn.ModuleDict({str(k): decoder[k] for k in sorted(decoder)})

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in 0..1 -> latents (N, 8, H/8, W/8)."""
        x = picture
        for index in range(15):
            key = str(index)
            if key in self.encoder:
                x = self.encoder[key](x)
            elif index in (1, 3, 7, 11):  # the first block of a resolution, left out: relu only
                x = torch.relu(x)
        return x / VAE_SCALE

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Latents (N, 8, h, w) -> (N, 3, 8h, 8w), about 0..1."""
        x = torch.tanh(latent * VAE_SCALE / 3) * 3
        for index in range(1, 20):
            key = str(index)
            if key in self.decoder:
                x = self.decoder[key](x)
            elif index in (6, 11, 16):
                x = torch.nn.functional.interpolate(x, scale_factor=2)
            elif index in (2, 3, 8, 13, 18):
                x = torch.relu(x)
        return x

    def to_taesd(self) -> dict[str, torch.Tensor]:
        """The same function as the host's ``TAESD`` state dict (comfy/taesd/taesd.py), keys without prefix."""
        state = {"vae_scale": torch.tensor(VAE_SCALE), "vae_shift": torch.tensor(0.0)}
        blocks = {
            "taesd_encoder": (1, 3, 4, 5, 7, 8, 9, 11, 12, 13),
            "taesd_decoder": (3, 4, 5, 8, 9, 10, 13, 14, 15, 18),
        }
        for name in blocks:
            for index in blocks[name]:
                for k in (0, 2, 4):
                    state[f"{name}.{index}.conv.{k}.weight"] = torch.zeros(WIDE, WIDE, 3, 3)
                    state[f"{name}.{index}.conv.{k}.bias"] = torch.zeros(WIDE)
        return state | {_in_taesd(key): tensor.detach().clone() for key, tensor in self.state_dict().items()}


def from_taesd(taesd: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inverse of ``SlimTAESD.to_taesd``, for the default blocks: the state dict, in single precision."""
    return {key: taesd[_in_taesd(key)].float() for key in SlimTAESD().state_dict()}


def _in_taesd(key: str) -> str:
    return "taesd_" + key.replace(".conv.weight", ".weight")  # a Down is a bare convolution there


@torch.no_grad()
def wake(model: SlimTAESD, stream: torch.Generator) -> None:
    """Give absent (zero) channels random weights to start from, in place; nobody reads them yet, so nothing changes.

    What a block adds to the picture's own channels stays as it is: an absent block remains the identity until it learns.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith("conv.4"):
            absent = module.weight.flatten(1).abs().amax(1) == 0
            bound = module.weight[0].numel() ** -0.5
            fresh = torch.empty_like(module.weight).uniform_(-bound, bound, generator=stream)
            module.weight[absent] = fresh[absent]
