"""One loaded host: a person learnt by any arm, drawn by the same prompts and seeds, and scored."""

import time
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from pathlib import Path

import torch

from ...cli.headless import HeadlessHost
from ...cli.study import EDITS, PHOTO
from .arms import EMBEDDED, Arm
from .hypernets import hypernet_file
from .rulers import Rulers
from .world import TEST, Subject

ANYBODY = ("a photo of a face", "a pencil sketch of a face")  # prior preservation trains on the first
PHOTOS, CLASS = 3, len(ANYBODY)
PROMPTS = [PHOTO] * PHOTOS + list(EDITS) + list(ANYBODY)
CLASS_PICTURES = 64  # of prior preservation
SCORES_VERSION = 2  # raise it when a score's meaning or the drawing changes: older records are then made again


class Bench:
    """The faceworld checkpoint and its HyperNets in a booted host.

    Args:
        hypernets: folder that ``hypernets.py`` trained them into.
        crowd: how many people the mean prediction is over.
        split: whose people they are.
    """

    def __init__(self, host: HeadlessHost, hypernets: Path, rulers: Rulers, crowd: int = 100, split: int = TEST):
        self.nodes, self.hypernets, self.rulers, self.crowd, self.split = host.nodes, hypernets, rulers, crowd, split
        with torch.inference_mode():
            self.model, self.clip, self.vae = self.nodes.CheckpointLoaderSimple().load_checkpoint(
                "faceworld.safetensors"
            )[:3]

    @torch.inference_mode()
    def score(self, arm: Arm, number: int) -> tuple[dict[str, float], torch.Tensor]:
        """All scores of one person under one arm, and the pictures (10, 3, H, W): photos, edits, anybody."""
        subject = Subject(number, self.split)
        others, rulers, ordinary = subject.others(arm.reference), self.rulers, arm.reference != "cartoon"
        who = subject.person() if ordinary else None
        gallery_number = number if ordinary and number < rulers.people else None
        if arm.method == "drawn":
            photo, edits = subject.unseen(arm.reference), subject.edits(arm.reference, list(EDITS.values()))
            scores = rulers.likeness(photo, others, who, gallery_number) | self.score_edits(edits, others)
            return scores | {"diversity": rulers.diversity(others)}, torch.cat([photo, edits])
        model, clip, seconds = self.personalise(arm, subject)
        plain = arm.method == "plain"
        pictures = self.plain_pictures(number) if plain else self.draw(model, clip, self.seeds(number)[1])
        scores = rulers.likeness(pictures[:PHOTOS], others, who, gallery_number)
        scores |= self.score_edits(pictures[PHOTOS : PHOTOS + len(EDITS)], others)
        scores["diversity"] = rulers.diversity(pictures[:PHOTOS])
        scores["drift"] = rulers.drift(pictures[-CLASS:], self.plain_pictures(number)[-CLASS:])
        return scores | {"seconds": seconds}, pictures

    def score_edits(self, edits: torch.Tensor, others: torch.Tensor) -> dict[str, float]:
        """Of the five edits (5, 3, H, W): likeness to the person's other photos (M, 3, H, W), and obedience."""
        obeyed = self.rulers.attributes.prompt_score(edits, list(EDITS.values())).mean().item()
        return {"of_edits": self.rulers.cosine(edits, others), "prompt": obeyed}

    def seeds(self, number: int) -> tuple[int, int]:
        """Of training and of sampling: each test person's own, so that the intervals over people hold the luck of training
        too; where settings are chosen, one training seed for all."""
        return (number, 1_000_000 + 1000 * number) if self.split == TEST else (0, 1000 * number + 1)

    @lru_cache(maxsize=4)  # noqa: B019  one bench per process
    def plain_pictures(self, number: int) -> torch.Tensor:
        return self.draw(self.model, self.clip, self.seeds(number)[1])

    def personalise(self, arm: Arm, subject: Subject) -> tuple:
        """(MODEL, CLIP, seconds of learning) of a person."""
        if arm.method == "plain":
            return self.model, self.clip, 0.0
        subject.references(arm.reference, arm.references)  # drawn before the clock starts
        if arm.method in ("wrong", "mean", "predicted"):
            started = time.time()
            if arm.method == "wrong":
                person = self.predict(arm, Subject((subject.number - 1) % self.crowd, self.split))
            else:
                person = self.mean if arm.method == "mean" else self.predict(arm, subject)
            from ...nodes.apply_lidb import apply_lidb

            return *apply_lidb(self.model, self.clip, person, 1.0, 1.0), time.time() - started
        learnt = self.learn(arm, subject)
        return learnt.model, learnt.clip, learnt.seconds

    def learn(self, arm: Arm, subject: Subject):
        """Train; returns ``methods.person.Personalised``, its seconds with the prediction's."""
        from ...lidb.basis import Basis
        from ...lidb.value import Facts, LiDB
        from ...methods.dreambooth import dreambooth
        from ...methods.low_rank import lidb, lora
        from ...methods.person import Settings
        from ...methods.textual_inversion import textual_inversion
        from ...nodes.host import HostModel

        image = subject.references(arm.reference, arm.references)
        started = time.time()
        settings = Settings(arm.steps, arm.rate, arm.batch, self.seeds(subject.number)[0])
        given = self.model, self.clip, self.vae, image, settings
        if arm.method == "hyperdreambooth":
            learnt = lidb(*given, arm.rank, self.predict(arm, subject), arm.space)
            return replace(learnt, seconds=time.time() - started)
        if arm.method == "lidb":
            host = HostModel(self.model, self.clip)
            nobody = LiDB.zeros(host.table, Basis(*arm.basis), facts=Facts(base=host.base)) if arm.basis else None
            return lidb(*given, arm.rank, nobody, arm.space)
        if arm.method == "lora":
            return lora(*given, arm.rank)
        if arm.method == "textual-inversion":
            return textual_inversion(*given)
        prior = self.prior if arm.method == "dreambooth+prior" else None
        return dreambooth(*given, prior, self.trained_weights(arm))

    def trained_weights(self, arm: Arm) -> set[str] | None:
        """The host's keys of what a DreamBooth trains: all, the weights of a LiDB's layers, or what else a network has."""
        from ...nodes.host import HostModel

        host = HostModel(self.model, self.clip)
        everything, layers = host.weights(), set(host.modules.values())
        those = {key for key, (module, name) in everything.items() if module in layers and name == "weight"}
        unet = {key for key in everything if key.startswith("diffusion_model.")}
        parts = {"layers": those, "unet": unet - those, "text": set(everything) - unet - those}
        return parts.get(arm.method.removeprefix("dreambooth+"))

    def predict(self, arm: Arm, subject: Subject):
        """The LiDB of *Predict LiDB*."""
        from ...nodes.predict import PredictLiDB

        image = subject.references(arm.reference, arm.references)
        return PredictLiDB.execute(self.hypernet(arm.hypernet), image).args[0]

    @cache  # noqa: B019
    def hypernet(self, name: str):
        """The embedded one or one of ``hypernets.py``."""
        import folder_paths

        from ...nodes.load_hypernet import LoadedHyperNet

        embedded = folder_paths.get_full_path_or_raise("hypernets", "faceworld.safetensors")
        return LoadedHyperNet(embedded if name == EMBEDDED else str(hypernet_file(name, self.hypernets)))

    @cached_property
    def mean(self):
        """The average of everybody's predictions."""
        from ...lidb.value import LiDB

        everybody = [self.predict(Arm("", "", "predicted"), Subject(i, self.split)) for i in range(self.crowd)]
        vector = torch.stack([person.vector() for person in everybody]).mean(0)
        return LiDB.from_vector(everybody[0].table, everybody[0].basis, vector, everybody[0].facts)

    @cached_property
    def prior(self):
        from ...methods.person import Settings
        from ...methods.prior import class_pictures

        return class_pictures(self.model, self.clip, Settings(1, 1.0).class_prompt, CLASS_PICTURES)

    def draw(self, model, clip, seed: int) -> torch.Tensor:
        """All prompts in one batch (10, 3, H, W); the seed alone decides the noise."""
        from ...methods.prior import GUIDANCE, SAMPLER, SCHEDULER, STEPS

        encode = self.nodes.CLIPTextEncode().encode
        texts = {text: encode(clip, text)[0][0] for text in dict.fromkeys(PROMPTS)}
        facts = {"pooled_output": torch.cat([texts[text][1]["pooled_output"] for text in PROMPTS])}
        wanted, empty = [[torch.cat([texts[text][0] for text in PROMPTS]), facts]], encode(clip, "")[0]
        latent = {"samples": torch.zeros(len(PROMPTS), 8, 16, 16)}
        drawn = self.nodes.KSampler().sample(
            model, seed, STEPS, GUIDANCE, SAMPLER, SCHEDULER, wanted, empty, latent, 1.0
        )[0]
        return self.nodes.VAEDecode().decode(self.vae, drawn)[0].movedim(-1, 1).clamp(0, 1)
