"""Every row of the tables can be measured on the real host, and the same row twice is the same numbers."""

from dataclasses import replace

import pytest
import torch

from hyperdreambooth.bench.tables import arms as A
from hyperdreambooth.bench.tables.costs import _cost
from hyperdreambooth.bench.tables.drawing import CLASS, PHOTOS, PROMPTS, Bench
from hyperdreambooth.bench.tables.parameters import ParameterReader
from hyperdreambooth.bench.tables.rulers import Rulers
from hyperdreambooth.bench.tables.world import Subject
from hyperdreambooth.lidb.file import save_lidb
from hyperdreambooth.nodes.host import HostModel

WAYS = {
    "predicted": A.PREDICTED, "wrong": A.CONTROLS[1], "mean": A.CONTROLS[2], "plain": A.CONTROLS[0], "unseen": A.CEILING,
    "cartoon": A.CEILING_OF_CARTOONS, "hyperdreambooth": A.FULL, "inside": A.IN_BASIS, "lidb": A.INSIDE_THE_BASIS[1], "basis": A.BASES[0],
    "dreambooth": A.DREAMBOOTH, "textual-inversion": A.TEXTUAL_INVERSION, "lora": A.LORA_1, "several": A.SEVERAL[0], "prior": A.PRIOR,
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(host, tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = ParameterReader()
    reader.explained.fill_(1.0)
    reader.spread.fill_(1.0)
    return Bench(host, tmp_path_factory.mktemp("hypernets"), Rulers(reader.eval(), gallery=3), crowd=3)


@pytest.mark.parametrize("method", WAYS)
def test_every_kind_of_row_is_measured(bench, method, monkeypatch):
    monkeypatch.setattr("hyperdreambooth.bench.tables.drawing.CLASS_PICTURES", 2)  # 64 take too long
    arm = replace(WAYS[method], steps=min(2, WAYS[method].steps), hypernet="faceworld")
    scores, pictures = bench.score(arm, 1)
    assert all(map(torch.isfinite, map(torch.tensor, scores.values())))
    assert ("rank_1" in scores) == (method != "cartoon")  # no cartoon is in the gallery
    if method in ("unseen", "cartoon"):
        given = Subject(1).references(arm.reference, 5 if method == "unseen" else 1).movedim(-1, 1)
        assert not any(torch.equal(pictures[0], seen) for seen in [*given, *Subject(1).others(arm.reference)])
        assert scores["identity"] > 0.6
    else:
        assert pictures.shape == (len(PROMPTS), 3, 128, 128)
        assert 0 <= scores["prompt"] <= 1 and scores["diversity"] > 0
        assert (scores["drift"] == pytest.approx(0, abs=1e-5)) == (method in ("plain", "textual-inversion"))


@pytest.mark.parametrize("method", ["predicted", "hyperdreambooth", "lora"])
def test_what_a_person_costs_is_the_file_that_a_user_gets(bench, method, tmp_path):
    arm = replace(WAYS[method], steps=min(2, WAYS[method].steps))
    with torch.inference_mode():
        cost = _cost(bench, arm)
        person = bench.predict(arm, Subject(0)) if method == "predicted" else bench.learn(arm, Subject(1))
    if method == "predicted":
        save_lidb(tmp_path / "p.safetensors", person, "float16")
    else:
        person.save(tmp_path / "p.safetensors")
    size = (tmp_path / "p.safetensors").stat().st_size
    assert cost["seconds"] > 0 and abs(cost["bytes"] - size) < 64  # the order of safetensors' description is random
    assert cost["trained"] == (0 if method == "predicted" else person.trained)


def test_a_row_repeats_and_the_noise_is_the_same_for_all_rows(bench):
    once, pictures = bench.score(A.PREDICTED, 2)
    again, same = bench.score(A.PREDICTED, 2)
    assert torch.equal(pictures, same)
    assert {k: v for k, v in once.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}
    with torch.inference_mode():
        neutral = bench.draw(bench.model.clone(), bench.clip.clone(), bench.seeds(2)[1])
    assert torch.equal(neutral, bench.plain_pictures(2))


def test_the_pieces_of_a_dreambooth_are_all_of_it_and_train_nothing_else(bench):
    pieces, table = [bench.trained_weights(arm) for arm in A.PIECES], HostModel(bench.model, bench.clip).table
    assert bench.trained_weights(A.DREAMBOOTH) is None and len(pieces[0]) == len(table.names)
    assert set.union(*pieces) == set(HostModel(bench.model, bench.clip).weights())
    assert sum(map(len, pieces)) == len(set.union(*pieces)) and all(pieces)
    for arm, those in zip(A.PIECES, pieces, strict=True):
        with torch.inference_mode():
            learnt = bench.learn(replace(arm, steps=1), Subject(1))
        assert set(learnt.model.patches) | set(learnt.clip.patcher.patches) <= those
        assert learnt.model.patches or learnt.clip.patcher.patches


def test_every_person_has_seeds_of_their_own_where_intervals_are_over_people(bench):
    assert len({seed for number in range(100) for seed in bench.seeds(number)}) == 200


def test_the_face_alone_is_what_face_features_see(bench):
    photo = Subject(1).others()[:1]
    elsewhere = photo.clone()
    elsewhere[..., :16, :] = 1 - elsewhere[..., :16, :]  # above the oval
    (whole, face), (other_whole, same_face) = bench.rulers.features(photo), bench.rulers.features(elsewhere)
    assert torch.equal(face, same_face) and not torch.equal(whole, other_whole)
    elsewhere[..., 60:80, 50:80] = 0
    assert not torch.equal(bench.rulers.features(elsewhere)[1], face)


def test_the_gallery_finds_a_persons_own_photo(bench):
    found = bench.rulers.likeness(Subject(2).others(), Subject(2).others(), Subject(2).person(), 2)
    assert found["rank_1"] == 1.0 and found["identity"] > 0.8 and found["face_features"] > 0.5


def test_photos_come_first_and_anybody_last():
    assert len(set(PROMPTS[:PHOTOS])) == 1
    assert not any("[V]" in prompt for prompt in PROMPTS[-CLASS:]) and all("[V]" in p for p in PROMPTS[:-CLASS])
