"""The method on the host's own modules: neutral stays neutral, the prediction is step 0, the export is the same picture."""

import logging

import pytest
import torch

from hyperdreambooth.lidb.finetune import FinetuneSettings
from hyperdreambooth.lidb.residual import Residuals
from hyperdreambooth.lidb.value import Facts, LiDB
from hyperdreambooth.nodes.apply_lidb import apply_lidb
from hyperdreambooth.nodes.finetune import mask_weight, run_finetune, starting_basis
from hyperdreambooth.nodes.host import HostModel
from hyperdreambooth.nodes.reference_loss import ReferenceLoss

PROMPT = "a photo of a [V] face"


def person(model, clip, scale=0.3, rank=1):
    table = HostModel(model, clip).table
    basis = starting_basis(table)
    g = torch.Generator().manual_seed(0)
    A = torch.randn(len(table), basis.a, rank, generator=g) * basis.a**-0.5
    B = torch.randn(len(table), rank, basis.b, generator=g) * scale * basis.b**-0.5
    return LiDB(table, basis, A, B, frozen_rank=rank, facts=Facts(base="Faceworld"))


@torch.inference_mode()
def sample(host, model, clip, seed=1):
    encode = host.nodes.CLIPTextEncode().encode
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    args = (model, seed, 3, 3.0, "euler", "normal", encode(clip, PROMPT)[0], encode(clip, "")[0], latent, 1.0)
    return host.nodes.KSampler().sample(*args)[0]["samples"].clone()


@pytest.fixture(scope="module")
def plain(host, faceworld):
    return sample(host, *faceworld[:2])


def photo():
    return torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0))


def test_the_stock_loader_takes_the_miniature_without_complaint(host, caplog):
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        model, clip, vae = host.nodes.CheckpointLoaderSimple().load_checkpoint("faceworld.safetensors")[:3]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    table = HostModel(model, clip, vae).table
    assert (len(table), sum(t.is_text for t in table)) == (44, 8)
    assert type(model.model.model_config).__name__ == "Faceworld"


def test_neutral_is_bit_identical(host, faceworld, plain):
    model, clip, _ = faceworld
    someone, nobody = (
        person(model, clip),
        LiDB.zeros(HostModel(model, clip).table, starting_basis(HostModel(model, clip).table), rank=1),
    )
    changed = sample(host, *apply_lidb(model, clip, someone, 1.0, 1.0))
    assert not torch.equal(changed, plain)
    for lidb, strength in ((someone, 0.0), (nobody, 1.0)):
        assert torch.equal(sample(host, *apply_lidb(model, clip, lidb, strength, strength)), plain)
    assert torch.equal(sample(host, model, clip), plain)


@torch.inference_mode()
def test_step_zero_is_the_prediction_and_equals_the_patched_model(host, faceworld):
    model, clip, vae = faceworld
    someone = person(model, clip, scale=3)
    seen = HostModel(model, clip, vae)
    x0 = seen.encode_image(photo())
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([2.0])
    with seen.training(x0.shape), Residuals(seen.modules) as residuals, torch.no_grad():
        residuals.set(someone.factors())
        hooked = seen.denoising_loss(x0, noise, sigma, *seen.encode_prompt(PROMPT)).item()
        residuals.set(None)
        neutral = seen.denoising_loss(x0, noise, sigma, *seen.encode_prompt(PROMPT)).item()
    patched = HostModel(*apply_lidb(model, clip, someone, 1.0, 1.0), vae)
    with patched.training(x0.shape), torch.no_grad():
        baked = patched.denoising_loss(x0, noise, sigma, *patched.encode_prompt(PROMPT)).item()
    assert abs(hooked - baked) < 0.02 * abs(hooked - neutral)
    with seen.training((2, *x0.shape[1:])), Residuals(seen.modules) as residuals, torch.no_grad():
        predicted = ReferenceLoss(seen, residuals, x0, PROMPT, 2, 1, 7)(0, someone.factors()).item()
        nobody = ReferenceLoss(seen, residuals, x0, PROMPT, 2, 1, 7)(0, None).item()
    assert abs(predicted - nobody) > 1e-4 * nobody
    for space in ("basis", "full"):
        settings = FinetuneSettings(steps=1, space=space, seed=7)
        _, losses = run_finetune(model, clip, vae, photo(), someone, settings, 2, PROMPT, 0)
        assert losses == [pytest.approx(predicted, rel=1e-6)]  # kernels may sum in another order at another rank


