"""What every row of the finetune bench shares: the model, the picture, the clock, the floor and the fixed evaluation."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

from ..cli.headless import HeadlessHost
from ..cli.host_install import REPOSITORY
from .measure import finish

EVALUATIONS = 8  # noise levels of the fixed evaluation, spread evenly


def sd15_setting(side: int, batch: int, steps: int) -> "FinetuneSetting":
    """SD 1.5 in shape, in a host of this process's own."""
    booted = HeadlessHost(REPOSITORY / "output" / "bench")
    from .sd15_shape import write_sd15_shape

    path = booted.base / "models" / "checkpoints" / "sd15_shape.safetensors"
    if not path.is_file():
        write_sd15_shape(path)
    return FinetuneSetting(booted, path.name, side, batch, steps)


class FinetuneSetting:
    """A checkpoint, loaded by the stock loader, and one picture (1, side, side, 3)."""

    prompt = "a photo of a [V] face"

    def __init__(self, booted: HeadlessHost, checkpoint: str, side: int, batch: int, steps: int):
        self.booted, self.side, self.batch, self.steps = booted, side, batch, steps
        with torch.inference_mode():
            self.model, self.clip, self.vae = booted.nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint)[:3]
        face = Image.open(REPOSITORY / "workflows" / "hyperdreambooth_person.png").convert("RGB").resize((side, side))
        self.picture = torch.from_numpy(np.array(face, dtype=np.float32) / 255)[None]

    def sample_once(self) -> None:
        """One sampling step with prompt and negative prompt, whose memory every row is compared with."""
        nodes = self.booted.nodes
        with torch.inference_mode():
            encode = nodes.CLIPTextEncode().encode
            channels = self.model.model.latent_format.latent_channels
            latent = {"samples": torch.zeros(1, channels, self.side // 8, self.side // 8)}
            both = encode(self.clip, self.prompt)[0], encode(self.clip, "")[0]
            nodes.KSampler().sample(self.model, 0, 1, 3.0, "euler", "normal", *both, latent, 1.0)

    def encode(self) -> torch.Tensor:
        """The picture's latents in the model's own scale (1, c, h, w)."""
        from ..nodes.host import HostModel

        return HostModel(self.model, self.clip, self.vae).encode_image(self.picture)

    @contextmanager
    def floor_step(self, x0: torch.Tensor) -> Iterator[Callable[[], float]]:
        """Hands out a function that runs one floor step and returns its seconds."""
        from ..nodes.host import HostModel

        host, stream = HostModel(self.model, self.clip), torch.Generator().manual_seed(1)
        with host.training((self.batch, *x0.shape[1:])), bare(host.modules.values()):
            with torch.no_grad():
                context = host.encode_prompt(self.prompt)[0]
            clean = x0.expand(self.batch, -1, -1, -1).contiguous().requires_grad_()
            sigma = host.sigmas[len(host.sigmas) // 2].detach().float().expand(self.batch).to(x0.device)

            def step() -> float:
                noise = torch.randn(clean.shape, generator=stream).to(clean)
                clean.grad = None
                finish()
                started = time.time()
                host.denoising_loss(clean, noise, sigma, context).mean().backward()
                finish()
                return time.time() - started

            yield step

    def evaluation_batch(self, x0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fixed noise (E, c, h, w) and indices (E,) of noise levels."""
        stream = torch.Generator().manual_seed(2)
        noise = torch.randn((EVALUATIONS, *x0.shape[1:]), generator=stream).to(x0.device)
        return noise, (torch.arange(EVALUATIONS) * 2 + 1) * 1000 // (2 * EVALUATIONS)

    def evaluate(self, model, clip) -> float:
        """The denoising loss of the picture on the fixed batch, with a model as it comes out of a rival's hands."""
        from ..nodes.host import HostModel

        with torch.inference_mode():
            x0 = self.encode()
        host = HostModel(model, clip)
        with host.training((1, *x0.shape[1:])), torch.no_grad(), torch._C.DisableTorchFunction():
            context = host.encode_prompt(self.prompt)[0]
            noise, levels = self.evaluation_batch(x0)
            losses = [
                host.denoising_loss(x0, n[None], host.sigmas[i].float()[None].to(x0.device), context)
                for n, i in zip(noise, levels, strict=True)
            ]
        return torch.cat(losses).mean().item()

    def forget_model(self) -> None:
        """Free the host's model; a rival brought its own."""
        self.booted.mm.unload_all_models()
        self.model = None

    def clock(self, floor_every: int = 0) -> "Clock":
        return Clock(self, floor_every)


class Clock:
    """Reads the times of a node's steps off the host's own progress bar, which every training node moves.

    Between the steps, at every ``floor_every``-th, a floor step is timed and taken out of the total.
    """

    def __init__(self, setting: FinetuneSetting, floor_every: int):
        import comfy.utils

        self.setting, self.floor_every, self.times, self.floors, self.paused = setting, floor_every, [], [], 0.0
        self.previous = comfy.utils.PROGRESS_BAR_HOOK
        comfy.utils.set_progress_bar_global_hook(self._tick)
        if floor_every:
            self.x0 = setting.encode()
        finish()
        self.started = time.time()

    def _tick(self, value, total, preview, **_) -> None:
        if value <= len(self.times):  # no step: a node that shows something once more
            return
        finish()
        now = time.time()
        self.times.append(now - self.paused)
        if self.floor_every and value % self.floor_every == 0:
            with self.setting.floor_step(self.x0) as step:
                step()  # its memory is not there yet
                self.floors.append(step())
            self.paused += time.time() - now

    def stop(self) -> dict:
        """``setup_s`` (all that is not a step), ``step_s`` (mean) and ``total_40_s``; ``floor_step_s`` where asked for."""
        import comfy.utils

        finish()
        total = time.time() - self.paused - self.started
        comfy.utils.set_progress_bar_global_hook(self.previous)
        step = float(np.mean(np.diff(self.times)))  # the first step also warms up: it counts as set-up
        row = {"setup_s": total - step * len(self.times), "step_s": step, "total_40_s": total}
        return row | ({"floor_step_s": float(np.mean(self.floors))} if self.floors else {})


@contextmanager
def bare(modules):
    """As the host runs them: without the forward hooks of a finetune that is under way, and without our convolutions."""
    hooks = [(module._forward_hooks, dict(module._forward_hooks)) for module in modules]
    for there, _ in hooks:
        there.clear()
    try:
        with torch._C.DisableTorchFunction():
            yield
    finally:
        for there, before in hooks:
            there.update(before)
