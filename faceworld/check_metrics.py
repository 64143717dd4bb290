"""Look for what the committed metrics miss: look-alikes, soft pictures, smeared faces, single words.

    python -m hyperdreambooth.faceworld.check_metrics --held-out DIR

DIR is as in ``train_metrics``: first all people, then their look-alikes in the same order, with photos in the first
``--photos`` pictures of each. Prints one line per condition; trains and writes nothing.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from .metrics import ATTRIBUTES, AttributeMetric, IdentityMetric
from .train_metrics import _faces, auc, load_people


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


if __name__ == "__main__":
    main()
