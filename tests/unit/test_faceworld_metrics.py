"""The metrics' limits, as METRICS.md states them, on the committed test people."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.cli.study import EDITS as PROMPTS
from hyperdreambooth.faceworld.check_metrics import EDITS, smear, soften
from hyperdreambooth.faceworld.metrics import WEIGHTS, AttributeMetric, IdentityMetric, bootstrap_interval

PEOPLE = Path(__file__).resolve().parents[2] / "faceworld" / "people"


@pytest.fixture(scope="module")
def photos():
    """(2, 50, 3, 128, 128): reference and another photo of each test person."""
    views = [
        [np.asarray(Image.open(PEOPLE / f"{i:02d}_{view}.png").convert("RGB")) for i in range(50)]
        for view in ("reference", "photo1")
    ]
    return torch.from_numpy(np.array(views)).permute(0, 1, 4, 2, 3).float() / 255


def test_softness_is_not_another_person(photos):
    assert (soften(photos[1], 32) - photos[1]).abs().mean() > 0.003
    metric = IdentityMetric()
    crisp, soft = (metric.similarity(x, photos[0]).mean() for x in (photos[1], soften(photos[1], 32)))
    assert abs(crisp - soft) < 0.05


def test_the_identity_score_sees_the_inner_face(photos):
    """A smeared face is less alike than a soft one, and still more than a look-alike's 0.42 (METRICS.md)."""
    changed = (smear(photos[1]) - photos[1]).abs().amax(1)  # (50, 128, 128)
    assert changed[:, 46:100, 38:90].mean() > 0.02 and changed[:, :46].sum() == changed[..., 90:].sum() == 0
    metric = IdentityMetric()
    crisp, smeared = (metric.similarity(x, photos[0]).mean() for x in (photos[1], smear(photos[1])))
    assert crisp - smeared > 0.1 and smeared > 0.6


def test_a_plain_photo_does_not_pass_for_an_edit(photos):
    wanted = [{"style": "photo", "accessory": "crown", "context": "beach"}] * 50
    assert AttributeMetric().prompt_score(photos[0], wanted).mean() < 0.4


def test_the_edits_that_are_checked_are_the_demos():
    assert list(PROMPTS.values()) == list(EDITS)


def test_both_metrics_refuse_another_size(photos):
    for look in (IdentityMetric().embed, AttributeMetric().probabilities):
        with pytest.raises(ValueError, match="128, 128"):
            look(photos[0, :, :, ::2, ::2])


def test_the_interval_is_repeatable_and_narrows_with_people():
    few = bootstrap_interval(np.linspace(0, 1, 5), seed=1)
    many = bootstrap_interval(np.tile(np.linspace(0, 1, 5), 20), seed=1)
    assert few == bootstrap_interval(np.linspace(0, 1, 5), seed=1)
    assert many[2] - many[1] < few[2] - few[1]


def test_the_weights_are_small():
    assert sum(f.stat().st_size for f in WEIGHTS.glob("*.safetensors")) < 3e6
