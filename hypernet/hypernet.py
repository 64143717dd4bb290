"""The HyperNetwork (paper, section 4.2): a ViT looks at the face once; a transformer decoder over one token per target
layer predicts that layer's numbers, refined over ``s`` steps from zero."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import einsum, rearrange, repeat
from torch import nn
from transformers import ViTConfig, ViTModel

from .decoder import decode, keys_values

HEAD_STD = 1e-3


@dataclass(frozen=True)
class HyperNetConfig:
    """Every size of a HyperNet; stored in its checkpoint. ``numbers`` is a + b, ``layers`` the target layers.

    Raises:
        ValueError: on construction, for sizes that no network can have.
    """

    image_size: int
    patch_size: int
    encoder_width: int
    encoder_depth: int
    encoder_heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    refinements: int
    layers: int
    numbers: int

    def __post_init__(self):
        odd = {k: v for k, v in vars(self).items() if type(v) is not int or v < 1}
        if odd:
            raise ValueError(f"A HyperNet's sizes are whole numbers from 1 on, but got {str(odd)[:100]}")
        if self.patch_size > self.image_size:
            raise ValueError(
                f"A HyperNet's patches ({self.patch_size} px) are larger than its picture ({self.image_size})"
            )
        for width, heads in (
            (self.encoder_width, self.encoder_heads),
            (self.decoder_width, self.decoder_heads),
        ):
            if width % heads:
                raise ValueError(f"A HyperNet's width of {width} cannot be divided among {heads} attention heads")


class LayerHead(nn.Module):
    """One linear read-out per target layer: (N, L, d) -> (N, L, a+b). Each layer's factors live in a basis of their own
    model width, so nothing is gained by sharing the read-out."""

    def __init__(self, layers: int, width: int, numbers: int):
        super().__init__()
        # N(0, 1e-3), not zero: zero would be a saddle, where both factors' gradients vanish
        self.weight = nn.Parameter(torch.randn(layers, width, numbers) * HEAD_STD)
        self.bias = nn.Parameter(torch.zeros(layers, numbers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return einsum(x, self.weight, "n l d, l d o -> n l o") + self.bias


class HyperNet(nn.Module):
    """Pictures -> identities.

    ``mean (L, a+b)``, trained too, is the mean identity; the buffer ``scale (L, 1)`` makes the network's own output a
    normalised deviation from it, so that every layer counts alike.
    """

    def __init__(self, config: HyperNetConfig):
        super().__init__()
        self.config = c = config
        self.encoder = ViTModel(
            ViTConfig(
                hidden_size=c.encoder_width,
                num_hidden_layers=c.encoder_depth,
                num_attention_heads=c.encoder_heads,
                intermediate_size=4 * c.encoder_width,
                image_size=c.image_size,
                patch_size=c.patch_size,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        self.face_in = nn.Linear(c.encoder_width, c.decoder_width)
        self.pooled_in = nn.Linear(c.encoder_width, c.decoder_width)  # without it, attention takes long to let faces in
        self.weights_in = nn.Linear(c.numbers, c.decoder_width)
        # as large as what the blocks add: with small embeddings all layers get nearly the same numbers and fight over them
        self.layer_embedding = nn.Parameter(torch.randn(c.layers, c.decoder_width) * 0.5)
        layer = nn.TransformerDecoderLayer(
            c.decoder_width, c.decoder_heads, 4 * c.decoder_width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, c.decoder_depth, norm=nn.LayerNorm(c.decoder_width))
        self.head = LayerHead(c.layers, c.decoder_width, c.numbers)
        self.mean = nn.Parameter(torch.zeros(c.layers, c.numbers))
        self.register_buffer("scale", torch.ones(c.layers, 1))

    def look(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) in 0..1 -> face tokens (N, T, width).

        Raises:
            ValueError: pictures of another size.
        """
        S = self.config.image_size
        if pictures.shape[1:] != (3, S, S):
            raise ValueError(f"This HyperNet looks at pictures (N, 3, {S}, {S}), got {tuple(pictures.shape)}.")
        return self.encoder(pixel_values=pictures * 2 - 1).last_hidden_state

    def refine(self, face: torch.Tensor) -> torch.Tensor:
        """Face tokens (N, T, width) -> normalised deviation from the mean identity (N, L, a+b)."""
        memory = keys_values(self.decoder, self.face_in(face))
        theta = face.new_zeros(face.shape[0], self.config.layers, self.config.numbers)
        layers = repeat(self.layer_embedding, "l d -> n l d", n=face.shape[0]) + self.pooled_in(
            face.mean(1, keepdim=True)
        )
        for _ in range(self.config.refinements):
            theta = theta + self.head(decode(self.decoder, layers + self.weights_in(theta), memory))
        return theta

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) in 0..1 -> identities (N, L, a+b)."""
        return self.mean + self.scale * self.refine(self.look(pictures))

    @torch.no_grad()
    def predict(self, photos: torch.Tensor) -> torch.Tensor:
        """Several photos (P, 3, S, S) of one person -> one identity (L, a+b), from all face tokens side by side."""
        tokens = rearrange(self.look(photos), "p t d -> 1 (p t) d")
        return (self.mean + self.scale * self.refine(tokens))[0]


def load_encoder(net: HyperNet, folder: Path) -> None:
    """Start from a ViT that lies in a local ``transformers`` folder; it looks at pictures scaled to -1..1.

    Raises:
        ValueError: the folder's ViT has other sizes than the network's encoder, or was trained on another scale.
    """
    vit = ViTModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
    wanted = encoder_sizes(folder)
    odd = {k: v for k, v in wanted.items() if getattr(net.config, k) != v}
    if odd:
        raise ValueError(f"The ViT in {folder} has {odd}, which is not what this HyperNet was built with.")
    scale = folder / "preprocessor_config.json"
    mean = json.loads(scale.read_text()).get("image_mean", [0.5]) if scale.is_file() else [0.5]
    if any(abs(m - 0.5) > 1e-3 for m in mean):
        raise ValueError(
            f"The ViT in {folder} wants pictures normalised with mean {mean}; HyperNets scale theirs to -1..1 (mean 0.5). "
            "Choose another ViT, for instance one of the google/vit family."
        )
    net.encoder.load_state_dict(vit.state_dict())


def encoder_sizes(folder: Path) -> dict[str, int]:
    """The part of a ``HyperNetConfig`` that a ViT's ``config.json`` decides."""
    c = ViTConfig.from_pretrained(folder, local_files_only=True)
    return {
        "image_size": c.image_size,
        "patch_size": c.patch_size,
        "encoder_width": c.hidden_size,
        "encoder_depth": c.num_hidden_layers,
        "encoder_heads": c.num_attention_heads,
    }
