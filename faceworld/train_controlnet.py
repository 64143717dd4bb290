"""Train a small ControlNet for the miniature on edge maps, in the layout that the host's stock *Load ControlNet* reads.

    hyperdreambooth faceworld controlnet --data DIR --out faceworld_canny.safetensors

DIR comes from ``faceworld render base``; latents and edge maps are made once and kept there. The ControlNet is the host's
own module (comfy/cldm/cldm.py): a copy of the UNet's encoder half that sees the edges and adds to the UNet's skip
connections, at first nothing. Only the copy is trained; the checkpoint's UNet and text encoder stay as they are.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import comfy.cldm.cldm
import comfy.ops
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..hypernet.muon import Muon
from .edges import edges_of, unpack
from .export import from_checkpoint
from .family import WEIGHTS
from .train_autoencoder import face_weight
from .train_base import HELD_OUT, UNET, Base, drawn, drop_or_personalise, noise_steps, tokens, v_loss

CHECKPOINT = Path(WEIGHTS) / "checkpoints" / "faceworld.safetensors"
NO_CAPTION = 0.3  # share of pictures that only the edges describe


def new_controlnet(unet: torch.nn.Module) -> comfy.cldm.cldm.ControlNet:
    """The host's module with the weights of ``unet``'s encoder half; it changes nothing yet."""
    sizes = {key: value for key, value in UNET.items() if key != "out_channels"}
    net = comfy.cldm.cldm.ControlNet(**sizes, hint_channels=3, operations=comfy.ops.disable_weight_init)
    for layer in net.input_hint_block:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.Conv2d.reset_parameters(layer)
    for layer in (*net.zero_convs, net.middle_block_out, net.input_hint_block[-1:]):
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    net.load_state_dict(net.state_dict() | {k: v for k, v in unet.state_dict().items() if k in net.state_dict()})
    net.input_hint_block.to(memory_format=torch.channels_last)  # a third faster on a CPU
    return net.train().requires_grad_()


def controlled(base: Base, net: torch.nn.Module, edges: torch.Tensor):
    """``Base.forward`` with these edges (N, 3, 128, 128), as the host applies a ControlNet of strength 1."""

    def forward(x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            context = base.text(ids, dtype=torch.float32)[0]
        return base.unet(x, t, context=context, control=net(x, edges, t, context))

    return forward


@torch.no_grad()
def held_out_losses(base: Base, net: torch.nn.Module, latents: np.ndarray, edges: np.ndarray, captions: list[str]):
    """Loss without and with control over 256 held-out pictures with evenly spread noise levels."""
    totals, stream = [0.0, 0.0], torch.Generator().manual_seed(1)
    for i in range(0, 256, 32):
        x0 = torch.from_numpy(latents[i : i + 32].astype(np.float32))
        noise, t = torch.randn(x0.shape, generator=stream), (torch.arange(i, i + 32) * 1000) // 256
        for k, model in enumerate((base, controlled(base, net, unpack(edges[i : i + 32])))):
            totals[k] += v_loss(model, x0, t, noise, tokens(captions[i : i + 32])).item() / 8
    return totals


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--init", type=Path, help="continue from this file")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--processes", type=int, default=2, help="to draw the control pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16, faster on processors that can")
    args = parser.parse_args(argv)
    weights, autoencoder = from_checkpoint(load_file(args.checkpoint))
    latents, captions = drawn(args.data, autoencoder, args.batch)
    edges = edges_of(args.data, len(latents), args.processes)
    count = len(latents) - HELD_OUT
    rng, stream = np.random.default_rng(args.seed), torch.Generator().manual_seed(args.seed)
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(torch.Generator().manual_seed(args.seed).get_state())
        base = Base()
        base.load_state_dict(weights)
        net = new_controlnet(base.requires_grad_(False).unet)
    if args.init:
        net.load_state_dict(load_file(args.init))
    average = copy.deepcopy(net)
    weight = torch.nn.functional.avg_pool2d(face_weight(2.0)[None], 8)[0]  # (16, 16), as the base model's last stages
    optimizer = Muon(dict(net.named_parameters()), args.lr, adam_names=("input_hint_block.0.",))
    recent, order, started, saved = [], [], time.time(), time.time()
    for step in range(1, args.steps + 1):
        if len(order) < args.batch:
            order = list(rng.permutation(count))
        index = [order.pop() for _ in range(args.batch)]
        x0 = torch.from_numpy(latents[index].astype(np.float32))
        words = ["" if rng.random() < NO_CAPTION else drop_or_personalise(captions[i], rng) for i in index]
        noise = torch.randn(x0.shape, generator=stream)
        model = controlled(base, net, unpack(edges[index]))
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = v_loss(model, x0, noise_steps(args.batch, stream), noise, tokens(words), weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step(args.lr * min(1, step / 60) * min(1, (1 - (step - 1) / args.steps) / 0.4))
        recent.append(loss.item())
        with torch.no_grad():
            decay = min(0.998, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        if step % 100 == 0:
            speed = step * args.batch / (time.time() - started)
            print(f"step {step} loss {np.mean(recent[-100:]):.4f} {speed:.0f} pictures/s", flush=True)
        if time.time() - saved > 240:
            plain, control = held_out_losses(base, average, latents[count:], edges[count:], captions[count:])
            print(f"held-out loss without control {plain:.4f}, with {control:.4f}", flush=True)
            _save(average, args.out, step * args.batch)
            saved = time.time()
    _save(average, args.out, args.steps * args.batch)
    plain, control = held_out_losses(base, average, latents[count:], edges[count:], captions[count:])
    print(f"held-out loss without control {plain:.4f}, with {control:.4f}", flush=True)


def _save(net: torch.nn.Module, path: Path, seen: int) -> None:
    partial = path.with_suffix(".partial")
    state = {k: v.to(torch.float16).contiguous() for k, v in net.state_dict().items()}
    about = {
        "modelspec.title": "faceworld, edges",
        "modelspec.architecture": "faceworld/controlnet",
        "hyperdreambooth.history": json.dumps({"images_seen": seen}),
    }
    save_file(state, partial, metadata=about)
    partial.replace(path)
