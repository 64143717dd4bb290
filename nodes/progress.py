"""How far a long node is: the host's progress bar and, in words on the node, seconds per step and time left."""

import time

import comfy.utils
from server import PromptServer

SAY_EVERY = 0.5  # seconds


class StepProgress:
    """Counts from now on.

    Args:
        node_id: the node that shows the words; None says nothing.
    """

    def __init__(self, steps: int, node_id: str | None):
        self.steps, self.node_id, self.bar = steps, node_id, comfy.utils.ProgressBar(steps)
        self.started = self.said = time.monotonic()

    def update(self, done: int, preview=None) -> None:
        """``preview`` is what the host's progress bar takes: (format, PIL picture, largest side), or None."""
        self.bar.update_absolute(done, self.steps, preview)
        now = time.monotonic()
        if self.node_id is not None and (now - self.said >= SAY_EVERY or done == self.steps):
            self.said = now
            PromptServer.instance.send_progress_text(in_words(done, self.steps, now - self.started), self.node_id)


def show_result(picture, steps: int) -> None:
    """Put a PIL picture in the place of the last live preview, which the frontend would go on showing instead of the result."""
    comfy.utils.ProgressBar(steps).update_absolute(steps, steps, ("JPEG", picture, max(picture.size)))


def in_words(done: int, steps: int, seconds: float) -> str:
    """``Step 12 of 40, 0.35 s each, 10 s left``."""
    each = seconds / done
    if done == steps:
        return f"{steps} steps in {seconds:.1f} s, {each:.2f} s each"
    left = each * (steps - done)
    shown = f"{left:.0f} s" if left < 100 else f"{left / 60:.0f} min"
    return f"Step {done} of {steps}, {each:.2f} s each, {shown} left"
