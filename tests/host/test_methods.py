"""Each method really learns a person, leaves the user's model as it was, and writes a file that is the same person."""

import argparse
import logging
from types import SimpleNamespace

import comfy.model_management as mm
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.utils
import folder_paths
import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperdreambooth.cli import finetune as command
from hyperdreambooth.cli.people import choose_people
from hyperdreambooth.cli.scores import to_tensor
from hyperdreambooth.faceworld.metrics import IdentityMetric
from hyperdreambooth.lidb.file import load_lidb
from hyperdreambooth.methods.dreambooth import dreambooth
from hyperdreambooth.methods.low_rank import lidb, lora
from hyperdreambooth.methods.person import Settings
from hyperdreambooth.methods.prior import class_pictures
from hyperdreambooth.methods.textual_inversion import textual_inversion, with_vectors
from hyperdreambooth.nodes.apply_lidb import apply_lidb
from hyperdreambooth.nodes.host import HostModel

PROMPT, ANYBODY = "a photo of a [V] face", "a photo of a face"
METHODS = {"lidb": lidb, "lora": lora, "dreambooth": dreambooth, "textual-inversion": textual_inversion}
LEARNING = {"lidb": (24, 0.04), "lora": (24, 0.02), "dreambooth": (24, 1e-3), "textual-inversion": (100, 0.1)}
OPTIONS = {"textual-inversion": {"vectors": 8}}
FOLDERS = {"lidb": "lidb", "lora": "loras", "dreambooth": "checkpoints", "textual-inversion": "embeddings"}


@pytest.fixture(scope="module")
def faces():
    """Pictures (N, H, W, 3) of two people: what is handed in, further photos of the same person, photos of another."""
    one, other = choose_people(None, 2)[0].values()
    pictures = {"reference": [one.reference], "others": one.others, "stranger": [other.reference, *other.others]}
    return SimpleNamespace(**{name: to_tensor(shown).movedim(1, -1) for name, shown in pictures.items()})


@pytest.fixture(scope="module")
def before(faceworld):
    """A copy of every number of the user's MODEL and CLIP."""
    return {name: tensor.clone() for name, tensor in numbers(faceworld).items()}


@pytest.fixture(scope="module")
def trained(faceworld, faces, before):
    """Method -> the person, trained once for all tests."""
    kept = {}

    def train(method):
        if method not in kept:
            kept[method] = run(method, faceworld, faces.reference, *LEARNING[method], **OPTIONS.get(method, {}))
        return kept[method]

    return train


def run(method, faceworld, picture, steps, rate, seed=0, **options):
    with torch.inference_mode():
        return METHODS[method](*faceworld, picture, Settings(steps, rate, batch=2, seed=seed), **options)


def numbers(faceworld):
    model, clip, _ = faceworld
    mm.load_models_gpu([model, clip.patcher])  # a clone's patches may lie on the shared modules
    roots = {"model": model.model, "clip": clip.cond_stage_model}
    return {f"{root}.{name}": tensor for root, module in roots.items() for name, tensor in module.state_dict().items()}


def untouched(faceworld, before):
    now = numbers(faceworld)
    modules = [*faceworld[0].model.modules(), *faceworld[1].cond_stage_model.modules()]
    assert not any(p.requires_grad for m in modules for p in m._parameters.values() if p is not None)
    assert all(type(p) is torch.nn.Parameter for m in modules for p in m._parameters.values() if p is not None)
    return now.keys() == before.keys() and all(torch.equal(bits(now[name]), bits(before[name])) for name in before)


def bits(tensor):
    """Its bytes: what no checkpoint fills, as CLIP's text projection, may hold NaN, which equals nothing."""
    return tensor.reshape(-1).view(torch.uint8)


@torch.inference_mode()
def loss(model, clip, vae, pictures, prompt=PROMPT):
    """Mean denoising loss of pictures at four levels in the upper half, noise fixed."""
    seen = HostModel(model, clip, vae)
    x0 = seen.encode_image(pictures).repeat(4, 1, 1, 1)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    sigma = seen.sigmas[[500, 650, 800, 950]].clone().repeat_interleave(len(pictures))
    with seen.training(x0.shape), torch.no_grad():
        return seen.denoising_loss(x0, noise, sigma, *seen.encode_prompt(prompt)).mean().item()


