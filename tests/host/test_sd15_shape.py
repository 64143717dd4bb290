"""SD 1.5 in shape: the real architecture with random weights, through stock loaders and our whole path.

It proves shapes, counts, names and sizes. It proves nothing about likeness: the weights are random.
"""

import gc

import pytest
import torch
from safetensors.torch import load_file

from hyperdreambooth.bench.sd15_shape import write_sd15_shape
from hyperdreambooth.hypernet.checkpoint import Identity, save_hypernet
from hyperdreambooth.hypernet.hypernet import HyperNet, HyperNetConfig
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.file import save_lidb
from hyperdreambooth.lidb.finetune import FinetuneSettings
from hyperdreambooth.lidb.value import LiDB
from hyperdreambooth.nodes.apply_lidb import apply_lidb
from hyperdreambooth.nodes.finetune import run_finetune
from hyperdreambooth.nodes.host import HostModel
from hyperdreambooth.nodes.load_hypernet import LoadedHyperNet

PROMPT = "a photo of a [V] face"


@pytest.fixture(scope="module")
def checkpoint(host):
    """A randomly initialised SD 1.5-shaped file in models/checkpoints, half precision."""
    path = host.base / "models" / "checkpoints" / "sd15_shape.safetensors"
    write_sd15_shape(path)
    yield path.name
    path.unlink()
    gc.collect()


@torch.inference_mode()
def test_the_whole_path_on_the_sd15_architecture(host, checkpoint, tmp_path, caplog):

    nodes = host.nodes
    model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint)[:3]
    seen = HostModel(model, clip, vae)
    table = seen.table
    assert seen.base == "SD15" and len(table) == 192
    assert sum(t.is_text for t in table) == 48
    assert table.rank1_numbers == 385_344 and table.lidb_numbers(100, 50) == 28_800

    def sample(model, clip):
        encode = nodes.CLIPTextEncode().encode
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        args = (model, 1, 2, 3.0, "euler", "normal", encode(clip, PROMPT)[0], encode(clip, "")[0], latent, 1.0)
        return nodes.VAEDecode().decode(vae, nodes.KSampler().sample(*args)[0])[0].clone()

    plain = sample(model, clip)
    nobody = LiDB.zeros(table, Basis(), rank=1)
    assert torch.equal(sample(*apply_lidb(model, clip, nobody, 1.0, 1.0)), plain)

    with torch.inference_mode(False):  # an untrained HyperNet of the paper's size
        config = HyperNetConfig(224, 14, 1280, 32, 16, 1024, 2, 16, 4, 192, 150)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = HyperNet(config)
        net.mean.data.normal_(std=0.1)
        save_hypernet(
            tmp_path / "big.safetensors", net, Identity(table, Basis(), "[V] face", "SD15", {}), torch.float16
        )
        del net
    face = nodes.LoadImage().load_image("hyperdreambooth_person.png")[0]
    hypernet = LoadedHyperNet(str(tmp_path / "big.safetensors"))
    photo = torch.nn.functional.interpolate(face.movedim(-1, 1), size=(224, 224))
    predicted = hypernet.predict(photo, b"\xff" * 1500)
    del hypernet
    gc.collect()
    assert predicted.numbers == 28_800
    assert save_lidb(tmp_path / "predicted.safetensors", predicted) <= 120_000

    settings = FinetuneSettings(steps=40, rank=1, learning_rate=1e-3)
    sharpened, losses = run_finetune(model, clip, vae, face, predicted, settings, 1, PROMPT, 64)
    assert len(losses) == 40 and sharpened.numbers - predicted.numbers == 385_344
    assert torch.equal(sample(model, clip), plain)

    exported = nodes.NODE_CLASS_MAPPINGS["HDB_ExportLoRA"].execute(sharpened, "loras/sd15")
    file = host.saved(exported.ui)[0]
    lora = load_file(file)
    names = {k.rsplit(".", 2)[0] if "lora_" in k.rsplit(".", 2)[1] else k.rsplit(".", 1)[0] for k in lora}
    assert len(names) == 192 and all(torch.equal(lora[k], v) for k, v in exported.args[0].items())
    caplog.clear()
    loaded = nodes.LoraLoader().load_lora(model, clip, file.name, 1.0, 1.0)
    assert (len(loaded[0].patches), len(loaded[1].patcher.patches)) == (144, 48)
    assert not [r for r in caplog.records if "not loaded" in r.getMessage().lower()]
    picture = sample(*apply_lidb(model, clip, sharpened, 1.0, 1.0))
    assert not torch.equal(picture, plain)
    assert torch.equal(sample(*loaded), picture)

    miniature = nodes.CheckpointLoaderSimple().load_checkpoint("faceworld.safetensors")
    with pytest.raises(ValueError, match="made for SD15 .144 UNet . 48 text-encoder layers"):
        apply_lidb(miniature[0], miniature[1], sharpened, 1.0, 1.0)
