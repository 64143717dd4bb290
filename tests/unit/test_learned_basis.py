"""A basis learned from people: it finds what they share, travels in files, and never passes for another."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hyperdreambooth.hypernet.checkpoint import Identity, load_hypernet, save_hypernet
from hyperdreambooth.hypernet.hypernet import HyperNet, HyperNetConfig
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.basis_form import load_basis, save_basis
from hyperdreambooth.lidb.file import load_lidb, save_lidb
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