@torch.inference_mode()
def likeness(host, model, clip, vae, faces):
    """Cosine of four drawn pictures with the person's further photos and with a stranger's."""
    metric, latents = IdentityMetric(), {"samples": sample(host, model, clip, steps=12, pictures=4)}
    seen = metric.embed(host.nodes.VAEDecode().decode(vae, latents)[0].movedim(-1, 1))
    known = {name: metric.embed(getattr(faces, name).movedim(-1, 1)) for name in ("others", "stranger")}
    return {name: (seen @ shown.T).mean().item() for name, shown in known.items()}


@torch.inference_mode()
def sample(host, model, clip, prompt=PROMPT, steps=3, pictures=1):
    encode = host.nodes.CLIPTextEncode().encode
    latent = {"samples": torch.zeros(pictures, 8, 16, 16)}
    args = (model, 1, steps, 3.0, "euler", "normal", encode(clip, prompt)[0], encode(clip, "")[0], latent, 1.0)
    return host.nodes.KSampler().sample(*args)[0]["samples"].clone()


@torch.inference_mode()
def from_file(host, faceworld, method, path):
    """MODEL, CLIP and prompt with a written file, through the stock loaders (a LiDB: ours)."""
    model, clip, _ = faceworld
    if method == "dreambooth":
        return *host.nodes.CheckpointLoaderSimple().load_checkpoint(path.name)[:2], PROMPT
    if method == "lora":
        return *host.nodes.LoraLoader().load_lora(model, clip, path.name, 1.0, 1.0), PROMPT
    if method == "lidb":
        return *apply_lidb(model, clip, load_lidb(path), 1.0, 1.0), PROMPT
    return model, clip, PROMPT.replace("[V]", f"embedding:{path.stem}")


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_the_person_and_not_just_anybody(host, faceworld, faces, trained, before, method):
    """Losses: of the photo that was handed in, and of further photos against a stranger's. And who is in a drawn picture."""
    model, clip, vae = faceworld
    person = trained(method)
    gain = {
        name: 1 - loss(person.model, person.clip, vae, shown) / loss(*faceworld, shown)
        for name, shown in vars(faces).items()
    }
    assert gain["reference"] > 0.15 and gain["others"] > gain["stranger"] + 0.1, gain
    drawn = [likeness(host, *pair, vae, faces) for pair in ((model, clip), (person.model, person.clip))]
    assert drawn[1]["others"] > drawn[0]["others"] + 0.3 and drawn[1]["others"] > drawn[1]["stranger"] + 0.2, (gain, drawn)
    assert len(person.losses) == LEARNING[method][0] and person.seconds > 0
    assert untouched(faceworld, before)


def test_a_finetuned_prediction_is_more_like_the_person_than_the_prediction(host, faceworld, faces, before):
    """HyperDreamBooth itself: the HyperNet's step, then the finetune's, each in loss and in who is in a drawn picture."""
    model, clip, vae = faceworld
    with torch.inference_mode():
        predicted = command.predicted(host.model_file("hypernets", "faceworld.safetensors"), faces.reference)
        pair = apply_lidb(model, clip, predicted, 1.0, 1.0)
    person = run("lidb", faceworld, faces.reference, 40, 0.02, start=predicted)
    stages = [(model, clip), pair, (person.model, person.clip)]
    losses = [loss(*stage, vae, faces.reference) for stage in stages]
    drawn = [likeness(host, *stage, vae, faces) for stage in stages]
    assert losses[0] > 1.15 * losses[1] and losses[1] > 1.15 * losses[2], losses
    assert drawn[1]["others"] > drawn[0]["others"] + 0.2 and drawn[2]["others"] > drawn[1]["others"] + 0.05, drawn
    plain, hypernet, finetuned = (seen["others"] - seen["stranger"] for seen in drawn)
    assert finetuned > hypernet > plain + 0.2, drawn
    assert untouched(faceworld, before)


@pytest.mark.parametrize("method", METHODS)
def test_the_file_is_the_same_person_through_the_stock_loaders(host, faceworld, trained, before, caplog, method):
    person, plain = trained(method), sample(host, *faceworld[:2])
    drawn = sample(host, person.model, person.clip)
    assert not torch.allclose(drawn, plain, atol=0.1)
    path = host.base / "models" / FOLDERS[method] / "method_person.safetensors"
    size = person.save(path)
    try:
        with caplog.at_level(logging.WARNING):
            model, clip, prompt = from_file(host, faceworld, method, path)
            assert torch.equal(sample(host, model, clip, prompt), drawn)
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert size == path.stat().st_size and [p for p in path.parent.iterdir() if p.name.startswith("tmp")] == []
        stored = sum(t.numel() for t in load_file(path).values())
        assert person.trained <= stored and size < 2 * stored + 60_000  # two bytes a number
    finally:
        path.unlink()
    assert torch.equal(sample(host, *faceworld[:2]), plain) and untouched(faceworld, before)


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides_everything(faceworld, faces, before, tmp_path, method):
    files = []  # compared by their tensors: the order of safetensors' description is random
    for number, seed in enumerate((3, 3, 4)):
        run(method, faceworld, faces.reference, 2, LEARNING[method][1], seed).save(
            tmp_path / str(number) / "p.safetensors"
        )
        files.append(load_file(tmp_path / str(number) / "p.safetensors"))
    assert files[0].keys() == files[1].keys() == files[2].keys()
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    assert any(not torch.equal(files[0][name], files[2][name]) for name in files[0])


