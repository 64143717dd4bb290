"""Score a HyperNet on people it has never seen, with floor, ceiling, controls and intervals; writes a report to read.

    hyperdreambooth evaluate                                     the embedded default on its 50 test people
    hyperdreambooth evaluate --hypernet my.safetensors --images faces/

faces/ has one sub-folder per person (the first picture named photo*, else the first, is the reference, the next such one the ceiling) or one
picture per person. OUT/report.html is the page, OUT/report.json has the same figures. The likeness and prompt measures
are faceworld's own: for other models the page shows the pictures, times and sizes, and no scores.
"""

import argparse
import json
from pathlib import Path

from .host_install import REPOSITORY

RESULT = REPOSITORY / "bench" / "results" / "evaluate.faceworld.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", help="name in the host's checkpoint folders (default: the embedded one)")
    parser.add_argument("--hypernet", help="name in models/hypernets, or a file (default: the embedded one)")
    parser.add_argument("--images", type=Path, help="folder of people (default: the 50 committed test people)")
    parser.add_argument("--people", type=int, help="the first N people only")
    parser.add_argument("--seeds", type=int, default=2, help="pictures per person and stage for the identity score")
    parser.add_argument("--no-zero", action="store_true", help="leave out 40 iterations without HyperNet")
    parser.add_argument("--zero-learning-rate", type=float, help="learning rate of those (default: as with HyperNet)")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "evaluate", help="folder of the report")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from .hardware import hardware
    from .people import choose_people

    out, images = args.out.resolve(), args.images and args.images.resolve()
    people, skipped = choose_people(images, args.people)
    out.mkdir(parents=True, exist_ok=True)
    hypernet = args.hypernet and _installed(args.hypernet, out)
    from .report_page import page
    from .scores import measure, paired, rows, table
    from .study import EDITS, Study

    study = Study(out, args.seeds, args.checkpoint, hypernet)
    for name, person in people.items():  # crops, so that the scores see what the HyperNet saw
        person.reference.save(out / "input" / f"{name}_crop.png")
    done = study.run(
        {name: out / "input" / f"{name}_crop.png" for name in people}, not args.no_zero, args.zero_learning_rate
    )
    facts = {
        "people": len(people),
        "seeds": args.seeds,
        "hardware": hardware(),
        **study.names,
        "base": study.base_model,
    }
    result, values = {"rows": [], "files": done["files"], **facts, "skipped": skipped}, {}
    if study.base_model == "Faceworld":
        others = {name: person.other for name, person in people.items() if person.other}
        values = measure(done, {n: p.reference for n, p in people.items()}, others, EDITS, args.seeds)
        result["rows"] = rows(values, done["seconds"])
        if "zero_40" in values:
            result["paired"] = {"finetuned - zero_40": paired(values, "finetuned", "zero_40")}
        print(table(result["rows"]))
    else:
        result["rows"] = [{"stage": stage, "seconds": s} for stage, s in done["seconds"].items()]
        print(f"{study.base_model}: no likeness measure for photographs ships with this extension; see the pictures.")
    text = json.dumps(result, indent=1) + "\n"
    (out / "report.json").write_text(text)
    references = {name: person.reference for name, person in people.items()}
    (out / "report.html").write_text(page(result, values, done["pictures"], references, list(EDITS)), encoding="utf-8")
    if not images and not args.people and not args.hypernet and not args.checkpoint:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(text)
    print(f"Report: {out / 'report.html'}")


def _installed(hypernet: str, out: Path) -> str:
    """A file outside the model folders is linked into this run's own one; names stay names."""
    path = Path(hypernet)
    if not path.is_file():
        return hypernet
    folder = out / "models" / "hypernets"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / path.name
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())
    return path.name
