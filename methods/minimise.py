"""The training loop of the methods that are not low-rank: optimiser, schedule and checks of ``lidb.finetune``."""

from collections.abc import Callable, Sequence
from math import isfinite

import comfy.model_management as mm
import comfy.utils
import torch

from ..lidb.finetune import CHECK_EVERY, LOSS_SCALE, schedule
from .person import Settings


def minimise(leaves: Sequence[torch.Tensor], loss: Callable[[int], torch.Tensor], settings: Settings) -> list[float]:
    """Train float32 ``leaves`` on ``loss(step)``, a scalar; progress and interruption are the host's.

    Returns:
        The loss before each step. A leaf that the loss does not reach keeps its value and has no ``grad``.

    Raises:
        ValueError: the loss became NaN or infinite.
    """
    optimizer = torch.optim.AdamW(leaves, lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    bar, history, unread = comfy.utils.ProgressBar(settings.steps), [], []
    for step in range(settings.steps):
        mm.throw_exception_if_processing_interrupted()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, settings.steps)
        value = loss(step)
        optimizer.zero_grad()
        (value.float() * LOSS_SCALE).backward()
        torch._foreach_div_([leaf.grad for leaf in leaves if leaf.grad is not None], LOSS_SCALE)
        optimizer.step()
        unread.append(value.detach())
        if len(unread) == CHECK_EVERY or step + 1 == settings.steps:
            history += torch.stack(unread).float().tolist()
            unread.clear()
            if not all(map(isfinite, history[-CHECK_EVERY:])):
                raise ValueError(
                    f"The loss became {history[-1]} by step {step + 1}; nothing was changed. Use a lower learning rate than "
                    f"{settings.learning_rate:g}."
                )
        bar.update_absolute(step + 1, settings.steps)
    return history
