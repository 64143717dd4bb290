"""The adapter to ComfyUI: from MODEL, CLIP and VAE to named target linears, encoded prompts and a denoising loss.

Nothing else in the project knows how the host stores, loads or runs a model. Facts used here were read from and run on
ComfyUI 0.30.0; the files are named where they matter.
"""

import re
from contextlib import ExitStack, contextmanager
from functools import cached_property

import comfy.ldm.modules.attention as host_attention
import comfy.lora
import comfy.model_management as mm
import torch

from ..lidb.targets import TargetTable, select_targets
from .cpu_products import CpuProducts
from .host_weights import hold_widened, ordinary, own_memory
from .narrow_products import is_worth_narrowing
from .pictures import SIDES

_DIFFUSERS_UNET = re.compile(r"lora_unet_(down_blocks|mid_block|up_blocks)_")
_TEXT = re.compile(r"lora_te[12]?_text_model_encoder_layers_")
BASIC_ATTENTION_TOKENS = 1024


def kohya_names(model, clip) -> dict[str, str]:
    """Every kohya layer name that the host understands for this pair, mapped to the host's weight key.

    UNet names are the diffusers ones; the text encoder's are ``lora_te_`` (one encoder) or ``lora_te1_``/``lora_te2_``.
    """
    unet = comfy.lora.model_lora_keys_unet(model.model, {})
    names = {name: key for name, key in unet.items() if isinstance(key, str) and _DIFFUSERS_UNET.match(name)}
    text = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    text = {name: key for name, key in text.items() if _TEXT.match(name)}
    two_encoders = any(key.startswith("clip_g.") for key in text.values()) and any(
        k.startswith("clip_l.") for k in text.values()
    )
    names |= {name: key for name, key in text.items() if name.startswith("lora_te_") != two_encoders}
    return names


