"""Prepared people on disk: a plan, one safetensors shard per batch of people, and a report. Everything is written
atomically, so a kill at any instant loses at most the batch in flight.

    plan.json               what was asked for, and which people are in which batch
    shard-00007.safetensors batch 7: faces, latents, captions and, where they were fitted, the people's LiDBs
    report.json             totals, and every picture that was skipped with the reason

A shard exists if and only if its batch is done. Shards are independent: processes and machines share one plan and take
every n-th batch.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import safe_open, save_file

from ..lidb.basis_form import AnyBasis
from ..lidb.learned_basis import project
from ..lidb.targets import TargetTable

FORMAT, VERSION = "hyperdreambooth.people", "1"
DESCRIBED = ("names", "captions", "skipped", "seen")
_PARTIAL = re.compile(r"\.(shard-\d+\.safetensors|(plan|report)\.json|losses\.jsonl)\.([0-9a-f]{32}|\d+)")
ORPHANED = 3600.0
"""Seconds after which a partial file has lost its writer: a shard is written in seconds."""


@dataclass
class Shard:
    """One batch of P people with M pictures: ``faces (M, S, S, 3)`` uint8 for the encoder, ``latents (M, c, h, w)``,
    ``owner (M,)`` 0..P-1, ``reference (M,)``; ``theta (F, L, a+b)`` and ``loss (F,)`` of the first F people; ``skipped``
    pairs of (picture, reason); ``seen`` the fingerprints of all who were looked at, kept or not."""

    names: list[str]
    captions: list[str]
    faces: torch.Tensor
    latents: torch.Tensor
    owner: torch.Tensor
    reference: torch.Tensor
    theta: torch.Tensor
    loss: torch.Tensor
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def drop(self, person: int, reason: str) -> None:
        """Take out a person who has no LiDB yet, as if all their pictures had been skipped."""
        stay = self.owner != person
        self.skipped.append((self.names.pop(person), reason))
        self.captions = [caption for caption, kept in zip(self.captions, stay.tolist(), strict=True) if kept]
        self.faces, self.latents, self.reference = self.faces[stay], self.latents[stay], self.reference[stay]
        self.owner = self.owner[stay] - (self.owner[stay] > person).to(self.owner.dtype)


def _partial(path: Path) -> Path:
    """Not by process number: containers on one shared folder all have the same few."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def write_text(path: Path, text: str) -> None:
    """Replace a file at once."""
    partial = _partial(path)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def sweep(folder: Path, now: float) -> None:
    """Remove what killed writers left behind. ``now`` is the time of a file just written there, since the folder's clock
    may be another machine's; files younger than ``ORPHANED`` may still be someone's."""
    for path in folder.iterdir():
        try:
            if _PARTIAL.fullmatch(path.name) and path.stat().st_mtime < now - ORPHANED:
                path.unlink()
        except FileNotFoundError:  # finished, or swept by another process
            continue


@dataclass(frozen=True)
class Look:
    """The last time that a person's files were read."""

    kept: bool
    seen: str | None


