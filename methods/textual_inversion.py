"""Textual Inversion (Gal et al. 2022): the model stays, and the trigger's word becomes one or a few learned vectors.

The host takes vectors in place of tokens; a file under ``models/embeddings`` is written ``embedding:NAME`` in a prompt.
"""

import copy
import re
import time

import torch
from safetensors.torch import save_file

from ..lidb.descent import minimise
from ..lidb.residual import Residuals
from ..nodes.host import HostModel
from .person import Personalised, Settings, reference_latents, reference_loss, watched

VECTORS = 4


def textual_inversion(
    model, clip, vae, image: torch.Tensor, settings: Settings, vectors: int = VECTORS, word: str = "face"
) -> Personalised:
    """Learn ``vectors`` (K, d) in the place of ``[V]``, beginning as the vector of ``word``.

    In the returned CLIP the prompt's ``[V]`` is the person; with the file, ``embedding:NAME`` written in its place is.

    Args:
        image: the person's pictures (P, H, W, C) in 0..1.

    Raises:
        ValueError: a word that is not one token, no vectors, or a model with two text encoders.
    """
    if vectors < 1:
        raise ValueError(f"Textual inversion learns at least one vector, not {vectors}.")
    started, name = time.time(), _only_encoder(clip)
    token = one_token(clip, word)
    x0 = reference_latents(HostModel(model, clip, vae), image, settings)
    width = getattr(clip.cond_stage_model, name).transformer.get_input_embeddings().weight.shape[1]
    with torch.inference_mode(False):
        learned = torch.zeros(vectors, width, requires_grad=True)
    host = HostModel(model, with_vectors(clip, settings.identifier, learned), vae)
    with host.training((settings.batch, *x0.shape[1:])):
        module, weight = host.weights()[f"{name}.transformer.text_model.embeddings.token_embedding.weight"]
        learned.data.copy_(getattr(module, weight)[token].expand(vectors, -1))
        loss = reference_loss(host, Residuals({}), x0, settings.prompt, settings, settings.seed)
        after = watched(settings.steps)
        losses = minimise([learned], lambda step: loss(step, None), settings.steps, settings.learning_rate, after)
        half = learned.detach().half()
    seconds = time.time() - started
    return Personalised(
        model.clone(), with_vectors(clip, settings.identifier, half), half.numel(), losses, seconds, settings.trigger,
        lambda path: save_file({"emb_params": half}, path),
    )  # fmt: skip


def one_token(clip, word: str) -> int:
    """The token of a word; ValueError if it is not exactly one in this text encoder."""
    ids = getattr(clip.tokenizer, _only_encoder(clip)).tokenizer(word)["input_ids"][1:-1]
    if len(ids) != 1:
        raise ValueError(
            f"Textual inversion begins as the vector of one word, but {word!r} has {len(ids)} tokens in this text encoder. "
            'Choose a plain word for what is shown, e.g. "face".'
        )
    return ids[0]


def with_vectors(clip, identifier: str, vectors: torch.Tensor):
    """A clone of CLIP in whose prompts the ``identifier`` stands for ``vectors (K, d)``; they may still be in training."""
    name = _only_encoder(clip)
    clip = clip.clone()
    clip.tokenizer = copy.copy(clip.tokenizer)
    words = copy.copy(getattr(clip.tokenizer, name))
    words.tokenizer = _WithVectors(words.tokenizer, identifier, vectors)
    setattr(clip.tokenizer, name, words)
    return clip


def _only_encoder(clip) -> str:
    """The name under which the host keeps the text encoder and its tokenizer."""
    name = getattr(clip.tokenizer, "clip", None)
    if name is None:
        raise ValueError(
            "Textual inversion is for models with one text encoder (Stable Diffusion 1.x and 2.x), and this model has several. "
            "Use lora or lidb."
        )
    return name


class _WithVectors:
    """The host's tokenizer of plain text, but one word becomes vectors, which the host takes among the tokens."""

    def __init__(self, tokenizer, word: str, vectors: torch.Tensor):
        self.tokenizer, self.word, self.vectors = tokenizer, re.compile(re.escape(word), re.IGNORECASE), vectors

    def __call__(self, text: str) -> dict[str, list]:
        begin, *ids, end = self.tokenizer("")["input_ids"]
        for i, part in enumerate(self.word.split(text)):
            ids += [*self.vectors] if i else []
            ids += self.tokenizer(part)["input_ids"][1:-1]
        return {"input_ids": [begin, *ids, end]}

    def __getattr__(self, name: str):
        return getattr(self.tokenizer, name)
