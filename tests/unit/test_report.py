"""The evaluation's figures and its page."""

import re

import numpy as np
import pytest
from PIL import Image

from hyperdreambooth.cli.people import PEOPLE, choose_people
from hyperdreambooth.cli.report_page import page
from hyperdreambooth.cli.scores import comparison, measure, on_reference_only, paired, rows, table, to_tensor
from hyperdreambooth.faceworld.metrics import IdentityMetric

HOSTILE = "<script>alert(1)</script>"


def values(identity, prompt=0.8):
    identity = np.array(identity, float)
    if prompt is None:
        return {"identity": identity, "edit_identity": None, "prompt": None}
    return {"identity": identity, "edit_identity": 0.9 * identity, "prompt": np.full(len(identity), prompt)}


SCORES = {
    "plain": values([0.0, 0.2, 0.1]),
    "predicted": values([0.6, 0.4, 0.5], 0.7),
    "finetuned": values([0.9, 0.7, 0.8]),
    "zero_40": values([0.8, 0.6, 0.7]),
    "ceiling": values([0.9, 0.9, 0.9], None),
}


def test_rows_have_intervals_and_the_share_of_the_way():
    by = {row["stage"]: row for row in rows(SCORES, {"predicted": 0.5})}
    assert by["plain"]["share"] == pytest.approx(0) and by["ceiling"]["share"] == pytest.approx(1)
    assert by["predicted"]["share"] == pytest.approx(0.5) and by["predicted"]["seconds"] == 0.5
    assert by["predicted"]["low"] < 0.5 < by["predicted"]["high"] and by["ceiling"]["prompt"] is None
    assert by["finetuned"]["prompt_low"] == pytest.approx(0.8)
    assert by["finetuned"]["edit_low"] < by["finetuned"]["edit_identity"] == pytest.approx(0.72)
    assert by["ceiling"]["edit_identity"] is None and by["plain"]["people"] == by["ceiling"]["people"] == 3


def test_somebody_without_another_photo_takes_no_part_in_ceiling_and_share():
    scores = {**SCORES, "ceiling": values([0.9, np.nan, 0.7], None)}
    found = rows(scores, {})
    by = {row["stage"]: row for row in found}
    assert by["ceiling"]["identity"] == pytest.approx(0.8) and by["ceiling"]["people"] == 2
    assert by["ceiling"]["share"] == pytest.approx(1) and by["plain"]["share"] == pytest.approx(0)
    assert by["predicted"]["share"] == pytest.approx((0.55 - 0.05) / (0.8 - 0.05))
    assert by["predicted"]["identity"] == pytest.approx(0.5) and by["predicted"]["people"] == 3
    assert "Only 2 of 3" in comparison(found) and "Only 2 of 3" in table(found)
    nobody = rows({k: v for k, v in SCORES.items() if k != "ceiling"}, {})
    assert "there is no ceiling" in comparison(nobody) and not any("share" in row for row in nobody)


def test_likeness_is_measured_on_the_other_photos_and_not_on_the_reference():
    """A stage that copies the reference pixel by pixel earns the ceiling, not 1."""
    people, _ = choose_people(None, 3)
    names = list(people)
    references, others = ({n: getattr(p, key) for n, p in people.items()} for key in ("reference", "others"))
    photo1 = {n: Image.open(PEOPLE / f"{n[-2:]}_photo1.png").convert("RGB") for n in names}
    copies = {n: [references[n], references[n], photo1[n]] for n in names}
    study = {"pictures": {stage: copies for stage in ("plain", "mean", "predicted", "finetuned")}}
    assert [len(o) for o in others.values()] == [3, 3, 3] and on_reference_only(study, others) == []
    found = measure(study, references, others, {"a pop art of it": {"style": "pop art"}}, seeds=2)
    assert found["finetuned"]["identity"] == pytest.approx(found["ceiling"]["identity"], abs=1e-5)
    assert (found["ceiling"]["identity"] < 0.999).all() and found["ceiling"]["identity"].mean() > 0.75
    metric = IdentityMetric()
    edited = [metric.similarity(to_tensor(others[n]), to_tensor([photo1[n]])).mean().item() for n in names]
    assert found["finetuned"]["edit_identity"] == pytest.approx(edited, abs=1e-5)
    assert found["wrong_person"]["identity"].mean() < 0.5
    alone = measure(study, references, {**others, names[1]: ()}, {"a pop art of it": {"style": "pop art"}}, seeds=2)
    assert np.isnan(alone["ceiling"]["identity"]).tolist() == [False, True, False]
    assert alone["finetuned"]["identity"][1] == pytest.approx(1, abs=1e-5)
    assert alone["finetuned"]["identity"][0] == found["finetuned"]["identity"][0]


def test_a_constant_gain_has_no_spread_person_by_person():
    found = paired(SCORES, "finetuned", "zero_40")
    assert found["identity"] == pytest.approx([0.1, 0.1, 0.1]) and found["prompt"] == pytest.approx([0, 0, 0])
    assert found["edit_identity"] == pytest.approx([0.09, 0.09, 0.09])


def made(scores, result_rows):
    names, tile = ["a", "b", HOSTILE], Image.new("RGB", (8, 8))
    pictures = {s: {n: [tile] * 3 for n in names} for s in ("plain", "predicted", "finetuned", "zero_40")}
    result = {
        "rows": result_rows, "files": {"a": 9000}, "people": 3, "seeds": 1, "hardware": "here", "checkpoint": "c",
        "hypernet": HOSTILE, "base": "Faceworld", "skipped": [{"picture": HOSTILE, "reason": "torn"}],
        "finetune_learning_rate": 0.0125, "zero_learning_rate": None, "scored_on_reference": [HOSTILE],
        "paired": {"finetuned - zero_40": paired(SCORES, "finetuned", "zero_40")},
    }  # fmt: skip
    return page(result, scores, pictures, dict.fromkeys(names, tile), ["as <b>pop art</b>", "at the beach"])


@pytest.mark.parametrize("scored", [True, False])
def test_the_page_stands_alone_and_shows_everybody(scored):
    scores = SCORES if scored else {}
    text = made(scores, rows(SCORES, {}) if scored else [{"stage": "predicted", "seconds": 1.0}])
    bare = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert not re.search(r"//|url\(|href|@import|<script|<b>", bare)
    assert text.count('class="who"') == 3 and text.count("<img") == 3 * (1 + 4 + 3 * 2)
    assert ("best" in text and "worst" in text) == scored
    assert ("<svg" in text) == scored and ("no scores" in text) == (not scored)
    assert "torn" in text and "0.0125" in text and "zero_learning_rate" not in text
    assert ("edit identity +0.09" in text and "never with the picture that was handed in" in text) == scored
