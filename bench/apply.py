"""*Apply LiDB to Model* against the stock *Load LoRA*, on SD 1.5 in shape: first picture, further pictures, ten people.

python -m hyperdreambooth.bench.apply                 on the CPU: 128 px; on a CUDA device: 512 px

``first_s`` is clone, patch and the first sampling step; ``step_s`` a further step; ``switch_s`` another person's identity or file and one step
with it. Sampling is one prompt, no negative prompt. Plain and patched models take turns; ``step_over_plain`` is the median over the rounds of the ratio
within a round, ``lowest`` and ``highest`` its range, and ``plain_again``, the plain model once more, shows what is noise.

All of it twice: as Python comes, and with glibc told not to give memory back to the system after every convolution.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from .finetune_setting import FinetuneSetting, sd15_setting
from .measure import finish, publish

PEOPLE = 10
ROUNDS = 8
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 33), "MALLOC_MMAP_THRESHOLD_": str(1 << 33)}
KEPT = ", memory kept"


def random_person(table, seed: int):
    """A rank-1 identity with factors of about a prediction's size."""
    from ..lidb.value import LiDB
    from ..nodes.finetune import starting_basis

    basis, stream = starting_basis(table), torch.Generator().manual_seed(seed)
    vector = torch.randn(len(table), basis.a + basis.b, generator=stream) * 0.05
    return LiDB.from_vector(table, basis, vector)


def ways(setting: FinetuneSetting) -> dict:
    """``plain``, ``ours``, ``stock_lora``: each takes a person's number and gives MODEL and CLIP. Writes the people's LoRA files."""
    import folder_paths
    from safetensors.torch import save_file

    from ..lidb.lora import to_lora
    from ..nodes.apply_lidb import ApplyLiDB
    from ..nodes.host import HostModel

    model, clip = setting.model, setting.clip
    people = [random_person(HostModel(model, clip).table, seed) for seed in range(PEOPLE)]
    for i, person in enumerate(people):
        save_file({k: v.contiguous() for k, v in to_lora(person).items()}, lora_file(setting, i))
    folder_paths.filename_list_cache.clear()

    def stock_lora(i: int):
        return setting.booted.nodes.LoraLoader().load_lora(model, clip, lora_file(setting, i).name, 1.0, 1.0)

    return {
        "plain": lambda i: (model, clip),
        "ours": lambda i: ApplyLiDB.execute(model, clip, people[i], 1.0, 1.0).args[:2],
        "stock_lora": stock_lora,
    }


def lora_file(setting: FinetuneSetting, i: int) -> Path:
    return setting.booted.base / "models" / "loras" / f"bench_{i}.safetensors"


def sample(setting: FinetuneSetting, model, clip, steps: int = 1) -> torch.Tensor:
    """One prompt from encoding to latents (1, c, h, w)."""
    nodes = setting.booted.nodes
    context = nodes.CLIPTextEncode().encode(clip, setting.prompt)[0]
    channels = model.model.latent_format.latent_channels
    latent = {"samples": torch.zeros(1, channels, setting.side // 8, setting.side // 8)}
    drawn = nodes.KSampler().sample(model, 0, steps, 1.0, "euler", "normal", context, context, latent, 1.0)[0]
    finish()
    return drawn["samples"]


def measure(setting: FinetuneSetting) -> list[dict]:
    """Rows ``plain``, ``ours``, ``stock_lora`` and ``plain_again``."""
    how = ways(setting)
    how["plain_again"] = how["plain"]
    rows = [{"name": name, "step_s": []} for name in how]

    def timed(way, i: int) -> float:
        started = time.time()
        sample(setting, *way(i))
        return time.time() - started

    def step(model, clip) -> float:
        started = time.time()
        sample(setting, model, clip, setting.steps)
        return (time.time() - started) / setting.steps

    with torch.inference_mode():
        sample(setting, *how["plain"](0))
        for row in rows[1:3]:
            row["first_s"] = timed(how[row["name"]], 0)
            row["switch_s"] = statistics.mean(timed(how[row["name"]], i) for i in range(1, PEOPLE))
            sample(setting, *how["plain"](0))  # back to the plain model
        for turn in range(ROUNDS):
            for i in range(len(rows)):
                row = rows[(turn + i) % len(rows)]  # nobody is always first
                patched = how[row["name"]](PEOPLE - 1)
                sample(setting, *patched)
                row["step_s"].append(step(*patched))
    for i in range(PEOPLE):
        lora_file(setting, i).unlink()
    plain_steps = rows[0]["step_s"]
    for row in rows:
        ratios = [mine / bare for mine, bare in zip(row["step_s"], plain_steps, strict=True)]
        row["step_over_plain"] = statistics.median(ratios)
        row["lowest"], row["highest"] = min(ratios), max(ratios)
        row["step_s"] = statistics.median(row["step_s"])
    for row in rows[1:3]:
        row["switch_over_stock"] = row["switch_s"] / rows[2]["switch_s"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="sampling steps for a figure")
    parser.add_argument("--side", type=int, default=512 if torch.cuda.is_available() else 128)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # this process measures
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(sd15_setting(args.side, 1, args.steps))))
        return
    rows = []
    for name, environment in (("", {}), (KEPT, KEEP_MEMORY)):
        command = [sys.executable, "-m", "hyperdreambooth.bench.apply", "--alone", *sys.argv[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | environment)
        rows += [row | {"name": row["name"] + name} for row in json.loads(done.stdout.splitlines()[-1])]
    publish("apply", rows)


if __name__ == "__main__":
    main()
