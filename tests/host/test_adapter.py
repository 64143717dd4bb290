"""The adapter on the host's own parts: every prediction type, SD 2.x's encoder layer, models that are paged in and out."""

from types import SimpleNamespace

import comfy.memory_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import pytest
import torch

from hyperdreambooth.lidb.finetune import FinetuneSettings
from hyperdreambooth.lidb.residual import Residuals
from hyperdreambooth.nodes import narrow_products
from hyperdreambooth.nodes.finetune import run_finetune
from hyperdreambooth.nodes.host import HostModel
from hyperdreambooth.nodes.host_weights import to_computed_types

PROMPT = "a photo of a [V] face"


def latents(seed, batch=2):
    return torch.randn(batch, 8, 16, 16, generator=torch.Generator().manual_seed(seed))


def predictions(model, x0, noise, sigma):
    """What a faultless model of this kind would predict, from the definitions in the literature."""
    alpha = 1 / (sigma**2 + 1) ** 0.5
    return {"eps": noise, "v_prediction": alpha * noise - alpha * sigma * x0, "flow": noise - x0}[model]


@pytest.mark.parametrize("kind", ["eps", "v_prediction", "flow"])
@torch.inference_mode()
def test_the_loss_is_the_squared_error_of_the_models_own_prediction(host, faceworld, kind):
    """The host's UNet is made to predict the truth plus a known error, at two noise levels in one batch."""
    model, clip, vae = faceworld
    nodes = host.nodes.NODE_CLASS_MAPPINGS
    if kind == "flow":
        patched = nodes["ModelSamplingSD3"]().patch(model, shift=3.0)[0]
    else:
        patched = nodes["ModelSamplingDiscrete"]().patch(model, kind, False)[0]
    seen = HostModel(patched, clip, vae)
    x0, noise, error = latents(0), latents(1), latents(2) * torch.tensor([0.1, 0.7]).view(2, 1, 1, 1)
    sigma = seen.sigmas[[200, 900]].clone()
    with seen.training(x0.shape), torch.no_grad():
        truth = predictions(kind, x0, noise, sigma.view(2, 1, 1, 1)).clone()
        handle = model.model.diffusion_model.register_forward_hook(lambda *_: truth + error)
        try:
            loss = seen.denoising_loss(x0, noise, sigma, seen.encode_prompt(PROMPT)[0])
        finally:
            handle.remove()
    assert torch.allclose(loss, error.pow(2).mean((1, 2, 3)), rtol=1e-3), (kind, loss)


@torch.inference_mode()
def test_prompts_together_use_the_encoders_own_layer(faceworld, monkeypatch):
    """SD 2.x's encoder gives its last layer but one unless the user chose another (comfy/text_encoders/sd2_clip.py)."""
    model, clip, _ = faceworld
    encoder = clip.cond_stage_model
    last = clip.encode_from_tokens(clip.tokenize(PROMPT))
    monkeypatch.setattr(getattr(encoder, encoder.clip), "options_default", ("hidden", -2, True))
    default = clip.encode_from_tokens(clip.tokenize(PROMPT))
    chosen = clip.clone()
    chosen.clip_layer(-1)
    with HostModel(model, clip).training((1, 8, 16, 16)) as seen, torch.no_grad():
        together, alone = seen.encode_prompts([PROMPT]), seen.encode_prompt(PROMPT)[0]
    assert torch.allclose(together, default, atol=1e-5) and torch.allclose(alone, default, atol=1e-5)
    assert not torch.allclose(default, last, atol=1e-2)
    with HostModel(model, chosen).training((1, 8, 16, 16)) as seen, torch.no_grad():
        assert torch.allclose(
            seen.encode_prompts([PROMPT]), chosen.encode_from_tokens(clip.tokenize(PROMPT)), atol=1e-5
        )


class Paged(comfy.model_patcher.ModelPatcher):
    """An ordinary patcher that says of itself what a dynamic-VRAM one says; that one itself needs an NVIDIA card."""

    def is_dynamic(self):
        return True


