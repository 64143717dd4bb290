"""Identities and invariants of the lidb room, on plain torch modules."""

import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hyperdreambooth.lidb import descent as descent_module
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.descent import CHECK_EVERY
from hyperdreambooth.lidb.file import save_lidb
from hyperdreambooth.lidb.finetune import SPACES, FinetuneSettings, RelaxedRanks, finetune
from hyperdreambooth.lidb.lora import to_lora
from hyperdreambooth.lidb.residual import Residuals
from hyperdreambooth.lidb.targets import Target, TargetTable, select_targets
from hyperdreambooth.lidb.value import Facts, LiDB, expand

TABLE = TargetTable(
    (Target("lora_unet_a_attn1_to_q", 40, 30), Target("lora_unet_b_ff_net_0_proj", 40, 64), Target("lora_te_c", 32, 30))
)
BASIS = Basis(a=16, b=8, seed=3)


def person(seed=0, rank=1):
    g = torch.Generator().manual_seed(seed)
    A, B = torch.randn(3, 16, rank, generator=g), torch.randn(3, rank, 8, generator=g)
    return LiDB(TABLE, BASIS, A, B, frozen_rank=rank)


def test_names_choose_the_layers_and_natural_order_sorts_them():
    shapes = {
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (8, 8),
        "lora_unet_up_blocks_10_attentions_0_transformer_blocks_0_attn1_to_q": (8, 8),
        "lora_unet_up_blocks_2_attentions_0_transformer_blocks_0_attn2_to_out_0": (8, 8),
        "lora_unet_up_blocks_2_attentions_0_transformer_blocks_0_ff_net_0_proj": (8, 64),
        "lora_unet_up_blocks_2_attentions_0_transformer_blocks_0_ff_net_2": (32, 8),
        "lora_te_text_model_encoder_layers_0_mlp_fc1": (8, 32),
    }
    table = select_targets(shapes)
    assert [n.split("_")[4] for n in table.names[:3]] == ["2", "2", "10"] and table.names[-1].startswith("lora_te")
    assert [len(select_targets(shapes, p)) for p in ("paper192", "attn176", "unet128")] == [4, 3, 2]
    assert TargetTable.unpack(table.pack()) == table
    with pytest.raises(ValueError, match="no layer"):
        select_targets({"lora_unet_double_blocks_0_img_attn_qkv": (8, 8)})


def test_text_encoder_layers_alone_are_no_supported_model():
    clip = {f"lora_te_text_model_encoder_layers_{i}_self_attn_q_proj": (768, 768) for i in range(12)}
    for rest in ({}, {"lora_unet_double_blocks_0_img_attn_qkv": (8, 8)}, {"lora_unet_x_ff_net_0_proj": (8, 8)}):
        for preset in ("paper192", "attn176"):
            with pytest.raises(ValueError, match=r"12 text-encoder layers.*Flux, SD3.*not supported.*Load a Stable"):
                select_targets({**clip, **rest}, preset)


