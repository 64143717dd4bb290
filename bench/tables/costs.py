"""What a person costs by each method: iterations, seconds, bytes. Measured alone, with all threads, on a few people."""

import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ...cli.hardware import hardware
from . import arms as A
from .world import Subject

PEOPLE = 3
MEASURED = [A.PREDICTED, A.FULL, A.FROM_ZERO, *A.RIVALS]


def costs_file(committed: Path) -> Path:
    return committed / ("costs.cuda.json" if torch.cuda.is_available() else "costs.cpu.json")


def read_costs(committed: Path) -> dict[str, dict]:
    """Arm -> steps, seconds, bytes, trained; empty if nobody measured them."""
    path = costs_file(committed)
    return json.loads(path.read_text())["rows"] if path.is_file() else {}


@torch.inference_mode()
def measure_costs(bench, committed: Path) -> None:
    """The median of a few people, after one that warms up."""
    rows = {}
    for arm in MEASURED:
        if arm.method == "predicted":
            seconds = [bench.personalise(arm, Subject(i))[2] for i in range(PEOPLE + 1)][1:]
            rows[arm.name] = {"steps": 0, "seconds": statistics.median(seconds)} | _identity_file(bench, arm)
            continue
        learnt = [bench.learn(arm, Subject(i)) for i in range(PEOPLE + 1)][1:]
        with TemporaryDirectory() as folder:
            size = learnt[0].save(Path(folder) / "person.safetensors")
        seconds = statistics.median(person.seconds for person in learnt)
        rows[arm.name] = {"steps": arm.steps, "seconds": seconds, "bytes": size, "trained": learnt[0].trained}
        print(f"{arm.name:20s} {seconds:.2f} s, {size:,} bytes", flush=True)
    committed.mkdir(parents=True, exist_ok=True)
    costs_file(committed).write_text(json.dumps({"hardware": hardware(), "rows": rows}, indent=1) + "\n")


def _identity_file(bench, arm: A.Arm) -> dict:
    from ...lidb.file import save_lidb

    person = bench.predict(arm, Subject(0))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "person.safetensors"
        save_lidb(path, person, "float16")
        return {"bytes": path.stat().st_size, "trained": 0}