@torch.inference_mode()
def test_a_model_under_dynamic_vram_is_trained_as_an_ordinary_copy(host):
    model, clip, vae = host.nodes.CheckpointLoaderSimple().load_checkpoint("faceworld.safetensors")[:3]
    x0, noise, sigma = latents(0), latents(1), torch.tensor([1.0, 5.0])
    sizes = {name: (m.in_features, m.out_features) for name, m in HostModel(model, clip).modules.items()}
    stream = torch.Generator().manual_seed(3)
    factors = {
        name: (torch.randn(n, 1, generator=stream) * n**-0.5, torch.randn(1, m, generator=stream) * m**-0.5)
        for name, (n, m) in sizes.items()
        if "_te_" in name
    }

    def losses(seen):
        with seen.training(x0.shape), Residuals(seen.modules) as residuals, torch.no_grad():
            where = set(map(id, seen.modules.values()))
            values = []
            for residual in (None, factors):
                residuals.set(residual)
                one = seen.denoising_loss(x0, noise, sigma, *seen.encode_prompt(PROMPT))
                many = seen.denoising_loss(x0, noise, sigma, seen.encode_prompts([PROMPT] * 2))
                values.append((one, many))
        return where, values

    own, ordinary = losses(HostModel(model, clip, vae))
    model.__class__ = clip.patcher.__class__ = Paged
    seen = HostModel(model, clip, vae)
    copied, paged = losses(seen)
    assert not own & copied and set(map(id, seen.modules.values())) == own
    for before, after in zip(ordinary, paged, strict=True):
        assert all(torch.equal(b, a) for b, a in zip(before, after, strict=True))
    assert not torch.equal(paged[0][0], paged[1][0])  # the text encoder's residuals act on the copy that encodes
    model.injections = {"bypass_lora": []}
    with pytest.raises(ValueError, match="This MODEL carries a bypass LoRA"), seen.training(x0.shape):
        pass
    model.injections = {}
    clip.patcher.cached_patcher_init = None
    with pytest.raises(ValueError, match="This CLIP came from a loader node"), seen.training(x0.shape):
        pass


@pytest.mark.parametrize(
    "kind, side", [("SD15", 512), ("SD21UnclipL", 768), ("SSD1B", 1024), ("SDXLRefiner", 1024), ("Flux", 512)]
)
def test_architectures_derived_from_a_known_one_have_its_side(kind, side):
    config = object.__new__(getattr(comfy.supported_models, kind))
    assert HostModel(SimpleNamespace(model=SimpleNamespace(model_config=config)), None).side == side


@torch.inference_mode()
def test_what_does_not_belong_to_the_model_is_named(host, faceworld, monkeypatch):
    model, clip, vae = faceworld
    monkeypatch.setitem(model.model.model_config.unet_config, "context_dim", 2048)
    photo = torch.rand(1, 128, 128, 3)
    with pytest.raises(ValueError, match="This CLIP writes text as 128 numbers a word, the model .* reads 2048"):
        run_finetune(model, clip, vae, photo, None, FinetuneSettings(steps=1), 1, PROMPT, 0)
    with pytest.raises(ValueError, match="that are not finite .*--fp32-vae"):
        HostModel(model, clip, vae).encode_image(photo * float("nan"))


def test_a_text_encoder_in_half_precision_is_widened_while_training_and_itself_afterwards(faceworld):
    """The same context bit for bit, and afterwards the very same parameters."""
    model, clip, _ = faceworld
    encoder = clip.cond_stage_model
    with torch.inference_mode():
        plain = clip.encode_from_tokens(clip.tokenize(PROMPT)).clone()
    before = {name: (p, p.dtype) for name, p in encoder.named_parameters()}
    assert any(dtype == torch.float16 for _, dtype in before.values())
    host = HostModel(model, clip)
    with host.training((1, 8, 16, 16)), torch.no_grad():
        widened = [p.dtype for p in host._encoding.cond_stage_model.parameters()]
        assert not any(dtype in (torch.float16, torch.bfloat16) for dtype in widened)
        assert torch.equal(host.encode_prompt(PROMPT)[0].cpu(), plain)
    after = dict(encoder.named_parameters())
    assert all(
        after[name].data_ptr() == p.data_ptr() and after[name].dtype == dtype for name, (p, dtype) in before.items()
    )


@torch.inference_mode()
def test_products_in_bfloat16_learn_the_same_person_and_leave_the_model_alone(host, faceworld, monkeypatch, caplog):
    """Forced on the miniature; the instructions are emulated where the CPU lacks them."""
    model, clip, vae = faceworld
    face = host.nodes.LoadImage().load_image("hyperdreambooth_person.png")[0]
    settings = FinetuneSettings(steps=12, learning_rate=0.01)
    weights = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    learn = lambda: run_finetune(model, clip, vae, face, None, settings, 2, PROMPT, 0)  # noqa: E731
    assert not narrow_products.is_worth_narrowing(model.model.diffusion_model, 1 << 40)
    exact, losses = learn()
    monkeypatch.setattr(narrow_products, "LARGE", 0)
    monkeypatch.setattr(narrow_products, "multiplies_narrow", lambda: True)
    near, similar = learn()
    assert not torch.equal(near.B_full, exact.B_full) and similar == pytest.approx(losses, rel=0.02)
    assert torch.nn.functional.cosine_similarity(near.B_full, exact.B_full, dim=0) > 0.9
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.model.state_dict().items())
    monkeypatch.setattr(host.mm, "get_free_memory", lambda device: 0)
    with caplog.at_level("INFO"):
        again, _ = learn()
    assert torch.equal(again.B_full, exact.B_full) and "trains in float32" in caplog.text