def open_plan(
    folder: Path, settings: dict, people: dict[str, str], batch: int
) -> tuple[list[list[str]], dict[str, Look | None]]:
    """The batches of people; begun now, or continued with those who came since, and with those of whom nothing could be used
    and whose files have changed. With it what ``look_back`` found of those planned before.

    Args:
        people: name -> fingerprint.

    Raises:
        ValueError: the folder was begun with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, batches = folder / "plan.json", []
    if path.is_file():
        plan = read_plan(folder)
        wanted = json.loads(json.dumps(settings))
        odd = sorted(k for k in wanted.keys() | plan["settings"].keys() if wanted.get(k) != plan["settings"].get(k))
        if odd:
            before, now = plan["settings"].get(odd[0]), wanted.get(odd[0])
            shown = f" ({_short(before)} then, {_short(now)} now)"
            raise ValueError(
                f"{folder} was begun with another {', '.join(odd)}{shown}; people prepared differently cannot be "
                "mixed. Use the old settings, or another --out."
            )
        batches = plan["batches"]
    looked_at = look_back(folder, batches)
    new = [
        n
        for n, now in people.items()
        if n not in looked_at or (looked_at[n] and not looked_at[n].kept and looked_at[n].seen != now)
    ]
    batches = batches + [new[i : i + batch] for i in range(0, len(new), batch)]
    write_text(path, json.dumps({"format": FORMAT, "version": VERSION, "settings": settings, "batches": batches}))
    sweep(folder, path.stat().st_mtime)
    return batches, looked_at


def look_back(folder: Path, batches: list[list[str]]) -> dict[str, Look | None]:
    """Everybody who was planned -> what came of it, None while it is open."""
    found = {}
    for number, group in enumerate(batches):
        there = shard_path(folder, number).is_file()
        described = describe_shard(folder, number) if there else None
        for name in group:
            found[name] = Look(name in described["names"], described["seen"].get(name)) if there else None
    return found


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def read_plan(folder: Path) -> dict:
    """Raises ValueError if the folder holds no plan of this version."""
    path = folder / "plan.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no plan.json. Make it with `hyperdreambooth precompute --out {folder}`.")
    plan = json.loads(path.read_text(encoding="utf-8"))
    if plan.get("format") != FORMAT or plan.get("version") != VERSION:
        raise ValueError(f"{path} is of another version ({plan.get('version')!r}); run precompute again.")
    return plan


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    tensors = {k: getattr(shard, k).contiguous() for k in ("faces", "latents", "owner", "reference", "theta", "loss")}
    described = {k: json.dumps(getattr(shard, k)) for k in DESCRIBED}
    path = shard_path(folder, number)
    partial = _partial(path)
    save_file(tensors, partial, metadata={"format": FORMAT, "version": VERSION, **described})
    partial.replace(path)


def count_shard(folder: Path, number: int) -> tuple[int, int] | None:
    """(people, fitted people) of a finished shard; None where there is none."""
    if not shard_path(folder, number).is_file():
        return None
    with safe_open(shard_path(folder, number), "pt") as file:
        return len(json.loads(file.metadata()["names"])), file.get_slice("theta").get_shape()[0]


def describe_shard(folder: Path, number: int) -> dict:
    """``names``, ``captions``, ``skipped`` and ``seen`` of a finished shard."""
    with safe_open(shard_path(folder, number), "pt") as file:
        return _described(file)


def _described(file) -> dict:
    return {k: json.loads(file.metadata().get(k, "{}")) for k in DESCRIBED}


def read_shard(folder: Path, number: int) -> Shard:
    """Inverse of ``write_shard``."""
    with safe_open(shard_path(folder, number), "pt") as file:
        tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # a mapped file cannot be replaced on Windows
        return Shard(**_described(file), **tensors)


def write_report(folder: Path) -> dict:
    """Totals over the shards there are, and what was skipped and why; of people who were read again, the last time counts."""
    batches = read_plan(folder)["batches"]
    finished = [number for number in range(len(batches)) if shard_path(folder, number).is_file()]
    last = {name: number for number in finished for name in batches[number]}
    skipped, losses, people, pictures, done = [], [], 0, 0, len(finished)
    for number in finished:
        with safe_open(shard_path(folder, number), "pt") as file:
            described = _described(file)
            losses += file.get_tensor("loss").tolist()
        outdated = {name for name in batches[number] if last[name] != number}
        skipped += [pair for pair in described["skipped"] if pair[0].split("/")[0] not in outdated]
        people += len(described["names"])
        pictures += len(described["captions"])
    report = {
        "batches": len(batches),
        "batches_done": done,
        "people": people,
        "pictures": pictures,
        "fitted": len(losses),
        "mean_final_loss": float(np.mean(losses)) if losses else None,
        "skipped": [{"picture": picture, "reason": reason} for picture, reason in skipped],
    }
    write_text(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False))
    return report


class PreparedPeople:
    """All people of a folder's finished shards, read row by row when asked for.

    ``names``, ``captions``, ``owner (M,)``, ``is_reference (M,)``, ``pictures[p]`` and ``references[p]`` (indices of a
    person's pictures) are in memory; faces, latents and LiDBs stay on disk. ``batches`` is (finished, planned).

    Raises:
        ValueError: nothing has been prepared there.
    """

    def __init__(self, folder: Path):
        plan = read_plan(folder)
        self.settings, self.folder = plan["settings"], folder
        self.names, self.captions, owner, reference, self._rows, self._fit = [], [], [], [], [], {}
        self._open = {}
        finished = [number for number in range(len(plan["batches"])) if shard_path(folder, number).is_file()]
        self.batches = len(finished), len(plan["batches"])
        for number in finished:
            file = self._file(number)
            names = json.loads(file.metadata()["names"])
            owner += [len(self.names) + o for o in file.get_tensor("owner").tolist()]
            reference += file.get_tensor("reference").tolist()
            captions = json.loads(file.metadata()["captions"])
            self._rows += [(number, i) for i in range(len(captions))]
            fitted = file.get_slice("theta").get_shape()[0]
            self._fit |= {len(self.names) + i: (number, i) for i in range(fitted)}
            self.names += names
            self.captions += captions
        if not self.names:
            raise ValueError(f"{folder} holds no finished shard yet. Let `hyperdreambooth precompute` finish a batch.")
        self.owner, self.is_reference = np.array(owner), np.array(reference, bool)
        order = np.argsort(self.owner, kind="stable")
        self.pictures = np.split(order, np.cumsum(np.bincount(self.owner, minlength=len(self)))[:-1])
        self.references = [p[self.is_reference[p]] if self.is_reference[p].any() else p for p in self.pictures]
        self.fitted = np.array(sorted(self._fit), int)
        self._bases = None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """Of who is there, in which order, with which pictures, captions and settings, and who has a LiDB."""
        content = [self.settings, self.names, self.captions, self.owner.tolist(), self.is_reference.tolist()]
        text = json.dumps([*content, self.fitted.tolist()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def is_fitted(self, person: int) -> bool:
        return int(person) in self._fit

    def faces(self, pictures: Sequence[int]) -> torch.Tensor:
        """(N, 3, S, S) in 0..1."""
        return self._gather("faces", pictures).permute(0, 3, 1, 2).float() / 255

    def latents(self, pictures: Sequence[int]) -> torch.Tensor:
        """(N, c, h, w) float32."""
        return self._gather("latents", pictures).float()

    def thetas(self, people: Sequence[int]) -> torch.Tensor:
        """LiDB vectors (N, L, a+b) of fitted people."""
        rows = torch.stack([self._file(n).get_slice("theta")[i] for n, i in (self._fit[int(p)] for p in people)])
        return project(*self._bases, rows)[0] if self._bases else rows

    def rewrite(self, table: TargetTable, old: AnyBasis, new: AnyBasis) -> None:
        """From now on, give the LiDBs in another basis, as near as it comes."""
        self._bases = table, old, new

    def _gather(self, name: str, pictures: Sequence[int]) -> torch.Tensor:
        rows = (self._rows[int(k)] for k in pictures)
        return torch.stack([self._file(number).get_slice(name)[i] for number, i in rows])

    def _file(self, number: int):
        if number not in self._open:
            if len(self._open) >= 256:
                self._open.pop(next(iter(self._open)))
            self._open[number] = safe_open(shard_path(self.folder, number), "pt")
        return self._open[number]
