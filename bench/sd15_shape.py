"""Stable Diffusion 1.5 in shape: its architecture with random weights, as a file for the stock loader.

It is good for shapes, counts, names, sizes and speed. It says nothing about likeness. Import after the host has booted.
"""

from pathlib import Path

import comfy.ops
import comfy.sd1_clip
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD
from safetensors.torch import save_file

UNET = {
    "image_size": 32, "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None, "in_channels": 4,
    "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "channel_mult": [1, 2, 4, 4], "transformer_depth_middle": 1, "use_linear_in_transformer": False, "context_dim": 768,
    "num_heads": 8, "transformer_depth_output": [1] * 9 + [0] * 3, "use_temporal_resblock": False, "use_temporal_attention": False,
}  # fmt: skip


def random_fill(module: torch.nn.Module, stream: torch.Generator) -> None:
    """Host layers leave their memory uninitialised; (out, in, ...) weights get variance 1/fan-in."""
    for name, p in module.named_parameters():
        if p.ndim >= 2:
            p.data.normal_(std=p[0].numel() ** -0.5, generator=stream)
        else:
            p.data.fill_(1.0 if name.endswith("weight") else 0.0)


def write_sd15_shape(path: Path) -> None:
    """A checkpoint in half precision (2 GB); its autoencoder has the small TAESD layout."""
    stream, state, text = torch.Generator().manual_seed(0), {}, comfy.sd1_clip.SD1ClipModel()
    for prefix, module in (
        ("model.diffusion_model.", UNetModel(**UNET, operations=comfy.ops.disable_weight_init, dtype=torch.float32)),
        ("cond_stage_model.transformer.", text.clip_l.transformer),
        ("first_stage_model.", TAESD(latent_channels=4)),
    ):
        random_fill(module, stream)
        state |= {prefix + k: v.detach().half().contiguous() for k, v in module.state_dict().items()}
    state["first_stage_model.vae_scale"], state["first_stage_model.vae_shift"] = torch.tensor(1.0), torch.tensor(0.0)
    save_file(state, path)
