"""What a person costs by each method: iterations, seconds, bytes. Measured alone, with all threads, on two people."""

import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ...cli.hardware import hardware
from . import arms as A
from .arms import Arm
from .records import Records
from .world import Subject

PEOPLE = 2
MEASURED = [A.PREDICTED, A.FULL, A.FROM_ZERO, A.IN_BASIS, *A.RIVALS, A.LONGER, A.LORA_160, A.PRIOR, A.LIDB]


def costs_file(records: Records) -> Path:
    return records.committed / ("costs.cuda.json" if torch.cuda.is_available() else "costs.cpu.json")


def read_costs(records: Records) -> dict[str, dict]:
    """Arm -> steps, seconds, bytes, trained, hardware; of those that were measured with today's settings and weights."""
    path, arms = costs_file(records), A.all_arms()
    rows = json.loads(path.read_text())["rows"] if path.is_file() else {}
    return {name: row for name, row in rows.items() if name in arms and row.get("key") == records.key_of(arms[name])}


def costs_hardware(records: Records) -> str:
    return "; ".join(sorted({row["hardware"] for row in read_costs(records).values()})) or "not measured"


def has_cost(records: Records, arm: Arm) -> bool:
    """Measured with these settings and weights."""
    return arm.name in read_costs(records)


@torch.inference_mode()
def measure_costs(bench, records: Records, chosen: list[Arm]) -> None:
    """The median of two people, after one that warms up; kept beside those of other arms."""
    rows = read_costs(records)
    records.committed.mkdir(parents=True, exist_ok=True)
    for arm in chosen:
        rows[arm.name] = {"key": records.key_of(arm), "hardware": hardware(), "steps": arm.steps} | _cost(bench, arm)
        print(f"{arm.name:20s} {rows[arm.name]['seconds']:.2f} s, {rows[arm.name]['bytes']:,} bytes", flush=True)
        costs_file(records).write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def _cost(bench, arm: Arm) -> dict:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "person.safetensors"
        if arm.method == "predicted":
            from ...lidb.file import save_lidb

            seconds = [bench.personalise(arm, Subject(i))[2] for i in range(PEOPLE + 1)][1:]
            save_lidb(path, bench.predict(arm, Subject(0)), "float16")
            return {"seconds": statistics.median(seconds), "bytes": path.stat().st_size, "trained": 0}
        learnt = [bench.learn(arm, Subject(i)) for i in range(PEOPLE + 1)][1:]
        seconds = statistics.median(person.seconds for person in learnt)
        return {"seconds": seconds, "bytes": learnt[0].save(path), "trained": learnt[0].trained}