@torch.inference_mode()
def test_a_mask_says_what_is_learnt(host, faceworld):
    model, clip, vae = faceworld
    face = host.nodes.LoadImage().load_image("hyperdreambooth_person.png")[0]
    settings, H, W = FinetuneSettings(steps=2), *face.shape[1:3]
    run = lambda image, mask: run_finetune(model, clip, vae, image, None, settings, 2, PROMPT, 0, mask)[0]  # noqa: E731
    assert torch.equal(run(face, torch.ones(1, H, W)).B_full, run(face, None).B_full)
    middle = torch.zeros(1, H, W)
    middle[:, H // 4 : -H // 4, W // 4 : -W // 4] = 1
    weight = mask_weight(middle, face, torch.Size((1, 8, 16, 16)))
    assert weight.mean() == 1 and weight[..., 0, :].max() == 0 and weight[..., 8, 8].item() == pytest.approx(4)
    assert not torch.equal(run(face, middle).B_full, run(face, None).B_full)
    with pytest.raises(ValueError, match="The mask is empty"):
        run(face, torch.zeros(1, H, W))
    with pytest.raises(ValueError, match="must cover the same picture"):
        run(face, torch.ones(1, H, 2 * W))


@torch.inference_mode()
def test_the_loss_is_the_models_own_v_prediction_error(faceworld):
    model, clip, vae = faceworld
    seen = HostModel(model, clip, vae)
    x0 = seen.encode_image(photo())
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    sigma = seen.sigmas[[600]].clone()
    with seen.training(x0.shape), torch.no_grad():
        context, _ = seen.encode_prompt(PROMPT)
        loss = seen.denoising_loss(x0, noise, sigma, context)
        alpha = 1 / (sigma**2 + 1) ** 0.5
        t = seen.model.model.model_sampling.timestep(sigma).float()
        v = model.model.diffusion_model(alpha * (x0 + sigma * noise), t, context=context)
        truth = alpha * noise - alpha * sigma * x0
    assert loss.item() == pytest.approx((v - truth).pow(2).mean().item(), rel=1e-3)


@torch.inference_mode()
def test_finetune_is_seeded_learns_and_leaves_the_model_alone(host, faceworld, plain):
    model, clip, vae = faceworld
    face = host.nodes.LoadImage().load_image("hyperdreambooth_person.png")[0]
    settings = FinetuneSettings(steps=12, learning_rate=0.02)
    first, losses = run_finetune(model, clip, vae, face, None, settings, 2, PROMPT, 0)
    second, _ = run_finetune(model, clip, vae, face, None, settings, 2, PROMPT, 0)
    # the same noise and levels with a step too small to learn anything
    _, unlearned = run_finetune(
        model, clip, vae, face, None, FinetuneSettings(steps=12, learning_rate=1e-7), 2, PROMPT, 0
    )
    assert torch.equal(first.A_full, second.A_full) and torch.equal(first.B_full, second.B_full)
    assert first.full_rank == 4 and sum(losses[6:]) < sum(unlearned[6:])
    up = first.factors()
    assert all(up[t.name][1].any() for t in first.table if t.is_text)  # the text encoder was trained too
    assert torch.equal(sample(host, model, clip), plain)


def weights(model, clip) -> list:
    """Where every number lies and of which type it is: equal if nothing was put in its place."""
    owners = model.model.diffusion_model, clip.cond_stage_model
    return [(p.data_ptr(), p.dtype, p.requires_grad) for owner in owners for p in owner.parameters()]


@torch.inference_mode()
@pytest.mark.parametrize("how", ["interrupted", "error"])
def test_everything_is_restored_after_an_interruption_or_an_error(host, faceworld, plain, how, monkeypatch):
    model, clip, vae = faceworld
    from hyperdreambooth.nodes import reference_loss

    calls = []

    def stop(self, step, factors):
        calls.append(step)
        if step == 2 and how == "interrupted":
            host.mm.interrupt_current_processing()
        if step == 2 and how == "error":
            raise RuntimeError("in the middle")
        return loss(self, step, factors)

    loss = reference_loss.ReferenceLoss.__call__
    monkeypatch.setattr(reference_loss.ReferenceLoss, "__call__", stop)
    raised = {"interrupted": host.mm.InterruptProcessingException, "error": RuntimeError}[how]
    before = weights(model, clip)
    with pytest.raises(raised):
        run_finetune(model, clip, vae, photo(), None, FinetuneSettings(steps=20), 2, PROMPT, 0)
    assert weights(model, clip) == before
    assert calls == [0, 1, 2]  # obeyed within one step
    modules = [*model.model.modules(), *clip.cond_stage_model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    assert host.mm.in_training is False
    assert torch.equal(sample(host, model, clip), plain)


@torch.inference_mode()
def test_an_upstream_lora_counts_as_part_of_the_model(host, faceworld, plain):
    model, clip, vae = faceworld
    stacked = apply_lidb(model, clip, person(model, clip), 1.0, 1.0)
    before = sample(host, *stacked)
    run_finetune(*stacked, vae, photo(), None, FinetuneSettings(steps=2), 2, PROMPT, 0)
    assert torch.equal(sample(host, *stacked), before)
    assert torch.equal(sample(host, model, clip), plain)


@torch.inference_mode()
def test_clear_errors(faceworld):
    model, clip, vae = faceworld
    with pytest.raises(ValueError, match="trigger phrase"):
        run_finetune(model, clip, vae, photo(), None, FinetuneSettings(steps=1), 1, "a photo of a face", 0)
    with pytest.raises(ValueError, match="at least 48 x 48"):
        run_finetune(model, clip, vae, photo()[:, :20, :20], None, FinetuneSettings(steps=1), 1, PROMPT, 0)
