"""Identities fitted per minute: many in one forward against one at a time, to the same final loss, in one run.

python -m hyperdreambooth.bench.precompute              on the CPU: faceworld, 128 px
                                                        on a CUDA device also SD 1.5 in shape, 512 px
"""

import argparse
import time

import torch

from ..cli.headless import HeadlessHost
from ..cli.host_install import REPOSITORY
from .measure import finish, peak_bytes, publish, reset_peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1, help="noisy pictures per person and step")
    args = parser.parse_args()
    booted = HeadlessHost(REPOSITORY / "output" / "bench")
    rows = measure("faceworld.safetensors", "faceworld 128 px", (16, 16), (48, 24), args)
    if torch.cuda.is_available():
        publish("precompute", rows)  # stays, should the larger model not fit
        from .sd15_shape import write_sd15_shape

        path = booted.base / "models" / "checkpoints" / "sd15_shape.safetensors"
        if not path.is_file():
            write_sd15_shape(path)
        rows += measure(path.name, "SD 1.5 in shape 512 px", (64, 64), (100, 50), args)
    publish("precompute", rows)


def measure(checkpoint: str, model: str, latent: tuple[int, int], ab: tuple[int, int], args) -> list[dict]:
    """Rows ``one at a time`` and ``batched``; random latents, since only speed and agreement are asked here."""
    import comfy.sd
    import folder_paths

    from ..hypernet.precompute import FitSettings, fit_people
    from ..lidb.basis import Basis
    from ..nodes.host import HostModel

    with torch.inference_mode():
        path = folder_paths.get_full_path_or_raise("checkpoints", checkpoint)
        host = HostModel(*comfy.sd.load_checkpoint_guess_config(path)[:3])
    basis, settings = Basis(*ab), FitSettings(args.steps, 2e-2, args.samples)
    stream = torch.Generator().manual_seed(0)
    channels = host.model.model.latent_format.latent_channels
    latents = [torch.randn(1, channels, *latent, generator=stream) for _ in range(args.people)]
    captions, rows = [["a photo of a [V] face"]] * args.people, []
    with host.training((args.people * args.samples, channels, *latent)):
        fit_people(host, basis, latents[:1], captions[:1], FitSettings(1))  # warm-up
        for name, size in (("one at a time", 1), ("batched", args.people)):
            reset_peak()
            started, losses = time.time(), []
            for i in range(0, args.people, size):
                losses.append(
                    fit_people(host, basis, latents[i : i + size], captions[i : i + size], settings, first=i)[1]
                )
            finish()
            minutes = (time.time() - started) / 60
            rows.append({"name": f"{model}, {name}", "identities_per_minute": args.people / minutes,
                         "final_loss": torch.cat(losses).mean().item(), "peak_bytes": peak_bytes()})  # fmt: skip
    for row in rows:
        row["ratio"] = row["identities_per_minute"] / rows[0]["identities_per_minute"]
    return rows


if __name__ == "__main__":
    main()
