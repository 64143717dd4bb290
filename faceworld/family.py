"""Tell the host about one more SD-1-like family, so that its stock loaders take faceworld's miniature checkpoint.

The family is SD 1.x with other sizes: 64 UNet channels, a 128-wide text encoder with a vocabulary of words, eight latent
channels in a TAESD-layout autoencoder, v-prediction. Real models never have these sizes, so nothing else is caught.
(Detection: comfy/model_detection.py, comfy/supported_models_base.py.)
"""

import os

import comfy.clip_model
import comfy.latent_formats
import comfy.model_base
import comfy.ops
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import folder_paths

from .vocabulary import BOS, EOS, MAX_LENGTH, PAD, WORDS, WordTokenizer

WEIGHTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights")
WIDTH = 128
TEXT_CONFIG = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "projection_dim": WIDTH,
    "hidden_act": "gelu",
    "max_position_embeddings": MAX_LENGTH,
    "eos_token_id": EOS,
}


class FaceworldLatent(comfy.latent_formats.LatentFormat):
    latent_channels = 8
    scale_factor = 1.0

    def __init__(self):
        # least-squares fit of 16 x 16 pictures (-1..1) on latents of 2000 rendered training pictures
        self.latent_rgb_factors = RGB_FACTORS
        self.latent_rgb_factors_bias = RGB_BIAS


RGB_FACTORS = [
    [-0.233, -0.253, -0.202],
    [-0.237, 0.062, 0.223],
    [-0.083, 0.174, -0.135],
    [0.006, -0.006, 0.017],
    [0.007, -0.001, 0.005],
    [-0.024, -0.035, -0.026],
    [0.003, 0.002, 0.001],
    [0.006, 0.016, 0.010],
]
RGB_BIAS = [0.051, -0.093, -0.141]


class FaceworldTextModel(comfy.clip_model.CLIPTextModel):
    """The host's CLIP text model with a table of words instead of byte pairs."""

    def __init__(self, config_dict, dtype, device, operations):
        super().__init__(config_dict, dtype, device, operations)
        self.set_input_embeddings(operations.Embedding(len(WORDS), WIDTH, dtype=dtype, device=device))


class FaceworldClip(comfy.sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            max_length=MAX_LENGTH,
            textmodel_json_config=dict(TEXT_CONFIG),
            model_class=FaceworldTextModel,
            special_tokens={"start": BOS, "end": EOS, "pad": PAD},
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class FaceworldEncoder(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None, **kwargs):
        super().__init__(
            device=device, dtype=dtype, model_options=model_options or {}, clip_model=FaceworldClip, **kwargs
        )


class _Tokens(comfy.sd1_clip.SDTokenizer):
    def __init__(self, **kwargs):
        sizes = {"max_length": MAX_LENGTH, "embedding_size": WIDTH, "pad_token": PAD, "tokenizer_class": WordTokenizer}
        super().__init__(**{**kwargs, **sizes})


class FaceworldTokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory=embedding_directory, tokenizer_data={}, tokenizer=_Tokens)


class Faceworld(comfy.supported_models.SD15):
    unet_config = {
        "context_dim": WIDTH,
        "model_channels": 64,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }
    unet_extra_config = {"num_heads": 4, "num_head_channels": -1}
    latent_format = FaceworldLatent

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION

    def inpaint_model(self):
        return False  # the host takes more than four input channels for an inpainting model

    def clip_target(self, state_dict=None):
        return comfy.supported_models_base.ClipTarget(FaceworldTokenizer, FaceworldEncoder)


def register() -> None:
    """Make the host's loaders recognise the family; calling it again changes nothing."""
    if not any(config.__name__ == Faceworld.__name__ for config in comfy.supported_models.models):
        comfy.supported_models.models.insert(0, Faceworld)


def register_folders() -> None:
    """Let the loaders list the weights, and the example person, that come with the extension."""
    for folder in ("checkpoints", "hypernets", "controlnet", "lidb", "loras"):
        folder_paths.add_model_folder_path(folder, os.path.join(WEIGHTS, folder))
