"""Forty iterations on one picture, on SD 1.5 in shape: ours, the bare floor, and what users would pick instead.

python -m hyperdreambooth.bench.finetune              on the CPU: 128 px; on a CUDA device: 512 px, batch 1 and 4
                                                      (needs diffusers and peft: pip install -e '.[bench]')

The floor is one forward and one backward to the activations of the bare frozen UNet. Every row has a process of its own,
because the peak of a process cannot be reset. Times begin with the loaded model and a picture in memory and end with what
was learnt in memory. ``ours`` also times a floor step between its own steps, and ``over_floor`` compares with that.
"""

import argparse
import json
import subprocess
import sys
import time

import torch

from .finetune_rivals import RIVALS
from .finetune_setting import FinetuneSetting, sd15_setting
from .measure import RESULTS, extra_memory, publish

RANK = 4


def floor(setting: FinetuneSetting) -> dict:
    """The bare frozen UNet, forward and backward to its input; prompt and picture encoded before."""
    with extra_memory(setting.sample_once) as memory:
        started = time.time()
        with torch.inference_mode():
            x0 = setting.encode()
        with setting.floor_step(x0) as step:
            step()
            setup, times = time.time() - started, [step() for _ in range(setting.steps)]
    return {"setup_s": setup, "step_s": sum(times) / len(times), "total_40_s": setup + sum(times), **memory,
            "trainable": 0, "eval_loss": setting.evaluate(setting.model, setting.clip)}  # fmt: skip


def ours(setting: FinetuneSetting) -> dict:
    """*Rank-Relaxed Finetune* from a prediction, called as the executor calls it; ranks in the full space."""
    from ..lidb.value import LiDB
    from ..nodes.apply_lidb import apply_lidb
    from ..nodes.finetune import RankRelaxedFinetune, starting_basis
    from ..nodes.host import HostModel

    table = HostModel(setting.model, setting.clip).table
    prediction = LiDB.zeros(table, starting_basis(table), rank=1)
    with torch.inference_mode(), extra_memory(setting.sample_once) as memory:
        clock = setting.clock(floor_every=4)
        lidb = RankRelaxedFinetune.execute(
            setting.model, setting.clip, setting.vae, setting.picture, lidb=prediction, steps=setting.steps, rank=RANK,
            learning_rate=0.01, batch_size=setting.batch, seed=0, prompt=setting.prompt, space="full", resolution=0,
        ).args[0]  # fmt: skip
        row = clock.stop()
    model, clip = apply_lidb(setting.model, setting.clip, lidb, 1.0, 1.0)
    return row | memory | {"trainable": lidb.numbers - prediction.numbers, "eval_loss": setting.evaluate(model, clip)}


ROWS = {"floor": floor, "ours": ours, **RIVALS}


def compare(rows: list[dict]) -> list[dict]:
    """Ratios first: the step against the floor's, the total against ours."""
    by_name = {row["name"].split(",")[0]: row for row in rows}
    for row in rows:
        bare = row.pop("floor_step_s", by_name["floor"]["step_s"])
        row["over_floor"] = row["step_s"] / bare
        row["total_over_ours"] = row["total_40_s"] / by_name["ours"]["total_40_s"]
    first = ("name", "over_floor", "total_over_ours", "setup_s", "step_s", "total_40_s")
    return [{k: row[k] for k in (*first, *(k for k in row if k not in first))} for row in rows]


def earlier(measured: list[str]) -> list[dict]:
    """Rows of earlier runs that were not measured now; their ratios are those within their own run."""
    path = RESULTS / f"finetune.{'cuda' if torch.cuda.is_available() else 'cpu'}.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    return [row | {"earlier_run": True} for row in rows if row["name"] not in measured]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--row", choices=list(ROWS), help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=512 if torch.cuda.is_available() else 128)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4] if torch.cuda.is_available() else [1])
    args = parser.parse_args()
    if args.row:
        print(json.dumps(ROWS[args.row](sd15_setting(args.side, args.batch[0], args.steps))))
        return
    rows = []
    for batch in args.batch:
        some = []
        for name in dict.fromkeys(("floor", "ours", *args.rows)):  # what all ratios are made with
            same = ["--side", str(args.side), "--batch", str(batch), "--steps", str(args.steps)]
            command = [sys.executable, "-m", "hyperdreambooth.bench.finetune", "--row", name, *same]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            some.append({"name": f"{name}, batch {batch}", **json.loads(done.stdout.splitlines()[-1])})
            print(some[-1], flush=True)
        rows += compare(some)
    publish("finetune", rows + earlier([row["name"] for row in rows]))


if __name__ == "__main__":
    main()
