"""The main job for a group of people: what ``demo`` and ``evaluate`` share.

Everything runs through the shipped workflow 02 in the real executor; pictures that the workflow does not make itself
(controls, edits) are made by copies of its own sampling nodes.
"""

import copy
import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..hypernet.checkpoint import load_hypernet
from ..lidb.file import load_lidb, save_lidb
from ..lidb.value import LiDB
from ..nodes.pictures import SIDES
from .headless import HeadlessHost
from .host_install import REPOSITORY
from .workflow import load_workflow, to_api

WORKFLOW, FROM_ZERO = "02_predict_and_finetune.json", "03_finetune_without_hypernet.json"
MEAN = "mean_prediction.safetensors"
TRIGGER = "[V] face"  # without a HyperNet that says otherwise
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
        base: ComfyUI base directory to work in, or a host that has booted.
        seeds: sampling seeds per prompt of the plain photo.
        checkpoint, hypernet: file names in the host's model folders; the workflow's own if None.
        edits: prompt -> the attributes it names.

    Raises:
        ValueError: no such file there, or the HyperNet was trained for another base model.
    """

    def __init__(
        self,
        base: Path | HeadlessHost,
        seeds: int = 1,
        checkpoint: str | None = None,
        hypernet: str | None = None,
        edits: dict[str, dict[str, str]] = EDITS,
    ):
        self.host, self.seeds, self.edits = base if isinstance(base, HeadlessHost) else HeadlessHost(base), seeds, edits
        self.graph, from_zero = (
            to_api(load_workflow(REPOSITORY / "workflows" / name), self.host.object_info())
            for name in (WORKFLOW, FROM_ZERO)
        )
        self.zero_learning_rate = next(
            node["inputs"]["learning_rate"]
            for node in from_zero.values()
            if node["class_type"] == "HDB_RankRelaxedFinetune"
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
        self.files = {kind: self.host.model_file(f"{kind}s", name) for kind, name in self.names.items()}
        identity = load_hypernet(self.files["hypernet"])[1]
        trained_for, self.trigger = identity.base, identity.trigger
        self.base_model = self.host.base_of(self.names["checkpoint"])
        if trained_for != self.base_model:
            raise ValueError(
                f"{self.names['hypernet']} predicts people for {trained_for}, but {self.names['checkpoint']} is "
                f"{self.base_model}. Choose a checkpoint that the HyperNet was trained for (--checkpoint), or another HyperNet."
            )
        self.graph[self.finetune]["inputs"]["prompt"] = self.words(PHOTO)
        self.side = SIDES.get(self.base_model, 512)
        self.sampler = next(node["inputs"] for node in self.graph.values() if node["class_type"] == "KSampler")
        applied = {n["inputs"]["lidb"][0]: k for k, n in self.graph.items() if n["class_type"] == "HDB_ApplyLiDB"}
        self.sources = {
            "plain": ([self.checkpoint, 0], [self.checkpoint, 1]),
            "predicted": ([applied[self.predict], 0], [applied[self.predict], 1]),
            "finetuned": ([applied[self.finetune], 0], [applied[self.finetune], 1]),
        }

    def words(self, prompt: str) -> str:
        """A prompt with the words that this HyperNet's people are called by."""
        return prompt.replace(TRIGGER, self.trigger)

    def prompts(self, own_words: bool = True) -> list[str]:
        """What every stage draws; with the usual words for people who were learnt without the HyperNet."""
        every = [PHOTO] * self.seeds + list(self.edits)
        return [self.words(prompt) for prompt in every] if own_words else every

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

    def settings(self, with_zero: bool, zero_learning_rate: float | None) -> dict:
        """Everything that decides a person's pictures, except the person: names, digests, seeds, rates, code."""
        own = lambda inputs: {k: v for k, v in inputs.items() if not isinstance(v, list)}  # noqa: E731  no links
        finetune = own(self.graph[self.finetune]["inputs"])
        sources = [p for room in ("lidb", "hypernet", "nodes") for p in (REPOSITORY / room).glob("*.py")]
        sources += [Path(__file__), REPOSITORY / "faceworld" / "family.py"]
        sources += [REPOSITORY / "workflows" / name for name in (WORKFLOW, FROM_ZERO)]
        return {
            **self.names,
            **{f"{kind}_sha256": digest(path) for kind, path in self.files.items()},
            "seeds": self.seeds,
            "finetune": finetune,
            "zero_learning_rate": (zero_learning_rate or self.zero_learning_rate) if with_zero else None,
            "sampler": own(self.sampler),
            "prompts": list(self.edits),
            "code": digest(*sorted(sources)),
        }

    def person(
        self, number: int, name: str, reference: Path, with_zero: bool, zero_learning_rate: float | None
    ) -> dict:
        """All stages of one person but the mean: ``pictures[stage]``, ``seconds[stage]``, ``files`` (predicted, finetuned)."""
        prompts, seed = self.prompts(), 1000 * number + 1
        pictures, seconds, files = {}, {}, []
        graph = {self.checkpoint: self.graph[self.checkpoint]}
        pictures["plain"], seconds["plain"] = self.stage(graph, "plain", self.sources["plain"], prompts, seed)
        for kind in ("predicted", "finetuned", "zero_40"):  # an earlier run's, which would push our numbers up
            for old in (self.host.base / "output" / "lidb").glob(
                f"{name}_{kind}_[0-9][0-9][0-9][0-9][0-9]_.safetensors"
            ):
                old.unlink()
        graph = self.setup_graph(reference, name)
        del graph[self.save]  # first the prediction alone, so that its time is its own
        started = time.time()
        files.append(self.host.saved(self.host.run(graph)["save_predicted"])[0])
        seconds["predicted"] = time.time() - started
        pictures["predicted"], _ = self.stage(graph, "predicted", self.sources["predicted"], prompts, seed)
        graph = self.setup_graph(reference, name)
        started = time.time()
        files.append(self.host.saved(self.host.run(graph)[self.save])[0])
        seconds["finetuned"] = time.time() - started
        pictures["finetuned"], _ = self.stage(graph, "finetuned", self.sources["finetuned"], prompts, seed)
        if with_zero:
            graph = self.setup_graph(reference, name)
            del graph["save_predicted"], graph[self.finetune]["inputs"]["lidb"]
            graph[self.save]["inputs"]["filename_prefix"] = f"lidb/{name}_zero_40"
            rate = zero_learning_rate or self.zero_learning_rate
            graph[self.finetune]["inputs"] |= {"learning_rate": rate, "prompt": PHOTO}
            started = time.time()
            self.host.run(graph)
            seconds["zero_40"] = time.time() - started
            zero = self.sources["finetuned"], self.prompts(own_words=False), seed
            pictures["zero_40"], _ = self.stage(graph, "zero_40", *zero)
        return {"pictures": pictures, "seconds": seconds, "files": files}

    def mean_pictures(self, predictions: list[LiDB], people: list[str]) -> dict[str, list[Image.Image]]:
        """Everybody's pictures with the average of all predictions."""
        prompts, first = self.prompts(), predictions[0]
        folder = self.host.base / "output" / "lidb"
        folder.mkdir(parents=True, exist_ok=True)
        mean = torch.stack([p.vector() for p in predictions]).mean(0)
        save_lidb(folder / MEAN, LiDB.from_vector(first.table, first.basis, mean, first.facts))
        pictures = {}
        for number, name in enumerate(tqdm(people, "mean prediction", unit="person", disable=None)):
            graph = {self.checkpoint: self.graph[self.checkpoint]}
            source = self.lidb_source(graph, "mean", MEAN)
            pictures[name], _ = self.stage(graph, "mean", source, prompts, 1000 * number + 1)
        return pictures

    def run(
        self,
        people: dict[str, Path],
        with_zero: bool = False,
        zero_learning_rate: float | None = None,
        finished=None,
    ) -> dict:
        """Everything for everybody.

        Args:
            zero_learning_rate: of the finetune without HyperNet; by default that of the workflow without one.
            finished: keeps finished people (``evaluate.Finished``), so that an interrupted run goes on where it stopped.

        Returns:
            ``pictures[stage][person] -> [photo * seeds, *edits]``, ``seconds[stage]`` (mean per person), ``files`` (name ->
            bytes) and ``paths`` of the identity files. The stage ``mean`` is there for two people or more.
        """
        from ..nodes.learned import find_learned_basis  # knows the host's folders, so only once it has booted

        done = {}
        bar = tqdm(people.items(), "people", unit="person", disable=None)  # None: only on a terminal
        for number, (name, reference) in enumerate(bar):
            one = finished.load(number, name, reference) if finished else None
            if bar.disable:
                print(f"  {name}{' (finished before)' if one else ''}", flush=True)
            if one is None:
                one = self.person(number, name, reference, with_zero, zero_learning_rate)
                one = finished.store(number, name, reference, one) if finished else one
            done[name] = one
        everybody = list(done.values())
        pictures = {stage: {n: one["pictures"][stage] for n, one in done.items()} for stage in everybody[0]["pictures"]}
        if len(people) > 1:
            predictions = [load_lidb(one["files"][0], find_learned_basis) for one in everybody]
            pictures["mean"] = self.mean_pictures(predictions, list(people))
        paths = [path for one in everybody for path in one["files"]]
        seconds = {k: float(np.mean([one["seconds"][k] for one in everybody])) for k in everybody[0]["seconds"]}
        return {
            "pictures": pictures,
            "seconds": seconds,
            "files": {path.name: path.stat().st_size for path in paths},
            "paths": paths,
        }


def digest(*paths: Path) -> str:
    """sha256 over the bytes of files, in this order."""
    sha = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()