@torch.inference_mode()
def test_a_model_that_was_moved_after_it_was_loaded_can_be_trained(host):
    """As on a GPU: born in inference mode, moved outside of it; such tensors call themselves ordinary, and are not."""
    model, clip, vae = host.nodes.CheckpointLoaderSimple().load_checkpoint("faceworld.safetensors")[:3]
    face = host.nodes.LoadImage().load_image("hyperdreambooth_person.png")[0]
    settings = FinetuneSettings(steps=2, learning_rate=0.01)
    person, losses = run_finetune(*(model, clip, vae), face, None, settings, 2, PROMPT, 0)
    model, clip, vae = host.nodes.CheckpointLoaderSimple().load_checkpoint("faceworld.safetensors")[:3]
    with torch.inference_mode(False):
        for module in (model.model, clip.cond_stage_model):
            module.to(torch.float64).to(torch.float32)
    assert not next(model.model.diffusion_model.parameters()).is_inference()
    again, same = run_finetune(*(model, clip, vae), face, None, settings, 2, PROMPT, 0)
    assert same == pytest.approx(losses, rel=1e-4) and torch.allclose(again.B_full, person.B_full, atol=1e-4)


def test_an_ordinary_copy_computes_in_one_type(monkeypatch):
    """Under dynamic VRAM the host reads linear layers in the file's type, whatever the model computes in."""
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    layers = torch.nn.Sequential(
        comfy.ops.disable_weight_init.Linear(4, 3, dtype=torch.float16), torch.nn.LayerNorm(3, dtype=torch.float16)
    )
    layers.load_state_dict({"0.weight": torch.eye(3, 4), "0.bias": torch.ones(3), "1.weight": torch.ones(3),
                            "1.bias": torch.zeros(3)})  # fmt: skip
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).half()
    with pytest.raises(RuntimeError, match="dtype"):
        layers(x)
    to_computed_types(layers)
    assert layers(x).dtype == torch.float16 and not any(p.requires_grad for p in layers[0].parameters())


def test_an_inpainting_model_learns_with_everything_masked(faceworld, monkeypatch):
    model, clip, vae = faceworld
    seen = []
    monkeypatch.setattr(model.model, "concat_keys", ("mask", "masked_image"))
    monkeypatch.setattr(model.model, "blank_inpaint_image_like", torch.zeros_like, raising=False)
    monkeypatch.setattr(
        model.model, "apply_model", lambda x, sigma, c_concat, **_: seen.append(c_concat) or torch.zeros_like(x)
    )
    host = HostModel(model, clip, vae)
    with host.training((2, 8, 16, 16)):
        host.denoise(latents(0), latents(1), torch.tensor([1.0, 2.0]), host.encode_prompt(PROMPT)[0])
    assert seen[0].shape == (2, 9, 16, 16) and (seen[0][:, 0] == 1).all() and (seen[0][:, 1:] == 0).all()


def test_the_commands_list_the_hosts_own_models_too(host, tmp_path, monkeypatch):
    import folder_paths

    from hyperdreambooth.cli.headless import add_own_models

    kept = {name: (list(folders), kinds) for name, (folders, kinds) in folder_paths.folder_names_and_paths.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", kept)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    for folder in ("models/checkpoints", "models/hypernets", "far/people"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"mine_{folder[-4:]}.safetensors").touch()
    (tmp_path / "extra_model_paths.yaml").write_text("mine:\n    base_path: far\n    lidb: people\n")
    add_own_models(tmp_path, host.base)
    listed = {name: folder_paths.get_filename_list(name) for name in ("checkpoints", "hypernets", "lidb")}
    assert {"faceworld.safetensors", "mine_ints.safetensors"} <= set(listed["checkpoints"])
    assert {"faceworld.safetensors", "mine_nets.safetensors"} <= set(listed["hypernets"])
    assert "mine_ople.safetensors" in listed["lidb"]
    assert str(tmp_path) not in str(folder_paths.folder_names_and_paths["custom_nodes"])
