"""Faceworld's parts that need no host."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.faceworld.autoencoder import SlimTAESD, wake
from hyperdreambooth.faceworld.metrics import AttributeMetric, IdentityMetric, bootstrap_interval
from hyperdreambooth.faceworld.vocabulary import BOS, EOS, UNKNOWN, WORDS, WordTokenizer

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = ROOT / "faceworld" / "people"


def picture(name):
    return torch.from_numpy(np.array(Image.open(PEOPLE / name))).permute(2, 0, 1)[None].float() / 255


def test_words_become_tokens_and_unknown_ones_are_named(caplog):
    WordTokenizer()("pop art of a [V] face")
    assert not caplog.messages
    ids = WordTokenizer()("a Photo of a [V] face, please")["input_ids"]
    assert [WORDS[i] for i in ids[1:-1]] == ["a", "photo", "of", "a", "[V]", "face", "<unk>"]
    assert (ids[0], ids[-1], ids[-2]) == (BOS, EOS, UNKNOWN) and len(set(WORDS)) == len(WORDS) == 69
    assert "does not know the word please: it is ignored" in caplog.text and " pixel " in caplog.text


def test_the_identity_metric_tells_people_apart():
    metric = IdentityMetric()
    references = torch.cat([picture(f"{i:02d}_reference.png") for i in range(50)])
    others = torch.cat([picture(f"{i:02d}_photo1.png") for i in range(50)])
    assert torch.allclose(metric.similarity(references, references), torch.ones(50), atol=1e-5)
    same = metric.similarity(others, references)
    different = metric.similarity(others.roll(1, 0), references)
    assert same.mean() > 0.7 and different.mean() < 0.4 and (same > different).float().mean() > 0.9
    with pytest.raises(ValueError, match="128"):
        metric.embed(references[..., :64])


def test_the_attribute_metric_knows_a_photo():
    score = AttributeMetric().prompt_score(picture("00_reference.png"), [{"style": "photo", "accessory": "none"}])
    assert score.item() > 0.8


def test_the_interval_holds_the_mean():
    m, low, high = bootstrap_interval(np.array([0.1, 0.2, 0.3, 0.4]))
    assert low < m < high and m == pytest.approx(0.25)


def test_an_absent_block_is_relu_in_the_full_layout():
    slim, full = SlimTAESD(), SlimTAESD((1, 3, 3, 3), (1, 3, 3, 3))
    state = slim.to_taesd()
    renamed = {}
    for key in full.state_dict():
        part, index, rest = key.split(".", 2)
        rest = rest.removeprefix("conv.") if f"taesd_{part}.{index}.{rest}" not in state else rest
        renamed[key] = state[f"taesd_{part}.{index}.{rest}"]
    full.load_state_dict(renamed)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = slim.encode(x)
        assert torch.allclose(full.encode(x), z, atol=1e-5)
        assert torch.allclose(full.decode(z), slim.decode(z), atol=1e-5)


def test_channels_left_at_zero_wake_without_a_change_of_the_function():
    model, stream = SlimTAESD(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        absent = [model.decoder["17"].weight, *model.decoder["13"].conv.parameters()]  # what a narrower network leaves
        absent[0][24:] = 0
        model.decoder["19"].weight[:, 24:] = 0
        for weight in absent[1:]:
            weight.zero_()
        z = torch.randn(1, 8, 4, 4, generator=stream)
        before = model.decode(z)
        wake(model, stream)
        assert torch.equal(model.decode(z), before)
    model.decode(z).pow(2).sum().backward()
    assert absent[0][24:].abs().amax() > 0 and model.decoder["19"].weight.grad[:, 24:].abs().amax() > 0
    assert model.decoder["13"].conv[4].weight.grad.abs().amax() > 0  # an absent block begins with its last convolution
