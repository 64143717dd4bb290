"""The evaluation's figures and its page."""

import re

import numpy as np
import pytest
from PIL import Image

from hyperdreambooth.cli.report_page import page
from hyperdreambooth.cli.scores import paired, rows

HOSTILE = "<script>alert(1)</script>"


def values(identity, prompt=0.8):
    return {"identity": np.array(identity, float), "prompt": None if prompt is None else np.full(len(identity), prompt)}


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


def test_a_constant_gain_has_no_spread_person_by_person():
    found = paired(SCORES, "finetuned", "zero_40")
    assert found["identity"] == pytest.approx([0.1, 0.1, 0.1]) and found["prompt"] == pytest.approx([0, 0, 0])


def made(scores, result_rows):
    names, tile = ["a", "b", HOSTILE], Image.new("RGB", (8, 8))
    pictures = {s: {n: [tile] * 3 for n in names} for s in ("plain", "predicted", "finetuned", "zero_40")}
    result = {
        "rows": result_rows, "files": {"a": 9000}, "people": 3, "seeds": 1, "hardware": "here", "checkpoint": "c",
        "hypernet": HOSTILE, "base": "Faceworld", "skipped": [{"picture": HOSTILE, "reason": "torn"}],
    }  # fmt: skip
    return page(result, scores, pictures, dict.fromkeys(names, tile), ["as <b>pop art</b>", "at the beach"])


@pytest.mark.parametrize("scored", [True, False])
def test_the_page_stands_alone_and_shows_everybody(scored):
    scores = SCORES if scored else {}
    text = made(scores, rows(SCORES, {}) if scored else [{"stage": "predicted", "seconds": 1.0}])
    bare = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert not re.search(r"//|url\(|href|@import|<script|<b>", bare)
    assert text.count('class="who"') == 3 and text.count("<img") == 3 * 7
    assert ("best" in text and "worst" in text) == scored
    assert ("<svg" in text) == scored and ("no scores" in text) == (not scored)
    assert "torn" in text
