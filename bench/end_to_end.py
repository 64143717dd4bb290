"""The main job in seconds: a picture file in, the personalised model and its first picture out, cold and warm.

python -m hyperdreambooth.bench.end_to_end            on the CPU: the embedded default, 128 px
                                                      on a CUDA device also SD 1.5 in shape with a ViT-H-sized HyperNet, 512 px

Runs workflow 02 in ComfyUI's own executor. ``cold`` includes reading checkpoint and HyperNet; ``warm`` is the next person in
the same ComfyUI. ``model_s`` ends with the patched MODEL, ``picture_s`` with one picture of it.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from ..cli.headless import HeadlessHost
from ..cli.host_install import REPOSITORY
from ..cli.people import choose_people
from ..cli.study import WORKFLOW
from ..cli.train import SIZES
from ..cli.workflow import load_workflow, to_api
from .measure import finish, publish


def graph_for(booted: HeadlessHost, checkpoint: str, hypernet: str, side: int) -> dict:
    """Workflow 02 with these files, one picture of ``side`` px with the finetuned person at its end."""
    graph = to_api(load_workflow(REPOSITORY / "workflows" / WORKFLOW), booted.object_info())
    ids = {node["class_type"]: key for key, node in graph.items()}
    graph[ids["CheckpointLoaderSimple"]]["inputs"]["ckpt_name"] = checkpoint
    graph[ids["HDB_LoadHyperNet"]]["inputs"]["hypernet_name"] = hypernet
    applied = next(
        k
        for k, n in graph.items()
        if n["class_type"] == "HDB_ApplyLiDB" and n["inputs"]["lidb"][0] == ids["HDB_RankRelaxedFinetune"]
    )
    for key, node in list(graph.items()):
        if node["class_type"] in (
            "SaveImage",
            "VAEDecode",
            "KSampler",
            "CLIPTextEncode",
            "EmptyLatentImage",
            "HDB_SaveLiDB",
        ):
            del graph[key]
    sampler = {
        "seed": 5,
        "steps": 20,
        "cfg": 3.0,
        "sampler_name": "euler_ancestral",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    links = {"model": [applied, 0], "positive": ["pos", 0], "negative": ["neg", 0], "latent_image": ["empty", 0]}
    vae = [ids["CheckpointLoaderSimple"], 2]
    text = lambda words: {"class_type": "CLIPTextEncode", "inputs": {"text": words, "clip": [applied, 1]}}  # noqa: E731
    return graph | {
        "pos": text("a photo of a [V] face"),
        "neg": text(""),
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": side, "height": side, "batch_size": 1}},
        "sample": {"class_type": "KSampler", "inputs": sampler | links},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": vae}},
        "save": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
    }


class Stamped(list):
    """The server's events, each with the time at which it came."""

    def append(self, event) -> None:
        super().append((time.time(), *event))

    def after(self, node: str) -> float:
        """When the node that ran after ``node`` began."""
        begun = [(when, data["node"]) for when, kind, data in self if kind == "executing"]
        return begun[[name for _, name in begun].index(node) + 1][0]


def measure(booted: HeadlessHost, name: str, checkpoint: str, hypernet: str, side: int, people: int) -> list[dict]:
    """Rows ``cold`` (the first person) and ``warm`` (mean of the others)."""
    graph, times = graph_for(booted, checkpoint, hypernet, side), []
    loader = next(node for node in graph.values() if node["class_type"] == "LoadImage")
    for number, face in enumerate(choose_people(None, people)[0].values()):
        loader["inputs"]["image"] = f"bench_{number}.png"
        face.reference.resize((side, side)).save(booted.base / "input" / loader["inputs"]["image"])
        booted.server.events = Stamped()
        started = time.time()
        booted.run(graph)
        finish()
        times.append(
            (booted.server.events.after(graph["sample"]["inputs"]["model"][0]) - started, time.time() - started)
        )
    model, picture = np.mean(times[1:], axis=0).tolist()
    return [
        {"name": f"{name}, cold", "model_s": times[0][0], "picture_s": times[0][1]},
        {"name": f"{name}, warm", "model_s": model, "picture_s": picture, "people": people - 1},
    ]


def write_hypernet(path: Path, size: str, booted: HeadlessHost, checkpoint: str) -> None:
    """A HyperNet of the paper's size with random weights."""
    from ..hypernet.checkpoint import Identity, save_hypernet
    from ..hypernet.hypernet import HyperNet, HyperNetConfig
    from ..lidb.basis import Basis
    from ..nodes.host import HostModel

    with torch.inference_mode():
        host = HostModel(*booted.nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint)[:2])
    net = HyperNet(HyperNetConfig(**SIZES[size], refinements=3, layers=len(host.table), numbers=150))
    save_hypernet(path, net, Identity(host.table, Basis(), "[V] face", host.base, {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=5)
    args = parser.parse_args()
    booted = HeadlessHost(REPOSITORY / "output" / "bench")
    rows = measure(booted, "faceworld 128 px", "faceworld.safetensors", "faceworld.safetensors", 128, args.people)
    if torch.cuda.is_available():
        from .sd15_shape import write_sd15_shape

        models = booted.base / "models"
        (models / "hypernets").mkdir(exist_ok=True)
        checkpoint, hypernet = (
            models / "checkpoints" / "sd15_shape.safetensors",
            models / "hypernets" / "bench.safetensors",
        )
        if not checkpoint.is_file():
            write_sd15_shape(checkpoint)
        write_hypernet(hypernet, "huge", booted, checkpoint.name)
        rows += measure(booted, "SD 1.5 in shape 512 px", checkpoint.name, hypernet.name, 512, args.people)
    publish("end_to_end", rows)


if __name__ == "__main__":
    main()
