"""Measure what is missing in the paper's tables on faceworld, and write docs/results.md.

    python -m hyperdreambooth.bench.tables              as much as bench/results/tables lacks; stop and go on at will
    python -m hyperdreambooth.bench.tables --quick      a small slice, measured anew, in output/tables_quick
    python -m hyperdreambooth.bench.tables --tuning     which rate suits which method, on validation people; docs/tuning.md

Needs skia-python, accelerate, tensorboard and matplotlib (``pip install -e '.[dev]'``). ``--report`` measures nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ...cli.host_install import REPOSITORY
from ...cli.study import digest
from .arms import GROUPS, QUICK, Arm
from .costs import MEASURED, has_cost, measure_costs
from .hypernets import train_hypernets
from .records import Records
from .tuning import TUNING, write_tuning
from .world import TEST, VALIDATION

WEIGHTS = REPOSITORY / "faceworld" / "weights"
COMMON = REPOSITORY / "output" / "tables"  # what the quick run shares with the whole one
RESULTS = REPOSITORY / "bench" / "results"
QUICK_PEOPLE = 3
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "2000000000"}
"""For glibc: else it hands back the memory of every large activation and asks for it again, a tenth of the time of drawing."""


@dataclass(frozen=True)
class Run:
    """What is measured: ``groups`` of (rows, people) on the people of ``split``; ``results`` None: beside the records."""

    name: str
    groups: list[tuple[list[Arm], int]]
    split: int = TEST
    results: Path | None = None

    @property
    def out(self) -> Path:
        return REPOSITORY / "output" / self.name

    def records(self) -> Records:
        return Records(self.out / "records", self.results or self.out / "results", weights())


WHOLE = Run("tables", GROUPS, results=RESULTS / "tables")
SLICE = Run("tables_quick", [(QUICK, QUICK_PEOPLE)])
RATES = Run("tables_tuning", TUNING, VALIDATION, RESULTS / "tuning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--quick", action="store_true", help=f"{QUICK_PEOPLE} people, {len(QUICK)} rows")
    one.add_argument("--tuning", action="store_true", help="settings of all rows, on validation people")
    parser.add_argument("--report", action="store_true", help="only put together what has been measured")
    parser.add_argument("--workers", type=int, help="processes (default: one per CPU core; one on a GPU)")
    parser.add_argument("--groups", type=int, nargs="+", choices=range(len(GROUPS)), help="only these groups of rows")
    parser.add_argument("--people", type=int, help="at most so many people a row")
    parser.add_argument("--minutes", type=float, help="stop beginning new people then")
    parser.add_argument("--share", help=argparse.SUPPRESS)  # i/n: this worker's people
    args = parser.parse_args()
    run = SLICE if args.quick else RATES if args.tuning else WHOLE
    if args.groups and max(args.groups) >= len(run.groups):
        parser.error(f"There are only the groups 0 to {len(run.groups) - 1} of these rows.")
    records = run.records()
    if args.share:
        work(args, run, records)
        return
    if not args.report:
        if run is SLICE:  # a slice that was measured before would prove nothing
            shutil.rmtree(run.out, ignore_errors=True)
        _run_workers(args, run, records)
        if run is WHOLE:
            _costs(run, records)
        if run is not RATES:
            _pictures(run, records)
    for arm in {arm.name: arm for arms, _ in run.groups for arm in arms}.values():
        records.commit(arm)
    if run is RATES:
        write_tuning(records, REPOSITORY / "docs" / "tuning.md")
        return
    from .report import write_report

    write_report(records, run.out if run is SLICE else REPOSITORY / "docs", whole=run is WHOLE)


def weights() -> dict:
    """What every record depends on."""
    from .drawing import SCORES_VERSION
    from .parameters import READER

    files = {kind: WEIGHTS / f"{kind}s" / "faceworld.safetensors" for kind in ("checkpoint", "hypernet")}
    files |= {f"{kind}_metric": WEIGHTS / "metrics" / f"{kind}.safetensors" for kind in ("identity", "attributes")}
    files["parameters_metric"] = READER
    return {f"{kind}_sha256": digest(path)[:16] for kind, path in files.items()} | {"scores": SCORES_VERSION}


def plan(args: argparse.Namespace, run: Run) -> list[tuple[list[Arm], int]]:
    """(arms, people) in the order of measuring."""
    chosen = [run.groups[i] for i in args.groups] if args.groups else run.groups
    return [(arms, min(people, args.people or people)) for arms, people in chosen]


def work(args: argparse.Namespace, run: Run, records: Records) -> None:
    """One worker: every n-th person, all arms of a group before the next person."""
    share, shares = (int(v) for v in args.share.split("/"))
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    begun, bench = time.time(), None
    for arms, people in plan(args, run):
        for number in range(share, people, shares):
            for arm in arms:
                if records.load(arm, number) is not None:
                    continue
                if args.minutes and time.time() - begun > 60 * args.minutes:
                    return
                bench = bench or open_bench(run.out / f"host{share}", run.split)
                scores, pictures = bench.score(arm, number)
                records.store(arm, number, scores, pictures)
                shown = "  ".join(f"{name} {scores[name]:.3f}" for name in ("identity", "prompt") if name in scores)
                print(f"{number:03d} {arm.name:24s} {shown}", flush=True)


def open_bench(base: Path, split: int = TEST):
    """A booted host with the rulers; ``base`` is its own folder, ``split`` whose people are measured."""
    from ...cli.headless import HeadlessHost
    from .drawing import Bench
    from .parameters import parameter_reader
    from .rulers import Rulers

    rulers = Rulers(parameter_reader(), split=split)
    return Bench(HeadlessHost(base), COMMON / "hypernets", rulers, split=split)


def _run_workers(args: argparse.Namespace, run: Run, records: Records) -> None:
    groups = plan(args, run)
    missing = {
        a.hypernet for arms, people in groups for a in arms if any(records.load(a, i) is None for i in range(people))
    }
    if not missing:
        return
    count = args.workers or (1 if torch.cuda.is_available() else os.cpu_count())
    train_hypernets(missing, COMMON / "hypernets", count)
    environment = os.environ | ({} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"} | KEEP_MEMORY)
    own = [sys.executable, "-m", "hyperdreambooth.bench.tables", *sys.argv[1:]]
    running = [subprocess.Popen([*own, "--share", f"{i}/{count}"], env=environment) for i in range(count)]
    if any([worker.wait() for worker in running]):
        sys.exit("A worker has failed; see above. What was measured is kept, and the same command goes on from there.")


def _costs(run: Run, records: Records) -> None:
    """Alone, after the workers."""
    if missing := [arm for arm in MEASURED if records.everybody(arm) and not has_cost(records, arm)]:
        measure_costs(open_bench(run.out / "host0"), records, missing)


def _pictures(run: Run, records: Records) -> None:
    """Draw what the sheets show and another machine has measured; its scores stay."""
    from .sheets import undrawn

    bench, lacking = None, undrawn(records)
    for i, (arm, number) in enumerate(lacking):
        print(f"Drawing strip {i + 1} of {len(lacking)} for the sheets: {number:03d} {arm.name}", flush=True)
        bench = bench or open_bench(run.out / "host0", run.split)
        records.store_strip(arm, number, bench.score(arm, number)[1])


if __name__ == "__main__":
    main()
