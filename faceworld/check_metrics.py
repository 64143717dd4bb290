"""Look for what the committed metrics miss: look-alikes, soft pictures, smeared faces, single words.

    python -m hyperdreambooth.faceworld.check_metrics --held-out DIR

DIR is as in ``train_metrics``: first all people, then their look-alikes in the same order, with photos in the first
``--photos`` pictures of each. The demo's five edits are drawn on the spot. Prints one line per condition; trains and writes
nothing.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from .metrics import ATTRIBUTES, AttributeMetric, IdentityMetric, bootstrap_interval
from .renderer.photo import sample_photo
from .renderer.render import Scene, render
from .renderer.world import identity, person_pictures
from .train_metrics import _faces, auc, load_people

VALIDATION, DRAWN_PEOPLE = 17, 60
EDITS = (
    {"style": "pencil sketch"},
    {"style": "pop art"},
    {"style": "photo", "accessory": "crown", "context": "beach"},
    {"style": "photo", "accessory": "sunglasses", "context": "night sky"},
    {"style": "photo", "accessory": "red hat", "context": "forest"},
)
"""What the demo's five prompts name (``cli/study.py``)."""


def soften(x: torch.Tensor, side: int) -> torch.Tensor:
    """Pictures (N, 3, 128, 128) with the detail of ``side`` pixels."""
    small = F.interpolate(x, size=(side, side), mode="area")
    return F.interpolate(small, size=(128, 128), mode="bilinear")


def smear(x: torch.Tensor) -> torch.Tensor:
    """Eyes, nose and mouth blurred away; hair and outline kept."""
    y = x.clone()
    y[..., 46:100, 38:90] = soften(x, 10)[..., 46:100, 38:90]
    return y


CONDITIONS = {
    "as drawn": lambda x: x,
    "soft, 32 px of detail": lambda x: soften(x, 32),
    "soft, 16 px of detail": lambda x: soften(x, 16),
    "inner face smeared": smear,
    "without colour": lambda x: x.mean(1, keepdim=True).expand_as(x),
}


def check_identity(pictures: np.ndarray, people: int, view: int) -> None:
    """Reference photo 0 against picture ``view`` of the person, of others and of the look-alike."""
    metric, who = IdentityMetric(), range(people)
    reference = metric.embed(_faces(pictures, who, [0] * people))
    for name, change in CONDITIONS.items():
        own = metric.embed(change(_faces(pictures, who, [view] * people)))
        twin = metric.embed(change(_faces(pictures, range(people, 2 * people), [view] * people)))
        scores = (reference @ own.T).numpy()
        same, other = np.diag(scores), scores[~np.eye(people, dtype=bool)]
        alike = (reference * twin).sum(-1).numpy()
        means = f"same {same.mean():.2f} look-alike {alike.mean():.2f} different {other.mean():.2f}"
        print(f"  {name:22s} {means} AUC {auc(same, other):.3f} AUC look-alikes {auc(same, alike):.3f}")


def check_attributes(pictures: np.ndarray, classes: np.ndarray, people: int, photos: int) -> None:
    """Per word, over the edits only: how many pictures, share named rightly, mean probability of the right word."""
    views = range(photos, pictures.shape[1])
    who, view = np.repeat(np.arange(people), len(views)), np.tile(views, people)
    for h, (head, given) in enumerate(AttributeMetric().probabilities(_faces(pictures, who, view)).items()):
        truth, chosen = classes[who, view, h], given.argmax(-1).numpy()
        for i, word in enumerate(ATTRIBUTES[head]):
            shown = truth == i
            right, sure = (chosen[shown] == i).mean(), given[torch.from_numpy(shown), i].mean()
            print(f"  {head:10s} {word:13s} {shown.sum():4d} right {right:.2f} probability {sure:.2f}")


def check_prompts() -> None:
    """The five edits drawn by the renderer, so that every prompt is obeyed: the prompt score's ceiling, and what a plain photo gets."""
    attributes, metric, scores, plain, likeness = AttributeMetric(), IdentityMetric(), [], [], []
    for i in range(DRAWN_PEOPLE):
        person, photo = identity(VALIDATION, i), person_pictures(VALIDATION, 1, 0, (i, False))[0]
        rng = np.random.default_rng([VALIDATION, i, 800])
        drawn = np.stack([render(person, sample_photo(rng, "neutral"), Scene(**edit)) for edit in EDITS])
        edits, reference = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (drawn, photo))
        scores.append(attributes.prompt_score(edits, list(EDITS)).numpy())
        plain.append(attributes.prompt_score(reference.expand(len(EDITS), -1, -1, -1), list(EDITS)).numpy())
        likeness.append(metric.similarity(edits, reference).mean().item())
    for i, edit in enumerate(EDITS):
        named = " ".join(edit.values())
        print(f"  {named:28s} drawn {np.mean(scores, 0)[i]:.2f} plain photo {np.mean(plain, 0)[i]:.2f}")
    for name, values in (("drawn", np.mean(scores, 1)), ("plain photo", np.mean(plain, 1)), ("identity", likeness)):
        print(f"  {name}: {{:.3f}} ({{:.3f}} to {{:.3f}})".format(*bootstrap_interval(values)))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=3, help="plain photos per person")
    args = parser.parse_args(argv)
    pictures, classes, twin_of = load_people(args.held_out)
    people = sum(t is None for t in twin_of)
    if twin_of[people:] != list(range(people)):
        parser.error(f"{args.held_out} must hold a look-alike of every person, after the people and in their order.")
    for name, view in (("photo against photo", 1), ("photo against an edit", args.photos)):
        print(name)
        check_identity(pictures, people, view)
    print("words, in edits")
    check_attributes(pictures, classes, people, args.photos)
    print(f"the demo's edits, drawn, {DRAWN_PEOPLE} people")
    check_prompts()


if __name__ == "__main__":
    main()
