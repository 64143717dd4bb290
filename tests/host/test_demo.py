"""The demo and the evaluation on the real host, small: one person, one edit, few steps."""

import argparse
import hashlib
import json
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.cli import evaluate
from hyperdreambooth.cli.demo import TILE, main_job
from hyperdreambooth.cli.headless import NodeFailed
from hyperdreambooth.cli.people import choose_people
from hyperdreambooth.cli.study import EDITS, Study
from hyperdreambooth.hypernet.checkpoint import load_hypernet, save_hypernet
from hyperdreambooth.lidb.file import load_lidb

EDIT = "pop art of a [V] face"


@pytest.fixture
def study(host):
    small = Study(host, edits={EDIT: EDITS[EDIT]})
    small.graph[small.finetune]["inputs"]["steps"] = 2
    small.graph[small.finetune]["inputs"]["batch_size"] = 1
    small.sampler["steps"] = 2
    return small


@pytest.fixture
def people():
    return {"person0": choose_people(None, 1)[0]["person00"]}


def test_the_demo_leaves_sheet_files_and_scores(study, people, tmp_path, capsys):
    for _ in range(2):  # a second run gives the same names
        main_job(study, people, tmp_path, time.time() - 5)
        report = json.loads((tmp_path / "report.json").read_text())
        assert list(report["files"]) == [f"person0_{k}_00001_.safetensors" for k in ("predicted", "finetuned")]
    by = {row["stage"]: row for row in report["rows"]}
    assert list(by) == ["plain", "predicted", "finetuned", "ceiling"] and report["scored_on_reference"] == []
    keys = {"stage", "identity", "low", "high", "prompt", "seconds", "share", "people", "edit_identity"}
    assert all(keys <= row.keys() for row in report["rows"])
    assert {"prompt_low", "prompt_high", "edit_low", "edit_high"} <= by["finetuned"].keys()
    assert by["predicted"]["seconds"] > 0 and by["finetuned"]["seconds"] > 0
    assert by["predicted"]["identity"] > by["plain"]["identity"]
    for name, size in report["files"].items():
        assert (tmp_path / name).stat().st_size == size and 4_000 < size < 140_000
    predicted, finetuned = (load_lidb(tmp_path / name) for name in report["files"])
    assert predicted.facts.made_by == "predicted" and (predicted.full_rank, finetuned.full_rank) == (0, 4)
    assert torch.equal(finetuned.A_train, predicted.A_train)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (5 * TILE, TILE)  # reference, plain, predicted, finetuned, one edit
    shown = np.asarray(people["person0"].reference.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS))
    assert (np.asarray(sheet)[:, :TILE] == shown).all()
    output = capsys.readouterr().out
    assert report["total_seconds"] > 5 and re.search(r"sheet\.png +\d+ seconds", output) and "of edits" in output


def test_an_interrupted_evaluation_makes_only_who_is_missing(study, tmp_path, monkeypatch):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    choice = ["--people", "2", "--seeds", "1", "--zero-learning-rate", "0.02", "--out", str(tmp_path)]
    args, whole, made = parser.parse_args(choice), study.person, {}

    def stop_at_the_second(number, name, *rest):
        if made:
            raise NodeFailed("The run was interrupted.")
        made[name] = whole(number, name, *rest)
        return made[name]

    monkeypatch.setattr(study, "person", stop_at_the_second)
    monkeypatch.setattr("hyperdreambooth.cli.study.Study", lambda *_: study)
    with pytest.raises(NodeFailed):
        evaluate.run(args, [])
    first = made.pop("person00")
    assert not (tmp_path / "report.json").exists()
    evaluate.run(args, [])
    assert list(made) == ["person01"]
    for stage, pictures in first["pictures"].items():
        for i, picture in enumerate(pictures):
            kept = Image.open(tmp_path / "people" / "person00" / f"{stage}_{i}.png")
            assert (np.asarray(kept) == np.asarray(picture)).all(), stage
    report = json.loads((tmp_path / "report.json").read_text())
    by = {row["stage"]: row for row in report["rows"]}
    assert list(by) == ["plain", "wrong_person", "mean", "predicted", "finetuned", "zero_40", "ceiling"]
    assert list(report["files"]) == [
        f"person0{i}_{k}_00001_.safetensors" for i in (0, 1) for k in ("predicted", "finetuned")
    ]
    assert by["zero_40"]["seconds"] == np.mean([p["seconds"]["zero_40"] for p in (first, made["person01"])])
    rate = study.graph[study.finetune]["inputs"]["learning_rate"]
    assert (report["finetune_steps"], report["finetune_learning_rate"], report["zero_learning_rate"]) == (2, rate, 0.02)
    assert report["hypernet_sha256"] == hashlib.sha256(study.files["hypernet"].read_bytes()).hexdigest()
    shown = [np.asarray(pictures[0]) for pictures in first["pictures"].values()]
    assert all((one != other).any() for i, one in enumerate(shown) for other in shown[:i])  # every stage is its own
    assert (tmp_path / "report.html").read_text().count('class="who"') == 2


def test_a_hypernet_for_another_base_is_refused_before_anything_runs(study, host):
    net, identity = load_hypernet(study.files["hypernet"])
    folder = host.base / "models" / "hypernets"
    folder.mkdir(exist_ok=True)
    save_hypernet(folder / "foreign.safetensors", net, type(identity)(**{**vars(identity), "base": "SD15"}))
    with pytest.raises(ValueError, match="foreign.safetensors predicts people for SD15, but .* is Faceworld"):
        Study(host, hypernet="foreign.safetensors")


def test_a_hypernet_with_words_of_its_own_is_evaluated_by_them(study, host, people, tmp_path):
    net, identity = load_hypernet(study.files["hypernet"])
    folder = host.base / "models" / "hypernets"
    folder.mkdir(exist_ok=True)
    save_hypernet(folder / "sks.safetensors", net, type(identity)(**{**vars(identity), "trigger": "sks person"}))
    other = Study(host, hypernet="sks.safetensors", edits=study.edits)
    other.graph[other.finetune]["inputs"] |= {"steps": 2, "batch_size": 1}
    other.sampler["steps"] = 2
    assert other.prompts() == ["a photo of a sks person", "pop art of a sks person"]
    reference = tmp_path / "r.png"
    people["person0"].reference.save(reference)
    made = other.person(0, "sks", reference, True, None)
    assert load_lidb(made["files"][1]).facts.trigger == "sks person"
    usual = study.person(0, "usual", reference, True, None)
    same = [
        np.array_equal(*map(np.asarray, pair))
        for pair in zip(made["pictures"]["zero_40"], usual["pictures"]["zero_40"], strict=True)
    ]
    assert all(same)  # who was learnt without the HyperNet is called by the usual words
