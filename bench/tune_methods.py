"""Which learning rate and how many steps does each rival want? Faceworld, validation people.

    hyperdreambooth faceworld render people --split 17 --count 24 --photos 4 --edits 0 --files --out DIR
    python -m hyperdreambooth.bench.tune_methods --method dreambooth --images DIR/faces --people 6

Identity is the cosine with the people's other photos, of the plain photo and of five edits; prompt is how far the edits obey.
What is chosen here becomes ``methods/defaults.py`` and is then used on the test people, never the other way round. Times are no
business of this bench: it may share the machine.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ..cli.headless import HeadlessHost
from ..cli.host_install import REPOSITORY
from ..cli.people import Face, choose_people
from .measure import RESULTS, publish

GRIDS = {
    "lora": ((0.01, 0.03), (40,)),
    "dreambooth": ((3e-5, 1e-4, 3e-4), (40, 160)),
    "dreambooth+prior": ((1e-4, 3e-4), (40,)),
    "textual-inversion": ((0.1, 0.3), (150, 400)),
    "hyperdreambooth": ((0.003, 0.01, 0.02), (40,)),
    "hyperdreambooth-basis": ((0.02, 0.04, 0.08), (40,)),
}
"""Method -> (learning rates, steps)."""
CLASS_PICTURES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=GRIDS, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--rates", type=float, nargs="+", help="instead of the grid's")
    parser.add_argument("--steps", type=int, nargs="+", help="instead of the grid's")
    parser.add_argument("--rank", type=int, default=4, help="of lora and hyperdreambooth")
    parser.add_argument("--vectors", type=int, default=4, help="of textual-inversion")
    args = parser.parse_args()
    people = choose_people(args.images.resolve(), args.people)[0]
    tuning = Tuning(HeadlessHost(REPOSITORY / "output" / "tune_methods"), people, args)
    rates, steps = GRIDS[args.method]
    rows = [tuning.plain()]
    for count in args.steps or steps:
        for rate in args.rates or rates:
            rows.append(tuning.row(count, rate))
            print(rows[-1], flush=True)
    publish("tune_methods", among_earlier(rows))


def among_earlier(rows: list[dict]) -> list[dict]:
    """These rows and those of earlier runs, without what was measured again."""
    path = RESULTS / f"tune_methods.{'cuda' if torch.cuda.is_available() else 'cpu'}.json"
    earlier = json.loads(path.read_text())["rows"] if path.is_file() else []
    settings = lambda row: [row.get(k) for k in ("name", "steps", "learning_rate", "people")]  # noqa: E731
    again = [settings(row) for row in rows]
    return sorted([row for row in earlier if settings(row) not in again] + rows, key=lambda row: row["name"] != "plain")


class Tuning:
    """One booted host, the drawn people, and the rulers."""

    def __init__(self, host: HeadlessHost, people: dict[str, Face], args: argparse.Namespace):
        from ..cli.scores import to_tensor
        from ..cli.study import EDITS, PHOTO
        from ..faceworld.metrics import AttributeMetric, IdentityMetric

        self.host, self.nodes, self.people, self.args = host, host.nodes, people, args
        self.identity, self.attributes, self.to_tensor = IdentityMetric(), AttributeMetric(), to_tensor
        self.prompts, self.named = [PHOTO, *EDITS], list(EDITS.values())
        size = {
            "lora": f", rank {args.rank}",
            "hyperdreambooth": f", rank {args.rank}",
            "hyperdreambooth-basis": f", rank {args.rank}",
            "textual-inversion": f", {args.vectors} vectors",
        }.get(args.method, "")
        self.name = args.method + size
        with torch.inference_mode():
            self.model, self.clip, self.vae = self.nodes.CheckpointLoaderSimple().load_checkpoint(
                "faceworld.safetensors"
            )[:3]
        self.prior = self._prior() if args.method == "dreambooth+prior" else None

    def _prior(self):
        from ..methods.person import Settings
        from ..methods.prior import class_pictures

        return class_pictures(self.model, self.clip, Settings(1, 1.0).class_prompt, CLASS_PICTURES)

    def plain(self) -> dict:
        """The floor: nothing was learned."""
        return {"name": "plain"} | self._scores([(self.model, self.clip)] * len(self.people))

    def row(self, steps: int, rate: float) -> dict:
        """Everybody with these settings."""
        trained = [self._train(face, steps, rate) for face in self.people.values()]
        facts = {"name": self.name, "steps": steps, "learning_rate": rate}
        return facts | self._scores([(person.model, person.clip) for person in trained])

    def _train(self, face: Face, steps: int, rate: float):
        from ..cli.finetune import predicted
        from ..methods.dreambooth import dreambooth
        from ..methods.low_rank import lidb, lora
        from ..methods.person import Settings
        from ..methods.textual_inversion import textual_inversion

        given = self.model, self.clip, self.vae, self.to_tensor([face.reference]).movedim(1, -1), Settings(steps, rate)
        with torch.inference_mode():
            if self.args.method == "lora":
                return lora(*given, self.args.rank)
            if self.args.method.startswith("hyperdreambooth"):
                start = predicted(self.host.model_file("hypernets", "faceworld.safetensors"), given[3])
                return lidb(*given, self.args.rank, start, "basis" if self.args.method.endswith("basis") else "full")
            if self.args.method == "textual-inversion":
                return textual_inversion(*given, self.args.vectors)
            return dreambooth(*given, self.prior)

    @torch.inference_mode()
    def _scores(self, pairs: list[tuple]) -> dict:
        from ..faceworld.metrics import bootstrap_interval

        likeness, edits, prompt = [], [], []
        for number, ((model, clip), face) in enumerate(zip(pairs, self.people.values(), strict=True)):
            seen = self._draw(model, clip, 1000 * number + 1)
            cosine = self.identity.embed(seen) @ self.identity.embed(self.to_tensor(face.others)).T
            likeness.append(cosine[:1].mean().item())
            edits.append(cosine[1:].mean().item())
            prompt.append(self.attributes.prompt_score(seen[1:], self.named).mean().item())
        mean, low, high = bootstrap_interval(np.array(likeness))
        return {"people": len(pairs), "identity": mean, "low": low, "high": high, "of_edits": float(np.mean(edits)),
                "prompt": float(np.mean(prompt))}  # fmt: skip

    def _draw(self, model, clip, seed: int) -> torch.Tensor:
        """The photo and the edits (6, 3, H, W), sampled as the workflows do."""
        encode, shown = self.nodes.CLIPTextEncode().encode, []
        for i, prompt in enumerate(self.prompts):
            latent = {"samples": torch.zeros(1, 8, 16, 16)}
            settings = model, seed + i, 20, 3.0, "euler_ancestral", "normal"
            drawn = self.nodes.KSampler().sample(*settings, encode(clip, prompt)[0], encode(clip, "")[0], latent, 1.0)
            shown.append(self.nodes.VAEDecode().decode(self.vae, drawn[0])[0].movedim(-1, 1))
        return torch.cat(shown)


if __name__ == "__main__":
    main()
