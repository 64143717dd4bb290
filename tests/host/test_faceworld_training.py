"""Training the miniature: the trained modules are the host's, and what is exported is what was trained."""

import copy
import re

import pytest
import torch
from safetensors.torch import load_file

from hyperdreambooth.faceworld import export, train_autoencoder, train_base
from hyperdreambooth.faceworld.autoencoder import SlimTAESD
from hyperdreambooth.faceworld.export import to_checkpoint
from hyperdreambooth.faceworld.renderer import world
from hyperdreambooth.faceworld.train_base import Base, noise_steps, tokens, v_loss


def seeded_base():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Base()


def test_a_trained_base_is_the_model_that_the_stock_loader_makes(faceworld, host):
    """The committed weights, put into the training modules, predict what the host's loaded model predicts."""
    import comfy.utils
    import folder_paths

    state = comfy.utils.load_torch_file(folder_paths.get_full_path_or_raise("checkpoints", "faceworld.safetensors"))
    prefixes = {"model.diffusion_model.": "unet.", "cond_stage_model.transformer.text_model.": "text."}
    base = Base()
    base.load_state_dict(
        {
            new + k.removeprefix(old): v.float()
            for k, v in state.items()
            for old, new in prefixes.items()
            if k.startswith(old)
        }
    )
    x, t = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(3)), torch.tensor([100, 900])
    captions = ["a photo of a [V] face at the beach", "pop art of a face with tan skin"]
    model, clip, _ = faceworld
    with torch.inference_mode():
        context = torch.cat([clip.encode_from_tokens(clip.tokenize(c)) for c in captions])
        unet = copy.deepcopy(model.model.diffusion_model).float()  # the model is shared with other tests
        theirs = unet(x, t, context=context.float())
        ours = base(x, t, tokens(captions))
    assert torch.allclose(ours, theirs, atol=2e-3), (ours - theirs).abs().max()


def test_a_new_base_learns_and_exports_all_keys_that_the_loader_wants(host):
    import comfy.utils
    import folder_paths

    base = seeded_base()
    stream = torch.Generator().manual_seed(1)
    x0, noise = (torch.randn(8, 8, 16, 16, generator=stream) for _ in range(2))
    t, ids = (
        noise_steps(8, stream),
        tokens(["a photo of a face", "", "pop art of a [V] face", "a neon sign of a face"] * 2),
    )
    optimizer = torch.optim.AdamW(base.parameters(), 2e-3)
    losses = []
    for step in range(12):
        loss = v_loss(base, x0, t, noise, ids)
        loss.backward()
        if step == 2:  # by then the zero-initialised outputs let gradients through to every layer
            assert all(p.grad is not None for p in base.parameters())
            assert base.text.encoder.layers[0].self_attn.q_proj.weight.grad.abs().max() > 0
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    ours = to_checkpoint(base.state_dict(), SlimTAESD().state_dict())
    path = folder_paths.get_full_path_or_raise("checkpoints", "faceworld.safetensors")
    assert set(ours) == set(comfy.utils.load_torch_file(path))


def test_the_commands_of_the_recipe_lead_from_pictures_to_a_checkpoint(host, tmp_path, monkeypatch, capsys):
    """Rendered pictures -> autoencoder and base, each continued from the committed checkpoint -> one file, as committed."""
    import comfy.utils
    import folder_paths

    for module in (train_autoencoder, train_base):
        monkeypatch.setattr(module, "HELD_OUT", 256)
    committed = folder_paths.get_full_path_or_raise("checkpoints", "faceworld.safetensors")
    world.main(["base", "--count", "280", "--out", str(tmp_path)])
    common = ["--data", str(tmp_path), "--init", committed, "--minutes", "0.02", "--bf16"]
    autoencoder, base, checkpoint = (str(tmp_path / f"{name}.safetensors") for name in ("ae", "base", "faceworld"))
    train_autoencoder.main([*common, "--out", autoencoder, "--batch", "2", "--lr", "1e-5", "--pull", "0.1"])
    train_base.main([*common, "--out", base, "--autoencoder", autoencoder, "--batch", "8", "--lr", "1e-5"])
    said = capsys.readouterr().out
    assert float(re.search(r"held-out psnr ([0-9.]+) dB", said)[1]) > 28
    assert float(re.search(r"held-out loss ([0-9.]+)", said)[1]) < 0.26  # of a network that begins: about 1
    export.main(["--base", base, "--autoencoder", autoencoder, "--out", checkpoint])
    made, old = comfy.utils.load_torch_file(checkpoint), comfy.utils.load_torch_file(committed)
    joined = to_checkpoint(load_file(base), load_file(autoencoder))
    assert made.keys() == old.keys() == joined.keys() and all(torch.equal(made[k], joined[k]) for k in made)
    for part in ("model.diffusion_model.", "cond_stage_model.", "first_stage_model."):  # each has learnt something
        assert any(not torch.equal(made[k], old[k]) for k in made if k.startswith(part)), part
    with pytest.raises(SystemExit):
        train_autoencoder.main(["--data", str(tmp_path), "--out", autoencoder, "--pull", "0.1"])
    assert "--pull needs --init" in capsys.readouterr().err
