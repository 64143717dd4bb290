"""The main job for a group of people: what ``demo`` and ``evaluate`` share.

Everything runs through the shipped workflow 02 in the real executor; pictures that the workflow does not make itself
(controls, edits) are made by copies of its own sampling nodes.
"""

import copy
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..lidb.file import load_lidb, save_lidb
from ..lidb.value import LiDB
from .headless import HeadlessHost
from .host_install import REPOSITORY
from .precompute import RESOLUTION
from .workflow import load_workflow, to_api

PHOTO = "a photo of a [V] face"
EDITS = {
    "a pencil sketch of a [V] face": {"style": "pencil sketch"},
    "pop art of a [V] face": {"style": "pop art"},
    "a photo of a [V] face wearing a crown at the beach": {"style": "photo", "accessory": "crown", "context": "beach"},
    "a photo of a [V] face wearing sunglasses under the night sky": {
        "style": "photo",
        "accessory": "sunglasses",
        "context": "night sky",
    },
    "a photo of a [V] face wearing a red hat in the forest": {
        "style": "photo",
        "accessory": "red hat",
        "context": "forest",
    },
}


class Study:
    """One booted host and the workflow's graph for one person at a time.

    Args:
        base: ComfyUI base directory to work in.
        seeds: sampling seeds per prompt of the plain photo.
        checkpoint, hypernet: file names in the host's model folders; the workflow's own if None.

    Raises:
        ValueError: no such file there.
    """

    def __init__(self, base: Path, seeds: int = 1, checkpoint: str | None = None, hypernet: str | None = None):
        self.host, self.seeds = HeadlessHost(base), seeds
        self.graph = to_api(
            load_workflow(REPOSITORY / "workflows" / "02_predict_and_finetune.json"), self.host.object_info()
        )
        ids = {node["class_type"]: key for key, node in self.graph.items()}
        self.checkpoint, self.predict, self.finetune = (
            ids[t] for t in ("CheckpointLoaderSimple", "HDB_PredictLiDB", "HDB_RankRelaxedFinetune")
        )
        self.save = ids["HDB_SaveLiDB"]
        for node, key, folder, name in (
            (self.checkpoint, "ckpt_name", "checkpoints", checkpoint),
            (ids["HDB_LoadHyperNet"], "hypernet_name", "hypernets", hypernet),
        ):
            self.graph[node]["inputs"][key] = name or self.graph[node]["inputs"][key]
            self.host.check_listed(folder, self.graph[node]["inputs"][key])
        self.names = {
            "checkpoint": self.graph[self.checkpoint]["inputs"]["ckpt_name"],
            "hypernet": self.graph[ids["HDB_LoadHyperNet"]]["inputs"]["hypernet_name"],
        }
        self.base_model = self.host.base_of(self.names["checkpoint"])
        self.side = RESOLUTION.get(self.base_model, 512)
        self.sampler = next(node["inputs"] for node in self.graph.values() if node["class_type"] == "KSampler")
        applied = {n["inputs"]["lidb"][0]: k for k, n in self.graph.items() if n["class_type"] == "HDB_ApplyLiDB"}
        self.sources = {
            "plain": ([self.checkpoint, 0], [self.checkpoint, 1]),
            "predicted": ([applied[self.predict], 0], [applied[self.predict], 1]),
            "finetuned": ([applied[self.finetune], 0], [applied[self.finetune], 1]),
        }

    def setup_graph(self, reference: Path, name: str) -> dict:
        """The workflow with this person's picture and file name, without its own picture outputs."""
        graph = copy.deepcopy(self.graph)
        target = self.host.base / "input" / f"{name}.png"
        Image.open(reference).convert("RGB").save(target)
        for key, node in list(graph.items()):
            if node["class_type"] == "LoadImage":
                node["inputs"]["image"] = target.name
            if node["class_type"] in ("SaveImage", "VAEDecode", "KSampler", "CLIPTextEncode", "EmptyLatentImage"):
                del graph[key]
        graph[self.save]["inputs"]["filename_prefix"] = f"lidb/{name}_finetuned"
        graph["save_predicted"] = {
            "class_type": "HDB_SaveLiDB",
            "inputs": {"lidb": [self.predict, 0], "filename_prefix": f"lidb/{name}_predicted", "precision": "float16"},
        }
        return graph

    def add_pictures(self, graph: dict, key: str, source, prompts: list[str], seed: int) -> None:
        """Sampling nodes for each prompt, outputs ``save_{key}_{i}``."""
        model, clip = source
        graph[f"neg_{key}"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": clip}}
        graph["empty"] = {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": self.side, "height": self.side, "batch_size": 1},
        }
        for i, prompt in enumerate(prompts):
            graph[f"pos_{key}_{i}"] = {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": clip}}
            links = {
                "model": model,
                "positive": [f"pos_{key}_{i}", 0],
                "negative": [f"neg_{key}", 0],
                "latent_image": ["empty", 0],
            }
            graph[f"sample_{key}_{i}"] = {
                "class_type": "KSampler",
                "inputs": {**self.sampler, **links, "seed": seed + i},
            }
            decode = {"samples": [f"sample_{key}_{i}", 0], "vae": [self.checkpoint, 2]}
            graph[f"decode_{key}_{i}"] = {"class_type": "VAEDecode", "inputs": decode}
            graph[f"save_{key}_{i}"] = {"class_type": "PreviewImage", "inputs": {"images": [f"decode_{key}_{i}", 0]}}

    def pictures(self, outputs: dict, key: str, count: int) -> list[Image.Image]:
        return [Image.open(self.host.saved(outputs[f"save_{key}_{i}"])[0]).convert("RGB") for i in range(count)]

    def stage(self, graph: dict, key: str, source, prompts: list[str], seed: int) -> tuple[list[Image.Image], float]:
        """Run a graph with one more stage of pictures; nodes that ran before are cached by the host."""
        self.add_pictures(graph, key, source, prompts, seed)
        started = time.time()
        outputs = self.host.run(graph)
        return self.pictures(outputs, key, len(prompts)), time.time() - started

    def lidb_source(self, graph: dict, key: str, file: str):
        """Nodes that load a saved identity and apply it to the plain model."""
        graph[f"load_{key}"] = {"class_type": "HDB_LoadLiDB", "inputs": {"lidb_name": file}}
        links = {"model": [self.checkpoint, 0], "clip": [self.checkpoint, 1], "lidb": [f"load_{key}", 0]}
        graph[f"apply_{key}"] = {
            "class_type": "HDB_ApplyLiDB",
            "inputs": {**links, "strength_model": 1.0, "strength_clip": 1.0},
        }
        return [f"apply_{key}", 0], [f"apply_{key}", 1]

    def run(self, people: dict[str, Path], with_zero: bool = False, zero_learning_rate: float | None = None) -> dict:
        """Everything for everybody; ``zero_learning_rate`` is for the finetune without HyperNet, if another is better.

        Returns:
            ``pictures[stage][person] -> [photo * seeds, *edits]``, ``seconds[stage]`` (mean per person), ``files``.
        """
        from ..nodes.learned import find_learned_basis  # knows the host's folders, so only once it has booted

        prompts = [PHOTO] * self.seeds + list(EDITS)
        pictures, seconds, files, predictions = {}, {}, {}, []
        for number, (name, reference) in enumerate(people.items()):
            print(f"  {name}", flush=True)
            seed = 1000 * number + 1
            graph = {self.checkpoint: self.graph[self.checkpoint]}
            pictures.setdefault("plain", {})[name], spent = self.stage(
                graph, "plain", self.sources["plain"], prompts, seed
            )
            seconds.setdefault("plain", []).append(spent)
            graph = self.setup_graph(reference, name)
            del graph[self.save]  # first the prediction alone, so that its time is its own
            started = time.time()
            outputs = self.host.run(graph)
            path = self.host.saved(outputs["save_predicted"])[0]
            predictions.append(load_lidb(path, find_learned_basis))
            files[path.name] = path.stat().st_size
            got, spent = self.stage(graph, "predicted", self.sources["predicted"], prompts, seed)
            pictures.setdefault("predicted", {})[name] = got
            seconds.setdefault("predicted", []).append(time.time() - started - spent)
            graph = self.setup_graph(reference, name)
            started = time.time()
            path = self.host.saved(self.host.run(graph)[self.save])[0]
            seconds.setdefault("finetuned", []).append(time.time() - started)
            files[path.name] = path.stat().st_size
            pictures.setdefault("finetuned", {})[name], _ = self.stage(
                graph, "finetuned", self.sources["finetuned"], prompts, seed
            )
            if with_zero:
                graph = self.setup_graph(reference, name)
                del graph[self.finetune]["inputs"]["lidb"]
                if zero_learning_rate:
                    graph[self.finetune]["inputs"]["learning_rate"] = zero_learning_rate
                started = time.time()
                self.host.run(graph)
                seconds.setdefault("zero_40", []).append(time.time() - started)
                pictures.setdefault("zero_40", {})[name], _ = self.stage(
                    graph, "zero_40", self.sources["finetuned"], prompts, seed
                )
        mean = torch.stack([p.vector() for p in predictions]).mean(0)
        folder = self.host.base / "output" / "lidb"
        save_lidb(
            folder / "mean_prediction.safetensors",
            LiDB.from_vector(predictions[0].table, predictions[0].basis, mean, predictions[0].facts),
        )
        for number, name in enumerate(people):
            graph = {self.checkpoint: self.graph[self.checkpoint]}
            source = self.lidb_source(graph, "mean", "mean_prediction.safetensors")
            pictures.setdefault("mean", {})[name], _ = self.stage(graph, "mean", source, prompts, 1000 * number + 1)
        return {"pictures": pictures, "seconds": {k: float(np.mean(v)) for k, v in seconds.items()}, "files": files}
