"""Learn a person from a photo, by this method or by one of its rivals, into a file that the stock ComfyUI loads.

    hyperdreambooth finetune --method lidb --checkpoint sd15.safetensors --image anna.jpg --out anna.safetensors

method             what is trained                          file, and where ComfyUI looks for it
lidb               a few ranks, with --hypernet beside      LiDB (MBs; KBs with --space basis), models/lidb, Load LiDB
                   its prediction, else from zero
lora               a LoRA of the same layers                kohya LoRA (MBs), models/loras, Load LoRA (Model and CLIP)
dreambooth         every weight of UNet and text encoder    checkpoint (GBs), models/checkpoints, Load Checkpoint
textual-inversion  vectors in the place of the word [V]      embedding (KBs), models/embeddings, embedding:NAME in a prompt

All of them see the same crops, captions, noise and noise levels. Their default steps and learning rates were
chosen on faceworld; for photographs nobody has tuned them yet, and dreambooth and textual-inversion want an --lr of
yours for any other checkpoint. Nothing of the checkpoint is changed.
"""

import argparse
import os
from contextlib import contextmanager
from pathlib import Path

from ..methods.defaults import DEFAULTS
from .links import link

METHODS = [method for method in DEFAULTS if method != "hyperdreambooth"]
ONLY = {
    "hypernet": ("lidb",), "rank": ("lidb", "lora"), "space": ("lidb",), "prior": ("dreambooth",), "class_prompt": ("dreambooth",),
    "vectors": ("textual-inversion",), "word": ("textual-inversion",),
}  # fmt: skip
"""Options that some methods do not have."""
LEAST = {"steps": 1, "batch": 1, "rank": 1, "prior": 1, "vectors": 1, "resolution": 0}
ELSEWHERE = {"dreambooth": "1e-6 to 5e-6", "textual-inversion": "1e-3 to 5e-3"}
"""Methods whose default rate would wreck another checkpoint than faceworld's, and what is usual for Stable Diffusion."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps, rates = (", ".join(f"{method} {DEFAULTS[method][i]:g}" for method in METHODS) for i in (0, 1))
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--method", choices=METHODS, default="lidb")
    parser.add_argument(
        "--checkpoint", default="faceworld.safetensors", help="name in the host's checkpoint folders, or a file"
    )
    parser.add_argument("--image", type=Path, nargs="+", required=True, help="photos of one person")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .safetensors")
    parser.add_argument("--hypernet", help="lidb: predict with this one first (name in models/hypernets, or a file)")
    parser.add_argument("--steps", type=int, help=f"iterations (default: {steps})")
    parser.add_argument("--lr", type=float, help=f"learning rate (default: {rates})")
    parser.add_argument("--rank", type=int, help="lidb, lora: ranks that are trained (default 4)")
    parser.add_argument(
        "--space", choices=("basis", "full"), help="lidb: ranks inside the LiDB basis, or as a LoRA's (default: full)"
    )
    parser.add_argument("--batch", type=int, default=4, help="noisy copies per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--prompt", default="a photo of a [V] face", help="what the photo shows, with the trigger phrase"
    )
    parser.add_argument("--resolution", type=int, default=0, help="side of the training picture (0: the model's own)")
    parser.add_argument("--prior", type=int, help="dreambooth: preserve the class with this many pictures of anybody")
    parser.add_argument("--class-prompt", help="dreambooth: their prompt (default: the prompt without [V])")
    parser.add_argument("--vectors", type=int, help="textual-inversion: how many in the place of [V] (default 4)")
    parser.add_argument("--word", help='textual-inversion: the word to begin as (default "face")')


def run(args: argparse.Namespace, rest: list[str]) -> None:
    args.image, args.out = [picture.expanduser().resolve() for picture in args.image], args.out.expanduser().resolve()
    for key in ("checkpoint", "hypernet"):
        name = getattr(args, key)
        if name and Path(name).expanduser().is_file():  # now: the host changes the current folder
            setattr(args, key, str(Path(name).expanduser().resolve()))
    check(args)
    from .headless import HeadlessHost
    from .host_install import REPOSITORY

    finetune(args, HeadlessHost(REPOSITORY / "output" / "finetune"))


def check(args: argparse.Namespace) -> None:
    """Raise ValueError (OSError for a folder that cannot be made) for what is wrong to see before anything is loaded."""
    from ..lidb.value import Facts

    for option, methods in ONLY.items():
        if getattr(args, option) is not None and args.method not in methods:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} is for --method {' or '.join(methods)}, not for {args.method}. Leave it out.")
    if args.class_prompt is not None and args.prior is None:
        raise ValueError(
            "--class-prompt is the prompt of the class pictures; say with --prior N how many there shall be."
        )
    for option, least in LEAST.items():
        if (given := getattr(args, option)) is not None and given < least:
            raise ValueError(f"--{option} is a number from {least} on, not {given}.")
    if args.lr is not None and not args.lr > 0:
        raise ValueError(f"--lr is a number above 0, not {args.lr:g}.")
    trigger = Facts().trigger
    if args.hypernet is None and trigger not in args.prompt:  # a HyperNet brings its own
        raise ValueError(f"--prompt {args.prompt!r} lacks the trigger phrase {trigger!r}. Put it in.")
    if args.out.suffix != ".safetensors":
        raise ValueError(f"--out is a .safetensors file, not {args.out.name!r}.")
    for file in args.image:
        if not file.is_file():
            raise ValueError(f"There is no picture at {file}. Give the path of a PNG or JPEG.")
    args.out.parent.mkdir(parents=True, exist_ok=True)  # before the training that it shall keep
    if args.out.is_dir() or not os.access(args.out.parent, os.W_OK):
        raise ValueError(f"{args.out} cannot be written. Give --out a file in a folder of yours.")


def finetune(args: argparse.Namespace, host) -> None:
    """The whole verb in a host that has booted."""
    import torch

    checkpoint = offer(args.checkpoint, host, "checkpoints")
    hypernet = args.hypernet and offer(args.hypernet, host, "hypernets")
    with torch.inference_mode(), progress(args.method):
        model, clip, vae = host.nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint)[:3]
        person = personalise(
            args, model, clip, vae, photos(args.image), hypernet and host.model_file("hypernets", hypernet)
        )
        size = person.save(args.out)
    noun = " ".join(person.trigger.split()[1:])
    where = {
        "lidb": f'models/lidb, for Load LiDB; its words are "{person.trigger}"',
        "lora": f'models/loras, for Load LoRA (Model and CLIP); its words are "{person.trigger}"',
        "dreambooth": f'models/checkpoints, for Load Checkpoint; its words are "{person.trigger}"',
        "textual-inversion": f'models/embeddings; its words are "embedding:{args.out.stem} {noun}"',
    }[args.method]
    loss = sum(person.losses[-5:]) / len(person.losses[-5:])
    print(
        f"{args.out}: {size / 1e6:.3g} MB, {person.trained:,} numbers trained in {person.seconds:.0f} seconds, "
        f"last loss {loss:.4f}\nIt belongs into {where}."
    )


def personalise(args: argparse.Namespace, model, clip, vae, image, hypernet: Path | None):
    """The chosen method with the chosen settings -> ``methods.person.Personalised``."""
    from ..lidb.value import Facts
    from ..methods.dreambooth import dreambooth
    from ..methods.low_rank import RANK, lidb, lora
    from ..methods.person import Settings
    from ..methods.prior import class_pictures
    from ..methods.textual_inversion import VECTORS, textual_inversion
    from ..nodes.host import HostModel

    base = HostModel(model, clip).base
    if args.lr is None and args.method in ELSEWHERE and base != "Faceworld":
        raise ValueError(
            f"The default learning rate of {args.method}, {DEFAULTS[args.method][1]:g}, is for the miniature and would wreck a model of "
            f"{base}. Give --lr; {ELSEWHERE[args.method]} is usual for Stable Diffusion."
        )
    start = hypernet and predicted(hypernet, image)
    steps, rate = DEFAULTS["hyperdreambooth" if start else args.method]
    settings = Settings(
        steps if args.steps is None else args.steps, rate if args.lr is None else args.lr,
        args.batch, args.seed, args.prompt, args.resolution, (start.facts if start else Facts()).trigger,
    )  # fmt: skip
    rank, given = RANK if args.rank is None else args.rank, (model, clip, vae, image, settings)
    if args.method == "lidb":
        return lidb(*given, rank, start, args.space or "full")
    if args.method == "lora":
        return lora(*given, rank)
    if args.method == "textual-inversion":
        return textual_inversion(*given, VECTORS if args.vectors is None else args.vectors, args.word or "face")
    prior = None
    if args.prior is not None:
        prompt = args.class_prompt or settings.class_prompt
        prior = class_pictures(model, clip, prompt, args.prior, args.seed, args.resolution)
    return dreambooth(*given, prior)


def predicted(hypernet: Path, image):
    """The HyperNet's LiDB of the crops (P, S, S, 3), as *Predict LiDB* makes it."""
    from ..nodes.load_hypernet import LoadedHyperNet
    from ..nodes.predict import PredictLiDB

    return PredictLiDB.execute(LoadedHyperNet(str(hypernet)), image).args[0]


