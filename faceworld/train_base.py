"""Train the miniature UNet and text encoder, on the host's own modules, from captions and latents.

    hyperdreambooth faceworld base --data DIR --autoencoder autoencoder.safetensors --out base.safetensors --minutes 60

DIR comes from ``faceworld render base`` (``x.npy``, ``captions.json``); latents are made once and kept as
``latents_<digest>.npy``. The objective is v-prediction on Stable Diffusion's noise schedule with noise levels drawn
from a logit-normal around its middle. The file holds the moving average; ``--init`` continues from one.
"""

import argparse
import copy
import hashlib
import json
import time
from pathlib import Path

import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
import comfy.ops
import numpy as np
import torch
from safetensors.torch import save_file

from ..hypernet.muon import Muon
from .autoencoder import LATENT_CHANNELS, SlimTAESD
from .export import load_autoencoder, load_base
from .family import TEXT_CONFIG, WIDTH, FaceworldTextModel
from .train_autoencoder import face_weight
from .vocabulary import MAX_LENGTH, PAD, WordTokenizer

HELD_OUT = 512
# share of the signal's variance that is left after each of the 1000 steps: SD's scaled-linear schedule
KEPT = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()
UNET = {
    "in_channels": LATENT_CHANNELS, "out_channels": LATENT_CHANNELS, "model_channels": 64, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1, "context_dim": WIDTH, "num_heads": 4, "use_spatial_transformer": True,
    "use_linear_in_transformer": False, "legacy": False, "image_size": 32, "dtype": torch.float32,
}  # fmt: skip


class Base(torch.nn.Module):
    """``unet`` and ``text`` with the keys that ``faceworld export`` expects."""

    def __init__(self):
        super().__init__()
        ops = comfy.ops.disable_weight_init
        self.unet = openaimodel.UNetModel(**UNET, operations=ops)
        self.text = FaceworldTextModel(TEXT_CONFIG, torch.float32, "cpu", ops).text_model
        self.train().requires_grad_()
        _initialise(self)
        for layer in self.text.encoder.layers:  # comfy/clip_model.py adds to its input in place; autograd needs a copy
            for norm in (layer.layer_norm1, layer.layer_norm2):
                norm.register_forward_pre_hook(_copied)

    def forward(self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Noisy latents (N, 8, 16, 16), steps (N,), token ids (N, 24) -> v."""
        return self.unet(x, t, context=self.text(ids, dtype=torch.float32)[0])


def _copied(_module, args):
    return (args[0].clone(), *args[1:])


def _initialise(base: Base) -> None:
    """The host leaves weights unset: torch's own defaults, zeros where a block must begin as the identity."""
    for name, module in base.named_modules():
        for kind in (torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm):
            if isinstance(module, kind):
                kind.reset_parameters(module)
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.02 if "position" in name else 0.3)
        if name.endswith(("out_layers.3", "proj_out", "unet.out.2")):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)


TOKENIZER = WordTokenizer()


def tokens(captions: list[str]) -> torch.Tensor:
    """(N, 24) ids, padded."""
    rows = [TOKENIZER(c)["input_ids"] for c in captions]
    rows = [r if len(r) <= MAX_LENGTH else [*r[: MAX_LENGTH - 1], r[-1]] for r in rows]
    return torch.tensor([r + [PAD] * (MAX_LENGTH - len(r)) for r in rows])


def drop_or_personalise(caption: str, rng: np.random.Generator) -> str:
    """One in ten empty (for guidance), one in five with [V], which so becomes a word without a meaning of its own."""
    if rng.random() < 0.1:
        return ""
    return caption.replace("face", "[V] face") if rng.random() < 0.2 else caption


def v_loss(
    base: Base,
    x0: torch.Tensor,
    t: torch.Tensor,
    noise: torch.Tensor,
    ids: torch.Tensor,
    weight: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Mean squared error of v at SD's scaled-linear schedule, times ``weight (16, 16)``."""
    kept = KEPT[t].view(-1, 1, 1, 1)
    a, s = kept.sqrt(), (1 - kept).sqrt()
    return ((base(a * x0 + s * noise, t, ids) - (a * noise - s * x0)).pow(2) * weight).mean()


def noise_steps(count: int, stream: torch.Generator) -> torch.Tensor:
    """Logit-normal and stratified, most often around 480 of 1000."""
    u = (torch.rand((), generator=stream) + torch.arange(count) / count) % 1
    return (torch.sigmoid(torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)) * 1.15 - 0.1) * 1000).long().clamp(0, 999)


