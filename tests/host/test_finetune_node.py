"""What the finetune takes in and shows: the size it trains at, masks of any shape, progress, live pictures, the loss curve."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from protocol import BinaryEventTypes

from hyperdreambooth.cli.workflow import find, load_workflow, to_api
from hyperdreambooth.lidb.finetune import FinetuneSettings
from hyperdreambooth.nodes.finetune import PREVIEW_EVERY, fit_to_model, mask_weight, run_finetune
from hyperdreambooth.nodes.pictures import SIDES

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a photo of a [V] face"


@pytest.mark.parametrize(
    ("picture", "resolution", "own", "trained"),
    [
        ((512, 512), 0, 128, (128, 128)),
        ((100, 100), 0, 128, (96, 96)),  # smaller than the model: keeps its size, in whole latents
        ((256, 1024), 0, 128, (64, 256)),  # as many pixels as 128 x 128
        ((1000, 1000), 0, 512, (512, 512)),
        ((300, 200), 64, 512, (96, 64)),
        ((64, 64), 256, 128, (256, 256)),  # a chosen size is obeyed
    ],
)
def test_the_size_of_the_training_picture(picture, resolution, own, trained):
    assert fit_to_model(torch.rand(1, *picture, 3), resolution, own).shape == (1, *trained, 3)


@torch.inference_mode()
def test_a_large_photo_is_trained_at_the_models_own_size(host, faceworld):
    """The shipped workflows leave ``resolution`` at 0; a camera's picture must not cost more than the model's own."""
    api = to_api(load_workflow(ROOT / "workflows" / "02_predict_and_finetune.json"), host.object_info())
    shipped = api[find(api, "HDB_RankRelaxedFinetune")]["inputs"]["resolution"]
    large = torch.rand(1, 512, 512, 3, generator=torch.Generator().manual_seed(0))
    run = lambda resolution: run_finetune(  # noqa: E731
        *faceworld, large, None, FinetuneSettings(steps=2), 1, PROMPT, resolution
    )[0]
    assert torch.equal(run(shipped).B_full, run(SIDES["Faceworld"]).B_full)


@torch.inference_mode()
def test_a_mask_fits_pictures_of_any_shape(faceworld):
    """The training picture's sides are rounded to whole latents; the mask is the whole picture's."""
    picture = torch.rand(1, 60, 100, 3, generator=torch.Generator().manual_seed(0))
    settings = FinetuneSettings(steps=1)
    masked = run_finetune(*faceworld, picture, None, settings, 1, PROMPT, 0, torch.ones(1, 60, 100))[0]
    assert torch.equal(masked.B_full, run_finetune(*faceworld, picture, None, settings, 1, PROMPT, 0)[0].B_full)
    for mask, words in ((torch.ones(1, 120, 200), "they must cover the same picture"), (torch.zeros(1, 64, 64), "empty")):
        with pytest.raises(ValueError, match=words):
            run_finetune(*faceworld, picture, None, settings, 1, PROMPT, 0, mask)


@torch.inference_mode()
def test_every_photo_of_a_batch_is_learnt_from(faceworld):
    stream = torch.Generator().manual_seed(0)
    photos = torch.rand(2, 64, 64, 3, generator=stream)
    learnt = [
        run_finetune(*faceworld, image, None, FinetuneSettings(steps=2), 2, PROMPT, 0)[0].B_full
        for image in (photos, photos[:1], photos[1:])
    ]
    assert not torch.equal(learnt[0], learnt[1]) and not torch.equal(learnt[0], learnt[2])
    masks = torch.zeros(2, 64, 64)
    masks[0, :32], masks[1, 32:, :16] = 1, 1
    weight = mask_weight(masks, photos, torch.Size((2, 8, 8, 8)))
    assert torch.equal(weight.mean((1, 2, 3)), torch.ones(2)) and [w.max() for w in weight] == [2, 8]


def test_progress_previews_and_losses_reach_the_user(host, monkeypatch):
    """Through the executor, as the frontend gets them; the stock Plot Loss Graph takes the losses."""
    steps = 12
    monkeypatch.setitem(
        host.server.sockets_metadata, "headless", {"feature_flags": {"supports_preview_metadata": True}}
    )
    monkeypatch.setattr(host.server, "events", [])
    settings = {"steps": steps, "rank": 1, "learning_rate": 0.01, "batch_size": 1, "seed": 5, "prompt": PROMPT}
    links = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], "image": ["photo", 0]}
    outputs = host.run(
        {
            "load": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "faceworld.safetensors"}},
            "photo": {"class_type": "LoadImage", "inputs": {"image": "hyperdreambooth_person.png"}},
            "tune": {
                "class_type": "HDB_RankRelaxedFinetune",
                "inputs": {**links, **settings, "space": "basis", "resolution": 0},
            },
            "plot": {"class_type": "LossGraphNode", "inputs": {"loss": ["tune", 1], "filename_prefix": "loss"}},
        }
    )
    states = [
        data["nodes"]["tune"]
        for event, data in host.server.events
        if event == "progress_state" and "tune" in data["nodes"]
    ]
    running = [int(s["value"]) for s in states if s["state"] == "running" and s["max"] == steps]
    *counted, last = running  # the last comes with the result
    assert counted == sorted(set(running)) and counted[0] == 1 and counted[-1] == last == steps
    shown = [data for event, data in host.server.events if event == BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA]
    assert len(shown) == len({*range(PREVIEW_EVERY, steps, PREVIEW_EVERY), steps}) + 1
    for (kind, picture, _), about in shown:
        assert about["node_id"] == "tune" and kind == "JPEG" and picture.getextrema() != ((0, 0),) * 3
    with Image.open(host.saved(outputs["tune"])[0]) as result:  # takes the last preview's place
        assert shown[-1][0][1].size == result.size
    words = [data for event, data in host.server.events if event == "progress_text"]
    assert words and all(node == "tune" for _, node in words)
    assert words[-1][0].startswith(f"{steps} steps in ")
    losses = host.executor.caches.outputs.get_local("tune").outputs[1][0]["loss"]
    assert len(losses) == steps and all(isinstance(loss, float) and loss > 0 for loss in losses)
    assert Image.open(host.saved(outputs["plot"])[0]).size == (840, 520)
