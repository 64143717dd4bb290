"""The decoder over layer tokens, run several times on one face: what it asks of the face is computed once.

The modules are torch's own ``nn.TransformerDecoder`` with ``norm_first`` and its weights; only the order of work differs.
"""

import torch
from einops import rearrange
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]


def keys_values(decoder: nn.TransformerDecoder, memory: torch.Tensor) -> KeysValues:
    """Memory (N, T, d) -> for each block the keys and values (N, heads, T, d / heads) of its cross-attention."""
    found = []
    for block in decoder.layers:
        attention, d = block.multihead_attn, memory.shape[-1]
        both = linear(memory, attention.in_proj_weight[d:], attention.in_proj_bias[d:])  # (N, T, 2 d)
        found.append(tuple(rearrange(both, "n t (two h e) -> two n h t e", two=2, h=attention.num_heads)))
    return found


def decode(decoder: nn.TransformerDecoder, x: torch.Tensor, memory: KeysValues) -> torch.Tensor:
    """Layer tokens (N, L, d) through all blocks: what ``decoder(x, memory)`` gives."""
    for block, (keys, values) in zip(decoder.layers, memory, strict=True):
        attention, h = block.self_attn, block.norm1(x)
        qkv = linear(h, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = rearrange(qkv, "n l (three h e) -> three n h l e", three=3, h=attention.num_heads)
        x = x + _attend(attention, q, k, v)
        attention, d = block.multihead_attn, x.shape[-1]
        q = linear(block.norm2(x), attention.in_proj_weight[:d], attention.in_proj_bias[:d])
        x = x + _attend(attention, rearrange(q, "n l (h e) -> n h l e", h=attention.num_heads), keys, values)
        x = x + block.linear2(block.activation(block.linear1(block.norm3(x))))
    return decoder.norm(x)


def _attend(attention: nn.MultiheadAttention, q, k, v) -> torch.Tensor:
    return attention.out_proj(rearrange(scaled_dot_product_attention(q, k, v), "n h l e -> n l (h e)"))
