"""What every method takes and gives: its settings, the reference that it learns from, and the person that comes out."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import comfy.model_management as mm
import comfy.utils
import torch

from ..lidb.residual import Residuals
from ..nodes.finetune import DEFAULT_TRIGGER, check_trigger, fit_to_model
from ..nodes.host import HostModel
from ..nodes.reference_loss import ReferenceLoss


@dataclass(frozen=True)
class Settings:
    """What all methods have in common.

    ``resolution`` is the shorter side of the training picture in pixels, 0 the model's own size. The first word of the
    ``trigger`` is the person, the rest of it the class noun.

    Raises:
        ValueError: on construction, for values that cannot be meant, or a prompt without the trigger phrase.
    """

    steps: int
    learning_rate: float
    batch: int = 4
    seed: int = 0
    prompt: str = "a photo of a [V] face"
    resolution: int = 0
    trigger: str = DEFAULT_TRIGGER

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1 or not self.learning_rate > 0 or self.resolution < 0:
            raise ValueError(
                f"Training needs steps >= 1, batch >= 1, a learning rate > 0 and a resolution >= 0, but got steps={self.steps}, "
                f"batch={self.batch}, learning_rate={self.learning_rate}, resolution={self.resolution}."
            )
        check_trigger(self.trigger, self.prompt)

    @property
    def identifier(self) -> str:
        return self.trigger.split()[0]

    @property
    def class_prompt(self) -> str:
        """The prompt of just anybody: without the word that is the person, wherever the host would see it."""
        return re.sub(rf"{re.escape(self.identifier)}\s*", "", self.prompt, flags=re.IGNORECASE).strip()


@dataclass(frozen=True)
class Personalised:
    """A person in memory: clones of the user's MODEL and CLIP that draw them, and how they were made.

    ``trained`` is how many numbers were trained, ``losses`` the loss before each step, ``seconds`` the whole training with
    the encoding of the pictures, ``trigger`` the words that call the person; ``write`` makes the file that the stock host
    loads. Files are half precision; what was learned is rounded once, when training ends, so that the pair in memory and
    the file are the same person.
    """

    model: object
    clip: object
    trained: int
    losses: list[float]
    seconds: float
    trigger: str
    write: Callable[[Path], None]

    def save(self, path: Path) -> int:
        """Write the file, whole or not at all; returns its size in bytes."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as folder:
            self.write(Path(folder) / path.name)
            (Path(folder) / path.name).replace(path)
        return path.stat().st_size


def reference_latents(host: HostModel, image: torch.Tensor, settings: Settings) -> torch.Tensor:
    """IMAGE (P, H, W, C) -> latents (P, c, h, w) at the training size. Call before ``host.training``.

    Raises:
        ValueError: the picture is too small to show a face.
    """
    return host.encode_image(fit_to_model(image, settings.resolution, host.side))


def reference_loss(
    host: HostModel, residuals: Residuals, x0: torch.Tensor, prompt: str, settings: Settings, seed: int
) -> ReferenceLoss:
    """``loss(step, factors)`` of latents x0 under their prompt, the noise and levels being those of *Rank-Relaxed Finetune*.

    The text encoder runs and learns at every step, as is usual for all methods but ours.
    """
    return ReferenceLoss(host, residuals, x0, prompt, settings.batch, settings.steps, seed, text_every=1)


def watched(steps: int) -> Callable[..., None]:
    """``after(step, ...)`` for a training loop: the host's progress bar, and its interruption."""
    bar = comfy.utils.ProgressBar(steps)

    def after(step: int, *_) -> None:
        bar.update_absolute(step, steps)
        mm.throw_exception_if_processing_interrupted()

    return after
