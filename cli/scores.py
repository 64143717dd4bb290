"""Scores of a study on faceworld: one row per stage, with controls and 95 % bootstrap intervals over people."""

import numpy as np
import torch
from PIL import Image

from ..faceworld.metrics import AttributeMetric, IdentityMetric, bootstrap_interval

CONTROLS = ("plain", "wrong_person", "mean")


def to_tensor(pictures: list[Image.Image]) -> torch.Tensor:
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


def measure(study: dict, references: dict, others: dict, edits: dict[str, dict], seeds: int) -> dict[str, dict]:
    """Stage -> {"identity": (people,), "prompt": (people,) or None}; values per person, in the study's order.

    Args:
        references, others: person -> picture; ``others`` is another photo of the same person, for the ceiling.
        edits: prompt -> the attributes it names.
    """
    identity, attributes = IdentityMetric(), AttributeMetric()
    names = list(study["pictures"]["plain"])
    wanted = {n: to_tensor([references[n]]) for n in names}
    values = {}
    for stage, shown in stages(study).items():
        likeness = [identity.similarity(to_tensor(shown[n][:seeds]), wanted[n]).mean().item() for n in names]
        prompt = [
            attributes.prompt_score(to_tensor(shown[n][seeds:]), list(edits.values())).mean().item() for n in names
        ]
        values[stage] = {"identity": np.array(likeness), "prompt": np.array(prompt)}
    if all(n in others for n in names):
        likeness = [identity.similarity(to_tensor([others[n]]), wanted[n]).item() for n in names]
        values["ceiling"] = {"identity": np.array(likeness), "prompt": None}
    return values


def rows(values: dict[str, dict], seconds: dict[str, float]) -> list[dict]:
    """The report's rows; ``share`` is the way from the plain model (0) to another photo of the person (1)."""
    made = []
    for stage, value in values.items():
        mean, low, high = bootstrap_interval(value["identity"])
        row = {"stage": stage, "identity": mean, "low": low, "high": high, "prompt": None}
        if value["prompt"] is not None:
            row["prompt"], row["prompt_low"], row["prompt_high"] = bootstrap_interval(value["prompt"])
        if "ceiling" in values:
            floor, ceiling = (values[s]["identity"].mean() for s in ("plain", "ceiling"))
            row["share"] = float((mean - floor) / (ceiling - floor))
        made.append(row | {"seconds": seconds.get(stage, 0.0)})
    return made


def paired(values: dict[str, dict], one: str, other: str) -> dict[str, list[float]]:
    """Difference ``one - other``, person by person: mean and 95 % interval of identity and of prompt."""
    return {kind: list(bootstrap_interval(values[one][kind] - values[other][kind])) for kind in ("identity", "prompt")}


def table(rows: list[dict]) -> str:
    """The rows as text."""
    lines = [f"{'stage':13s} {'identity':>8s}  {'95 % interval':>15s}  {'prompt':>6s}  {'share':>5s}  {'seconds':>7s}"]
    for r in rows:
        prompt = "" if r["prompt"] is None else f"{r['prompt']:.3f}"
        share = f"{100 * r['share']:.0f} %" if "share" in r else ""
        lines.append(
            f"{r['stage']:13s} {r['identity']:8.3f}  {r['low']:7.3f}-{r['high']:7.3f}  {prompt:>6s}  {share:>5s}  {r['seconds']:7.2f}"
        )
    return "\n".join(lines)
