"""HyperNet training, samples per second, against the bare forward and backward of the same frozen model.

python -m hyperdreambooth.bench.train_hypernet         on the CPU: the embedded HyperNet on faceworld
                                                       on a CUDA device also a ViT-H-sized one on SD 1.5 in shape, 512 px
"""

import argparse
import tempfile
import time
from pathlib import Path

import accelerate
import numpy as np
import torch

from ..cli.headless import HeadlessHost
from ..cli.host_install import REPOSITORY
from ..cli.train import SIZES
from .measure import finish, peak_bytes, publish, reset_peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--people", type=int, default=12)
    args = parser.parse_args()
    booted = HeadlessHost(REPOSITORY / "output" / "bench")
    rows = measure("faceworld.safetensors", "faceworld, small", "small", 16, (48, 24), args)
    if torch.cuda.is_available():
        publish("train_hypernet", rows)  # stays, should the larger model not fit
        from .sd15_shape import write_sd15_shape

        path = booted.base / "models" / "checkpoints" / "sd15_shape.safetensors"
        if not path.is_file():
            write_sd15_shape(path)
        rows += measure(path.name, "SD 1.5 in shape 512 px, ViT-H-sized", "huge", 64, (100, 50), args)
    publish("train_hypernet", rows)


def random_people(folder: Path, host, side: int, latent: int, count: int):
    """Prepared people of noise: two pictures each. Speed does not ask who they are."""
    from ..hypernet.shards import PreparedPeople, Shard, open_plan, write_shard

    stream, M = torch.Generator().manual_seed(0), 2 * count
    channels = host.model.model.latent_format.latent_channels
    names = [str(i) for i in range(count)]
    open_plan(folder, {"prompt": "a photo of a [V] face"}, dict.fromkeys(names, ""), count)
    faces = torch.randint(0, 256, (M, side, side, 3), dtype=torch.uint8, generator=stream)
    latents = torch.randn(M, channels, latent, latent, generator=stream).half()
    owner, yes = torch.arange(count, dtype=torch.int32).repeat_interleave(2), torch.ones(M, dtype=torch.uint8)
    nothing = torch.zeros(0, 1, 1), torch.zeros(0)
    write_shard(folder, 0, Shard(names, ["a photo of a [V] face"] * M, faces, latents, owner, yes, *nothing))
    return PreparedPeople(folder)


def measure(checkpoint: str, model: str, size: str, latent: int, ab: tuple[int, int], args) -> list[dict]:
    import comfy.sd
    import folder_paths

    from ..hypernet.checkpoint import Identity
    from ..hypernet.hypernet import HyperNet, HyperNetConfig
    from ..hypernet.recipe import Recipe, draw
    from ..hypernet.train import Training
    from ..lidb.basis import Basis
    from ..nodes.host import HostModel

    with torch.inference_mode():
        path = folder_paths.get_full_path_or_raise("checkpoints", checkpoint)
        host = HostModel(*comfy.sd.load_checkpoint_guess_config(path)[:3])
    recipe = Recipe(steps=args.steps + 1, people=args.people, targets=2)
    basis = Basis(*ab)
    net = HyperNet(HyperNetConfig(**SIZES[size], refinements=3, layers=len(host.table), numbers=sum(ab)))
    identity = Identity(host.table, basis, "[V] face", host.base, {})
    samples, rows = args.people * recipe.targets, []
    with tempfile.TemporaryDirectory() as folder:
        data = random_people(Path(folder), host, SIZES[size]["image_size"], latent, args.people)
        accelerator = accelerate.Accelerator(cpu=not torch.cuda.is_available())
        job = Training(net, identity, host, data, np.arange(len(data)), recipe, accelerator)
        with host.training((samples, *job.latent_shape)), job:

            def floor(step: int) -> None:
                """The frozen model's own forward and backward to a latent; no residuals, no HyperNet."""
                job.residuals.set(None)
                now = draw(data, job.pool, step, recipe, job.latent_shape)
                x0 = data.latents(now.target.reshape(-1)).to(host.device).requires_grad_()
                noise = now.noise.flatten(0, 1).to(host.device)
                sigma = host.sigmas[len(host.sigmas) // 2].float().expand(samples).to(host.device)
                context = host.encode_prompts(["a photo of a [V] face"] * samples)
                host.denoising_loss(x0, noise, sigma, context).mean().backward()

            for name, work in (("bare model", floor), ("training", lambda step: job.advance())):
                work(0)
                reset_peak()
                started = time.time()
                for step in range(args.steps):
                    work(step + 1)
                finish()
                rate = args.steps * samples / (time.time() - started)
                rows.append({"name": f"{model}, {name}", "samples_per_second": rate, "peak_bytes": peak_bytes()})
    for row in rows:
        row["time_ratio"] = rows[0]["samples_per_second"] / row["samples_per_second"]
    return rows


if __name__ == "__main__":
    main()
