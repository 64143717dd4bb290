"""The drawn world: seeds fix every pixel, captions use known words only."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hyperdreambooth.faceworld.renderer import world
from hyperdreambooth.faceworld.vocabulary import WORDS

PEOPLE = Path(__file__).resolve().parents[2] / "faceworld" / "people"
TEST_SPLIT = 19


@pytest.mark.parametrize("index", range(50))
def test_the_committed_test_people_are_what_the_renderer_draws(index):
    pictures, record = world.person_pictures(TEST_SPLIT, 4, 0, (index, False))
    for name, drawn in zip(("reference", "photo1", "photo2", "photo3"), pictures, strict=True):
        assert np.array_equal(np.asarray(Image.open(PEOPLE / f"{index:02d}_{name}.png").convert("RGB")), drawn)
    committed = json.loads((PEOPLE / "people.json").read_text())
    assert committed["split"] == TEST_SPLIT
    assert committed["people"][index]["captions"] == [p["caption"] for p in record["pictures"]]


def test_captions_use_only_words_that_the_text_encoder_knows():
    captions = [world.base_picture(i)[1]["caption"] for i in range(200)]
    captions += [p["caption"] for i in range(30) for p in world.person_pictures(17, 1, 4, (i, False))[1]["pictures"]]
    words = {w for c in captions for w in re.findall(r"\[V\]|\w+", c)}
    assert words <= set(WORDS)
    assert len(words) > 50  # and the sample says most of what can be said


def test_a_lookalike_shares_colours_and_haircut_but_not_the_face():
    person, twin = world.identity(13, 5), world.identity(13, 5, lookalike=True)
    assert (person.skin, person.hair, person.hair_colour) == (twin.skin, twin.hair, twin.hair_colour)
    assert (person.jaw, person.eye_x, person.strands) != (twin.jaw, twin.eye_x, twin.strands)


def test_folders_are_written_for_the_trainers(tmp_path):
    world.main(
        ["people", "--split", "17", "--count", "3", "--edits", "1", "--lookalikes", "--out", str(tmp_path / "p")]
    )
    pictures, records = np.load(tmp_path / "p" / "people.npy"), json.loads((tmp_path / "p" / "people.json").read_text())
    assert pictures.shape == (6, 3, 128, 128, 3) and [r["lookalike_of"] for r in records] == [None] * 3 + [0, 1, 2]
    world.main(["base", "--count", "3", "--out", str(tmp_path / "b")])
    assert np.array_equal(np.load(tmp_path / "b" / "x.npy")[2], world.base_picture(2)[0])
    assert len(json.loads((tmp_path / "b" / "captions.json").read_text())) == 3
