"""Measure what is missing in the paper's tables on faceworld, and write docs/results.md.

    python -m hyperdreambooth.bench.tables              as much as bench/results/tables lacks; stop and go on at will
    python -m hyperdreambooth.bench.tables --quick      a small slice, measured anew, in output/tables_quick
    python -m hyperdreambooth.bench.tables --tuning     which rate suits which method, on validation people; docs/tuning.md

Needs skia-python, accelerate, tensorboard and matplotlib (``pip install -e '.[dev]'``). ``--report`` measures nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from ...cli.host_install import REPOSITORY
from ...cli.study import digest
from .arms import GROUPS, QUICK, Arm, all_arms
from .costs import MEASURED, has_cost, measure_costs
from .hypernets import HYPERNETS, train_hypernet
from .records import Records
from .tuning import PEOPLE, TUNING, write_tuning
from .world import TEST, VALIDATION

WEIGHTS = REPOSITORY / "faceworld" / "weights"
COMMON = REPOSITORY / "output" / "tables"  # what the quick run shares with the whole one
QUICK_PEOPLE = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PEOPLE} people, {len(QUICK)} rows")
    parser.add_argument("--tuning", action="store_true", help=f"{PEOPLE} validation people, {len(TUNING)} rows")
    parser.add_argument("--report", action="store_true", help="only put together what has been measured")
    parser.add_argument("--workers", type=int, help="processes (default: one per CPU core; one on a GPU)")
    parser.add_argument("--groups", type=int, nargs="+", help=f"only these of the {len(GROUPS)} groups of rows, from 0")
    parser.add_argument("--people", type=int, help="at most so many people a row")
    parser.add_argument("--minutes", type=float, help="stop beginning new people then")
    parser.add_argument("--share", help=argparse.SUPPRESS)  # i/n: this worker's people
    args = parser.parse_args()
    kind = "tables_quick" if args.quick else "tables_tuning" if args.tuning else "tables"
    out = REPOSITORY / "output" / kind
    records = Records(out / "records", _results(args, out), weights())
    if args.share:
        work(args, out, records)
        return
    if not args.report:
        if args.quick:  # a slice that was measured before would prove nothing
            shutil.rmtree(out, ignore_errors=True)
        _run_workers(args, records)
        if not (args.quick or args.tuning):
            _costs(out, records)
    if args.tuning:
        for arm in TUNING:
            records.commit(arm)
        write_tuning(records, REPOSITORY / "docs" / "tuning.md")
        return
    for arm in all_arms().values():
        records.commit(arm)
    from .report import write_report

    write_report(records, out if args.quick else REPOSITORY / "docs", whole=not args.quick)


def weights() -> dict:
    """What every record depends on."""
    from .drawing import SCORES_VERSION

    files = {kind: WEIGHTS / f"{kind}s" / "faceworld.safetensors" for kind in ("checkpoint", "hypernet")}
    return {f"{kind}_sha256": digest(path)[:16] for kind, path in files.items()} | {"scores": SCORES_VERSION}


def plan(args: argparse.Namespace) -> list[tuple[list[Arm], int]]:
    """(arms, people) in the order of measuring."""
    if args.quick or args.tuning:
        chosen = [(QUICK, QUICK_PEOPLE) if args.quick else (TUNING, PEOPLE)]
    else:
        chosen = [GROUPS[i] for i in args.groups or range(len(GROUPS))]
    return [(arms, min(people, args.people or people)) for arms, people in chosen]


def work(args: argparse.Namespace, out: Path, records: Records) -> None:
    """One worker: every n-th person, all arms of a group before the next person."""
    share, shares = (int(v) for v in args.share.split("/"))
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    begun, bench = time.time(), None
    for arms, people in plan(args):
        for number in range(share, people, shares):
            for arm in arms:
                if records.load(arm, number) is not None:
                    continue
                if args.minutes and time.time() - begun > 60 * args.minutes:
                    return
                bench = bench or open_bench(out / f"host{share}", VALIDATION if args.tuning else TEST)
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

    rulers = Rulers(parameter_reader(COMMON), split=split)
    return Bench(HeadlessHost(base), COMMON / "hypernets", rulers, split=split)


def _run_workers(args: argparse.Namespace, records: Records) -> None:
    from .parameters import parameter_reader

    groups = plan(args)
    missing = {
        a.hypernet for arms, people in groups for a in arms if any(records.load(a, i) is None for i in range(people))
    }
    if not missing:
        return
    for name in (name for name in HYPERNETS if name in missing):
        train_hypernet(name, COMMON / "hypernets")
    readable = parameter_reader(COMMON).readable()  # trained once, before the workers want it
    records.committed.mkdir(parents=True, exist_ok=True)
    (records.committed / "readable.json").write_text(json.dumps(readable, indent=1) + "\n")
    count = args.workers or (1 if torch.cuda.is_available() else os.cpu_count())
    one_thread = os.environ | ({} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"})
    own = [sys.executable, "-m", "hyperdreambooth.bench.tables", *sys.argv[1:]]
    running = [subprocess.Popen([*own, "--share", f"{i}/{count}"], env=one_thread) for i in range(count)]
    if any([worker.wait() for worker in running]):
        sys.exit("A worker has failed; see above. What was measured is kept, and the same command goes on from there.")


def _costs(out: Path, records: Records) -> None:
    """Alone, after the workers."""
    if missing := [arm for arm in MEASURED if records.everybody(arm) and not has_cost(records, arm)]:
        measure_costs(open_bench(out / "host0"), records, missing)


def _results(args: argparse.Namespace, out: Path) -> Path:
    kept = REPOSITORY / "bench" / "results"
    return out / "results" if args.quick else kept / "tuning" if args.tuning else kept / "tables"


if __name__ == "__main__":
    main()
