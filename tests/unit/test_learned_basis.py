"""A basis learned from people: it finds what they share, travels in files, and never passes for another."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hyperdreambooth.hypernet.checkpoint import Identity, load_hypernet, save_hypernet
from hyperdreambooth.hypernet.hypernet import HyperNet, HyperNetConfig
from hyperdreambooth.lidb import basis_form
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.basis_form import FORMAT, describe, frames, load_basis, save_basis
from hyperdreambooth.lidb.file import load_lidb, save_lidb
from hyperdreambooth.lidb.finetune import FinetuneSettings, finetune
from hyperdreambooth.lidb.learned_basis import LearnedBasis, learn_basis, project
from hyperdreambooth.lidb.targets import Target, TargetTable
from hyperdreambooth.lidb.value import LiDB

TABLE = TargetTable(tuple(Target(f"lora_unet_{i}_attn1_to_q", 40, 30 + 10 * (i % 2)) for i in range(6)))
WIDE = Basis(a=32, b=24)


@pytest.fixture(scope="module")
def thetas():
    """Fifty people whose factors lie in 5 input and 3 output directions of the wide basis, at very different sizes."""
    stream = torch.Generator().manual_seed(0)
    u = torch.randn(50, 6, 5, generator=stream) @ torch.randn(5, 32, generator=stream)
    v = torch.randn(50, 6, 3, generator=stream) @ torch.randn(3, 24, generator=stream)
    return torch.cat([u * 100, v / 100], dim=-1)


@pytest.fixture(scope="module")
def learned(thetas):
    return learn_basis(TABLE, WIDE, thetas, 5, 3)


def test_planted_directions_are_found_and_a_random_basis_misses_most(thetas, learned):
    vectors, kept = project(TABLE, WIDE, learned, thetas)
    assert kept.min() > 0.999 and vectors.shape == (50, 6, 8)
    inner = Basis(5, 3, seed=1)
    random = LearnedBasis(
        {40: WIDE.A_aux(40) @ inner.A_aux(32)}, {m: inner.B_aux(24) @ WIDE.B_aux(m) for m in (30, 40)}
    )
    missed = project(TABLE, WIDE, random, thetas)[1].mean()
    assert missed < 3 * (5 / 32) * (3 / 24)
    for i in (0, 7):
        old, new = (LiDB.from_vector(TABLE, b, x[i]) for b, x in ((WIDE, thetas), (learned, vectors)))
        for name in TABLE.names:
            assert torch.allclose(old.delta_W(name), new.delta_W(name), atol=1e-3 * old.delta_W(name).abs().max())


def test_files_keep_the_digest_and_find_the_basis_again(tmp_path, thetas, learned):
    lidb = LiDB.from_vector(TABLE, learned, project(TABLE, WIDE, learned, thetas[:1])[0][0])
    path = tmp_path / "person.safetensors"
    save_lidb(path, lidb)
    assert not any(key.startswith("basis") for key in load_file(path))
    again = load_lidb(path, {learned.digest: learned}.__getitem__)
    assert torch.equal(again.A_train, lidb.A_train) and again.basis == learned
    with pytest.raises(ValueError, match=f"learned basis {learned.digest}.*models/hypernets"):
        load_lidb(path)
    other = learn_basis(TABLE, WIDE, thetas[:20], 5, 3)
    with pytest.raises(ValueError, match="is another one"):
        load_lidb(path, lambda digest: other)
    save_basis(tmp_path / "basis.safetensors", learned, {})
    assert load_basis(tmp_path / "basis.safetensors") == learned
    with pytest.raises(ValueError, match="not a basis file"):
        load_basis(path)


def test_a_half_precision_hypernet_carries_its_basis_exactly(tmp_path, learned):
    torch.manual_seed(0)
    net = HyperNet(HyperNetConfig(16, 8, 16, 1, 2, 16, 1, 2, 1, 6, 8))
    path = tmp_path / "h.safetensors"
    save_hypernet(path, net, Identity(TABLE, learned, "[V] face", "X", {}), torch.float16)
    loaded, identity = load_hypernet(path)
    assert identity.basis == learned and torch.equal(identity.basis.A_aux(40), learned.A_aux(40))
    state = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for key, value, sentence in (
        ("basis.A.40", state["basis.A.40"] * 1.01, "not orthonormal"),
        ("basis.A.40", state["basis.A.40"].fill_(float("nan")), "not orthonormal"),
        ("basis.B.30", state["basis.B.30"][:2].contiguous(), r"expected \[3, 30\]"),
    ):
        save_file({**load_file(path), key: value}, tmp_path / "bad.safetensors", metadata=metadata)
        with pytest.raises(ValueError, match=sentence):
            load_hypernet(tmp_path / "bad.safetensors")


def test_wrong_sizes_and_wrong_models_are_refused(thetas, learned):
    with pytest.raises(ValueError, match="cannot be learned"):
        learn_basis(TABLE, WIDE, thetas, 33, 3)
    with pytest.raises(ValueError, match="no frame for layers of width 64"):
        learned.check_fits(TargetTable((Target("lora_unet_0_attn1_to_q", 64, 30),)))
    with pytest.raises(ValueError, match="no effect"):
        learn_basis(TABLE, WIDE, torch.zeros(4, 6, 56), 5, 3)
    for broken, sentence in (
        (torch.full((4, 6, 56), float("nan")), "1344 numbers that are not finite"),
        (thetas[:, :5], r"expected \(people, 6, 56\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            learn_basis(TABLE, WIDE, broken, 5, 3)


def test_a_person_loaded_in_inference_mode_can_be_finetuned(tmp_path, thetas, learned):
    save_basis(tmp_path / "basis.safetensors", learned, {})
    with torch.inference_mode():  # as the host runs its nodes
        basis = load_basis(tmp_path / "basis.safetensors")
        person = LiDB.from_vector(TABLE, basis, torch.ones(6, 8))
    _, losses = finetune(
        person, lambda step, f: sum((A @ B - 1).pow(2).mean() for A, B in f.values()), FinetuneSettings()
    )
    assert losses[-1] < losses[0]


def test_a_layer_that_nobody_uses_has_no_say(thetas):
    unused = thetas.clone()
    unused[:, 1, 32:] = 0  # as a text encoder's layer behind the one that the model reads
    vectors, kept = project(TABLE, WIDE, learn_basis(TABLE, WIDE, unused, 5, 3), unused)
    assert kept.min() > 0.999 and not vectors[:, 1, 5:].any()


def test_a_basis_wider_than_the_data_keeps_every_identity_of_the_wide_one(thetas):
    everything = learn_basis(TABLE, WIDE, thetas[:1], WIDE.a, WIDE.b)  # one person fills a few of its directions
    anyone = torch.randn(7, 6, 56, generator=torch.Generator().manual_seed(1))
    assert project(TABLE, WIDE, everything, anyone)[1].min() > 0.999


def test_a_frame_in_half_precision_is_refused(learned):
    with pytest.raises(ValueError, match="not orthonormal"):
        LearnedBasis({40: learned.A[40].half()}, learned.B)


@pytest.mark.parametrize("A", [torch.tensor(1.0), torch.zeros(40), torch.zeros(40, 0), torch.eye(41)[:40]])
def test_frames_of_impossible_shapes_are_refused(learned, A):
    with pytest.raises(ValueError, match="basis frame A.40 is"):
        LearnedBasis({40: A}, learned.B)


def test_the_frames_of_a_file_are_limited_before_they_are_read(tmp_path, learned, monkeypatch):
    save_basis(tmp_path / "basis.safetensors", learned, {})
    monkeypatch.setattr(basis_form, "MAX_NUMBERS", 5 * 40 + 3 * (30 + 40) - 1)
    with pytest.raises(ValueError, match="basis.safetensors cannot be read as a basis .*more than 409 numbers"):
        load_basis(tmp_path / "basis.safetensors")


def test_a_description_nested_too_deep_is_refused(tmp_path, learned):
    path = tmp_path / "basis.safetensors"
    save_file(frames(learned), path, metadata={"format": FORMAT, "version": "1", "basis": "[" * 100_000})
    with pytest.raises(ValueError, match="^basis.safetensors cannot be read as a basis"):
        load_basis(path)


FORM = {"kind": "learned", "digest": "0" * 16, "a": 5, "b": 3}


@pytest.mark.parametrize(
    "form, sentence",
    [
        (FORM, "digest"),
        ([1], "description"),
        (None, "description"),
        ({**FORM, "a": 10**9}, "described as"),
        ({**FORM, "a": "5"}, "described as"),
        ({**FORM, "digest": None}, "described as"),
        ({"kind": "learned"}, "described as"),
    ],
)
def test_no_hostile_description_passes_or_crashes(tmp_path, thetas, learned, form, sentence):
    files = {
        "basis": tmp_path / "basis.safetensors",
        "net": tmp_path / "net.safetensors",
        "who": tmp_path / "who.safetensors",
    }
    save_basis(files["basis"], learned, {})
    net = HyperNet(HyperNetConfig(16, 8, 16, 1, 2, 16, 1, 2, 1, 6, 8))
    save_hypernet(files["net"], net, Identity(TABLE, learned, "[V] face", "X", {}))
    save_lidb(files["who"], LiDB.from_vector(TABLE, learned, torch.ones(6, 8)))
    for path, load in zip(
        files.values(), (load_basis, load_hypernet, lambda p: load_lidb(p, lambda d: learned)), strict=True
    ):
        with safe_open(path, "pt") as file:
            metadata = {**file.metadata(), "basis": json.dumps(form)}
        save_file(load_file(path), path, metadata=metadata)
        with pytest.raises(ValueError, match=f"{path.name}.*({sentence}|another one)"):
            load(path)


@pytest.mark.parametrize("key", ["basis.A", "basis.C.3", "basis.A.x", "basis.A.040", "basis.A.-40", "basis.A.1.2"])
def test_no_odd_tensor_name_passes_or_crashes(tmp_path, learned, key):
    path = tmp_path / "basis.safetensors"
    metadata = {"format": FORMAT, "version": "1", "basis": json.dumps(describe(learned))}
    save_file({**frames(learned), key: learned.A[40].clone()}, path, metadata=metadata)
    with pytest.raises(ValueError, match="no name of a basis frame"):
        load_basis(path)
