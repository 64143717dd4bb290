"""Scores of a study on faceworld: one row per stage, with controls and 95 % bootstrap intervals over people.

Likeness is never measured on the picture that the HyperNet and the finetune were given, which would reward a copy, but
on the person's other photos.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ..faceworld.metrics import AttributeMetric, IdentityMetric, bootstrap_interval


def to_tensor(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """PIL -> (N, 3, 128, 128) in 0..1."""
    arrays = [np.asarray(p.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)) for p in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def stages(study: dict) -> dict[str, dict[str, list[Image.Image]]]:
    """Stage -> person -> pictures, with the wrong person's predictions put in."""
    pictures, names = study["pictures"], list(study["pictures"]["plain"])
    found = {"plain": pictures["plain"]}
    if len(names) > 1:
        found["wrong_person"] = {n: pictures["predicted"][names[i - 1]] for i, n in enumerate(names)}
        found["mean"] = pictures["mean"]
    return found | {stage: pictures[stage] for stage in ("predicted", "finetuned", "zero_40") if stage in pictures}


def on_reference_only(study: dict, others: dict[str, Sequence]) -> list[str]:
    """People without another photo: their pictures are compared with the reference itself, which flatters."""
    return [name for name in study["pictures"]["plain"] if not others.get(name)]


def measure(
    study: dict,
    references: dict[str, Image.Image],
    others: dict[str, Sequence[Image.Image]],
    edits: dict[str, dict],
    seeds: int,
) -> dict[str, dict]:
    """Stage -> {"identity", "edit_identity", "prompt"}, each (people,) in the study's order or None.

    Identity is the mean cosine with a person's other photos (with the reference where there is none): of the plain photos,
    and of the edits. The ceiling is the reference's, NaN for people without another photo, absent if nobody has one.

    Args:
        references, others: person -> the picture handed in, and further photos of the same person.
        edits: prompt -> the attributes it names.
    """
    identity, attributes = IdentityMetric(), AttributeMetric()
    names, alone = list(study["pictures"]["plain"]), on_reference_only(study, others)
    reference = {n: identity.embed(to_tensor([references[n]])) for n in names}
    photos = {n: reference[n] if n in alone else identity.embed(to_tensor(others[n])) for n in names}
    likeness = lambda faces, n: (faces @ photos[n].T).mean().item()  # noqa: E731
    values = {}
    for stage, shown in stages(study).items():
        faces = {n: identity.embed(to_tensor(shown[n])) for n in names}
        prompt = [
            attributes.prompt_score(to_tensor(shown[n][seeds:]), list(edits.values())).mean().item() for n in names
        ]
        values[stage] = {
            "identity": np.array([likeness(faces[n][:seeds], n) for n in names]),
            "edit_identity": np.array([likeness(faces[n][seeds:], n) for n in names]),
            "prompt": np.array(prompt),
        }
    if len(alone) < len(names):
        ceiling = [np.nan if n in alone else likeness(reference[n], n) for n in names]
        values["ceiling"] = {"identity": np.array(ceiling), "edit_identity": None, "prompt": None}
    return values


def rows(values: dict[str, dict], seconds: dict[str, float]) -> list[dict]:
    """The report's rows; ``share`` is the way from the plain model (0) to another photo of the person (1).

    ``people`` counts whose scores are in a row; the share is over those who have another photo.
    """
    made = []
    known = ~np.isnan(values["ceiling"]["identity"]) if "ceiling" in values else None
    for stage, value in values.items():
        identity = value["identity"][known] if stage == "ceiling" else value["identity"]
        mean, low, high = bootstrap_interval(identity)
        row = {"stage": stage, "identity": mean, "low": low, "high": high, "edit_identity": None, "prompt": None}
        if value.get("edit_identity") is not None:
            row["edit_identity"], row["edit_low"], row["edit_high"] = bootstrap_interval(value["edit_identity"])
        if value["prompt"] is not None:
            row["prompt"], row["prompt_low"], row["prompt_high"] = bootstrap_interval(value["prompt"])
        if known is not None:
            floor, here, ceiling = (values[s]["identity"][known].mean() for s in ("plain", stage, "ceiling"))
            row["share"] = float((here - floor) / (ceiling - floor))
        made.append(row | {"seconds": seconds.get(stage, 0.0), "people": len(identity)})
    return made


def paired(values: dict[str, dict], one: str, other: str) -> dict[str, list[float]]:
    """Difference ``one - other``, person by person: mean and 95 % interval of identity, of the edits' and of prompt."""
    kinds = [k for k in ("identity", "edit_identity", "prompt") if values[one].get(k) is not None]
    return {kind: list(bootstrap_interval(values[one][kind] - values[other][kind])) for kind in kinds}


def comparison(rows: list[dict]) -> str:
    """What the pictures were compared with, in a sentence or two."""
    people = max(r["people"] for r in rows)
    compared = next((r["people"] for r in rows if r["stage"] == "ceiling"), 0)
    text = "Identity: mean cosine with the person's other photos, never with the picture that was handed in."
    if compared == people:
        return text
    flattered = "compared with the very picture that was handed in, which flatters every stage that saw it"
    if not compared:
        return f"Identity: there is no other photo, so pictures are {flattered}; there is no ceiling."
    return (
        f"{text} Only {compared} of {people} people have one (ceiling and share: theirs); the others are {flattered}."
    )


def table(rows: list[dict]) -> str:
    """The rows as text, and what they were compared with."""
    lines = [
        f"{'stage':13s} {'identity':>8s}  {'95 % interval':>15s}  {'of edits':>8s}  {'95 % interval':>15s}  {'prompt':>6s}  "
        f"{'share':>5s}  {'seconds':>7s}"
    ]
    for r in rows:
        prompt = "" if r["prompt"] is None else f"{r['prompt']:.3f}"
        edits, inside = "", ""
        if r["edit_identity"] is not None:
            edits, inside = f"{r['edit_identity']:.3f}", f"{r['edit_low']:7.3f}-{r['edit_high']:7.3f}"
        share = f"{100 * r['share']:.0f} %" if "share" in r else ""
        lines.append(
            f"{r['stage']:13s} {r['identity']:8.3f}  {r['low']:7.3f}-{r['high']:7.3f}  {edits:>8s}  {inside:>15s}  "
            f"{prompt:>6s}  {share:>5s}  {r['seconds']:7.2f}"
        )
    return "\n".join([*lines, comparison(rows)])
