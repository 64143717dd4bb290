"""Which linear layers carry the identity, chosen by name.

A layer is named by its kohya LoRA prefix (``lora_unet_..._attn1_to_q``, ``lora_te_..._self_attn_q_proj``): the one
naming that every host, trainer and LoRA file agrees on. The order of a table never comes from a model's module order,
which differs between hosts; it is the natural sort of the names, UNet first.
"""

import hashlib
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

_UNET_ATTENTION = r"lora_unet_.*_attn[12]_to_(q|k|v|out_0)"
_UNET_GEGLU = r"lora_unet_.*_ff_net_0_proj"
_TEXT_ATTENTION = r"lora_te\d?_.*_self_attn_(q|k|v|out)_proj"

PRESETS = {
    "paper192": re.compile(f"({_UNET_ATTENTION}|{_UNET_GEGLU}|{_TEXT_ATTENTION})$"),
    "attn176": re.compile(f"({_UNET_ATTENTION}|{_TEXT_ATTENTION})$"),
    "unet128": re.compile(f"({_UNET_ATTENTION})$"),
}
"""Preset -> rule. The numbers are SD 1.5's layer counts; the rule applies to any model with such names."""

MAX_TARGETS = 4096
MAX_TABLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Target:
    """One linear layer: its kohya name, ``in_features`` n and ``out_features`` m."""

    name: str
    in_features: int
    out_features: int

    @property
    def is_text(self) -> bool:
        return self.name.startswith("lora_te")


@dataclass(frozen=True)
class TargetTable:
    """The ordered target layers of one base model."""

    targets: tuple[Target, ...]

    def __iter__(self) -> Iterator[Target]:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def names(self) -> list[str]:
        return [t.name for t in self.targets]

    @cached_property
    def text(self) -> str:
        """One line per layer, ``name n m``: what the digest covers and what files carry."""
        return "\n".join(f"{t.name} {t.in_features} {t.out_features}" for t in self.targets)

    @cached_property
    def digest(self) -> str:
        """sha256 of ``text``, hex. Two bases with equal digests can exchange identities' files."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def rank1_numbers(self) -> int:
        """Numbers of a rank-1 LoRA on these layers (SD 1.5, ``paper192``: 385,344)."""
        return sum(t.in_features + t.out_features for t in self.targets)

    def lidb_numbers(self, a: int, b: int) -> int:
        """Numbers of a rank-1 LiDB on these layers (SD 1.5, ``paper192``, a=100, b=50: 28,800)."""
        return len(self.targets) * (a + b)

    def describe(self) -> str:
        """A few words for error messages."""
        text = sum(t.is_text for t in self.targets)
        unet = len(self.targets) - text
        widths = sorted({t.in_features for t in self.targets})
        return f"{unet} UNet + {text} text-encoder layers of width {widths[0]}-{widths[-1]}"

    def pack(self) -> str:
        """The table as a short ASCII string (SD 1.5's 192 names: about 1 KB)."""
        return b64encode(zlib.compress(self.text.encode(), 9)).decode("ascii")

    @staticmethod
    def unpack(packed: str) -> "TargetTable":
        """Inverse of ``pack``.

        Raises:
            ValueError: the string is not a packed table, or is larger than any table can be.
        """
        try:
            inflater = zlib.decompressobj()
            text = inflater.decompress(b64decode(packed, validate=True), MAX_TABLE_BYTES)
            if inflater.unconsumed_tail or not inflater.eof:
                raise ValueError(f"it is longer than {MAX_TABLE_BYTES} bytes or cut short")
            rows = [line.split(" ") for line in text.decode("ascii").split("\n")]
            targets = tuple(Target(name, int(n), int(m)) for name, n, m in rows)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"The list of target layers cannot be read: {error}.") from error
        if len(targets) > MAX_TARGETS or any(
            not 1 <= d <= 1 << 17 for t in targets for d in (t.in_features, t.out_features)
        ):
            raise ValueError("The list of target layers names more or larger layers than any supported model has.")
        return TargetTable(targets)


def _natural(name: str) -> list:
    return [not name.startswith("lora_unet"), *[int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)]]


def select_targets(shapes: Mapping[str, tuple[int, int]], preset: str = "paper192") -> TargetTable:
    """Apply a preset's name rule to a model's linears.

    Args:
        shapes: kohya name -> (in_features, out_features).
        preset: a key of ``PRESETS``.

    Raises:
        ValueError: unknown preset, or the model has no UNet attention; text-encoder layers alone are no diffusion UNet.
    """
    if preset not in PRESETS:
        raise ValueError(f"Unknown target preset {preset!r}; choose one of {', '.join(PRESETS)}.")
    rule = PRESETS[preset]
    targets = [Target(name, n, m) for name, (n, m) in shapes.items() if rule.fullmatch(name)]
    if not any(re.fullmatch(_UNET_ATTENTION, target.name) for target in targets):
        text = sum(target.is_text for target in targets)
        raise ValueError(
            f"The loaded model has no layer of a UNet's attention (attn1, attn2) and {text} text-encoder layers, so a LiDB "
            "cannot act on it; diffusion transformers (Flux, SD3, ...) are not supported. Load a Stable Diffusion 1.x, 2.x "
            "or XL checkpoint."
        )
    return TargetTable(tuple(sorted(targets, key=lambda t: _natural(t.name))))
