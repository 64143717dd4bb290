"""Identities and invariants of the lidb room, on plain torch modules."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.file import load_lidb, save_lidb
from hyperdreambooth.lidb.finetune import SPACES, FinetuneSettings, RelaxedRanks, finetune
from hyperdreambooth.lidb.lora import to_lora
from hyperdreambooth.lidb.residual import Residuals
from hyperdreambooth.lidb.targets import Target, TargetTable, select_targets
from hyperdreambooth.lidb.value import LiDB, expand

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


def test_basis_is_orthonormal_and_the_same_everywhere():
    A, B = BASIS.A_aux(40), BASIS.B_aux(30)
    assert torch.allclose(A.T @ A, torch.eye(16), atol=1e-5) and torch.allclose(B @ B.T, torch.eye(8), atol=1e-5)
    # pinned: these values must never change, files depend on them
    assert [round(v, 5) for v in Basis(4, 2, 0).probe(TargetTable((Target("x", 6, 5),)))] == PINNED_PROBE
    code = (
        "import json; from hyperdreambooth.lidb.basis import Basis; from hyperdreambooth.lidb.targets import *;"
        "print(json.dumps(Basis(16, 8, 3).probe(TargetTable((Target('x', 40, 30),)))))"
    )
    other = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert other == BASIS.probe(TargetTable((Target("x", 40, 30),)))


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


@pytest.mark.parametrize("space", SPACES)
def test_step_zero_of_the_relaxed_finetune_is_the_prediction(space):
    start = person()
    ranks = RelaxedRanks(start, FinetuneSettings(space=space, rank=3), torch.device("cpu"))
    for name, (A, B) in ranks.factors().items():
        A0, B0 = start.factors()[name]
        assert torch.allclose(A @ B, A0 @ B0, atol=1e-6)


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


@pytest.mark.parametrize("space", SPACES)
def test_file_round_trip_is_bit_equal(tmp_path, space):
    ranks = RelaxedRanks(person(), FinetuneSettings(space=space, rank=2), torch.device("cpu"))
    saved = ranks.identity().with_facts(base="X", thumbnail=b"jpg", final_loss=0.5)
    save_lidb(tmp_path / "p.safetensors", saved)
    loaded = load_lidb(tmp_path / "p.safetensors")
    assert loaded.table == saved.table and loaded.basis == saved.basis and loaded.facts == saved.facts
    for name, (A, B) in saved.factors().items():
        assert torch.equal(A, loaded.factors()[name][0]) and torch.equal(B, loaded.factors()[name][1])


def test_export_is_exact():
    p = person(rank=3)
    lora = to_lora(p)
    for name in TABLE.names:
        up, down, alpha = (lora[f"{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha"))
        assert torch.allclose(up @ down * (alpha / down.shape[0]), p.delta_W(name), atol=1e-5)
    with pytest.raises(ValueError, match="neutral"):
        to_lora(LiDB.zeros(TABLE, BASIS))


def _damage(path, **changes):
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        metadata = {**f.metadata(), **changes}
    save_file(load_file(path), path, metadata=metadata)


def test_hostile_files_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / "p.safetensors"
    save_lidb(path, person())
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match="truncated"):
        load_lidb(path)
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not a LiDB"):
        load_lidb(path)
    for change, words in (
        ({"version": "99"}, "version '99'"),
        ({"table_digest": "0"}, "digest"),
        ({"rank": '{"inside": 5000, "frozen": 1, "full": 0}'}, "ranks"),
        ({"basis_probe": "[1, 2]"}, "random basis"),
        ({"basis": '{"kind": "random", "algorithm": 1, "a": 4096, "b": 8, "seed": 3}'}, "damaged"),
        ({"table": "eJw="}, "damaged"),
    ):
        path.write_bytes(good)
        _damage(path, **change)
        with pytest.raises(ValueError, match=words):
            load_lidb(path)


def test_nan_is_refused():
    p = person()
    A = p.A_train.clone()
    A[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        LiDB(TABLE, BASIS, A, p.B_train)


PINNED_PROBE = [1.02326, -0.37477, -0.0206, 0.80237]
