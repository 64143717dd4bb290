"""Train a HyperNet: a warm-up on fitted LiDBs, then end to end, face photo -> identity -> denoising loss of *other*
pictures of the same person, through per-sample residuals of the frozen base model.

The base model is borrowed: ``host`` has ``table``, ``modules``, ``sigmas``, ``device``, ``encode_prompts`` and
``denoising_loss``. Processes are Hugging Face Accelerate's: each takes its share of every step's people.
"""

import hashlib
import json
import math
import re
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import safe_open, save_file

from ..lidb.basis_form import describe
from ..lidb.descent import LOSS_SCALE
from ..lidb.residual import Residuals
from ..lidb.targets import TargetTable
from ..lidb.value import expand
from .checkpoint import Identity
from .hypernet import HyperNet
from .losses import balanced, cosine, output_norm, spread, weight_loss
from .muon import Muon
from .precompute import sigma_at
from .recipe import Draw, Recipe, draw
from .shards import PreparedPeople

LEVELS = (0.0, 0.5, 0.75, 0.9, 1.0)
ADAM_NAMES = ("encoder.embeddings", "layer_embedding", "mean", "head.")
MOST_FOR_STATISTICS = 512
MOST_UNUSABLE = 10  # steps in a row without finite numbers, then the settings are at fault


def start_mean(net: HyperNet, basis, seed: int) -> None:
    """Mean identity of a fresh network: random input side, zero output side, so it has no effect but a gradient."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net.mean[:, : basis.a] = torch.randn(len(net.mean), basis.a, generator=stream) * basis.a**-0.5
        net.scale.fill_(0.3)


def layer_groups(table: TargetTable) -> dict[str, list[int]]:
    """Layers by place and kind (``down attn1``, ``mid ff``, ``text`` ...) -> their rows in the table."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(table.names):
        found = re.match(r"lora_unet_(down|mid|up)_.*?_(attn1|attn2|ff)_", name)
        groups.setdefault(" ".join(found.groups()) if found else "text" if "lora_te" in name else "other", []).append(i)
    return groups


