"""The two low-rank methods: LiDB by *Rank-Relaxed Finetune*, from a prediction or from zero, and LoRA-DreamBooth.

LoRA is the same loop in the full space and from zero: rank r on the same layers, text encoder included, alpha = r, down drawn
at random, up zero; no HyperNet, no basis, and none of the node's savings.
"""

import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..lidb.file import save_lidb
from ..lidb.finetune import FinetuneSettings, finetune
from ..lidb.lora import lora_metadata, to_lora
from ..lidb.residual import Residuals
from ..lidb.value import Facts, LiDB
from ..nodes.apply_lidb import apply_lidb
from ..nodes.finetune import run_finetune, starting_basis
from ..nodes.host import HostModel
from .person import Personalised, Settings, reference_latents, reference_loss, watched

RANK = 4


def lidb(
    model, clip, vae, image: torch.Tensor, settings: Settings, rank: int = RANK, start: LiDB | None = None,
    space: str = "full",
) -> Personalised:  # fmt: skip
    """``rank`` more ranks beside the prediction ``start`` or from zero; the file is a LiDB.

    Args:
        image: the person's pictures (P, H, W, C) in 0..1.
        space: where the new ranks are, inside the LiDB basis or in the full space as those of a LoRA.

    Raises:
        ValueError: the prediction belongs to another model, or what the finetune raises.
    """
    started = time.time()
    relaxation = FinetuneSettings(settings.steps, rank, settings.learning_rate, space, settings.seed)
    person, losses = run_finetune(
        model, clip, vae, image, start, relaxation, settings.batch, settings.prompt, settings.resolution
    )
    rounded = {
        name: _rounded(numbers)
        for name in ("A_train", "B_train", "A_full", "B_full")
        if (numbers := getattr(person, name)) is not None
    }
    person = replace(person, **rounded)
    pair, seconds = apply_lidb(model, clip, person, 1.0, 1.0), time.time() - started
    trained = person.numbers - (start.numbers if start else 0)
    return Personalised(
        *pair, trained, losses, seconds, person.facts.trigger, lambda path: save_lidb(path, person, "float16")
    )


def lora(model, clip, vae, image: torch.Tensor, settings: Settings, rank: int = RANK) -> Personalised:
    """A LoRA of rank ``rank`` on the target layers; the file is kohya's, for the stock *Load LoRA (Model and CLIP)*.

    Args:
        image: the person's pictures (P, H, W, C) in 0..1.
    """
    started, host = time.time(), HostModel(model, clip, vae)
    facts = Facts(trigger=settings.trigger, base=host.base)
    nobody = LiDB.zeros(host.table, starting_basis(host.table), facts=facts)
    relaxation = FinetuneSettings(settings.steps, rank, settings.learning_rate, "full", settings.seed)
    x0 = reference_latents(host, image, settings)
    with host.training((settings.batch, *x0.shape[1:])), Residuals(host.modules) as residuals:
        loss = reference_loss(host, residuals, x0, settings.prompt, settings, settings.seed)
        person, losses = finetune(nobody, loss, relaxation, host.device, watched(settings.steps))
    person = replace(person, A_full=_rounded(person.A_full), B_full=_rounded(person.B_full))

    def write(path: Path) -> None:
        halves = {key: tensor.half() for key, tensor in to_lora(person).items()}
        save_file(halves, path, metadata=lora_metadata(person, path.stem))

    pair, seconds = apply_lidb(model, clip, person, 1.0, 1.0), time.time() - started
    return Personalised(*pair, person.numbers, losses, seconds, settings.trigger, write)


def _rounded(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.half().float()