class HostModel:
    """One MODEL and CLIP of the host, seen through the eyes of the method.

    Args:
        model, clip: the host's MODEL and CLIP; they are cloned, never changed.
        vae: the host's VAE, needed by ``encode_image`` only.
        preset: a key of ``lidb.targets.PRESETS``.

    Raises:
        ValueError: the model has no layers that the preset names.
    """

    def __init__(self, model, clip, vae=None, preset: str = "paper192"):
        self.model, self.clip, self.vae, self.preset = model, clip, vae, preset
        self._trained, self._encoding = model, clip  # inside ``training``, those that are being run

    def linears(self) -> dict[str, torch.nn.Module]:
        """Kohya name -> the host's linear-like module, for all layers that have one (quantised layers included)."""
        unet = dict(self._trained.model.named_modules())
        text = dict(self._encoding.cond_stage_model.named_modules())
        linears = {}
        for name, key in kohya_names(self._trained, self._encoding).items():
            module = (unet if name.startswith("lora_unet") else text).get(key.removesuffix(".weight"))
            if hasattr(module, "in_features"):  # the host also lists names of blocks that this model does not have
                linears[name] = module
        return linears

    @cached_property
    def table(self) -> TargetTable:
        """The target layers of this model."""
        shapes = {name: (module.in_features, module.out_features) for name, module in self.linears().items()}
        return select_targets(shapes, self.preset)

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Kohya name -> module of every target layer; inside ``training``, those that are being run."""
        linears = self.linears()
        return {name: linears[name] for name in self.table.names}

    def weights(self) -> dict[str, tuple[torch.nn.Module, str]]:
        """The host's weight key -> (module, attribute), all of UNet and text encoder; inside ``training``, those being run.

        The UNet's keys begin with ``diffusion_model.``; the others are the text encoder's.
        """
        places = {}
        for prefix, root in (
            ("diffusion_model", self._trained.model.diffusion_model),
            ("", self._encoding.cond_stage_model),
        ):
            for path, module in root.named_modules():
                for name in [name for name, tensor in module._parameters.items() if tensor is not None]:
                    places[".".join(part for part in (prefix, path, name) if part)] = module, name
        return places

    @property
    def base(self) -> str:
        """The host's name for this architecture, e.g. ``SD15``."""
        return type(self.model.model.model_config).__name__

    @property
    def side(self) -> int:
        """Side of the square pictures that this architecture was trained on; 512 where it is not known."""
        kinds = type(self.model.model.model_config).__mro__  # the host derives SSD-1B, KOALA and others from SDXL
        return next((SIDES[kind.__name__] for kind in kinds if kind.__name__ in SIDES), 512)

    @property
    def device(self) -> torch.device:
        return self.model.load_device

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """IMAGE (N, H, W, 3) in 0..1 -> latents x0 (N, c, h, w) in the model's own scale. Call before ``training``.

        Raises:
            ValueError: the VAE's latents do not fit the model, or are not finite.
        """
        latent = self.vae.encode(image[..., :3])
        if not torch.isfinite(latent).all():
            raise ValueError(
                "The VAE makes numbers of this picture that are not finite (NaN): the picture holds some itself, or the VAE "
                "overflows in half precision. Check the picture, or start ComfyUI with --fp32-vae."
            )
        channels = self.model.model.latent_format.latent_channels
        if latent.ndim != 4 or latent.shape[1] != channels:
            raise ValueError(
                f"This VAE makes latents of shape {tuple(latent.shape)}, the model needs (N, {channels}, h, w). "
                "Connect the VAE that belongs to the checkpoint."
            )
        with torch.inference_mode(False):
            return self.model.model.process_latent_in(latent.clone()).to(self.device, torch.float32)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents in the model's own scale -> pictures (N, 3, H, W) in 0..1 on the CPU."""
        with torch.inference_mode():
            pictures = self.vae.decode(self.model.model.process_latent_out(latents.float()))
        return pictures.movedim(-1, 1).float().cpu()

    @contextmanager
    def training(self, latent_shape: tuple[int, ...]):
        """Make the host's modules differentiable with respect to residuals, and leave everything as it was after.

        Inside, gradients are on and ``encode_prompt``, ``encode_prompts`` and ``denoising_loss`` may be called. Solved
        here: nodes run in inference mode and their tensors cannot be saved for backward; CLIP adds in place; the active
        attention kernel may have no backward; offloaded weights are not safe under autograd.

        Args:
            latent_shape: (N, c, h, w) of a training batch, from which the memory to free is estimated.

        Raises:
            ValueError: the CLIP carries hooks, a model cannot be read again under dynamic VRAM, or weights stay off the GPU.
        """
        if self.clip.patcher.forced_hooks:
            raise ValueError(
                "This CLIP carries hooks (Set CLIP Hooks), whose other half acts on the diffusion model in sampling only, so a "
                "finetune would see half of them. Connect the CLIP from before that node; what shall count as part of the "
                "model goes through Load LoRA (Model and CLIP)."
            )
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            model, clip = ordinary(self.model), ordinary(self.clip)
            memory = 3 * model.memory_required([2 * latent_shape[0], *latent_shape[1:]])
            mm.load_models_gpu([model, clip.patcher], memory_required=memory, force_full_load=True)
            if self.device.type != "cpu" and (model.model.model_lowvram or clip.patcher.model.model_lowvram):
                raise ValueError(
                    "ComfyUI keeps part of the model's weights off the GPU (--novram), and weights that come and go cannot be "
                    "trained through. Start it without that option, or train on the CPU (--cpu)."
                )
            own_memory(model.model)
            own_memory(clip.cond_stage_model)
            if clip.patcher.load_device.type == "cpu":
                hold_widened(clip.cond_stage_model, stack)
            for layer in clip.cond_stage_model.modules():
                if type(layer).__name__ == "CLIPLayer":  # comfy/clip_model.py adds to its input in place
                    for norm in (layer.layer_norm1, layer.layer_norm2):
                        stack.callback(
                            norm.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:])).remove
                        )
            stack.callback(setattr, mm, "in_training", mm.in_training)
            mm.in_training = True
            if self.device.type == "cpu":
                free = mm.get_free_memory(torch.device("cpu"))
                stack.enter_context(CpuProducts(narrow=is_worth_narrowing(model.model.diffusion_model, free)))
            stack.callback(setattr, self, "_trained", self.model)
            stack.callback(setattr, self, "_encoding", self.clip)
            self._trained, self._encoding = model, clip
            yield self

    def encode_prompt(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One prompt -> context (1, T, d) and pooled (1, p), with gradients to the text encoder's residuals.

        Raises:
            ValueError: the CLIP is of another family than the model.
        """
        encoder = self._encoding.cond_stage_model
        self._set_options(encoder)
        context, pooled = encoder.encode_token_weights(self.clip.tokenize(prompt))[:2]
        wanted = self.model.model.model_config.unet_config.get("context_dim", context.shape[-1])
        if context.shape[-1] != wanted:
            raise ValueError(
                f"This CLIP writes text as {context.shape[-1]} numbers a word, the model ({self.base}) reads {wanted}, so they do not "
                "belong together. Connect the CLIP of the same checkpoint."
            )
        return context.to(self.device), None if pooled is None else pooled.to(self.device)

    def encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        """Prompts -> contexts (N, T, d) in one forward, so that each sample may carry its own residual.

        Raises:
            ValueError: the model has two text encoders, or a prompt is longer than one section or carries weights.
        """
        encoder = self._encoding.cond_stage_model
        if not hasattr(encoder, "clip"):
            raise ValueError(
                f"Training many identities at once needs a model with one CLIP text encoder, not {self.base}."
            )
        sections = [self.one_section(prompt) for prompt in prompts]
        single = getattr(encoder, encoder.clip)
        self._set_options(single)
        return single.encode(sections)[0].to(self.device)

    def one_section(self, prompt: str) -> list[int]:
        """The tokens of a prompt that may share a forward with others'.

        Raises:
            ValueError: it is longer than one section or carries weights.
        """
        sections = next(iter(self.clip.tokenize(prompt).values()))
        if len(sections) != 1:
            raise ValueError(
                f"The caption {prompt!r} is longer than one section of the text encoder (75 tokens in Stable Diffusion). Shorten it."
            )
        if any(weight != 1.0 for _, weight, *_ in sections[0]):
            raise ValueError(
                f"The caption {prompt!r} carries (weights), which cannot be trained on. Write \\( for a bracket."
            )
        return [token for token, *_ in sections[0]]

    def _set_options(self, encoder) -> None:
        """As the host does before it encodes; naming no layer keeps the encoder's own (SD 2.x: the last but one)."""
        encoder.reset_clip_options()
        if self.clip.layer_idx is not None:
            encoder.set_clip_options({"layer": self.clip.layer_idx})
        encoder.set_clip_options({"execution_device": self.clip.patcher.load_device})

    @property
    def sigmas(self) -> torch.Tensor:
        """The noise levels the model was trained on, ascending (S,)."""
        return self.model.get_model_object("model_sampling").sigmas

    def denoise(
        self,
        x0: torch.Tensor,
        noise: torch.Tensor,
        sigma: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The model's estimate of x0 (N, c, h, w) from x0 under ``noise`` at level ``sigma (N,)``."""
        sampling = self._trained.model.model_sampling
        return self.clean(sampling.noise_scaling(sigma.view(-1, 1, 1, 1), noise.clone(), x0), sigma, context, pooled)

    def clean(
        self, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor, pooled: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The model's estimate of x0 (N, c, h, w) from noisy latents ``x`` at level ``sigma (N,)``."""
        base, N = self._trained.model, x.shape[0]
        height, width = (8 * s for s in x.shape[-2:])
        blank = torch.zeros_like(x)  # asked for by inpainting models only, which then see everything masked
        conds = base.extra_conds(
            noise=x, device=x.device, pooled_output=pooled, width=width, height=height, latent_image=blank
        )
        extra = {k: v.process_cond(batch_size=N, area=None).cond.to(x.device) for k, v in conds.items()}
        options = {"optimized_attention_override": _differentiable_attention}
        return base.apply_model(x, sigma, c_crossattn=context.expand(N, -1, -1), transformer_options=options, **extra)

    def denoising_loss(
        self,
        x0: torch.Tensor,
        noise: torch.Tensor,
        sigma: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Squared error of the model's own prediction (eps, v, flow, ...), mean over each sample: (N,).

        ``weight (N, 1, h, w)``, mean 1 over each sample, says where it counts.
        """
        return self.prediction_error(self.denoise(x0, noise, sigma, context, pooled), x0, sigma, weight)

    def prediction_error(
        self, denoised: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``denoising_loss`` of an estimate that ``denoise`` has made at level ``sigma (N,)``: (N,).

        The host hands out denoised pictures, whose error is the prediction's times a factor that depends on sigma
        alone. The factor is asked from the model's sampling object, so every prediction type is weighted as trained.
        """
        sampling, zero = self._trained.model.model_sampling, torch.zeros_like(x0)
        gain = sampling.calculate_denoised(sigma, zero + 1, zero) - sampling.calculate_denoised(sigma, zero, zero)
        error = ((denoised.float() - x0) / gain).pow(2)
        return (error if weight is None else error * weight).mean((1, 2, 3))


def _differentiable_attention(_active, q, k, v, heads, *args, **kwargs):
    """Attention with a backward. On the CPU, plain softmax is faster under autograd than SDPA while it is small."""
    kwargs.pop("transformer_options", None)
    small = q.device.type == "cpu" and q.shape[1] <= BASIC_ATTENTION_TOKENS
    kernel = host_attention.attention_basic if small else host_attention.attention_pytorch
    return kernel(q, k, v, heads, *args, **kwargs)
