"""What has been measured: one small file per arm and person, so that a stopped run loses nothing and several processes
can share the work; the committed results are these files put together, one per arm."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...cli.hardware import hardware
from .arms import Arm
from .hypernets import recipe


@dataclass(frozen=True)
class Records:
    """Records under ``folder``, and those that came with the repository under ``committed``.

    ``key`` is what all arms depend on (weights, version of the scores): a record with another key or other settings does
    not count and is made again.
    """

    folder: Path
    committed: Path
    key: dict

    def load(self, arm: Arm, number: int) -> dict | None:
        """The scores, None if they must be made (again)."""
        path = self.folder / arm.name / f"{number:03d}.json"
        if path.is_file():
            record = json.loads(path.read_text())
            if record["key"] == self.key_of(arm):
                return record["scores"]
        return self._kept(arm).get(f"{number:03d}")

    def store(self, arm: Arm, number: int, scores: dict, pictures: torch.Tensor) -> None:
        """Keep scores and pictures (N, 3, H, W)."""
        self.store_strip(arm, number, pictures)
        path = self.folder / arm.name / f"{number:03d}.json"
        partial = path.with_suffix(".partial")
        rounded = {name: round(value, 4) for name, value in scores.items()}  # as they will be committed
        partial.write_text(json.dumps({"key": self.key_of(arm), "hardware": hardware(), "scores": rounded}))
        partial.replace(path)

    def store_strip(self, arm: Arm, number: int, pictures: torch.Tensor) -> None:
        """Keep the pictures (N, 3, H, W) in one file, which knows what they depend on."""
        facts = PngInfo()
        facts.add_text("key", json.dumps(self.key_of(arm)))
        strip = (rearrange(pictures, "n c h w -> h (n w) c") * 255 + 0.5).to(torch.uint8).numpy()
        path = self.folder / arm.name / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(strip).save(path, pnginfo=facts)

    def strip(self, arm: Arm, number: int) -> Image.Image | None:
        """The pictures, if they are of today's settings and weights."""
        path = self.folder / arm.name / f"{number:03d}.png"
        if not path.is_file():
            return None
        with Image.open(path) as picture:
            today = json.loads(picture.info.get("key", "null")) == self.key_of(arm)
            return picture.convert("RGB") if today else None

    def everybody(self, arm: Arm) -> dict[int, dict]:
        """Number -> scores of all people measured so far, in order."""
        found = {int(name): scores for name, scores in self._kept(arm).items()}
        for path in (self.folder / arm.name).glob("[0-9]*.json"):
            record = json.loads(path.read_text())
            if record["key"] == self.key_of(arm):
                found[int(path.stem)] = record["scores"]
        return dict(sorted(found.items()))

    def commit(self, arm: Arm) -> None:
        """Write the arm's file among the results, with all hardware that its records come from."""
        people = {f"{i:03d}": scores for i, scores in self.everybody(arm).items()}
        if not people:
            return
        self.committed.mkdir(parents=True, exist_ok=True)
        kept = self._kept_file(arm)
        machines = set(kept["hardware"] if kept else [])
        for path in (self.folder / arm.name).glob("[0-9]*.json"):
            record = json.loads(path.read_text())
            machines |= {record["hardware"]} if record["key"] == self.key_of(arm) else set()
        facts = {"name": arm.name, "label": arm.label, "key": self.key_of(arm), "hardware": sorted(machines)}
        lines = ",\n".join(f'  "{name}": {json.dumps(scores)}' for name, scores in people.items())
        head = json.dumps(facts, indent=1).removesuffix("\n}")
        (self.committed / f"{arm.name}.json").write_text(f'{head},\n "people": {{\n{lines}\n }}\n}}\n')

    def hardware(self, arm: Arm) -> list[str]:
        """What the committed records of an arm were measured on."""
        kept = self._kept_file(arm)
        return kept["hardware"] if kept else []

    def _kept(self, arm: Arm) -> dict:
        kept = self._kept_file(arm)
        return kept["people"] if kept else {}

    def _kept_file(self, arm: Arm) -> dict | None:
        path = self.committed / f"{arm.name}.json"
        found = json.loads(path.read_text()) if path.is_file() else None
        return found if found and found["key"] == self.key_of(arm) else None

    def key_of(self, arm: Arm) -> dict:
        """All that an arm's records depend on; of the weights, the embedded HyperNet's only where it has a part."""
        weights = {name: mark for name, mark in self.key.items() if arm.wants_embedded or name != "hypernet_sha256"}
        return json.loads(json.dumps({**weights, **arm.settings, "recipe": recipe(arm.hypernet)}))
