"""Score a HyperNet on people it has never seen, with floor, ceiling, controls and intervals; writes a report to read.

    hyperdreambooth evaluate                                     the embedded default on its 50 test people
    hyperdreambooth evaluate --hypernet my.safetensors --images faces/

faces/ has one sub-folder per person or one picture per person. The first picture not named edit* is the reference that
is handed in; pictures are scored against the further ones, never against the reference (unless there is no other: the
report says so). OUT/report.html is the page, OUT/report.json has the same figures. The likeness and prompt measures are
faceworld's own: for other models the page shows the pictures, times and sizes, and no scores.

Interrupt it whenever you like: OUT/people keeps who is finished, and the same command goes on from there.
"""

import argparse
import json
import shutil
from pathlib import Path

from PIL import Image

from .host_install import REPOSITORY
from .links import link

RESULT = REPOSITORY / "bench" / "results" / "evaluate.faceworld.json"
SEEDS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", help="name in the host's checkpoint folders (default: the embedded one)")
    parser.add_argument("--hypernet", help="name in models/hypernets, or a file (default: the embedded one)")
    parser.add_argument("--images", type=Path, help="folder of people (default: the 50 committed test people)")
    parser.add_argument("--people", type=whole_number, help="the first N people only")
    parser.add_argument(
        "--seeds", type=whole_number, default=SEEDS, help="pictures per person and stage for the identity score"
    )
    parser.add_argument("--no-zero", action="store_true", help="leave out 40 iterations without HyperNet")
    parser.add_argument("--zero-learning-rate", type=float, help="learning rate of those (default: workflow 03's)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "evaluate", help="folder of the report")


def is_the_committed_run(args: argparse.Namespace) -> bool:
    """Whether the result may replace the committed one: the defaults, but zero at whatever rate is best for it."""
    chosen = args.images or args.people or args.hypernet or args.checkpoint or args.no_zero
    return not chosen and args.seeds == SEEDS


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from .hardware import hardware
    from .people import choose_people, save_references

    out, images = args.out.resolve(), args.images and args.images.resolve()
    people, skipped = choose_people(images, args.people)
    out.mkdir(parents=True, exist_ok=True)
    hypernet = _installed(args.hypernet, out)
    from .report_page import page
    from .scores import measure, on_reference_only, paired, rows, table
    from .study import Study

    study = Study(out, args.seeds, args.checkpoint, hypernet)
    crops = save_references(people, out / "input")  # so that the scores see what the HyperNet saw
    settings = study.settings(not args.no_zero, args.zero_learning_rate)
    finished = Finished(out / "people", settings | {"hardware": hardware()})
    done = study.run(crops, not args.no_zero, args.zero_learning_rate, finished)
    references = {name: person.reference for name, person in people.items()}
    others = {name: person.others for name, person in people.items()}
    facts = {
        "people": len(people),
        "seeds": args.seeds,
        "hardware": hardware(),
        **study.names,
        "base": study.base_model,
        "checkpoint_sha256": settings["checkpoint_sha256"],
        "hypernet_sha256": settings["hypernet_sha256"],
        "finetune_steps": settings["finetune"]["steps"],
        "finetune_learning_rate": settings["finetune"]["learning_rate"],
        "zero_learning_rate": settings["zero_learning_rate"],
    }
    result, values = {"rows": [], "files": done["files"], **facts, "skipped": skipped}, {}
    if study.base_model == "Faceworld":
        values = measure(done, references, others, study.edits, args.seeds)
        result["rows"], result["scored_on_reference"] = rows(values, done["seconds"]), on_reference_only(done, others)
        if "zero_40" in values:
            result["paired"] = {"finetuned - zero_40": paired(values, "finetuned", "zero_40")}
        print(table(result["rows"]))
    else:
        result["rows"] = [{"stage": stage, "seconds": s} for stage, s in done["seconds"].items()]
        print(f"{study.base_model}: no likeness measure for photographs ships with this extension; see the pictures.")
    text = json.dumps(result, indent=1) + "\n"
    (out / "report.json").write_text(text)
    html = page(result, values, done["pictures"], references, list(study.edits))
    (out / "report.html").write_text(html, encoding="utf-8")
    if is_the_committed_run(args):
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(text)
    print(f"Report: {out / 'report.html'}")


class Finished:
    """People whose stages are complete, one folder each, so that an interrupted run goes on where it stopped.

    Args:
        folder: NAME/person.json with settings and seconds, NAME/STAGE_i.png, NAME/*.safetensors.
        settings: of this run (``Study.settings``, and what else must not differ); people of another run are made again.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder, self.settings, self.told = folder, settings, False

    def load(self, number: int, name: str, reference: Path) -> dict | None:
        """What ``Study.person`` returned; None if it must be made (again)."""
        folder = self.folder / name
        if not (folder / "person.json").is_file():
            return None
        kept = json.loads((folder / "person.json").read_text())
        now = json.loads(json.dumps(self._key(number, reference)))
        if other := [k for k in now if kept["key"].get(k) != now[k]]:
            if not self.told:
                print(f"{name} in {self.folder} was made with another {', '.join(other)}: starting afresh.", flush=True)
            self.told = True
            return None
        pictures = {
            stage: [Image.open(folder / f"{stage}_{i}.png").convert("RGB") for i in range(count)]
            for stage, count in kept["pictures"].items()
        }
        return {"pictures": pictures, "seconds": kept["seconds"], "files": [folder / f for f in kept["files"]]}

    def store(self, number: int, name: str, reference: Path, one: dict) -> dict:
        """Keep one person; the folder appears complete or not at all. Returns the person with the kept files.

        Raises:
            ValueError: a folder of that name holds something else.
        """
        target, partial = self.folder / name, self.folder / f".{name}.partial"
        if target.exists() and not (target / "person.json").is_file():
            raise ValueError(f"{target} exists and holds no finished person. Choose another --out, or move it away.")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for stage, pictures in one["pictures"].items():
            for i, picture in enumerate(pictures):
                picture.save(partial / f"{stage}_{i}.png")
        for path in one["files"]:
            shutil.copy(path, partial / path.name)
        facts = {
            "key": self._key(number, reference),
            "pictures": {stage: len(pictures) for stage, pictures in one["pictures"].items()},
            "seconds": one["seconds"],
            "files": [path.name for path in one["files"]],
        }
        (partial / "person.json").write_text(json.dumps(facts, indent=1) + "\n")
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
        return {**one, "files": [target / path.name for path in one["files"]]}

    def _key(self, number: int, reference: Path) -> dict:
        from .study import digest  # torch comes with it, and --help must not wait for that

        return {**self.settings, "place in the list": number, "reference picture": digest(reference)}


def whole_number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _installed(hypernet: str | None, out: Path) -> str | None:
    """A file outside the model folders is linked into this run's own one; names stay names."""
    folder = out / "models" / "hypernets"
    for earlier in folder.glob("*"):  # an earlier run's, which could hide the embedded file of the same name
        if earlier.is_symlink() or earlier.stat().st_nlink > 1:
            earlier.unlink()
    path = Path(hypernet or "")
    if not hypernet or not path.is_file():
        return hypernet
    folder.mkdir(parents=True, exist_ok=True)
    link(path.resolve(), folder / path.name)
    return path.name
