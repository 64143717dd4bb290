"""What is in a person's file, and what a file may not do."""

import json
import zlib
from base64 import b64encode

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hyperdreambooth.lidb import basis as basis_module
from hyperdreambooth.lidb.basis import MAX_NUMBERS, Basis
from hyperdreambooth.lidb.file import load_lidb, save_lidb
from hyperdreambooth.lidb.finetune import SPACES, FinetuneSettings, RelaxedRanks
from hyperdreambooth.lidb.targets import MAX_TABLE_BYTES, MAX_TARGETS, Target, TargetTable
from hyperdreambooth.lidb.value import LiDB

TABLE = TargetTable(
    (Target("lora_unet_a_attn1_to_q", 40, 30), Target("lora_unet_b_ff_net_0_proj", 40, 64), Target("lora_te_c", 32, 30))
)
BASIS = Basis(a=16, b=8, seed=3)


def person(seed=0, rank=1):
    g = torch.Generator().manual_seed(seed)
    A, B = torch.randn(3, 16, rank, generator=g), torch.randn(3, rank, 8, generator=g)
    return LiDB(TABLE, BASIS, A, B, frozen_rank=rank)


@pytest.mark.parametrize("space", SPACES)
def test_file_round_trip_is_bit_equal(tmp_path, space):
    ranks = RelaxedRanks(person(), FinetuneSettings(space=space, rank=2), torch.device("cpu"))
    saved = ranks.identity().with_facts(base="X", thumbnail=b"jpg", final_loss=0.5)
    save_lidb(tmp_path / "p.safetensors", saved)
    loaded = load_lidb(tmp_path / "p.safetensors")
    assert loaded.table == saved.table and loaded.basis == saved.basis and loaded.facts == saved.facts
    for name, (A, B) in saved.factors().items():
        assert torch.equal(A, loaded.factors()[name][0]) and torch.equal(B, loaded.factors()[name][1])


def _damage(path, **changes):
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


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"facts": json.dumps({"trigger": 5})},
        {"facts": json.dumps({"trigger": ["[V] face"]})},
        {"facts": json.dumps({"base": None})},
        {"facts": json.dumps({"steps": "40"})},
        {"facts": json.dumps({"seed": 1.5})},
        {"facts": '{"final_loss": NaN}'},
        {"facts": json.dumps({"final_loss": True})},
        {"facts": json.dumps({"thumbnail": "x"})},
        {"facts": json.dumps({"unknown": 1})},
        {"facts": "[]"},
        {"rank": '{"inside": 1e999, "frozen": 1, "full": 0}'},
        {"rank": '{"inside": 1.5, "frozen": 1, "full": 0}'},
        {"rank": '{"inside": [1], "frozen": 1, "full": 0}'},
        {"rank": "[1, 1, 0]"},
        {"basis_probe": f"[{10**400}]"},
        {"basis_probe": "7"},
        {"basis": '{"kind": "random", "algorithm": 1, "a": 1e999, "b": 8, "seed": 3}'},
        {"basis": '{"kind": "random", "algorithm": 1, "a": 16, "b": 8, "seed": null}'},
        *({key: DEEP} for key in ("facts", "rank", "basis", "basis_probe")),
        {"basis": "[" * 600 + "]" * 600},
    ],
    ids=lambda change: str(change)[:40],
)
def test_no_odd_description_passes_or_crashes(tmp_path, change):
    path = tmp_path / "p.safetensors"
    save_lidb(path, person())
    _damage(path, **change)
    with pytest.raises(ValueError, match=r"^p.safetensors(.|\n){,400}$"):
        load_lidb(path)


def _packed(text: str) -> str:
    return b64encode(zlib.compress(text.encode(), 9)).decode()


def test_no_list_of_layers_is_longer_or_wider_than_a_model_can_have(tmp_path, monkeypatch):
    rows = [f"lora_unet_{i}_attn1_to_q 8 8" for i in range(MAX_TARGETS + 1)]
    assert len(TargetTable.unpack(_packed("\n".join(rows[:-1])))) == MAX_TARGETS
    for text, words in (
        ("\n".join(rows), "more or larger layers"),
        (f"lora_unet_attn1_to_q 8 {(1 << 17) + 1}", "more or larger layers"),
        ("x" * (MAX_TABLE_BYTES + 1), f"longer than {MAX_TABLE_BYTES} bytes"),
    ):
        with pytest.raises(ValueError, match=words):
            TargetTable.unpack(_packed(text))
    path = tmp_path / "p.safetensors"
    save_lidb(path, person())
    monkeypatch.setattr("hyperdreambooth.lidb.file.MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match="no LiDB is larger"):
        load_lidb(path)


def test_a_tiny_file_cannot_ask_for_a_huge_basis_or_a_huge_lora(tmp_path, monkeypatch):
    generated = []
    monkeypatch.setattr(basis_module, "_orthonormal", lambda *wanted: generated.append(wanted))
    path = tmp_path / "p.safetensors"
    for widths, basis, rank, words in (
        ([131072], {"a": 4096, "b": 1}, 0, "would have"),
        ([131072], {"a": 1, "b": 4096}, 0, "would have"),
        (range(4096, 4105), {"a": 4096, "b": 1}, 0, "would have"),  # each is allowed, all together are not
        ([131072] * 40, {"a": 1, "b": 1}, 256, "declares ranks"),
    ):
        table = TargetTable(tuple(Target(f"lora_unet_{i}_attn1_to_q", n, n) for i, n in enumerate(widths)))
        tensors = {
            "A_train": torch.zeros(len(table), basis["a"], rank),
            "B_train": torch.zeros(len(table), rank, basis["b"]),
        }
        metadata = {
            "format": "hyperdreambooth.lidb",
            "version": "1",
            "table": table.pack(),
            "table_digest": table.digest,
            "basis": json.dumps({"kind": "random", "algorithm": 1, **basis, "seed": 0}),
            "basis_probe": "[]",
            "rank": json.dumps({"inside": rank, "frozen": 0, "full": 0}),
            "facts": "{}",
        }
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(ValueError, match=f"^p.safetensors.*{words}"):
            load_lidb(path)
    assert not generated
    # the widest that SDXL can have is allowed
    sdxl = [(640, 640), (1280, 1280), (2048, 1280), (768, 768), (640, 5120), (1280, 10240)]
    Basis(640, 640).check_fits(TargetTable(tuple(Target(str(i), n, m) for i, (n, m) in enumerate(sdxl))))
    assert 640 * (640 + 1280 + 2048 + 768 + 640 + 1280 + 768 + 5120 + 10240) < MAX_NUMBERS


def test_a_loaded_identity_does_not_depend_on_its_file_any_more(tmp_path):
    path = tmp_path / "p.safetensors"
    save_lidb(path, person())
    loaded = load_lidb(path)
    with path.open("r+b") as file:  # overwritten in place, as a copy program does
        file.write(b"\xff" * path.stat().st_size)
    assert torch.equal(loaded.A_train, person().A_train)