def test_dreambooth_trains_every_weight_that_the_loss_sees(faceworld, trained):
    model, clip, _ = faceworld
    person, text = trained("dreambooth"), clip.cond_stage_model.clip_l
    unused = text.logit_scale.numel() + text.transformer.text_projection.weight.numel()
    everything = sum(p.numel() for p in [*model.model.diffusion_model.parameters(), *text.parameters()])
    assert person.trained == everything - unused
    changed = person.clip.patcher.patches["clip_l.transformer.text_model.embeddings.token_embedding.weight"][0][1][1][0]
    table = text.transformer.get_input_embeddings().weight
    assert (changed != table.half()).any(1).nonzero().flatten().tolist() == sorted(
        {token for token, _ in clip.tokenize(PROMPT)["l"][0]}
    )  # of the words, only those of the prompt


@torch.inference_mode()
def test_prior_preservation_holds_the_class(faceworld, faces, before):
    model, clip, vae = faceworld
    prior = class_pictures(model, clip, ANYBODY, 2, seed=7)
    again = class_pictures(model, clip, ANYBODY, 2, seed=7)
    assert torch.equal(prior.latents, again.latents) and prior.latents.shape == (2, 8, 16, 16)
    pictures = HostModel(model, clip, vae).decode(prior.latents).movedim(1, -1)
    kept, free = (run("dreambooth", faceworld, faces.reference, 10, 3e-4, prior=p) for p in (prior, None))
    anybody = [loss(p.model, p.clip, vae, pictures, ANYBODY) for p in (kept, free)]
    assert anybody[0] < 0.97 * anybody[1], anybody
    assert loss(kept.model, kept.clip, vae, faces.reference) < 0.9 * loss(*faceworld, faces.reference)
    assert untouched(faceworld, before)
    with pytest.raises(ValueError, match="at least one class picture, not 0"):
        class_pictures(model, clip, ANYBODY, 0)


@pytest.mark.parametrize("sd", [1, 2])
def test_vectors_in_memory_are_the_tokens_of_the_file(faceworld, tmp_path, sd):
    """With the byte-pair tokenizers of Stable Diffusion, where [V] is no word of its own."""
    from comfy.text_encoders.sd2_clip import SD2Tokenizer

    width = {1: 768, 2: 1024}[sd]
    vectors = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    save_file({"emb_params": vectors}, tmp_path / "anna.safetensors")
    clip = faceworld[1].clone()
    clip.tokenizer = (comfy.sd1_clip.SD1Tokenizer if sd == 1 else SD2Tokenizer)(embedding_directory=str(tmp_path))
    ours = with_vectors(clip, "[V]", vectors)
    for prompt in ("a photo of a [V] face", "[V] face, smiling", "([V]:1.2) face", "no one", "[v] and [V], twice " * 9):
        mine = next(iter(ours.tokenize(prompt).values()))
        spoken = prompt.replace("[v]", "[V]").replace("[V]", "embedding:anna")
        theirs = next(iter(clip.tokenize(spoken).values()))
        assert len(mine) == len(theirs)
        for (a, weight), (b, same) in zip(sum(mine, []), sum(theirs, []), strict=True):
            assert weight == same and torch.equal(torch.as_tensor(a), torch.as_tensor(b)), prompt