def test_basis_is_orthonormal_and_the_same_everywhere(tmp_path):
    A, B = BASIS.A_aux(40), BASIS.B_aux(30)
    assert torch.allclose(A.T @ A, torch.eye(16), atol=1e-5) and torch.allclose(B @ B.T, torch.eye(8), atol=1e-5)
    # pinned: these values must never change, files depend on them
    assert [round(v, 5) for v in Basis(4, 2, 0).probe(TargetTable((Target("x", 6, 5),)))] == PINNED_PROBE
    save_lidb(tmp_path / "p.safetensors", person(rank=2))
    code = (
        "import sys; from hyperdreambooth.lidb.file import load_lidb; lidb = load_lidb(sys.argv[1]);"
        "print(*(lidb.delta_W(name).numpy().tobytes().hex() for name in lidb.table.names))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "p.safetensors")]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    here = [person(rank=2).delta_W(name) for name in TABLE.names]
    assert there == [delta_W.numpy().tobytes().hex() for delta_W in here] and all(delta_W.any() for delta_W in here)


def test_delta_W_equals_the_paper_formula():
    p = person()
    A = BASIS.A_aux(40) @ p.A_train[1]
    B = p.B_train[1] @ BASIS.B_aux(64)
    assert torch.allclose(p.delta_W("lora_unet_b_ff_net_0_proj"), (A @ B).T, atol=1e-6)


def test_residual_per_sample_equals_each_sample_alone_and_neutral_is_bit_identical():
    g = torch.Generator().manual_seed(1)
    layers = {t.name: torch.nn.Linear(t.in_features, t.out_features) for t in TABLE}
    x = torch.randn(2, 5, 40, generator=g)
    plain = layers[TABLE.names[0]](x)
    people = [person(0), person(1)]
    factors = expand(TABLE, BASIS, torch.stack([p.A_train for p in people]), torch.stack([p.B_train for p in people]))
    with Residuals(layers) as residuals:
        assert torch.equal(layers[TABLE.names[0]](x), plain)
        residuals.set(factors)
        both = layers[TABLE.names[0]](x)
        for i, p in enumerate(people):
            residuals.set(p.factors())
            alone = layers[TABLE.names[0]](x[i : i + 1])
            assert torch.allclose(both[i : i + 1], alone, atol=1e-5)
            dense = x[i] @ p.delta_W(TABLE.names[0]).T
            assert torch.allclose(alone[0], plain[i] + dense, atol=1e-4)
    assert torch.equal(layers[TABLE.names[0]](x), plain)


class OneDevice(TorchDispatchMode):
    """Every operation but a copy finds its tensors on one device; the meta device itself does not check that."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        places = {t.device for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        assert len(places) < 2 or func is torch.ops.aten._to_copy.default, f"{func} on {places}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch", [(), (2,)])
def test_factors_follow_their_layer_to_its_device_and_precision(batch):
    A, B = torch.randn(*batch, 40, 3), torch.randn(*batch, 3, 30)
    elsewhere = torch.nn.Linear(40, 30, device="meta")
    with Residuals({"x": elsewhere}) as residuals, OneDevice():
        residuals.set({"x": (A, B)})
        assert elsewhere(torch.empty(2, 5, 40, device="meta")).shape == (2, 5, 30)
    A.requires_grad_(), B.requires_grad_()
    half = torch.nn.Linear(40, 30).bfloat16()
    with Residuals({"x": half}) as residuals:
        residuals.set({"x": (A, B)})
        y = half(torch.ones(2, 5, 40, dtype=torch.bfloat16))
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and A.grad.any() and B.grad.any() and A.grad.dtype == torch.float32


def finetuned(space: str, rank: int = 3) -> LiDB:
    goal = {t.name: torch.full((t.in_features, t.out_features), 0.05) for t in TABLE}
    loss = lambda step, factors: sum((A @ B - goal[n]).pow(2).mean() for n, (A, B) in factors.items())  # noqa: E731
    return finetune(person(), loss, FinetuneSettings(steps=3, space=space, rank=rank))[0]


@pytest.mark.parametrize("before", ["predicted", *SPACES])
@pytest.mark.parametrize("space", SPACES)
def test_step_zero_of_the_relaxed_finetune_is_its_start(space, before):
    start = person() if before == "predicted" else finetuned(before)
    ranks = RelaxedRanks(start, FinetuneSettings(space=space, rank=3), torch.device("cpu"))
    for name, (A, B) in ranks.factors().items():
        A0, B0 = start.factors()[name]
        assert torch.allclose(A @ B, A0 @ B0, atol=1e-6)
    kept = ranks.identity().factors()
    assert all(torch.allclose(A @ B, kept[n][0] @ kept[n][1], atol=1e-6) for n, (A, B) in start.factors().items())


def test_another_rank_is_refused_in_the_full_space_and_added_in_the_basis():
    other = FinetuneSettings(space="full", rank=2)
    with pytest.raises(ValueError, match="rank 3 and cannot be continued with rank 2. Set rank to 3"):
        RelaxedRanks(finetuned("full"), other, torch.device("cpu"))
    inside = RelaxedRanks(finetuned("basis"), FinetuneSettings(space="basis", rank=2), torch.device("cpu")).identity()
    assert (inside.rank, inside.frozen_rank) == (1 + 3 + 2, 1 + 3)


@pytest.mark.parametrize("space", SPACES)
def test_finetune_learns_is_seeded_keeps_the_prediction_and_continues(space):
    goal = {
        t.name: torch.randn(t.in_features, t.out_features, generator=torch.Generator().manual_seed(9)) * 0.1
        for t in TABLE
    }
    loss = lambda step, factors: sum((A @ B - goal[n]).pow(2).mean() for n, (A, B) in factors.items())  # noqa: E731
    settings = FinetuneSettings(space=space, rank=3, learning_rate=0.05)
    first, history = finetune(LiDB.zeros(TABLE, BASIS), loss, settings)
    again, _ = finetune(LiDB.zeros(TABLE, BASIS), loss, settings)
    assert history[-1] < history[0] and len(history) == 40
    for name, (A, B) in first.factors().items():
        assert torch.equal(A, again.factors()[name][0]) and torch.equal(B, again.factors()[name][1])
    sharpened, _ = finetune(person(), loss, settings)
    assert torch.equal(sharpened.A_train[..., :1], person().A_train) and sharpened.frozen_rank == 1
    continued, more = finetune(first, loss, settings)
    assert more[0] == pytest.approx(loss(0, first.factors()).item(), rel=1e-5)
    assert (continued.rank, continued.full_rank) == (first.rank, first.full_rank)


def test_a_diverging_finetune_says_so_and_changes_nothing():
    start = person()
    with pytest.raises(ValueError, match="lower learning rate"):
        finetune(start, lambda step, f: sum(A.sum() for A, _ in f.values()) * float("nan"), FinetuneSettings(steps=2))
    assert torch.equal(start.A_train, person().A_train)


def test_a_diverging_finetune_stops_within_a_few_steps():
    steps = []

    def loss(step, factors):
        steps.append(step)
        return sum(A.sum() for A, _ in factors.values()) * (float("inf") if step == 6 else 1.0)

    with pytest.raises(ValueError, match="(inf|nan) at step 7;"):
        finetune(person(), loss, FinetuneSettings(steps=200))
    assert len(steps) <= 7 + CHECK_EVERY


def test_a_rate_in_the_full_space_means_the_same_in_layers_of_any_width():
    table = TargetTable((Target("lora_unet_a_attn1_to_q", 128, 8), Target("lora_unet_b_attn1_to_q", 1024, 8)))
    moved = {}
    for rate in (1e-9, 0.01):
        seen = []

        def loss(step, factors, seen=seen):
            seen.append(factors)
            return sum(A.sum() for A, _ in factors.values())

        finetune(LiDB.zeros(table, Basis(a=8, b=4)), loss, FinetuneSettings(steps=2, learning_rate=rate))
        moved[rate] = [seen[1][t.name][0].detach().sum(0) for t in table]  # what inputs of 1 meet after one step
    narrow, wide = ((after - before).abs().mean().item() for before, after in zip(*moved.values(), strict=True))
    assert narrow > 0.1 and wide == pytest.approx(narrow, rel=1e-3)


def test_the_loss_scale_changes_nothing_in_full_precision_and_saves_half_precision(monkeypatch):
    full = lambda step, f: sum((A @ B - 0.1).pow(2).mean() for A, B in f.values())  # noqa: E731
    # as through a half-precision model: each number's share of the gradient, about 1e-8, is zero in float16
    half = lambda step, f: sum((A.half() @ B.half()).float().sum() for A, B in f.values()) * 1e-8  # noqa: E731
    results = {}
    for scale in (descent_module.LOSS_SCALE, 1):
        monkeypatch.setattr(descent_module, "LOSS_SCALE", scale)
        for loss in (full, half):
            results[scale, loss], _ = finetune(LiDB.zeros(TABLE, BASIS), loss, FinetuneSettings(steps=12))
    scaled, plain = results[1024, full], results[1, full]
    assert torch.equal(scaled.A_full, plain.A_full) and torch.equal(scaled.B_full, plain.B_full)
    assert results[1024, half].B_full.any() and not results[1, half].B_full.any()


def test_export_is_exact():
    p = person(rank=3)
    lora = to_lora(p)
    for name in TABLE.names:
        up, down, alpha = (lora[f"{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha"))
        assert torch.allclose(up @ down * (alpha / down.shape[0]), p.delta_W(name), atol=1e-5)
    with pytest.raises(ValueError, match="neutral"):
        to_lora(LiDB.zeros(TABLE, BASIS))


def test_an_identity_that_cannot_be_is_not_made(tmp_path):
    p, flat_A, flat_B = person(), torch.zeros(112 * 2), torch.zeros(124 * 2)
    LiDB(TABLE, BASIS, p.A_train, p.B_train, full_rank=2, A_full=flat_A, B_full=flat_B)
    for wrong in (
        {"frozen_rank": 2},
        {"full_rank": 2},
        {"full_rank": 3, "A_full": flat_A, "B_full": flat_B},
        {"A_full": flat_A, "B_full": flat_B},
    ):
        with pytest.raises(ValueError, match="An identity of"):
            LiDB(TABLE, BASIS, p.A_train, p.B_train, **wrong)
    with pytest.raises(ValueError, match="trigger"):
        Facts(trigger=None)
    with pytest.raises(ValueError, match="at most 256"):
        save_lidb(tmp_path / "p.safetensors", LiDB.zeros(TABLE, BASIS, rank=257))
    assert not list(tmp_path.iterdir())


def test_nan_is_refused():
    p = person()
    A = p.A_train.clone()
    A[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        LiDB(TABLE, BASIS, A, p.B_train)


PINNED_PROBE = [1.02326, -0.37477, -0.0206, 0.80237]
