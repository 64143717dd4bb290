"""One training run on disk: what it is made of, what it writes, what it shows."""

import json
from pathlib import Path

import comfy.sd
import folder_paths
import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from ..hypernet.checkpoint import Identity, load_hypernet, save_hypernet
from ..hypernet.hypernet import HyperNet, HyperNetConfig, encoder_sizes, load_encoder
from ..hypernet.losses import cosine
from ..hypernet.recipe import Recipe
from ..hypernet.shards import PreparedPeople, sweep, write_text
from ..hypernet.train import Training, controls
from ..lidb.basis_form import AnyBasis, load_basis, rebuild
from ..lidb.targets import TargetTable
from ..nodes.host import HostModel
from .sheets import people_sheet
from .study import digest
from .train import SHEET_PROMPTS, SIZES, size_for

SHEET_PEOPLE = 6
WARMUP_STEPS = 1000


class TrainingRun:
    """Loads the checkpoint, makes or restores the network, and keeps ``args.out`` up to date.

    Raises:
        ValueError: the data were prepared for another model, or a setting does not fit.
    """

    def __init__(self, args, accelerator, data: PreparedPeople):
        self.args, self.accelerator, self.data, self.out = args, accelerator, data, args.out
        self.main = accelerator.is_main_process
        with torch.inference_mode():
            path = folder_paths.get_full_path_or_raise("checkpoints", args.checkpoint)
            self.host = HostModel(*comfy.sd.load_checkpoint_guess_config(path)[:3])
        table, basis = TargetTable.unpack(data.settings["table"]), rebuild(data.settings["basis"])
        if table != self.host.table:
            raise ValueError(
                f"{data.folder} was prepared for {data.settings['base']} ({table.describe()}), but {args.checkpoint} is "
                f"{self.host.base} ({self.host.table.describe()}). Train with the checkpoint it was prepared with."
            )
        if data.settings.get("checkpoint") != (found := digest(Path(path))[:16]):
            raise ValueError(
                f"{data.folder} was prepared with another file than today's {args.checkpoint} (sha256 "
                f"{data.settings.get('checkpoint')}... then, {found}... now); its latents and LiDBs are not this model's. "
                "Train with the checkpoint it was prepared with, or run precompute again into another --out."
            )
        if args.basis:
            learned = load_basis(args.basis)
            learned.check_fits(table)
            data.rewrite(table, basis, learned)
            basis = learned
        hold_out = min(args.hold_out, len(data) // 10)
        if hold_out == 1 < args.hold_out:
            hold_out = 2  # of one person, *mean* and *wrong* would be the prediction itself
        self.held_out = np.arange(len(data) - hold_out, len(data))
        weight = args.weight_loss if args.weight_loss is not None else {"plus": 0.01, "paper": 0.1}[args.recipe]
        low_share = args.low_share if args.low_share is not None else {"plus": 0.12, "paper": 0.5}[args.recipe]
        pool = np.arange(len(data) - hold_out)
        fitted = len(np.intersect1d(pool, data.fitted))
        warmup = args.warmup_steps
        if warmup is None:
            warmup = WARMUP_STEPS if fitted >= 2 and args.recipe == "plus" and not args.init else 0
        recipe = Recipe(args.recipe, warmup, args.steps, args.people, args.targets, args.lr, weight, args.norm_weight,
                        low_share, args.ema, args.seed, tuple(sorted(set(args.without))))  # fmt: skip
        facts = {"training_people": len(pool), "fitted_people": fitted, **vars(recipe)}  # people: those of a step
        self.identity = Identity(table, basis, data.settings["trigger"], self.host.base, facts)
        net = self._network(len(table), basis)
        self.training = Training(net, self.identity, self.host, data, pool, recipe, accelerator, args.accumulate)
        self.state, self.rows = self.out / "state.safetensors", []
        if self.state.is_file():
            self.training.restore(self.state)
            lines = (self.out / "losses.jsonl").read_text().splitlines()
            self.rows = [row for row in map(json.loads, lines) if row["step"] <= self.training.step]
        self._agree()
        finished, planned = data.batches
        self.say(
            f"{len(pool)} people to learn from, {fitted} with a LiDB, {hold_out} held out; {finished} of {planned} batches"
        )
        if self.training.step:
            self.say(f"going on from step {self.training.step}")
        self.board = None
        if self.main:  # what is logged of this very step stays, what a killed run logged after it goes
            self.board = SummaryWriter(self.out / "logs", purge_step=self.training.step + 1)

    def _agree(self) -> None:
        """Raise ValueError in every process if one of them has not restored the same step."""
        here = torch.tensor([self.training.step], device=self.accelerator.device)
        steps = self.accelerator.gather(here).tolist()
        if len(set(steps)) > 1:
            odd = next(i for i, step in enumerate(steps) if step != steps[0])
            raise ValueError(
                f"Process 0 would go on from step {steps[0]}, but process {odd} from step {steps[odd]}. --out "
                f"({self.out}) must be one folder that all processes on all machines see. Put it on shared storage."
            )

    def _network(self, layers: int, basis: AnyBasis) -> HyperNet:
        args, face_size = self.args, self.data.settings["face_size"]
        sizes = dict(SIZES[args.size or size_for(face_size)])
        if args.init:
            net, before = load_hypernet(args.init)
            if before.table != self.identity.table or before.basis != basis:
                raise ValueError(f"{args.init.name} was trained for other layers or another basis. Leave --init away.")
            self.identity.training["continued_from"] = before.training
            net = net.train().requires_grad_()
        else:
            sizes |= encoder_sizes(args.encoder) if args.encoder else {}
            with torch.random.fork_rng(devices=[]):
                torch.random.set_rng_state(torch.Generator().manual_seed(args.seed).get_state())
                config = HyperNetConfig(**sizes, refinements=args.refinements, layers=layers, numbers=basis.a + basis.b)
                net = HyperNet(config)
            if args.encoder:
                load_encoder(net, args.encoder)
        if net.config.image_size != face_size:
            raise ValueError(
                f"This HyperNet looks at {net.config.image_size} px, but the faces were prepared at "
                f"{face_size} px. Choose another --size, or prepare with --face-size "
                f"{net.config.image_size}."
            )
        return net

    def say(self, text: str) -> None:
        if self.main:
            print(text, flush=True)

    def log(self, losses: dict[str, float]) -> None:
        if self.main:
            step = self.training.step
            self.rows.append({"step": step, **{k: v for k, v in losses.items() if "/" not in k}})
            for key, value in losses.items():
                self.board.add_scalar(key if "/" in key else f"loss/{key}", value, step)

    def save(self) -> None:
        """The state last, so that what it promises is there."""
        if self.main:
            self.board.flush()
            save_hypernet(self.out / "hypernet.safetensors", self.training.average, self.identity, torch.float16)
            lines = self.out / "losses.jsonl"
            write_text(lines, "".join(json.dumps(row) + "\n" for row in self.rows))
            sweep(self.out, lines.stat().st_mtime)
            self.training.save(self.state)

    def report(self) -> None:
        """Controls and a sheet of held-out people; the main process alone."""
        if not self.main or not len(self.held_out):
            return
        training, step = self.training, self.training.step
        training.residuals.set(None)
        trained = training.average, self.identity, self.host, self.data
        shares = self.accelerator.num_processes * training.accumulate
        together = max(1, training.recipe.people // shares)  # no more than what a step has shown to fit into memory
        for name, losses in controls(*trained, self.held_out, together).items():
            shown = zip(("photo", "edit"), losses, strict=False)
            self.say(f"  {name:10} " + "  ".join(f"{kind} {value:.4f}" for kind, value in shown))
            for kind, value in zip(("photo", "edit"), losses, strict=False):
                self.board.add_scalar(f"controls {kind}/{name}", value, step)
        if training.layer_cosine is not None:
            for name, value in zip(self.identity.table.names, training.layer_cosine.tolist(), strict=True):
                self.board.add_scalar(f"cosine per layer/{name}", value, step)
            self.board.add_histogram("cosine per layer", training.layer_cosine, step)
        if (near := self._held_out_cosine(together)) is not None:
            for name, value in zip(self.identity.table.names, near.tolist(), strict=True):
                self.board.add_scalar(f"cosine per layer, held out/{name}", value, step)
        prompts = [p.format(self.identity.trigger) for p in SHEET_PROMPTS]
        sheet = people_sheet(*trained, self.held_out[:SHEET_PEOPLE], prompts)
        path = Path(self.out / "sheets" / f"step_{step:07d}.png")
        path.parent.mkdir(exist_ok=True)
        sheet.save(path)
        self.board.add_image("held-out people", np.asarray(sheet), step, dataformats="HWC")
        self.board.flush()

    @torch.no_grad()
    def _held_out_cosine(self, together: int) -> torch.Tensor | None:
        """Per layer (L,), of the prediction with the fitted LiDB; None if no held-out person has one."""
        people, a = np.intersect1d(self.held_out, self.data.fitted), self.identity.basis.a
        found = []
        for i in range(0, len(people), together):
            part = people[i : i + together]
            faces = self.data.faces([self.data.references[p][0] for p in part]).to(self.accelerator.device)
            got, wanted = self.training.average(faces).float().cpu(), self.data.thetas(part)
            found.append(cosine(wanted[..., :a], wanted[..., a:], got[..., :a], got[..., a:]))
        return torch.cat(found).mean(0) if found else None
