"""Train a HyperNet for any checkpoint of the host with a CLIP text encoder.

    hyperdreambooth train --checkpoint faceworld.safetensors --people DIR --held-out DIR --minutes 13 --seed 1 \\
        --out hypernet.safetensors

Each DIR holds people.npy and people.json (see hypernet/data.py). ``--init`` continues from a HyperNet (weights, not the
optimiser's memory); without it the encoder first learns the people's attributes, if they are known.
"""

import argparse
import time
from pathlib import Path

A, B = 48, 24
SIZES = {"image_size": 128, "patch_size": 16, "encoder_width": 160, "encoder_depth": 4, "encoder_heads": 4,
         "decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4, "refinements": 3}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="faceworld.safetensors", help="name in the host's checkpoint folders")
    parser.add_argument("--people", type=Path, required=True, help="folder of training people")
    parser.add_argument("--held-out", type=Path, help="folder of validation people, for the controls")
    parser.add_argument("--photos", type=int, default=2, help="how many pictures of each person are plain photos")
    parser.add_argument("--out", type=Path, required=True, help="HyperNet file; saved every 100 steps")
    parser.add_argument("--init", type=Path, help="HyperNet file to continue from")
    parser.add_argument("--encoder-minutes", type=float, default=5)
    parser.add_argument("--minutes", type=float, default=13, help="minutes of end-to-end training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trigger", default="[V] face", help="phrase that the captions use for the person")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    for path in (args.people, args.held_out, args.init):
        if path and not path.exists():
            raise ValueError(f"There is nothing at {path}. Check the path.")
    people, held_out, out, init = (p and p.resolve() for p in (args.people, args.held_out, args.out, args.init))
    from .headless import HeadlessHost
    from .host_install import REPOSITORY

    HeadlessHost(REPOSITORY / "output" / "train")
    import comfy.sd
    import folder_paths
    import torch

    from ..hypernet.checkpoint import Identity, load_hypernet, save_hypernet
    from ..hypernet.data import load_people
    from ..hypernet.hypernet import HyperNet, HyperNetConfig
    from ..hypernet.train import Recipe, controls, pretrain_encoder, train
    from ..lidb.basis import Basis
    from ..nodes.host import HostModel

    torch.set_num_threads(1)  # faster than two on small pictures, and leaves the other core to you
    with torch.inference_mode():
        checkpoint = folder_paths.get_full_path_or_raise("checkpoints", args.checkpoint)
        host = HostModel(*comfy.sd.load_checkpoint_guess_config(checkpoint)[:3])
    training = load_people(people, args.photos, host.encode_image)
    validation = held_out and load_people(held_out, args.photos, host.encode_image)
    facts = {"people": len(training.pictures), "seed": args.seed, "minutes": args.minutes}
    if init:
        net, before = load_hypernet(init)
        facts["continued_from"] = before.training
    identity = Identity(host.table, Basis(A, B), args.trigger, host.base, facts)
    if init:
        if before.table != identity.table or before.basis != identity.basis:
            raise ValueError(f"{init.name} was trained for other layers or another basis. Start without --init.")
        net.train().requires_grad_()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(torch.Generator().manual_seed(args.seed).get_state())
            net = HyperNet(HyperNetConfig(**SIZES, layers=len(host.table), numbers=A + B))
        if training.attributes is not None:
            known = pretrain_encoder(net, training, args.encoder_minutes, args.seed)
            print(f"encoder: {1 - known:.2f} of the attributes' variance explained", flush=True)
    started, latents = time.time(), training.latents.shape[2:]

    def report(step, done, loss, average):
        print(f"step {step}  {100 * done:.0f} %  loss {loss:.4f}  {time.time() - started:.0f} s", flush=True)
        if step % 100 == 0:
            save_hypernet(out, average, identity, torch.float16)
            if validation:
                show(controls(average, identity, host, validation))

    recipe = Recipe(minutes=args.minutes, seed=args.seed)
    with host.training((recipe.people * recipe.targets, *latents)):
        average = train(net, identity, host, training, recipe, report)
        save_hypernet(out, average, identity, torch.float16)
        if validation:
            show(controls(average, identity, host, validation))


def show(losses: dict[str, list[float]]) -> None:
    for name, (photo, edit) in losses.items():
        print(f"  {name:10} photo {photo:.4f}  edit {edit:.4f}", flush=True)
