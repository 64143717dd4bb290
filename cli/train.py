"""Train a HyperNet on people that `hyperdreambooth precompute` has prepared.

    hyperdreambooth train --checkpoint sd15.safetensors --data people/ --out run/ --size huge --steps 20000
    accelerate launch --num_processes 8 -m hyperdreambooth train ... --people 64       (many GPUs: the same command)

--people is divided among the processes, so it must be a multiple of their number; on several machines --out is a folder
that all of them see. Without --warmup-steps, 1000 steps on the fitted LiDBs come first where precompute fitted people
(none with --recipe paper or --init). --without takes one cure of the paper's recipe away, to see what it gives.

Kill it when you like: the same command goes on from the last checkpoint, and ends with the same weights as a run that
was never interrupted. After SIGTERM it saves and ends with status 143, so that a scheduler knows it is not done. RUN holds hypernet.safetensors (the moving average, for models/hypernets), state.safetensors (to
go on from), losses.jsonl, sheets/ (pictures of held-out people) and logs/ for `tensorboard --logdir RUN/logs`.

Is it learning? The table of controls says so: "predicted" must fall below "plain" (no identity) and "mean" (everybody's
average), "wrong" (another person's prediction) must rise above them.
"""

import argparse
import importlib.util
import os
import signal
import socket
import sys
import time
from pathlib import Path

SIZES = {
    "small": {"image_size": 128, "patch_size": 16, "encoder_width": 160, "encoder_depth": 4, "encoder_heads": 4,
              "decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4},
    "base": {"image_size": 224, "patch_size": 16, "encoder_width": 768, "encoder_depth": 12, "encoder_heads": 12,
             "decoder_width": 512, "decoder_depth": 2, "decoder_heads": 8},
    "huge": {"image_size": 224, "patch_size": 14, "encoder_width": 1280, "encoder_depth": 32, "encoder_heads": 16,
             "decoder_width": 1024, "decoder_depth": 2, "decoder_heads": 16},
}  # fmt: skip
CURES = ("gauge", "norm", "mean", "others", "muon")  # as in hypernet.recipe, which needs torch
SHEET_PROMPTS = ["a photo of a {}", "a pencil sketch of a {}", "pop art of a {}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", default="faceworld.safetensors", help="name in the host's checkpoint folders")
    parser.add_argument("--data", type=Path, required=True, help="folder that precompute made")
    parser.add_argument("--partial", action="store_true", help="train although precompute has not finished that folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--recipe",
        choices=("plus", "paper"),
        default="plus",
        help="paper: its two losses on raw numbers, by Adam at half of --lr",
    )
    parser.add_argument("--steps", type=int, default=2000, help="end-to-end steps")
    parser.add_argument(
        "--warmup-steps", type=int, help="steps on the fitted LiDBs before them (default 1000 if people were fitted)"
    )
    parser.add_argument("--without", action="append", choices=CURES, default=[], help="take away a cure (repeatable)")
    parser.add_argument("--people", type=int, default=12, help="people a step, over all processes")
    parser.add_argument("--targets", type=int, default=2, help="pictures of each person a step")
    parser.add_argument("--accumulate", type=int, default=1, help="shares of a step, to save memory")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-loss", type=float, help="weight of |theta_hat - theta|^2 (plus 0.01, paper 0.1)")
    parser.add_argument("--norm-weight", type=float, default=1e-4, help="weight of the deviation's size")
    parser.add_argument("--low-share", type=float, help="share of noise levels below the middle (plus 0.12, paper 0.5)")
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size", choices=SIZES, help="huge: the paper's ViT-H (default: small for faces of 128 px, base for 224 px)"
    )
    parser.add_argument("--refinements", type=int, default=3, help="times the decoder refines its prediction")
    parser.add_argument("--encoder", type=Path, help="local transformers folder of a ViT to start the encoder from")
    parser.add_argument("--init", type=Path, help="HyperNet file to start from")
    parser.add_argument("--basis", type=Path, help="basis file of `hyperdreambooth basis`, in place of the random one")
    parser.add_argument("--hold-out", type=int, default=48, help="people kept for the controls (at most a tenth)")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help="of the HyperNet")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's own choice)")
    parser.add_argument("--save-every", type=float, default=10, help="minutes between checkpoints")
    parser.add_argument("--report-every", type=int, default=200, help="steps between controls and sheets (0: never)")


