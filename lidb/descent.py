"""The training loop of every finetune: AdamW on a few float32 leaves, a short warm-up, a linear fall, checked losses."""

from collections.abc import Callable, Sequence
from math import isfinite

import torch

LOSS_SCALE = 1024  # keeps a half-precision model's small gradients from vanishing; a power of two, so exact in float32
CHECK_EVERY = 5  # reading the loss waits for the device, so not at every step


def minimise(
    leaves: Sequence[torch.Tensor],
    loss: Callable[[int], torch.Tensor],
    steps: int,
    learning_rate: float,
    after: Callable[[int], None] = lambda step: None,
) -> list[float]:
    """Train the leaves in place on ``loss(step)``, a scalar tensor.

    Args:
        after: called after every step with the number of steps done; it may raise to stop the work.

    Returns:
        The loss before each step, ``steps`` numbers. A leaf that the loss does not reach keeps its value and has no ``grad``.

    Raises:
        ValueError: the loss became NaN or infinite.
    """
    optimizer = torch.optim.AdamW(leaves, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    history, unread = [], []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * schedule(step, steps)
        value = loss(step)
        optimizer.zero_grad()
        (value.float() * LOSS_SCALE).backward()
        torch._foreach_div_([leaf.grad for leaf in leaves if leaf.grad is not None], LOSS_SCALE)
        optimizer.step()
        unread.append(value.detach())
        if len(unread) == CHECK_EVERY or step + 1 == steps:
            history += torch.stack(unread).float().tolist()
            unread.clear()
            first = next((i for i, v in enumerate(history) if not isfinite(v)), None)
            if first is not None:
                raise ValueError(
                    f"The finetune's loss became {history[first]} at step {first + 1}; nothing was changed. "
                    f"Use a lower learning rate than {learning_rate:g}."
                )
        after(step + 1)
    return history


def schedule(step: int, steps: int) -> float:
    """Three steps of warm-up, then a linear fall to a tenth."""
    warm = min(1.0, (step + 1) / 3)
    return warm * (1.0 - 0.9 * step / max(1, steps))
