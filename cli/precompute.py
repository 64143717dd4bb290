"""Prepare a folder of faces for training: crop, encode, caption, and fit a LiDB for every person.

    hyperdreambooth precompute --checkpoint sd15.safetensors --images faces/ --out people/

One sub-folder per person with several pictures, or one picture file per person. Beside NAME.png may lie NAME.txt (its
caption, with the trigger phrase) and NAME.mask.png (white on the face). Pictures named edit* are learnt from but never
used as a reference, and need their caption. Broken pictures are listed in OUT/report.json with the reason and skipped.

Interrupt it whenever you like: the same command goes on where it was, and later also with people who came since, with those
of whom nothing could be used until you mended their files, or with a larger --fit. Under `accelerate launch`, or with --part 2/8 on several machines sharing OUT, the batches are divided.
"""

import argparse
import os
import sys
import time
from pathlib import Path

TOGETHER = {"Faceworld": 32}  # one sample of SD 1.5 at 512 px takes some 2 GB under training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", default="faceworld.safetensors", help="name in the host's checkpoint folders")
    parser.add_argument("--images", type=Path, required=True, help="folder of faces")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared people")
    parser.add_argument("--fit", type=int, help="fit a LiDB for the first N people only (default: all; 0: for none)")
    parser.add_argument("--batch", type=int, default=32, help="people who share a shard file")
    parser.add_argument(
        "--together", type=int, help="people fitted in one forward, a matter of memory alone (default 4; faceworld 32)"
    )
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps per person")
    parser.add_argument("--samples", type=int, default=2, help="noisy pictures per person and step")
    parser.add_argument("--lr", type=float, default=2e-2, help="Adam's learning rate on the LiDB's numbers")
    parser.add_argument("--a", type=int, default=100, help="size of the basis on the input side")
    parser.add_argument("--b", type=int, default=50, help="size of the basis on the output side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompt", default="a photo of a [V] face", help="caption of pictures without one")
    parser.add_argument("--trigger", default="[V] face", help="words that call the person; every caption has them")
    parser.add_argument(
        "--face-size", type=int, help="side of the picture for the HyperNet (default 224; faceworld 128)"
    )
    parser.add_argument("--resolution", type=int, help="side of the picture for the model (default: 512 for SD 1.5)")
    parser.add_argument("--own-start", action="store_true", help="private start and noise for everybody (paper recipe)")
    parser.add_argument("--part", default="1/1", help="i/n: take every n-th batch, from the i-th on")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from ..hypernet.picture_folder import find_people, fingerprint

    args.images, args.out = args.images.resolve(), args.out.resolve()
    part, parts = _part(args.part)
    if args.trigger not in args.prompt:
        raise ValueError(f"The prompt {args.prompt!r} lacks the trigger phrase {args.trigger!r}. Put it in.")
    for name in ("batch", "together", "fit"):
        least, given = int(name != "fit"), getattr(args, name)
        if given is not None and given < least:
            raise ValueError(f"--{name} is a number of people, at least {least}, not {given}.")
    if (args.together or 0) > args.batch:
        raise ValueError(
            f"--together {args.together} cannot be more than the {args.batch} people of a --batch. Raise --batch too."
        )
    people = {person.name: person for person in find_people(args.images)}
    from .headless import HeadlessHost, pick_device
    from .host_install import REPOSITORY

    pick_device()
    HeadlessHost(REPOSITORY / "output" / "train").check_listed("checkpoints", args.checkpoint)
    from .prepare import Preparation

    preparation = Preparation(args)
    from tqdm import tqdm

    from ..hypernet.shards import count_shard, open_plan, read_shard, write_report, write_shard

    prints = {name: fingerprint(person) for name, person in people.items()}
    batches, looks = open_plan(args.out, preparation.settings, prints, args.batch)
    changed = [n for n, now in prints.items() if (look := looks.get(n)) and look.kept and look.seen not in (None, now)]
    if changed:
        print(
            f"{changed[0]} (one of {len(changed)}) has other pictures than when it was prepared, and stays as it was. "
            "To read such people again, prepare in another --out."
        )
    fit = sys.maxsize if args.fit is None else args.fit
    first, started, fitted = 0, time.time(), 0
    bar = tqdm(total=sum(map(len, batches)), unit="people", disable=None)  # None: only on a terminal
    for number, names in enumerate(batches):
        there = count_shard(args.out, number)
        lacking = there and min(there[0], fit - first) > there[1]  # fewer were asked for then
        if number % parts == part and (there is None or lacking):
            shard = read_shard(args.out, number) if there else preparation.read(names, people)
            before = len(shard.loss)
            preparation.fit_more(shard, fit - first, first, bar)
            write_shard(args.out, number, shard)
            fitted += len(shard.loss) - before
            rate = 60 * fitted / (time.time() - started)
            loss = f", final loss {shard.loss.mean():.4f}" if len(shard.loss) else ""
            speed = f", {rate:.1f} people fitted a minute" if fitted else ""
            print(f"batch {number + 1} of {len(batches)}: {len(shard.names)} people{loss}{speed}", flush=True)
        first += len(names)
        bar.update(len(names))
    bar.close()
    report = write_report(args.out)
    print(
        f"{report['people']} people, {report['pictures']} pictures, {report['fitted']} fitted, "
        f"{len(report['skipped'])} pictures skipped (see {args.out / 'report.json'})"
    )


def _part(text: str) -> tuple[int, int]:
    """``i/n`` -> (i - 1, n); under ``accelerate launch`` the processes divide the part again."""
    try:
        i, n = (int(v) for v in text.split("/"))
        if not 1 <= i <= n:
            raise ValueError
    except ValueError:
        raise ValueError(f"--part is i/n with 1 <= i <= n, for instance 2/8, not {text!r}.") from None
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    return (i - 1) * world + rank, n * world
