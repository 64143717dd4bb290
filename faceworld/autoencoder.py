"""The miniature autoencoder: f8, eight latent channels, in the TAESD layout that the host's stock loader can size.

The layout asks for 64 channels everywhere, also at full resolution, which a CPU cannot train. ``SlimTAESD`` is the same
network with fewer channels near the picture and with some residual blocks left out; ``to_taesd`` embeds it exactly in
the full layout: absent channels are zero, an absent block is zero too, and a zero block is ``relu(x)``, which its
neighbours have applied already.
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
    """Pictures in 0..1 <-> latents; ``widths`` are the channels at 128, 64, 32 and 16 pixels."""

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (24, 48, 64, 64),
        encoder_blocks=(0, 1, 2, 3),
        decoder_blocks=(0, 2, 3, 3),
    ):
        super().__init__()
        self.widths, self.encoder_blocks, self.decoder_blocks = widths, encoder_blocks, decoder_blocks
        encoder, decoder = {}, {}
        w128, w64, w32, w16 = widths
        encoder[0] = nn.Conv2d(3, w128, 3, padding=1)
        for start, count, width in zip((1, 3, 7, 11), encoder_blocks, widths, strict=True):
            encoder |= {start + k: Block(width) for k in range(count)}
        encoder |= {2: Down(w128, w64), 6: Down(w64, w32), 10: Down(w32, w16)}
        encoder[14] = nn.Conv2d(w16, LATENT_CHANNELS, 3, padding=1)
        decoder[1] = nn.Conv2d(LATENT_CHANNELS, w16, 3, padding=1)
        for start, count, width in zip((18, 13, 8, 3), decoder_blocks, widths, strict=True):
            decoder |= {start + k: Block(width) for k in range(count)}
        decoder |= {7: nn.Conv2d(w16, w32, 3, padding=1, bias=False)}
        decoder |= {
            12: nn.Conv2d(w32, w64, 3, padding=1, bias=False),
            17: nn.Conv2d(w64, w128, 3, padding=1, bias=False),
        }
        decoder[19] = nn.Conv2d(w128, 3, 3, padding=1)
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
        for name, modules in (("taesd_encoder", self.encoder), ("taesd_decoder", self.decoder)):
            for index in blocks[name]:
                for k in (0, 2, 4):
                    state[f"{name}.{index}.conv.{k}.weight"] = torch.zeros(WIDE, WIDE, 3, 3)
                    state[f"{name}.{index}.conv.{k}.bias"] = torch.zeros(WIDE)
            for key, module in modules.items():
                if isinstance(module, Block):
                    for k in (0, 2, 4):
                        _embed(state, f"{name}.{key}.conv.{k}", module.conv[k], WIDE, WIDE)
                else:
                    conv = module.conv if isinstance(module, Down) else module
                    outer = (name, key) in {("taesd_encoder", "14"), ("taesd_decoder", "19")}
                    inner = (name, key) in {("taesd_encoder", "0"), ("taesd_decoder", "1")}
                    n_out, n_in = conv.weight.shape[:2]
                    _embed(state, f"{name}.{key}", conv, n_out if outer else WIDE, n_in if inner else WIDE)
        return state


def from_taesd(taesd: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inverse of ``SlimTAESD.to_taesd``, for the default widths: the state dict, in single precision."""
    state = SlimTAESD().state_dict()
    for key, tensor in state.items():
        whole = taesd["taesd_" + key.replace(".conv.weight", ".weight")]  # a Down is a bare convolution there
        tensor.copy_(whole[tuple(map(slice, tensor.shape))])
    return state


def _embed(state: dict, key: str, conv: nn.Conv2d, n_out: int, n_in: int) -> None:
    weight = torch.zeros(n_out, n_in, 3, 3)
    weight[: conv.weight.shape[0], : conv.weight.shape[1]] = conv.weight.detach()
    state[f"{key}.weight"] = weight
    if conv.bias is not None:
        state[f"{key}.bias"] = torch.zeros(n_out)
        state[f"{key}.bias"][: len(conv.bias)] = conv.bias.detach()