def photos(files: list[Path]):
    """The squares with the face (P, S, S, 3), all of the first one's size.

    Raises:
        ValueError: one of them is no picture, too small or shows nothing.
    """
    import torch

    from ..nodes.pictures import read_square, resize

    squares = []
    for file in files:
        try:
            squares.append(read_square(file))
        except ValueError as error:
            raise ValueError(f"{file} cannot be used: {str(error).rstrip('.')}. Give another picture.") from error
    return torch.cat([resize(square, *squares[0].shape[1:3]) for square in squares])


def offer(name: str, host, folder: str) -> str:
    """A file from elsewhere is linked into the host's model folder; returns the name under which the host lists it.

    Raises:
        ValueError: neither a file nor a name that the host lists.
    """
    path = Path(name).expanduser()
    if path.is_file():
        place = host.base / "models" / folder / "given" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        link(path.resolve(), place)
        name = os.path.join("given", path.name)  # as the host lists it
    host.check_listed(folder, name)
    return name


@contextmanager
def progress(method: str):
    """A bar on the terminal for what the host's progress bars report, while the ``with`` block lasts."""
    import comfy.utils
    from tqdm import tqdm

    bar, before = None, comfy.utils.PROGRESS_BAR_HOOK

    def show(value, total, preview, **_):
        nonlocal bar
        if bar is None or bar.total != total or value < bar.n:
            bar = tqdm(total=total, desc=method, disable=None)  # None: only on a terminal
        bar.update(value - bar.n)

    comfy.utils.set_progress_bar_global_hook(show)
    try:
        yield
    finally:
        comfy.utils.set_progress_bar_global_hook(before)