def size_for(face_size: int) -> str:
    """The size of HyperNet to choose, if none is named, for faces prepared at ``face_size`` px."""
    return next((name for name, size in SIZES.items() if size["image_size"] == face_size), "small")


def keep_to_loopback() -> None:
    """Processes that meet at this machine's loopback address also talk over it: gloo would take the address that the
    machine's name resolves to, which behind a firewall or VPN may be one where nobody answers, and wait half an hour."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback and os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])


def run(args: argparse.Namespace, rest: list[str]) -> None:
    for field in ("data", "out", "init", "encoder", "basis"):
        if getattr(args, field):
            setattr(args, field, getattr(args, field).resolve())
    for path in (args.init, args.encoder, args.basis):
        if path and not path.exists():
            raise ValueError(f"There is nothing at {path}. Check the path.")
    missing = [name for name in ("accelerate", "tensorboard") if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(f"Training needs {', '.join(missing)}: pip install -e '.[train]' in this extension's folder.")
    from ..hypernet.shards import PreparedPeople

    data = PreparedPeople(args.data)
    finished, planned = data.batches
    if finished < planned and not args.partial:
        raise ValueError(
            f"{args.data} is not finished: {finished} of {planned} batches. Let `hyperdreambooth precompute` finish it, since a run "
            "cannot go on with more people than it began with; or train on what is there with --partial."
        )
    from .headless import HeadlessHost, pick_device
    from .host_install import REPOSITORY

    pick_device()
    HeadlessHost(REPOSITORY / "output" / "train").check_listed("checkpoints", args.checkpoint)
    keep_to_loopback()
    train(args, data)


def train(args: argparse.Namespace, data) -> None:
    """The run itself, inside a booted host; ends the process with status 143 if SIGTERM came before the last step."""
    import accelerate
    import torch

    from .training_run import TrainingRun

    if args.threads:
        torch.set_num_threads(args.threads)
    accelerator = accelerate.Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=args.mixed_precision,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    job = TrainingRun(args, accelerator, data)
    stop = []
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    try:
        samples = args.people * args.targets // (accelerator.num_processes * args.accumulate)
        with job.host.training((samples, *job.training.latent_shape)), job.training:
            _loop(args, job, accelerator, stop)
    finally:
        signal.signal(signal.SIGTERM, previous)
        accelerator.free_memory()  # its share of the wrapped model: torn down around that, gloo can wait for ever
        accelerator.end_training()
    if job.training.step < job.training.recipe.total:
        sys.exit(128 + signal.SIGTERM)  # a batch scheduler takes 0 for done


def _loop(args: argparse.Namespace, job, accelerator, stop: list[bool]) -> None:
    """To the last step, or until a signal has put something into ``stop``; saved in both cases."""
    import torch
    from tqdm import tqdm

    training, saved, started, first = job.training, time.time(), time.time(), job.training.step
    many, shown = accelerator.num_processes > 1, None if job.main else True  # None: only on a terminal
    bar = tqdm(total=training.recipe.total, initial=first, unit="step", disable=shown)
    while training.step < training.recipe.total:
        losses = training.advance()
        job.log(losses)
        if not losses:
            job.say(f"step {training.step} changed nothing: its loss or gradient is not finite")
        bar.update()
        asked = torch.tensor(float(bool(stop)), device=accelerator.device)
        if many:  # a signal may have reached some processes only
            asked = accelerator.reduce(asked, "sum")
        if asked.item() and training.step < training.recipe.total:
            job.save()
            job.say(f"stopped at step {training.step}; the same command goes on from here")
            return
        if time.time() - saved > 60 * args.save_every:
            job.save()
            saved = time.time()
        if training.step % 20 == 0:
            speed = (training.step - first) * args.people * args.targets / (time.time() - started)
            job.say(f"step {training.step} of {training.recipe.total}  {_line(losses)}  {speed:.1f} samples/s")
        if args.report_every and (training.step % args.report_every == 0 or training.step == training.recipe.total):
            job.report()
    job.save()


def _line(losses: dict[str, float]) -> str:
    return "  ".join(f"{k} {losses[k]:.4f}" for k in ("loss", "denoising", "weights", "cosine") if k in losses)
