"""Train the identity and the attribute network, and publish how good they are.

    python -m hyperdreambooth faceworld metrics --people DIR --held-out DIR --minutes 5 --out metrics

Each DIR holds ``people.npy`` (P, K, 128, 128, 3) uint8 and ``people.json``: per person ``pictures`` with captions and
attributes, and ``lookalike_of``: same colours and hair, other geometry and marks (hard negatives).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from .metrics import ATTRIBUTES, Trunk

PEOPLE, VIEWS, PICTURES = 32, 3, 64
SIZES = [len(values) for values in ATTRIBUTES.values()]


def load_people(folder: Path) -> tuple[np.ndarray, np.ndarray, list]:
    """Pictures, attribute classes (P, K, 4), and who looks like whom."""
    description = json.loads((folder / "people.json").read_text())
    classes = [[[v.index(q[h]) for h, v in ATTRIBUTES.items()] for q in p["pictures"]] for p in description]
    return np.load(folder / "people.npy", mmap_mode="r"), np.array(classes), [p["lookalike_of"] for p in description]


def augment(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shift, colour, contrast and softness, as generated pictures vary; (N, 3, 128, 128)."""
    if rng.random() < 0.4:
        side = int(rng.choice([48, 64, 96]))
        x = F.interpolate(F.interpolate(x, size=(side, side), mode="area"), size=(128, 128), mode="bilinear")
    dy, dx = rng.integers(-4, 5, size=2)
    x = torch.roll(x, (int(dy), int(dx)), (2, 3))
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, size=(len(x), 3, 1, 1))).float()
    offset = torch.from_numpy(rng.uniform(-0.05, 0.05, size=(len(x), 1, 1, 1))).float()
    noise = torch.from_numpy(rng.normal(0, 0.02, size=tuple(x.shape))).float()
    return (x * gain + offset + noise).clamp(0, 1)


def contrastive(z: torch.Tensor, who: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Supervised contrastive loss of unit vectors z (N, d) with labels who (N,)."""
    logits = z @ z.T / temperature - torch.eye(len(z)) * 1e4
    same = ((who[:, None] == who[None]) & ~torch.eye(len(z), dtype=torch.bool)).float()
    return -((logits.log_softmax(-1) * same).sum(-1) / same.sum(-1)).mean()


def _optimise(net, minutes: float, bf16: bool, batch_loss) -> None:
    net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
    started = time.time()
    while (done := (time.time() - started) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 30 * done + 0.05, 1.5 * (1 - done) + 0.01)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = batch_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _faces(pictures: np.ndarray, person, view) -> torch.Tensor:
    return (
        torch.from_numpy(np.stack([pictures[p, v] for p, v in zip(person, view, strict=True)]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    return float((positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean())


def identity_report(net: Trunk, pictures: np.ndarray, photos: int) -> dict:
    """Accuracy on people the network has not seen: photo against photo, and photo against any style."""
    P, K = pictures.shape[:2]
    with torch.no_grad():
        z = torch.stack([F.normalize(net(_faces(pictures, [p] * K, range(K))), dim=-1) for p in range(P)])  # (P, K, d)
    report = {}
    for name, other in (("photo", 1), ("any_style", photos)):
        scores = (z[:, 0] @ z[:, other].T).numpy()
        same, different = np.diag(scores), scores[~np.eye(P, dtype=bool)]
        threshold = np.quantile(different, 0.99)
        report[name] = {
            "auc": auc(same, different),
            "tar_at_far_1pct": float((same > threshold).mean()),
            "same": float(same.mean()),
            "different": float(different.mean()),
            "rank1": float((scores.argmax(1) == np.arange(P)).mean()),
            "people": P,
        }
    return report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for identity.safetensors and attributes.safetensors"
    )
    parser.add_argument("--photos", type=int, default=4, help="plain photos per person in --people")
    parser.add_argument("--held-out-photos", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16, faster on processors that can")
    args = parser.parse_args(argv)
    pictures, classes, twin_of = load_people(args.people)
    held_out, held_classes, _ = load_people(args.held_out)
    rng = np.random.default_rng(args.seed)
    twins = np.array([[i, t] for i, t in enumerate(twin_of) if t is not None])
    with torch.random.fork_rng():
        torch.random.set_rng_state(torch.Generator().manual_seed(args.seed).get_state())
        identity, attributes = Trunk(64), Trunk(sum(SIZES))

    def identity_loss():
        people = twins[rng.choice(len(twins), PEOPLE // 2, replace=False)].reshape(-1)  # a person and the look-alike
        who = np.repeat(people, VIEWS)
        views = np.concatenate([rng.choice(pictures.shape[1], VIEWS, replace=False) for _ in people])
        z = F.normalize(identity(augment(_faces(pictures, who, views), rng)).float(), dim=-1)
        return contrastive(z, torch.from_numpy(who))

    def attribute_loss():
        who, view = rng.integers(len(pictures), size=PICTURES), rng.integers(pictures.shape[1], size=PICTURES)
        parts = attributes(augment(_faces(pictures, who, view), rng)).float().split(SIZES, dim=-1)
        wanted = torch.from_numpy(classes[who, view])
        return sum(F.cross_entropy(part, wanted[:, h], rare[h]) for h, part in enumerate(parts))

    rare = [
        torch.from_numpy(len(classes[..., h].ravel()) / n / np.bincount(classes[..., h].ravel(), minlength=n)).float()
        for h, n in enumerate(SIZES)
    ]  # the rarer a class, the more its pictures count
    _optimise(identity, 0.65 * args.minutes, args.bf16, identity_loss)
    _optimise(attributes, 0.35 * args.minutes, args.bf16, attribute_loss)
    report = identity_report(identity.eval(), held_out, args.held_out_photos)
    P, K = held_out.shape[:2]
    with torch.no_grad():
        logits = torch.cat([attributes(_faces(held_out, [p] * K, range(K))) for p in range(P)])
    parts, truth = logits.split(SIZES, dim=-1), torch.from_numpy(held_classes).reshape(P * K, -1)
    accuracy = {
        h: float((part.argmax(-1) == truth[:, i]).float().mean())
        for i, (h, part) in enumerate(zip(ATTRIBUTES, parts, strict=True))
    }
    print(json.dumps({"identity": report, "attributes": accuracy}, indent=1))
    args.out.mkdir(parents=True, exist_ok=True)
    for name, net, facts in (("identity", identity, report), ("attributes", attributes, accuracy)):
        half = {k: v.half().contiguous() for k, v in net.state_dict().items()}
        save_file(
            half, args.out / f"{name}.safetensors", metadata={"held_out": json.dumps(facts), "seed": str(args.seed)}
        )