class Training:
    """A run that can be advanced step by step, saved and restored exactly. Use it inside ``host.training`` as a context.

    Args:
        net: trained in place; a network without a mean identity is given one.
        pool: the people to train on (numbers in ``data``).
        accelerator: an ``accelerate.Accelerator``.
        accumulate: shares into which every process's part of a step is cut, to save memory.

    Raises:
        ValueError: the people cannot be divided, the warm-up has nobody to learn from, or a network that has a mean
            identity is to start without.
    """

    def __init__(
        self,
        net: HyperNet,
        identity: Identity,
        host,
        data: PreparedPeople,
        pool: np.ndarray,
        recipe: Recipe,
        accelerator,
        accumulate: int = 1,
    ):
        shares = accelerator.num_processes * accumulate
        if recipe.people % shares:
            raise ValueError(
                f"{recipe.people} people a step cannot be divided among {accelerator.num_processes} processes x "
                f"{accumulate} accumulated shares. Choose a multiple of {shares}."
            )
        fitted = np.intersect1d(pool, data.fitted)
        if recipe.warmup_steps and len(fitted) < 2:
            raise ValueError(
                f"The warm-up learns from fitted LiDBs, but {len(fitted)} of the {len(pool)} training people have one. "
                "Run precompute with --fit, or set --warmup-steps 0."
            )
        with_mean = recipe.kind == "plus" and "mean" not in recipe.without
        if "mean" in recipe.without and net.mean.any():
            raise ValueError("A network that has learnt a mean identity cannot start without one. Leave --init away.")
        self.identity, self.host, self.data, self.recipe = identity, host, data, recipe
        self.pool, self.fitted = pool, fitted
        self.accelerator, self.accumulate, self.step, self.unusable = accelerator, accumulate, 0, 0
        self.groups, self.latent_shape = layer_groups(identity.table), tuple(data.latents([0]).shape[1:])
        self.size = torch.ones(len(identity.table))  # per layer, what the mean identity leaves open
        self.raw_size = self.size.clone()  # the same of the raw numbers, for a run without the gauge-free loss
        if len(fitted) >= 2:
            theta = data.thetas(fitted[:MOST_FOR_STATISTICS])
            self.size = spread(balanced(theta, identity.basis.a), identity.basis.a)
            self.raw_size = (theta - theta.mean(0)).pow(2).sum(-1).mean(0).clamp_min(1e-12)
            if with_mean and not net.mean.any():
                theta = theta if "gauge" in recipe.without else balanced(theta, identity.basis.a)
                with torch.no_grad():
                    net.mean.copy_(theta.mean(0))
                    net.scale.copy_(theta.std(0).pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-6))
        if with_mean and not net.mean.any():
            start_mean(net, identity.basis, recipe.seed)
        net.to(accelerator.device)
        self.average = HyperNet(net.config).requires_grad_(False).eval().to(accelerator.device)
        self.average.load_state_dict(net.state_dict())
        adam = ("",) if recipe.by_adam else ADAM_NAMES
        self.net, self.optimizer = net, Muon(dict(net.named_parameters()), recipe.lr, adam)
        self.model = accelerator.prepare_model(net)
        self.residuals = Residuals(host.modules)
        self.layer_cosine: torch.Tensor | None = None  # (L,) of this process's last share, to be shown

    def __enter__(self) -> "Training":
        self.residuals.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.residuals.__exit__(*error)
        self.model = self.net  # not the wrapper: whatever holds the process group must be gone before it is torn down

    def advance(self) -> dict[str, float]:
        """One optimiser step.

        Returns:
            ``loss`` and its parts, over all processes: ``denoising``, ``denoising 0.90-1.00`` ..., ``weights``,
            ``cosine`` and per layer group ``weights/mid ff`` ... Absent where nothing was measured; all of them if the loss
            or its gradient was not finite, in which case the step counts, in all processes, and changes nothing.

        Raises:
            ValueError: that happened ``MOST_UNUSABLE`` times in a row.
        """
        recipe, accelerator = self.recipe, self.accelerator
        self.layer_cosine = None
        pool = self.fitted if recipe.warming_up(self.step) else self.pool
        whole = draw(self.data, pool, self.step, recipe, self.latent_shape)
        mine = whole.part(accelerator.process_index, accelerator.num_processes)
        sums = torch.zeros(2, len(self._keys()), device=accelerator.device)  # totals and counts
        for share in range(self.accumulate):
            last = share == self.accumulate - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss, found = self._loss(mine.part(share, self.accumulate))
                (loss / self.accumulate * LOSS_SCALE).backward()
            for i, key in enumerate(self._keys()):
                if key in found:
                    sums[0, i] += found[key].detach().double().sum().to(sums)
                    sums[1, i] += found[key].numel()
        sums = accelerator.reduce(sums, "sum")
        total = self._gradients()
        if not (math.isfinite(sums[0, 0]) and math.isfinite(total)):  # both are the same in every process
            return self._unusable((sums[0, 0] / sums[1, 0]).item(), total)
        self.unusable = 0
        self.optimizer.step(recipe.lr_at(self.step))
        self.step += 1
        decay = min(recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
                slow.lerp_(fast, 1 - decay)
        return {k: (sums[0, i] / sums[1, i]).item() for i, k in enumerate(self._keys()) if sums[1, i]}

    def _unusable(self, loss: float, gradient: float) -> dict[str, float]:
        """A step whose numbers are not finite. What a step shows is drawn from its number: tried again, it would be the same."""
        for p in self.net.parameters():
            p.grad = None
        self.step, self.unusable = self.step + 1, self.unusable + 1
        if self.unusable == MOST_UNUSABLE:
            raise ValueError(
                f"In step {self.step}, as in the {MOST_UNUSABLE - 1} before it, the loss is {loss:.4g} and the size of its gradient "
                f"{gradient:.4g}; both must be finite. None of them changed anything, and the last checkpoint is as it was. Begin "
                "another --out with a lower --lr, from this run's hypernet.safetensors (--init) if it was good."
            )
        return {}

    def _gradients(self) -> float:
        """Bring the gradients to their own scale, and to a norm of at most 1. Returns the norm they had."""
        with torch.no_grad():
            for p in self.net.parameters():
                p.grad /= LOSS_SCALE
        return torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0).item()

    def _keys(self) -> list[str]:
        bins = [f"denoising {low:.2f}-{high:.2f}" for low, high in zip(LEVELS, LEVELS[1:], strict=False)]
        groups = [f"{kind}/{group}" for kind in ("weights", "cosine") for group in self.groups]
        return ["loss", "denoising", "weights", "cosine", *bins, *groups]

    def _loss(self, now: Draw) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        recipe, device = self.recipe, self.accelerator.device
        theta = self.model(self.data.faces(now.reference).to(device)).float()  # (P, L, a+b)
        loss, found = theta.new_zeros(()), {}
        if not recipe.warming_up(self.step):
            each = self._denoising(theta, now)
            loss, found = loss + each.mean(), {"denoising": each}
            for low, high in zip(LEVELS, LEVELS[1:], strict=False):
                found[f"denoising {low:.2f}-{high:.2f}"] = each[
                    (now.level.flatten() >= low) & (now.level.flatten() < high)
                ]
        deviation = (theta - self.net.mean) / self.net.scale
        if recipe.kind == "plus":
            loss = loss + recipe.norm_weight * output_norm(deviation)
        weights, measured = self._weights(theta, now)
        if weights is not None:
            loss = loss + weights * (1.0 if recipe.warming_up(self.step) else recipe.weight_loss)
            found |= measured
        return loss, found | {"loss": loss}

    def _denoising(self, theta: torch.Tensor, now: Draw) -> torch.Tensor:
        """(P K,)"""
        host, K = self.host, now.target.shape[1]
        self.residuals.set(_factors(self.identity, theta.repeat_interleave(K, 0)))
        target = now.target.reshape(-1)
        if self.recipe.explains_the_reference:
            captions = [self.data.settings["prompt"]] * len(target)
        else:
            captions = [self.data.captions[k] for k in target]
        x0, noise = self.data.latents(target).to(host.device), now.noise.flatten(0, 1).to(host.device)
        sigma = sigma_at(host, now.level.flatten()).to(host.device)
        return host.denoising_loss(x0, noise, sigma, host.encode_prompts(captions))

    def _weights(self, theta: torch.Tensor, now: Draw) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Distance to the fitted LiDBs of those who have one; a sum over them by the number of all in this share."""
        rows = [i for i, p in enumerate(now.people) if self.data.is_fitted(p)]
        if not rows:
            return None, {}
        a, wanted = self.identity.basis.a, self.data.thetas(now.people[rows]).to(theta)
        got = theta[torch.as_tensor(rows, device=theta.device)]
        parts = wanted[..., :a], wanted[..., a:], got[..., :a], got[..., a:]
        each, near = weight_loss(*parts), cosine(*parts)  # (F, L)
        self.layer_cosine = near.detach().mean(0).float().cpu()
        shown = each / self.size.to(theta)  # the same measure in every recipe
        found = {"weights": shown, "cosine": near}
        for group, layers in self.groups.items():
            found |= {f"weights/{group}": shown[:, layers], f"cosine/{group}": near[:, layers]}
        if self.recipe.kind == "paper":
            each = (got - wanted).pow(2).mean(-1)
        else:
            size = self.size
            if "gauge" in self.recipe.without:
                each, size = (got - wanted).pow(2).sum(-1), self.raw_size
            if "norm" not in self.recipe.without:
                each = each / size.to(theta)
        return each.mean(1).sum() / len(now.people), found

    def _origin(self) -> dict:
        """What a run must be continued with, besides its recipe, to end as if it had never been interrupted."""
        return {
            **asdict(self.net.config),
            "basis": json.dumps(describe(self.identity.basis)),
            "table of layers": self.identity.table.digest[:16],
            "checkpoint": self.data.settings.get("checkpoint"),
            "set of prepared people": self.data.digest,
            "choice of training people": f"{len(self.pool)}: {hashlib.sha256(self.pool.tobytes()).hexdigest()[:16]}",
            "mixed precision": self.accelerator.mixed_precision,
        }

    def save(self, path: Path) -> None:
        """Everything the rest of the run depends on, in one file, atomically."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.tensors().items()}
        tensors |= {"size": self.size, "raw_size": self.raw_size}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        partial = path.with_name(f".{path.name}.partial")
        begun_with = json.dumps(asdict(self.recipe) | self._origin())
        save_file(tensors, partial, metadata={"step": str(self.step), "begun_with": begun_with})
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Inverse of ``save``.

        Raises:
            ValueError: the run was begun with another recipe, network, basis, checkpoint or other people.
        """
        now = json.loads(json.dumps(asdict(self.recipe) | self._origin()))
        with safe_open(path, "pt") as file:
            before = json.loads(file.metadata().get("begun_with", "{}"))
            odd = [f"{k} ({before.get(k)} then, {v} now)" for k, v in now.items() if before.get(k) != v]
            if not before:
                raise ValueError(
                    f"{path} does not say what its run was begun with, so going on may not be the same run. Finish it with "
                    "the version that began it, or choose another --out."
                )
            if odd:
                raise ValueError(
                    f"The run in {path.parent} was begun with another {', '.join(odd)}. Go on with the old settings, or "
                    "choose another --out."
                )
            self.step = int(file.metadata()["step"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}
        part = lambda prefix: {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
        self.net.load_state_dict(part("net."))
        self.average.load_state_dict(part("average."))
        self.optimizer.restore(part("optimizer."))
        self.size, self.raw_size = tensors["size"].clone(), tensors["raw_size"].clone()  # nothing keeps the file mapped


@torch.no_grad()
def controls(
    net: HyperNet, identity: Identity, host, data: PreparedPeople, people: np.ndarray, together: int = 8
) -> dict[str, list[float]]:
    """Denoising loss of another photo and of an edit (if there are any), in the upper half of the noise levels.

    People of whom there is but one photo are left out, unless nobody has more; then it is the loss of that very photo.

    Rows ``predicted``, ``mean`` (the mean prediction), ``wrong`` (the next person's), ``plain`` (no residual) see the
    same pictures, noise and levels; ``together`` people share a forward, and the result does not depend on it. Call
    inside ``host.training``.
    """
    several = np.array([p for p in people if len(data.references[p]) > 1], dtype=int)
    people = several if len(several) > 1 else people
    N = len(people)
    parts = [slice(i, i + together) for i in range(0, N, together)]
    faces = [data.references[p][0] for p in people]
    theta = torch.cat([net(data.faces(faces[part]).to(net.mean.device)).float() for part in parts])
    rows = {"predicted": theta, "mean": theta.mean(0, keepdim=True).expand_as(theta), "wrong": theta.roll(1, 0)}
    shown = [[data.references[p][-1] for p in people]]
    edits = [data.pictures[p][~data.is_reference[data.pictures[p]]] for p in people]
    if all(len(e) for e in edits):
        shown.append([e[-1] for e in edits])
    sigma = sigma_at(host, 0.5 + 0.5 * torch.arange(N) / N).to(host.device)
    noise = torch.randn(N, *data.latents([0]).shape[1:], generator=torch.Generator().manual_seed(5))
    losses = {}
    with Residuals(host.modules) as residuals:
        for name, vectors in (*rows.items(), ("plain", None)):
            losses[name] = []
            for pictures in shown:
                each = []
                for part in parts:
                    residuals.set(None if vectors is None else _factors(identity, vectors[part]))
                    x0 = data.latents(pictures[part]).to(host.device)
                    context = host.encode_prompts([data.captions[k] for k in pictures[part]])
                    each.append(host.denoising_loss(x0, noise[part].to(host.device), sigma[part], context))
                losses[name].append(torch.cat(each).mean().item())
    return losses


def _factors(identity: Identity, theta: torch.Tensor):
    A, B = theta[..., : identity.basis.a], theta[..., identity.basis.a :]
    return expand(identity.table, identity.basis, A.unsqueeze(-1), B.unsqueeze(-2))