@torch.inference_mode()
def test_clear_errors_and_nothing_changed(host, faceworld, faces, before):
    model, clip, vae = faceworld
    for method in METHODS:
        with pytest.raises(ValueError, match="at least 48 x 48"):
            run(method, faceworld, faces.reference[:, :20, :20], 1, 0.01)
    for method, rate in (("dreambooth", 1e30), ("textual-inversion", 1e30), ("lora", 1e30)):
        with pytest.raises(ValueError, match="(?i)lower learning rate"):
            run(method, faceworld, faces.reference, 4, rate)
        assert untouched(faceworld, before) and not host.mm.in_training
    with pytest.raises(ValueError, match=r"does not contain the trigger phrase '\[V\] face'"):
        Settings(1, 0.1, prompt=ANYBODY)
    with pytest.raises(ValueError, match="steps=0"):
        Settings(0, 0.1)
    with pytest.raises(ValueError, match="'red hat' has 2 tokens"):
        run("textual-inversion", faceworld, faces.reference, 1, 0.1, word="red hat")
    with pytest.raises(ValueError, match="at least one vector, not 0"):
        run("textual-inversion", faceworld, faces.reference, 1, 0.1, vectors=0)
    two = clip.clone()
    two.tokenizer = comfy.sdxl_clip.SDXLTokenizer()
    with pytest.raises(ValueError, match="one text encoder"):
        textual_inversion(model, two, vae, faces.reference, Settings(1, 0.1))


@pytest.mark.parametrize(
    "method, options",
    [
        ("lidb", ["--hypernet", "faceworld.safetensors", "--rank", "2"]),
        ("lidb", ["--hypernet", "faceworld.safetensors", "--rank", "2", "--space", "basis"]),
        ("lora", ["--rank", "1"]),
        ("dreambooth", ["--prior", "1"]),
        ("textual-inversion", ["--vectors", "2", "--word", "face"]),
    ],
)
def test_the_command_writes_the_file(host, faceworld, faces, before, tmp_path, capsys, method, options):
    person = choose_people(None, 1)[0]["person00"]
    pictures = [tmp_path / "1.png", tmp_path / "2.png"]
    person.reference.save(pictures[0])
    person.others[0].resize((200, 150)).save(pictures[1])
    parser, hook = argparse.ArgumentParser(), comfy.utils.PROGRESS_BAR_HOOK
    command.add_arguments(parser)
    choice = [
        "--method",
        method,
        "--steps",
        "2",
        "--image",
        *map(str, pictures),
        "--out",
        str(tmp_path / "anna.safetensors"),
    ]
    checkpoint = folder_paths.get_full_path_or_raise("checkpoints", "faceworld.safetensors")
    command.finetune(parser.parse_args([*choice, *options, "--checkpoint", checkpoint]), host)
    tensors = load_file(tmp_path / "anna.safetensors")
    assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    if method == "lidb":
        found = load_lidb(tmp_path / "anna.safetensors")
        assert (found.rank, found.full_rank) == ((3, 0) if "--space" in options else (1, 2))
        assert found.facts.made_by == "finetuned"
    if method == "lora":
        assert {t.shape[0] for name, t in tensors.items() if "lora_down" in name} == {1}
    if method == "textual-inversion":
        assert tensors["emb_params"].shape == (2, 128)
    said = capsys.readouterr().out
    assert f"models/{FOLDERS[method]}" in said and ("embedding:anna face" in said) == (method == "textual-inversion")
    assert comfy.utils.PROGRESS_BAR_HOOK is hook


def test_the_command_says_what_is_missing(host, faces, tmp_path):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    choice = ["--image", str(tmp_path / "none.png"), "--out", str(tmp_path / "a.safetensors")]
    with pytest.raises(ValueError, match="no 'sd.safetensors' in the folder checkpoints; there are .*faceworld"):
        command.finetune(parser.parse_args([*choice, "--checkpoint", "sd.safetensors"]), host)
    assert list(tmp_path.iterdir()) == []


@torch.inference_mode()
def test_a_rate_for_the_miniature_is_not_let_loose_on_another_model(faceworld, faces, before, monkeypatch):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    monkeypatch.setattr(HostModel, "base", "SD15")
    for method, rate in (("dreambooth", "0.0005"), ("textual-inversion", "0.1")):
        args = parser.parse_args(["--method", method, "--image", "a.png", "--out", "a.safetensors"])
        with pytest.raises(ValueError, match=f"of {method}, {rate}, is for the miniature .* SD15. Give --lr; "):
            command.personalise(args, *faceworld, faces.reference, None)
    assert untouched(faceworld, before)


@pytest.mark.parametrize(
    "prompt, nobody",
    [
        ("a photo of a [V] face", "a photo of a face"),
        ("a photo of ([V] face:1.2), no [v]", "a photo of (face:1.2), no"),
        ("[V] face", "face"),
    ],
)
def test_the_class_prompt_is_without_the_person(prompt, nobody):
    assert Settings(1, 0.1, prompt=prompt).class_prompt == nobody
