"""The rivals of the finetune bench: the host's own trainer, the diffusers + peft loop, and a full DreamBooth step."""

import statistics
import time
from collections.abc import Callable

import torch

from .finetune_setting import FinetuneSetting
from .measure import extra_memory, finish

FASTEST = {"training_dtype": "fp32", "lora_dtype": "fp32", "gradient_checkpointing": False, "bypass_mode": True}
FASTEST_NARROW = {**FASTEST, "training_dtype": "bf16"}
FASTEST_CUDA = {**FASTEST, "training_dtype": "none", "lora_dtype": "bf16"}


def half_precision() -> torch.dtype | None:
    """What mixed precision is on this device; None where it does not pay."""
    from ..nodes.narrow_products import multiplies_narrow

    return torch.float16 if torch.cuda.is_available() else torch.bfloat16 if multiplies_narrow() else None


def train_lora_node(setting: FinetuneSetting, **changed) -> dict:
    """The host's *Train LoRA* between its stock neighbours, defaults unless ``changed``; 40 steps for everybody."""
    nodes = setting.booted.nodes
    node = nodes.NODE_CLASS_MAPPINGS["TrainLoraNode"]
    defaults = {i.id: i.default for i in node.GET_SCHEMA().inputs if getattr(i, "default", None) is not None}
    with torch.inference_mode(), extra_memory(setting.sample_once) as memory:
        clock = setting.clock()
        latents = nodes.VAEEncode().encode(setting.vae, setting.picture.expand(setting.batch, -1, -1, -1))[0]
        positive = nodes.CLIPTextEncode().encode(setting.clip, setting.prompt)[0]
        values = defaults | {"steps": setting.steps, "batch_size": setting.batch, **changed}
        inputs = values | {"model": setting.model, "latents": latents, "positive": positive}
        lora = node.execute(**{name: [value] for name, value in inputs.items()}).args[0]
        row = clock.stop()
    with torch.inference_mode():
        loader = nodes.NODE_CLASS_MAPPINGS["LoraModelLoader"]
        model = loader.execute(setting.model, lora, 1.0).args[0]
    trained = sum(v.numel() for k, v in lora.items() if not k.endswith(".alpha"))
    return row | memory | {"trainable": trained, "eval_loss": setting.evaluate(model, setting.clip)}


def comfy_default(setting: FinetuneSetting) -> dict:
    return train_lora_node(setting)


def comfy_fastest(setting: FinetuneSetting) -> dict:
    fastest = {torch.float16: FASTEST_CUDA, torch.bfloat16: FASTEST_NARROW, None: FASTEST}
    return train_lora_node(setting, **fastest[half_precision()])


class DiffusersUNet:
    """The same weights in diffusers' UNet, the text and the picture encoded beforehand.

    Raises:
        RuntimeError: the two UNets do not give the same loss, so that a comparison would compare different models.
    """

    def __init__(self, setting: FinetuneSetting):
        import comfy.utils
        from diffusers import DDPMScheduler, UNet2DConditionModel

        from ..nodes.host import HostModel

        self.setting, model, self.half = setting, setting.model, None
        with torch.device("meta"):
            self.unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
        names, host_weights = (
            comfy.utils.unet_to_diffusers(model.model.model_config.unet_config),
            model.model.state_dict(),
        )
        weights = {k: host_weights[f"diffusion_model.{v}"] for k, v in names.items() if k in self.unet.state_dict()}
        with torch.inference_mode(False):
            self.unet.load_state_dict({k: v.clone().float() for k, v in weights.items()}, assign=True)
        self.unet = self.unet.to(model.load_device).requires_grad_(False)
        self.scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        host = HostModel(model, setting.clip, setting.vae)
        with torch.inference_mode():
            x0 = setting.encode()
        with host.training((1, *x0.shape[1:])), torch.no_grad():
            self.context = host.encode_prompt(setting.prompt)[0].clone()
        self.x0 = x0
        seen, expected = self.evaluate(), setting.evaluate(model, setting.clip)
        if abs(seen / expected - 1) > 1e-2:
            raise RuntimeError(f"diffusers' UNet has a loss of {seen} where the host's has {expected}.")
        setting.forget_model()

    def loss(self, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the predicted noise for (N, c, h, w) noise at levels (N,)."""
        device = self.x0.device
        x0, levels = self.x0.expand(len(noise), -1, -1, -1), levels.to(device)
        noisy = self.scheduler.add_noise(x0, noise, levels)
        with torch.autocast(device.type, self.half, enabled=self.half is not None):
            found = self.unet(noisy, levels, self.context.expand(len(noise), -1, -1)).sample
        return (found.float() - noise).pow(2).mean()

    @torch.no_grad()
    def evaluate(self) -> float:
        noise, levels = self.setting.evaluation_batch(self.x0)
        return statistics.mean(self.loss(n[None], i[None]).item() for n, i in zip(noise, levels, strict=True))

    def train(self, prepare: Callable[[], object], rate: float, half: torch.dtype | None) -> dict:
        """AdamW for the setting's steps, random noise levels, as the example scripts do: the row.

        Args:
            prepare: makes what is to be trained require gradients.
            half: of mixed precision.
        """
        self.half = half
        with extra_memory(self.evaluate) as memory:
            finish()
            started, stream, batch, times = time.time(), torch.Generator().manual_seed(0), self.setting.batch, []
            prepare()
            parameters = [p for p in self.unet.parameters() if p.requires_grad]
            optimizer, scaler = torch.optim.AdamW(parameters, lr=rate), torch.amp.GradScaler(enabled=self.x0.is_cuda)
            finish()
            setup = time.time() - started
            for _ in range(self.setting.steps):
                began = time.time()
                noise = torch.randn((batch, *self.x0.shape[1:]), generator=stream).to(self.x0)
                scaler.scale(self.loss(noise, torch.randint(0, 1000, (batch,), generator=stream))).backward()
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                finish()
                times.append(time.time() - began)
        return {"setup_s": setup, "step_s": sum(times) / len(times), "total_40_s": setup + sum(times), **memory,
                "trainable": sum(p.numel() for p in parameters), "eval_loss": self.evaluate()}  # fmt: skip


def diffusers_peft(setting: FinetuneSetting) -> dict:
    """LoRA-DreamBooth as in diffusers' example script: rank 4, the UNet's attention, text and latents cached, mixed precision."""
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    rival, half = DiffusersUNet(setting), half_precision()
    targets = ["to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_v_proj"]
    config = LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=targets)

    def prepare() -> None:
        rival.unet.add_adapter(config)
        cast_training_params(rival.unet, torch.float32)

    rival.unet.to(half or torch.float32)
    return rival.train(prepare, 5e-4, half)


def dreambooth(setting: FinetuneSetting) -> dict:
    """Every weight of the UNet, learning rate of diffusers' example script (without prior preservation)."""
    rival = DiffusersUNet(setting)
    half = torch.float16 if torch.cuda.is_available() else None
    return rival.train(lambda: rival.unet.requires_grad_(True), 5e-6, half)


RIVALS = {
    "comfy_default": comfy_default,
    "comfy_fastest": comfy_fastest,
    "diffusers_peft": diffusers_peft,
    "dreambooth": dreambooth,
}
