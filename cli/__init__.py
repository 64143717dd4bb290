"""Command line: ``hyperdreambooth VERB``. One module per verb, imported when it is asked for."""

import argparse
import importlib
import os
import sys

from .headless import NodeFailed

VERBS = {
    "evaluate": "score 50 unseen people with controls and intervals",
    "demo": "run the main job on the embedded default and leave a picture sheet in output/demo",
    "doctor": "say what is installed and what will work; --install-host installs a private ComfyUI",
    "precompute": "prepare a folder of faces for training, with a LiDB for every person",
    "basis": "learn a basis from fitted people, in place of the random one",
    "train": "train a HyperNet for a checkpoint of the host",
    "finetune": "learn a person from a photo: lidb, lora, dreambooth or textual-inversion, as a file for the host",
    "faceworld": "remake the embedded default: render, autoencoder, base, export, metrics, controlnet",
}
LESS_MEMORY = {
    "precompute": "Lower --together, which changes nothing in the result; then --samples or --resolution.",
    "train": "Raise --accumulate, which changes nothing in the result; then lower --people or --targets.",
    "finetune": "Lower --batch or --resolution; dreambooth holds 16 bytes for every weight whatever they are, lidb and lora hardly any.",
}


def main(argv: list[str] | None = None) -> None:
    """Run one verb; a wrong command line ends with exit status 2, wrong input with one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="hyperdreambooth", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    argv = sys.argv[1:] if argv is None else argv
    asked = argv[0] if argv and argv[0] in VERBS else None
    for verb, summary in VERBS.items():
        sub = verbs.add_parser(verb, help=summary, add_help=verb != "faceworld")
        if verb == asked:
            module = importlib.import_module(f".{verb}", __name__)
            module.add_arguments(sub)
    # before torch is imported: threads that wait in a spin for one that another program holds up make everything crawl
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    args, rest = parser.parse_known_args(argv)
    if rest and args.verb != "faceworld":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        importlib.import_module(f".{args.verb}", __name__).run(args, rest)
    except OSError as error:  # unreadable pictures too, and Pillow's UnidentifiedImageError
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"hyperdreambooth {args.verb}: {error.strerror or error}{where}")
    except (ValueError, NodeFailed) as error:
        sys.exit(f"hyperdreambooth {args.verb}: {error}")
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        advice = LESS_MEMORY.get(args.verb, "Close other programs, or use smaller pictures.")
        sys.exit(f"hyperdreambooth {args.verb}: out of memory ({str(error).splitlines()[0]}). {advice}")


def out_of_memory(error: RuntimeError) -> bool:
    """Of a device (torch.OutOfMemoryError, also under its older names) or of the machine."""
    return "OutOfMemory" in type(error).__name__ or "can't allocate memory" in str(error)