@torch.no_grad()
def validation_loss(base: Base, latents: np.ndarray, captions: list[str]) -> float:
    """Over 256 held-out pictures with evenly spread noise levels."""
    total, stream = 0.0, torch.Generator().manual_seed(1)
    for i in range(0, 256, 32):
        x0 = torch.from_numpy(latents[i : i + 32].astype(np.float32))
        noise = torch.randn(x0.shape, generator=stream)
        total += (
            v_loss(base, x0, (torch.arange(i, i + 32) * 1000) // 256, noise, tokens(captions[i : i + 32])).item() / 8
        )
    return total


@torch.no_grad()
def latents_of(data: Path, autoencoder: dict[str, torch.Tensor]) -> np.ndarray:
    """(N, 8, 16, 16) half precision, made once for these pictures and this encoder; another decoder changes nothing."""
    seen = hashlib.sha256((data / "captions.json").read_bytes())
    for key in sorted(k for k in autoencoder if k.startswith("encoder.")):
        seen.update(autoencoder[key].float().contiguous().numpy().tobytes())
    cache = data / f"latents_{seen.hexdigest()[:12]}.npy"
    if not cache.is_file():
        model = SlimTAESD()
        model.load_state_dict(autoencoder)
        model.to(memory_format=torch.channels_last)
        pictures, parts = np.load(data / "x.npy", mmap_mode="r"), []
        for i in range(0, len(pictures), 64):
            x = torch.from_numpy(pictures[i : i + 64].copy()).permute(0, 3, 1, 2).float() / 255
            parts.append(model.encode(x).half())
        partial = cache.with_suffix(".partial.npy")
        np.save(partial, torch.cat(parts).numpy())
        partial.replace(cache)
    return np.load(cache)


def drawn(data: Path, autoencoder: dict[str, torch.Tensor], batch: int) -> tuple[np.ndarray, list[str]]:
    """Latents (N, 8, 16, 16) and captions (N,) of rendered pictures, of which the last ``HELD_OUT`` are held out.

    Raises:
        ValueError: fewer captions than pictures, or too few pictures for a batch beside those held out.
    """
    captions = [record["caption"] for record in json.loads((data / "captions.json").read_text())]
    latents = latents_of(data, autoencoder)
    if len(latents) - HELD_OUT < batch or len(captions) != len(latents):
        raise ValueError(
            f"{data} has {len(latents)} pictures and {len(captions)} captions; both must agree, with more than "
            f"{HELD_OUT + batch} pictures ({HELD_OUT} are held out). Render more."
        )
    return latents, captions


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--init", type=Path, help="continue from this file, or from this checkpoint's UNet and text encoder"
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--face", type=float, default=0.0, help="extra weight of the inner face in the loss")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16, faster on processors that can")
    args = parser.parse_args(argv)
    latents, captions = drawn(args.data, load_autoencoder(args.autoencoder), args.batch)
    count = len(latents) - HELD_OUT
    rng, stream = np.random.default_rng(args.seed), torch.Generator().manual_seed(args.seed)
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(torch.Generator().manual_seed(args.seed).get_state())
        base = Base()
    if args.init:
        base.load_state_dict(load_base(args.init))
    average = copy.deepcopy(base)
    weight = torch.nn.functional.avg_pool2d(face_weight(args.face)[None], 8)[0]  # (16, 16), mean 1
    edge = ("unet.input_blocks.0.", "unet.out.2", "text.embeddings.")
    optimizer = Muon(dict(base.named_parameters()), args.lr, adam_names=edge)
    started, step, recent, order, saved = time.time(), 0, [], [], time.time()
    while (done := (time.time() - started) / 60 / args.minutes) < 1:
        if len(order) < args.batch:
            order = list(rng.permutation(count))
        index = [order.pop() for _ in range(args.batch)]
        x0 = torch.from_numpy(latents[index].astype(np.float32))
        ids = tokens([drop_or_personalise(captions[i], rng) for i in index])
        noise = torch.randn(x0.shape, generator=stream)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = v_loss(base, x0, noise_steps(args.batch, stream), noise, ids, weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimizer.step(args.lr * min(1, (step + 1) / 60) * (1 if done < 0.6 else max(0.02, (1 - done) / 0.4)))
        step += 1
        recent.append(loss.item())
        with torch.no_grad():
            decay = min(0.998, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(base.parameters()), 1 - decay)
        if step % 200 == 0:
            speed = step * args.batch / (time.time() - started)
            print(f"step {step} {done:.0%} loss {np.mean(recent[-200:]):.4f} {speed:.0f} pictures/s", flush=True)
        if time.time() - saved > 240:
            _save(average, args.out)
            saved = time.time()
    _save(average, args.out)
    held_out = validation_loss(average, latents[count:], captions[count:])
    print(f"{step * args.batch} pictures seen, held-out loss {held_out:.4f}", flush=True)


def _save(base: Base, path: Path) -> None:
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in base.state_dict().items()}, partial)
    partial.replace(path)
