"""Mixing people and describing one: identities that must hold for any numbers."""

from dataclasses import replace

import pytest
import torch

from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.blend import blend_factors, blend_residuals
from hyperdreambooth.lidb.summary import group_norms, layer_norms, summarise
from hyperdreambooth.lidb.targets import select_targets
from hyperdreambooth.lidb.value import Facts, LiDB

NAMES = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (16, 16),
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (12, 16),
    "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_ff_net_0_proj": (16, 64),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (12, 12),
}
TABLE = select_targets(NAMES)
BASIS = Basis(a=6, b=5, seed=1)


def person(seed: int, rank: int = 1, full: int = 0, table=TABLE, basis=BASIS) -> LiDB:
    stream = torch.Generator().manual_seed(seed)
    A = torch.randn(len(table), basis.a, rank, generator=stream)
    B = torch.randn(len(table), rank, basis.b, generator=stream)
    sides = sum(t.in_features for t in table) * full, sum(t.out_features for t in table) * full
    A_full, B_full = (torch.randn(side, generator=stream) if full else None for side in sides)
    return LiDB(table, basis, A, B, min(rank, 1), full, A_full, B_full, Facts(base="Somebase"))


def residuals(lidb: LiDB) -> dict[str, torch.Tensor]:
    return {name: lidb.delta_W(name) for name in lidb.table.names}


def test_the_exact_sum_is_the_weighted_sum_of_residuals_for_any_ranks():
    people, weights = (
        [person(0), person(1, rank=3), person(2, rank=1, full=2), person(3, rank=0, full=1)],
        (2, 1, -0.5, 1.5),
    )
    blended = blend_residuals(people, weights)
    assert (blended.rank, blended.frozen_rank, blended.full_rank) == (5, 5, 3)
    for name, delta in residuals(blended).items():
        wanted = sum(w / 4 * p.delta_W(name) for w, p in zip(weights, people, strict=True))
        torch.testing.assert_close(delta, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blend", [blend_residuals, blend_factors])
def test_one_share_is_the_person_itself_and_order_does_not_matter(blend):
    a, b = person(0), person(1)
    assert blend([a, b], [1, 0]) is a and blend([a, b], [0, 0.3]) is b
    there, back = residuals(blend([a, b], [3, 1])), residuals(blend([b, a], [1, 3]))
    assert all(torch.allclose(there[name], back[name], atol=1e-5) for name in there)
    assert not any(torch.allclose(there[name], a.delta_W(name), atol=1e-2) for name in there)


def test_a_morph_depends_on_residuals_and_not_on_how_they_are_factored():
    a, b = person(0), person(1)
    other = replace(b, A_train=b.A_train * -4.0, B_train=b.B_train / -4.0)  # the same person, written differently
    once, again = residuals(blend_factors([a, b], [1, 1])), residuals(blend_factors([a, other], [1, 1]))
    assert all(torch.allclose(once[name], again[name], atol=1e-5) for name in once)
    same = residuals(blend_factors([b, other], [1, 1]))
    assert all(torch.allclose(same[name], b.delta_W(name), atol=1e-5) for name in same)
    assert blend_factors([a, b], [1, 1]).rank == 1 and blend_factors([a, b], [1, 1]).facts.made_by == "blended"


def test_a_layer_that_a_person_does_not_change_morphs_to_half_of_the_other():
    a, b = person(0), person(1)
    quiet = replace(a, A_train=a.A_train.clone(), B_train=a.B_train.clone())
    quiet.A_train[0] = 0
    name = TABLE.names[0]
    blended = blend_factors([quiet, b], [1, 1])
    torch.testing.assert_close(blended.delta_W(name), b.delta_W(name) / 4, rtol=1e-5, atol=1e-5)  # both factors halved


@pytest.mark.parametrize(
    ("blend", "others", "weights", "says"),
    [
        (blend_residuals, [person(1)], [1, -1], "add up to 0"),
        (blend_residuals, [person(1)], [1, -2], "add up to -1. They are divided by their sum, so it must be above 0"),
        (blend_residuals, [person(1, basis=Basis(a=6, b=5, seed=2))], [1, 1], "LiDB 2 is written in another basis"),
        (blend_factors, [person(1), person(2, table=select_targets({n: s for n, s in NAMES.items() if "te_" not in n}))],
         [1, 1, 1], "LiDB 3 was made for Somebase"),
        (blend_factors, [person(1, rank=2)], [1, 1], r"rank \[1, 2\]"),
        (blend_factors, [person(1, rank=0, full=1), person(2, full=1)], [1, 0, 1], r"rank \[1, 2\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_mixed_is_refused_in_one_sentence(blend, others, weights, says):
    with pytest.raises(ValueError, match=says) as failure:
        blend([person(0), *others], weights)
    assert "\n" not in str(failure.value) and str(failure.value).endswith(".")


def test_norms_are_those_of_the_dense_residuals():
    lidb = person(0, rank=2, full=1)
    dense = {name: float(delta.norm()) for name, delta in residuals(lidb).items()}
    assert layer_norms(lidb) == pytest.approx(dense, rel=1e-5)
    groups = group_norms(lidb)
    assert [*groups] == [
        "UNet down, self-attention",
        "UNet middle, cross-attention",
        "UNet up, feed-forward",
        "text encoder",
    ]
    assert sum(norm**2 for _, norm in groups.values()) == pytest.approx(sum(d**2 for d in dense.values()), rel=1e-5)
    assert set(group_norms(LiDB.zeros(TABLE, BASIS)).values()) == {(1, 0.0)}


def test_a_summary_says_what_is_inside():
    made = {"made_by": "finetuned", "steps": 40, "seed": 7, "final_loss": 0.25, "thumbnail": b"x" * 1500}
    text = summarise(person(0, rank=3, full=2).with_facts(**made))
    for part in (
        'trigger phrase: "[V] face"', "base model: Somebase, 3 UNet + 1 text-encoder layers",
        "made: finetuned, 40 steps, seed 7, loss 0.2500 at the end", "3 inside the basis (1 kept, 2 finetuned), 2 in the full space",
        "random, seed 1, a = 6, b = 5", "460 numbers, 1.8 KB as float32, 0.9 KB as float16", "thumbnail: 1.5 KB", "text encoder",
    ):  # fmt: skip
        assert part in text, (part, text)
    assert "thumbnail: none" in summarise(person(0)) and "made: predicted\n" in summarise(person(0))
