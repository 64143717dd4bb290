"""Train the miniature autoencoder on rendered pictures.

    hyperdreambooth faceworld autoencoder --data DIR --out autoencoder.safetensors --minutes 30

DIR comes from ``faceworld render base`` (``x.npy``). ``--init`` continues from such a file or from a checkpoint; with
``--pull`` the latents stay near those of the file it began from, so that a base model trained on them learns on from there.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ..hypernet.muon import Muon
from .autoencoder import SlimTAESD, wake
from .export import load_autoencoder

HELD_OUT = 256


def picture_loss(y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """L1 + gradients + coarse L1; (N, 3, H, W) in 0..1, errors times ``weight (N, 1, H, W)``, mean 1."""
    pool = torch.nn.functional.avg_pool2d
    error = (y - x).abs() * weight
    edges = (
        (y.diff(dim=2) - x.diff(dim=2)).abs() * weight[:, :, 1:],
        (y.diff(dim=3) - x.diff(dim=3)).abs() * weight[..., 1:],
    )
    fine = error.mean() + 0.8 * sum(e.mean() for e in edges) + (error * (y - x).abs()).mean()
    return fine + 0.4 * (pool(y, 4) - pool(x, 4)).abs().mean()


def face_weight(strength: float) -> torch.Tensor:
    """Weights (128, 128), mean 1: ``1 + strength`` between the eyes and the mouth, where a face is recognised."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    weight = 1 + strength * torch.exp(-(((x - 64) / 26) ** 2) - ((y - 72) / 26) ** 2)
    return weight / weight.mean()


def psnr(model: SlimTAESD, pictures: np.ndarray) -> float:
    """Mean PSNR in dB over uint8 pictures (N, 128, 128, 3)."""
    values = []
    with torch.no_grad():
        for i in range(0, len(pictures), 16):
            x = torch.from_numpy(pictures[i : i + 16].copy()).permute(0, 3, 1, 2).float() / 255
            error = (model.decode(model.encode(x)).clamp(0, 1) - x).pow(2).mean((1, 2, 3))
            values += (-10 * error.log10()).tolist()
    return float(np.mean(values))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--crop", type=int, default=64, help="side of the training crops; end with whole pictures (128)"
    )
    parser.add_argument("--init", type=Path, help="continue from this file, or from this checkpoint's autoencoder")
    parser.add_argument("--pull", type=float, default=0.0, help="weight of staying near the latents of --init")
    parser.add_argument("--face", type=float, default=0.0, help="extra weight of the inner face in the loss")
    parser.add_argument(
        "--decoder-only", action="store_true", help="keep the latents (and the base model trained on them) as they are"
    )
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16, faster on processors that can")
    args = parser.parse_args(argv)
    if args.pull and not args.init:
        parser.error("--pull needs --init: the latents to stay near are those of that file.")
    pictures = np.load(args.data / "x.npy", mmap_mode="r")
    count = len(pictures) - HELD_OUT
    rng, stream = np.random.default_rng(args.seed), torch.Generator().manual_seed(args.seed)
    with torch.random.fork_rng():
        torch.random.set_rng_state(torch.Generator().manual_seed(args.seed).get_state())
        model = SlimTAESD()
    if args.init:
        model.load_state_dict(load_autoencoder(args.init))
    model.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    first = copy.deepcopy(model).requires_grad_(False)
    wake(model, stream)
    edge = ("encoder.0.", "encoder.14.", "decoder.1.", "decoder.19.")
    model.encoder.requires_grad_(not args.decoder_only)
    optimizer = Muon({k: p for k, p in model.named_parameters() if p.requires_grad}, args.lr, adam_names=edge)
    weight = face_weight(args.face)[None, None]
    started, step, recent = time.time(), 0, []
    while (done := (time.time() - started) / 60 / args.minutes) < 1:
        index = np.sort(rng.choice(count, args.batch, replace=False))
        # crops on the latent grid, centred on the face more often than not
        last = (128 - args.crop) // 8
        top, left = (int(np.clip(round(rng.normal(m, 2.2)), 0, last)) * 8 for m in (3.5, 4.0))
        crop = np.ascontiguousarray(pictures[index, top : top + args.crop, left : left + args.crop])
        x = torch.from_numpy(crop).permute(0, 3, 1, 2).float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            z = model.encode(x)
            near = first.encode(x) if args.pull else torch.zeros(())
            spread = z.detach().pow(2).mean().sqrt() * 0.08
            noise = torch.randn(z.shape, generator=stream) * spread * torch.rand(len(z), 1, 1, 1, generator=stream)
            y = model.decode(z + noise)
        here = weight[..., top : top + args.crop, left : left + args.crop]
        loss = picture_loss(y.float(), x, here) + (args.pull or 1e-3) * (z - near).float().pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(args.lr * min(1, (step + 1) / 50) * (1 if done < 0.4 else max(0.02, (1 - done) / 0.6)))
        step += 1
        recent.append(loss.item())
        if step % 200 == 0:
            note = f" psnr {psnr(model, pictures[count : count + 32]):.2f} dB" if step % 1000 == 0 else ""
            print(f"step {step} {done:.0%} loss {np.mean(recent[-200:]):.4f}{note}", flush=True)
        if step % 1000 == 0:
            _save(model, args.out)
    _save(model, args.out)
    print(f"held-out psnr {psnr(model, pictures[count:]):.2f} dB after {step * args.batch} crops", flush=True)


def _save(model: SlimTAESD, path: Path) -> None:
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, partial)
    partial.replace(path)
