"""The picture that *Rank-Relaxed Finetune* shows when it is done: who is in it, and that it changes nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.lidb.finetune import FinetuneSettings
from hyperdreambooth.nodes.apply_lidb import apply_lidb
from hyperdreambooth.nodes.before_after import FEW, STEPS, BeforeAfter
from hyperdreambooth.nodes.finetune import run_finetune
from hyperdreambooth.nodes.loss_picture import CAPTION, CURVE, GAP, SIDE, STRONG, loss_picture, smooth

PROMPT = "a photo of a [V] face"
SEED = 5
SETTINGS = FinetuneSettings(steps=6, learning_rate=0.02, rank=2, seed=SEED)
WIDGETS = {"steps": 6, "rank": 2, "learning_rate": 0.02, "batch_size": FEW // 6 + 1, "seed": SEED, "prompt": PROMPT}


def drawn_by_the_stock_nodes(host, model, clip, vae) -> torch.Tensor:
    """The same sampler, steps and seed through *KSampler*, no guidance: (1, H, W, 3)."""
    encode, latent = host.nodes.CLIPTextEncode().encode, {"samples": torch.zeros(1, 8, 16, 16)}
    texts = encode(clip, PROMPT)[0], encode(clip, "")[0]
    samples = host.nodes.KSampler().sample(model, SEED, STEPS, 1.0, "dpmpp_2m", "normal", *texts, latent, 1.0)[0]
    return host.nodes.VAEDecode().decode(vae, samples)[0].clone()


@torch.inference_mode()
def test_before_and_after_are_what_the_stock_sampler_draws_and_cost_the_person_nothing(host, faceworld):
    model, clip, vae = faceworld
    face = host.nodes.LoadImage().load_image("hyperdreambooth_person.png")[0]
    plain, losses = run_finetune(model, clip, vae, face, None, SETTINGS, 2, PROMPT, 0)
    untouched, stream = drawn_by_the_stock_nodes(host, model, clip, vae), torch.get_rng_state()
    drawn = BeforeAfter(PROMPT, SEED, FEW)
    person, same = run_finetune(model, clip, vae, face, None, SETTINGS, 2, PROMPT, 0, finished=drawn)
    before, after = drawn.pictures()
    assert torch.equal(torch.get_rng_state(), stream)
    assert same == losses and torch.equal(person.A_full, plain.A_full) and torch.equal(person.B_full, plain.B_full)
    assert torch.equal(drawn_by_the_stock_nodes(host, model, clip, vae), untouched)
    personal = drawn_by_the_stock_nodes(host, *apply_lidb(model, clip, person, 1.0, 1.0), vae)
    assert (before - untouched[0]).abs().mean() < 0.002 and (after - personal[0]).abs().mean() < 0.002
    assert (after - before).abs().mean() > 0.02  # and it was another picture


@torch.inference_mode()
@pytest.mark.parametrize("when", ["while drawing", "before decoding"])
def test_an_interruption_of_the_drawing_is_obeyed_and_leaves_the_model_alone(host, faceworld, when):
    model, clip, vae = faceworld
    before = drawn_by_the_stock_nodes(host, model, clip, vae)
    drawn = BeforeAfter(PROMPT, SEED, 12)

    def finished(*everything):
        if when == "while drawing":
            host.mm.interrupt_current_processing()
        drawn(*everything)
        if when == "before decoding":
            host.mm.interrupt_current_processing()

    with pytest.raises(host.mm.InterruptProcessingException):
        run_finetune(
            model, clip, vae, torch.rand(1, 64, 64, 3), None, FinetuneSettings(steps=1), 1, PROMPT, 0, finished=finished
        )
        assert when == "before decoding", "the drawing went on"
        drawn.pictures()
    modules = [*model.model.modules(), *clip.cond_stage_model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules) and host.mm.in_training is False
    assert torch.equal(drawn_by_the_stock_nodes(host, model, clip, vae), before)


@torch.inference_mode()
def test_a_short_training_is_shown_in_half_the_steps_and_not_decoded_on_a_cpu(faceworld):
    model, clip, vae = faceworld
    face, shown = torch.rand(1, 264, 264, 3, generator=torch.Generator().manual_seed(0)), []
    for samples in (FEW - 1, FEW):
        drawn = BeforeAfter(PROMPT, SEED, samples)
        run_finetune(model, clip, vae, face, None, FinetuneSettings(steps=1), 1, PROMPT, 264, finished=drawn)
        shown.append(drawn.pictures())
    quick = (33, 33) if model.load_device.type == "cpu" else (264, 264)
    assert [pictures.shape for pictures in shown] == [(2, *quick, 3), (2, 264, 264, 3)]
    coarse, fine = (torch.nn.functional.adaptive_avg_pool2d(pictures.movedim(-1, 1), 8) for pictures in shown)
    alike = torch.corrcoef(torch.stack([coarse.flatten(), fine.flatten()]))[0, 1]
    assert alike > 0.5  # much the same picture either way


def test_the_node_shows_photo_before_after_and_curve(host):
    links = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], "image": ["photo", 0]}
    graph = {
        "load": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "faceworld.safetensors"}},
        "photo": {"class_type": "LoadImage", "inputs": {"image": "hyperdreambooth_person.png"}},
        "tune": {
            "class_type": "HDB_RankRelaxedFinetune",
            "inputs": {**links, **WIDGETS, "space": "basis", "resolution": 0},
        },
        "info": {"class_type": "HDB_LiDBInfo", "inputs": {"lidb": ["tune", 0]}},
    }
    (file,) = host.saved(host.run(graph)["tune"])
    graph["words"] = {"class_type": "PreviewAny", "inputs": {"source": ["info", 1]}}
    assert host.saved(host.run(graph)["tune"]) == [file]  # shown again without training again, after a reload too
    sheet = np.asarray(Image.open(file).convert("RGB"), int)
    assert sheet.shape == (2 * CAPTION + SIDE + GAP + CURVE, 3 * SIDE + 2 * GAP, 3)
    photo, before, after = (sheet[CAPTION : CAPTION + SIDE, i * (SIDE + GAP) :][:, :SIDE] for i in range(3))
    given = Image.open(host.base / "input" / "hyperdreambooth_person.png").convert("RGB").resize((SIDE, SIDE))
    assert np.abs(photo - np.asarray(given, int)).mean() < 4
    assert min(before.std(), after.std()) > 10 and np.abs(after - before).mean() > 4
    assert np.abs(after - photo).mean() < np.abs(before - photo).mean()  # it has learnt from the photo
    assert (np.abs(sheet[-CURVE:] - STRONG).max(-1) < 60).any(0).mean() > 0.9  # a line from side to side


def test_the_curve_falls_with_the_loss_and_takes_any_number_of_steps_and_shape():
    tall, wide = torch.rand(80, 40, 3), torch.rand(40, 80, 3)
    falling = loss_picture(tall, wide, wide, [1.0 - i / 100 for i in range(80)])[0, -CURVE:]
    rows = [(falling[:, at] * 255 - torch.tensor(STRONG)).abs().amax(-1).argmin().item() for at in (20, 380, 750)]
    assert rows == sorted(rows) and rows[0] < CURVE * 0.2 and rows[2] > CURVE * 0.7
    for losses in ([0.3], [0.3, 0.2], [0.0, 0.0, 0.0]):
        sheet = loss_picture(tall, wide, wide, losses)
        assert sheet.shape[-1] == 3 and (sheet[0, -CURVE:] * 255 - torch.tensor(STRONG)).abs().amax(-1).min() < 12
    assert smooth([0.3]).tolist() == [0.3] and smooth([1.0] * 50) == pytest.approx(1.0)
    noisy = [1.0, 0.0] * 30
    assert np.ptp(smooth(noisy)[5:-5]) < 0.2  # the zigzag of single steps is gone
