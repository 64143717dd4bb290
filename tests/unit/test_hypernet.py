"""Identities of the hypernet room."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import ViTModel

from hyperdreambooth.hypernet.checkpoint import Identity, load_hypernet, save_hypernet
from hyperdreambooth.hypernet.decoder import decode, keys_values
from hyperdreambooth.hypernet.hypernet import HEAD_STD, HyperNet, HyperNetConfig, encoder_sizes, load_encoder
from hyperdreambooth.hypernet.losses import weight_loss
from hyperdreambooth.lidb import basis as basis_module
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.targets import Target, TargetTable

TABLE = TargetTable(tuple(Target(f"lora_unet_{i}_attn1_to_q", 40, 30) for i in range(5)))
BASIS = Basis(a=10, b=6)
IDENTITY = Identity(TABLE, BASIS, "[V] face", "X", {"seed": 0})


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = HyperNet(HyperNetConfig(32, 8, 24, 1, 2, 32, 2, 2, 3, 5, 16)).eval()
    made.mean.data.normal_()
    return made


def test_the_loss_is_the_squared_distance_of_dense_residuals_and_has_no_gauge():
    g = torch.Generator().manual_seed(0)
    u, v, u2, v2 = (torch.randn(4, k, generator=g, dtype=torch.float64) for k in (10, 6, 10, 6))
    A, B = BASIS.A_aux(40).double(), BASIS.B_aux(30).double()
    dense = lambda u, v: torch.einsum("na,la,lb,bm->lnm", A, u, v, B)  # noqa: E731
    expected = (dense(u, v) - dense(u2, v2)).pow(2).sum((1, 2))
    assert torch.allclose(weight_loss(u, v, u2, v2), expected, rtol=1e-5)
    assert torch.allclose(weight_loss(3 * u, v / 3, u2, v2), expected, rtol=1e-5)
    assert torch.allclose(weight_loss(u, v, -u, -v), torch.zeros(4, dtype=torch.float64), atol=1e-9)


def test_refinement_adds_deltas_from_zero_and_looks_once(net):
    face = net.look(torch.rand(2, 3, 32, 32))
    theta = torch.zeros(2, 5, 16)
    for _ in range(3):
        tokens = net.layer_embedding + net.weights_in(theta) + net.pooled_in(face.mean(1, keepdim=True))
        theta = theta + net.head(net.decoder(tokens, net.face_in(face)))
    assert torch.allclose(net.refine(face), theta, atol=1e-6)
    assert 0.5 * HEAD_STD < net.head.weight.std() < 2 * HEAD_STD


def test_one_photo_predicts_the_same_alone_or_in_a_batch(net):
    photos = torch.rand(2, 3, 32, 32)
    assert torch.allclose(net.predict(photos[:1]), net(photos)[0], atol=1e-6)
    both = net.predict(photos)
    assert both.shape == (5, 16) and torch.allclose(both, net.predict(photos.flip(0)), atol=1e-6)
    assert all((both - one).abs().max() > 1e-3 for one in net(photos))  # of both photos, not of one
    with pytest.raises(ValueError, match="looks at pictures"):
        net(torch.rand(1, 3, 40, 32))


def test_the_paper_size_can_be_built():
    with torch.device("meta"):
        big = HyperNet(HyperNetConfig(224, 14, 1280, 32, 16, 1024, 2, 16, 4, 192, 150))
    assert sum(p.numel() for p in big.encoder.parameters()) > 600e6


def test_checkpoint_round_trip_and_hostile_files(tmp_path, net):
    path = tmp_path / "h.safetensors"
    save_hypernet(path, net, IDENTITY)
    loaded, identity = load_hypernet(path)
    assert identity == IDENTITY and loaded.config == net.config
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in net.state_dict().items())
    good = path.read_bytes()
    path.write_bytes(good[:-100])
    with pytest.raises(ValueError, match="truncated"):
        load_hypernet(path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a HyperNet"):
        load_hypernet(path)
    net.head.bias.data[0] = float("nan")
    save_hypernet(path, net, IDENTITY)
    with pytest.raises(ValueError, match="NaN"):
        load_hypernet(path)


def test_loading_draws_nothing_and_predicts_what_was_saved(tmp_path, net):
    net.scale.normal_()
    photos, path = torch.rand(2, 3, 32, 32), tmp_path / "h.safetensors"
    expected = net.predict(photos)
    save_hypernet(path, net, IDENTITY)
    for inference in (False, True):  # the host runs its nodes in inference mode
        before = torch.random.get_rng_state()
        with torch.inference_mode(inference):
            loaded, _ = load_hypernet(path)
            assert torch.equal(loaded.predict(photos), expected)
        assert torch.equal(torch.random.get_rng_state(), before)
        for tensor in (*loaded.parameters(), *loaded.buffers()):
            assert tensor.dtype == torch.float32 and tensor.device.type == "cpu" and not tensor.requires_grad
        assert not any(module.training for module in loaded.modules())
    with path.open("r+b") as file:  # overwritten in place, as a copy program does
        file.write(b"\xff" * path.stat().st_size)
    assert torch.equal(loaded.predict(photos), expected)
    save_hypernet(path, net, IDENTITY, torch.float16)
    halved, _ = load_hypernet(path)
    assert halved.head.weight.dtype == torch.float32 and torch.allclose(halved.predict(photos), expected, atol=1e-2)
    with torch.no_grad():
        net.head.weight[0, 0] = 1e5  # beyond float16
    save_hypernet(path, net, IDENTITY, torch.float16)
    assert torch.equal(load_hypernet(path)[0].head.weight, net.head.weight)


DEEP = "[" * 100_000
CONFIG = asdict(HyperNetConfig(32, 8, 24, 1, 2, 32, 2, 2, 3, 5, 16))


@pytest.mark.parametrize(
    "change",
    [
        *({"config": json.dumps({**CONFIG, key: 0})} for key in CONFIG),
        {"config": json.dumps({**CONFIG, "patch_size": 33})},
        {"config": json.dumps({**CONFIG, "encoder_heads": 5})},
        {"config": json.dumps({**CONFIG, "decoder_heads": 5})},
        {"config": json.dumps({**CONFIG, "decoder_heads": "2"})},
        {"config": json.dumps({**CONFIG, "encoder_width": 1.5})},
        {"config": json.dumps({**CONFIG, "encoder_width": 10**6})},
        {"config": json.dumps({**CONFIG, "surprise": 1})},
        {"config": json.dumps(list(CONFIG.values()))},
        {"config": "7"},
        {"training": "[]"},
        {"basis_probe": "[[1], [2]]"},
        {"basis_probe": f"[{10**400}]"},
        *({key: DEEP} for key in ("config", "basis", "basis_probe", "training")),
    ],
    ids=lambda change: str(change)[:40],
)
def test_no_odd_description_passes_or_crashes(tmp_path, net, change):
    path = tmp_path / "h.safetensors"
    save_hypernet(path, net, IDENTITY)
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **change}
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(ValueError, match="^h.safetensors's description is damaged.*Get the file again"):
        load_hypernet(path)


def test_a_tiny_file_cannot_ask_for_a_huge_basis(tmp_path, net, monkeypatch):
    path = tmp_path / "h.safetensors"
    save_hypernet(path, net, IDENTITY)
    generated = []
    monkeypatch.setattr(basis_module, "_orthonormal", lambda *wanted: generated.append(wanted))
    wide = TargetTable(tuple(Target(f"lora_unet_{i}_attn1_to_q", 131072, 131072) for i in range(5)))
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), "table": wide.pack(), "table_digest": wide.digest}
    metadata["basis"] = json.dumps({"kind": "random", "algorithm": 1, "a": 4096, "b": 4096, "seed": 0})
    metadata["config"] = json.dumps({**CONFIG, "numbers": 8192})
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(ValueError, match="^h.safetensors's description is damaged.*at most"):
        load_hypernet(path)
    assert not generated


def test_weights_of_another_kind_are_refused(tmp_path, net):
    path = tmp_path / "h.safetensors"
    save_hypernet(path, net, IDENTITY)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), "mean": torch.zeros(5, 16, dtype=torch.int64)}, path, metadata=metadata)
    with pytest.raises(ValueError, match="first 'mean'"):
        load_hypernet(path)


def test_an_encoder_can_start_from_a_local_vit(tmp_path, net):
    vit = ViTModel(net.encoder.config, add_pooling_layer=False)
    vit.save_pretrained(tmp_path)
    assert {k: getattr(net.config, k) for k in encoder_sizes(tmp_path)} == encoder_sizes(tmp_path)
    load_encoder(net, tmp_path)
    assert all(torch.equal(v, net.encoder.state_dict()[k]) for k, v in vit.state_dict().items())
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.485, 0.456, 0.406]}')
    with pytest.raises(ValueError, match="mean 0.5"):
        load_encoder(net, tmp_path)
    with pytest.raises(ValueError, match="encoder_width"):
        load_encoder(HyperNet(replace(net.config, encoder_width=16)), tmp_path)


def test_decoder_equals_torchs_own(net):
    """One pass over the face's keys and values is what nn.TransformerDecoder computes, gradients included."""
    for parameter in net.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # biases too, which begin at zero
    x, memory = (torch.randn(2, n, net.config.decoder_width).requires_grad_() for n in (5, 7))
    expected, found = net.decoder(x, memory), decode(net.decoder, x, keys_values(net.decoder, memory))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(expected.square().sum(), [x, memory]),
        torch.autograd.grad(found.square().sum(), [x, memory]),
        strict=True,
    ):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
