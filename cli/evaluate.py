"""Scores over the 24 committed test people, with controls and 95 % intervals; written to bench/results."""

import argparse
import json
import os

from .host_install import REPOSITORY
from .study import PEOPLE, Study, report, table

RESULT = REPOSITORY / "bench" / "results" / "evaluate.faceworld.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--people", type=int, default=24, help="how many of the 24 test people")
    parser.add_argument("--seeds", type=int, default=2, help="pictures per person and stage for the identity score")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    people = {f"person{i:02d}": PEOPLE / f"{i:02d}_reference.png" for i in range(args.people)}
    study = Study(REPOSITORY / "output" / "evaluate", seeds=args.seeds).run(people, with_zero=True)
    rows = report(study, people, args.seeds)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    facts = {"people": args.people, "seeds": args.seeds, "hardware": f"CPU, {os.cpu_count()} cores"}
    RESULT.write_text(json.dumps({"rows": rows, "files": study["files"], **facts}, indent=1) + "\n")
    print(table(rows))
