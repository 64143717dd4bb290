"""What every bench shares: hardware in words, peak memory, one table on the terminal and one JSON file of results."""

import json
import resource
from pathlib import Path

import torch

from ..cli.hardware import hardware

RESULTS = Path(__file__).resolve().parent / "results"


def reset_peak() -> None:
    """On the CPU the peak cannot be reset: run the smaller thing first."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int:
    """Of the device where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def publish(bench: str, rows: list[dict]) -> None:
    """Print the rows and write ``bench/results/<bench>.<cpu|cuda>.json``."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    for line in ([*columns], *cells):
        print("  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)))
    print(hardware())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{bench}.{device}.json").write_text(json.dumps({"hardware": hardware(), "rows": rows}, indent=1) + "\n")


def _cell(value) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
