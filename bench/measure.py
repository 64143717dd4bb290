"""What every bench shares: hardware in words, peak memory, one table on the terminal and one JSON file of results."""

import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
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


def finish() -> None:
    """Wait until the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Peak:
    """Peak memory of a ``with`` block: of the device where there is one, else of the process, looked at every 5 ms.

    >>> with Peak() as peak:
    ...     work()
    >>> peak.bytes
    """

    def __enter__(self) -> "Peak":
        self.bytes, self._done, self._thread = 0, threading.Event(), threading.Thread(target=self._watch, daemon=True)
        reset_peak()
        if not torch.cuda.is_available():
            self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.wait(0.005):
            self.bytes = max(self.bytes, process.memory_info().rss)

    def __exit__(self, *_) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated()
        else:
            self._done.set()
            self._thread.join()


@contextmanager
def extra_memory(inference: Callable[[], object]) -> Iterator[dict]:
    """Hands out a dict in which, at the end, stands ``peak_extra_bytes``: the block's peak over that of ``inference``."""
    with Peak() as before:
        inference()
    found = {}
    with Peak() as peak:
        yield found
    found["peak_extra_bytes"] = max(0, peak.bytes - before.bytes)


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
