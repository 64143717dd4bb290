"""Which learning rate is best for 40 iterations, from a prediction and from zero? Faceworld, validation people.

    hyperdreambooth faceworld render people --split 17 --count 24 --photos 4 --edits 0 --files --out DIR
    python -m hyperdreambooth.bench.learning_rates --images DIR/faces --people 12

Identity is the cosine with the people's other photos. Rates are chosen here and used on the test people, never the other
way round.
"""

import argparse
from pathlib import Path

import numpy as np

from ..cli.host_install import REPOSITORY
from ..cli.people import Face, choose_people, save_references
from ..cli.scores import to_tensor
from ..cli.study import EDITS, PHOTO, Study
from ..faceworld.metrics import AttributeMetric, IdentityMetric, bootstrap_interval
from .measure import publish

RATES = (0.005, 0.01, 0.02, 0.04)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "learning_rates")
    args = parser.parse_args()
    people, study = choose_people(args.images.resolve(), args.people)[0], Study(args.out.resolve())
    publish("learning_rates", [measure(study, people, s, r) for s in ("zero", "prediction") for r in args.rates])


def measure(study: Study, people: dict[str, Face], start: str, rate: float) -> dict:
    """One row: 40 iterations at ``rate`` for everybody, from ``zero`` or from the ``prediction``."""
    identity, attributes, likeness, prompt = IdentityMetric(), AttributeMetric(), [], []
    for number, (name, picture) in enumerate(save_references(people, study.host.base / "input").items()):
        graph = study.setup_graph(picture, name)
        del graph[study.save], graph["save_predicted"]
        graph[study.finetune]["inputs"]["learning_rate"] = rate
        if start == "zero":
            del graph[study.finetune]["inputs"]["lidb"]
        shown, _ = study.stage(graph, "finetuned", study.sources["finetuned"], [PHOTO, *EDITS], 1000 * number + 1)
        seen, others = to_tensor(shown), identity.embed(to_tensor(people[name].others))
        likeness.append((identity.embed(seen[:1]) @ others.T).mean().item())
        prompt.append(attributes.prompt_score(seen[1:], list(EDITS.values())).mean().item())
    mean, low, high = bootstrap_interval(np.array(likeness))
    return {"name": f"from {start}, {rate:g}", "people": len(people), "identity": mean, "low": low, "high": high,
            "prompt": float(np.mean(prompt))}  # fmt: skip


if __name__ == "__main__":
    main()
