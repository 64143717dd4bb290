"""*Predict LiDB* against the bare encoder: what the decoder over the layers and its refinements add.

python -m hyperdreambooth.bench.predict               the embedded HyperNet's size and the paper's (ViT-H), batch 1 and 16

Weights are random for the paper's size; speed does not ask. Encoder and whole network take turns, so that both see the
same machine. ``node_s`` is the node: crop, network, LiDB with its thumbnail.
"""

import argparse
import time
from functools import partial

import torch

from ..cli.headless import HeadlessHost
from ..cli.host_install import REPOSITORY
from ..cli.train import SIZES
from .measure import finish, publish


def measure(size: str, batch: int, repeats: int, layers: int, numbers: int) -> dict:
    """One row for a HyperNet of this size with random weights."""
    from ..hypernet.hypernet import HyperNet, HyperNetConfig

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stream = torch.Generator().manual_seed(0)
    net = HyperNet(HyperNetConfig(**SIZES[size], refinements=3, layers=layers, numbers=numbers)).to(device).eval()
    pictures = torch.rand(batch, 3, net.config.image_size, net.config.image_size, generator=stream).to(device)
    with torch.inference_mode():
        face = net.look(pictures)
        parts = {"encoder_s": partial(net.look, pictures), "decoder_s": partial(net.refine, face),
                 "total_s": partial(net.forward, pictures)}  # fmt: skip
        times = {name: [] for name in parts}
        for turn in range(repeats + 1):
            for name, work in parts.items():
                finish()
                started = time.time()
                work()
                finish()
                if turn:  # the first warms up
                    times[name].append(time.time() - started)
    best = {name: min(seconds) for name, seconds in times.items()}
    ratio = {"total_over_encoder": best["total_s"] / best["encoder_s"]}
    return {"name": f"{size}, batch {batch}"} | ratio | best


def node_seconds(repeats: int) -> float:
    """*Predict LiDB* on the embedded HyperNet and one 128 px picture."""
    import folder_paths

    from ..nodes.load_hypernet import LoadedHyperNet
    from ..nodes.predict import PredictLiDB

    hypernet = LoadedHyperNet(folder_paths.get_full_path_or_raise("hypernets", "faceworld.safetensors"))
    picture, times = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0)), []
    for _ in range(repeats + 1):
        started = time.time()
        with torch.inference_mode():
            PredictLiDB.execute(hypernet, picture)
        finish()
        times.append(time.time() - started)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    HeadlessHost(REPOSITORY / "output" / "bench")
    rows = []
    for batch in (1, 16):
        rows.append(measure("small", batch, 4 * args.repeats, layers=74, numbers=72))
        rows.append(measure("huge", batch, args.repeats if batch == 1 else 2, layers=192, numbers=150))
    rows[0]["node_s"] = node_seconds(4 * args.repeats)
    publish("predict", rows)


if __name__ == "__main__":
    main()
