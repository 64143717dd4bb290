"""Put a trained UNet, text encoder and autoencoder into one checkpoint file, half precision, with its history.

    python -m hyperdreambooth faceworld export --base base.safetensors --autoencoder autoencoder.safetensors --out faceworld.safetensors

``--base`` is a safetensors file with ``unet.*`` and ``text.*`` tensors.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .autoencoder import SlimTAESD, from_taesd

PREFIXES = {"unet.": "model.diffusion_model.", "text.": "cond_stage_model.transformer.text_model."}


def to_checkpoint(base: dict[str, torch.Tensor], autoencoder: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The host's SD 1.x file layout.

    Args:
        base: ``unet.<host key>`` and ``text.<CLIP text_model key>``.
        autoencoder: ``SlimTAESD`` state dict.
    """
    slim = SlimTAESD()
    slim.load_state_dict(autoencoder)
    state = {}
    for key, tensor in base.items():
        part = next(p for p in PREFIXES if key.startswith(p))
        state[PREFIXES[part] + key.removeprefix(part)] = tensor
    state |= {"first_stage_model." + key: tensor for key, tensor in slim.to_taesd().items()}
    state = {key: tensor.to(torch.float16).contiguous() for key, tensor in state.items()}
    # a projection that SD 1.x never uses, but whose absence the host would report
    state["cond_stage_model.transformer.text_projection.weight"] = torch.eye(128, dtype=torch.float16)
    return state


def from_checkpoint(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Inverse of ``to_checkpoint``, in single precision: what ``faceworld base`` and ``faceworld autoencoder`` train."""
    base = {
        ours + key.removeprefix(theirs): tensor.float()
        for ours, theirs in PREFIXES.items()
        for key, tensor in state.items()
        if key.startswith(theirs)
    }
    taesd = {k.removeprefix("first_stage_model."): v for k, v in state.items() if k.startswith("first_stage_model.")}
    return base, from_taesd(taesd)


def load_base(path: Path) -> dict[str, torch.Tensor]:
    """``unet.*`` and ``text.*`` tensors of a file of ``faceworld base``, or of a checkpoint."""
    state = load_file(path)
    return from_checkpoint(state)[0] if _is_checkpoint(state) else state


def load_autoencoder(path: Path) -> dict[str, torch.Tensor]:
    """``SlimTAESD`` state dict of a file of ``faceworld autoencoder``, or of a checkpoint."""
    state = load_file(path)
    return from_checkpoint(state)[1] if _is_checkpoint(state) else state


def _is_checkpoint(state: dict[str, torch.Tensor]) -> bool:
    return any(key.startswith("first_stage_model.") for key in state)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--history", default="{}", help="JSON of training facts for the metadata")
    args = parser.parse_args(argv)
    json.loads(args.history)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        to_checkpoint(load_file(args.base), load_file(args.autoencoder)),
        args.out,
        metadata={
            "modelspec.title": "faceworld",
            "modelspec.architecture": "faceworld",
            "hyperdreambooth.history": args.history,
        },
    )
    print(f"{args.out} {args.out.stat().st_size / 1e6:.1f} MB")
