"""The command line's manners: one sentence for what is wrong, pictures as people have them, nothing foreign touched."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from hyperdreambooth.cli import main
from hyperdreambooth.cli.demo import clear
from hyperdreambooth.cli.evaluate import Finished, _installed, add_arguments, is_the_committed_run
from hyperdreambooth.cli.headless import NodeFailed, link_extension
from hyperdreambooth.cli.host_install import REPOSITORY
from hyperdreambooth.cli.links import link
from hyperdreambooth.cli.people import choose_people, one_person


def noise(*size, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "error", [ValueError("plainly said"), NodeFailed("plainly said"), FileNotFoundError(2, "plainly said", "x.png")]
)
def test_what_went_wrong_is_one_sentence_with_status_one(error, monkeypatch, tmp_path, capsys):
    import hyperdreambooth.cli.doctor as doctor

    def fail(*_):
        raise error

    monkeypatch.setattr(doctor, "run", fail)
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    wanted = "hyperdreambooth doctor: plainly said" + (" (x.png)" if isinstance(error, OSError) else "")
    assert left.value.code == wanted  # a string: Python prints it and exits with 1


@pytest.mark.parametrize("verb, advice", [("precompute", "Lower --together"), ("train", "Raise --accumulate")])
@pytest.mark.parametrize(
    "said", ["CUDA out of memory. Tried", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you"]
)
def test_too_little_memory_names_what_to_lower(verb, advice, said, monkeypatch):
    kind = torch.OutOfMemoryError if "CUDA" in said else RuntimeError

    def fail(*_):
        raise kind(said + "\nmore")

    monkeypatch.setattr(f"hyperdreambooth.cli.{verb}.run", fail)
    with pytest.raises(SystemExit, match=re.escape(f"{verb}: out of memory ({said}). {advice}")):
        main([verb, "--out", "x", *(["--images", "x"] if verb == "precompute" else ["--data", "x"])])


def test_another_runtime_error_keeps_its_traceback(monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("hyperdreambooth.cli.doctor.run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["doctor"])


@pytest.mark.parametrize("wrong", [["--people", "0"], ["--seeds", "-1"], ["--nothing"]])
def test_a_wrong_command_line_ends_with_status_two(wrong, capsys):
    with pytest.raises(SystemExit) as left:
        main(["evaluate", *wrong])
    assert left.value.code == 2 and wrong[0] in capsys.readouterr().err


def test_the_demos_picture_is_turned_and_cut_square_as_the_node_does(tmp_path):
    picture = noise(160, 96)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    picture.save(tmp_path / "turned.png", exif=exif)
    face = one_person(tmp_path / "turned.png")
    upright = np.rot90(np.asarray(picture), -1)
    assert face.others == () and face.reference.size == (96, 96)
    assert (np.asarray(face.reference) == upright[32:128]).all()


@pytest.mark.parametrize("kind", ["missing", "torn", "tiny"])
def test_a_picture_that_cannot_be_used_ends_the_demo_in_a_sentence(kind, tmp_path, capsys):
    path = tmp_path / "picture.png"
    if kind == "torn":
        path.write_bytes(b"\x89PNG\r\n half a picture")
    if kind == "tiny":
        noise(40, 90).save(path)
    with pytest.raises(SystemExit) as left:
        main(["demo", "--image", str(path)])
    said = {"missing": "There is no picture", "torn": "not a readable picture", "tiny": "only 40 x 40 pixels"}[kind]
    assert said in left.value.code and str(path) in left.value.code and ".." not in left.value.code


def test_everybodys_further_photos_are_found_and_edits_are_not_among_them(tmp_path):
    for folder, names in {
        "a b": ["edit.png", "p1.png", "p2.png", "p3.png"],
        "a_b": ["x.png"],
        "a_b_2": ["y.png"],
    }.items():
        (tmp_path / folder).mkdir()
        for seed, name in enumerate(names):
            noise(64, 64, seed=seed).save(tmp_path / folder / name)
    (tmp_path / "family" / "anna").mkdir(parents=True)
    noise(64, 64).save(tmp_path / "family" / "anna" / "photo.png")
    people, skipped = choose_people(tmp_path, None)
    assert [s["picture"] for s in skipped] == ["family"] and "further down" in skipped[0]["reason"]
    assert len(people) == 3 and [len(p.others) for p in people.values()] == [2, 0, 0]
    assert (np.asarray(people["a_b"].reference) == np.asarray(noise(64, 64, seed=1))).all()
    committed, _ = choose_people(None, 2)
    assert list(committed) == ["person00", "person01"] and [len(p.others) for p in committed.values()] == [3, 3]


def test_the_demo_clears_its_own_files_and_nobody_elses(tmp_path):
    own = ["person0_predicted_00003_.safetensors", "comfyui/output/lidb/person_finetuned_00001_.safetensors",
           "comfyui/input/person2.png", "comfyui/input/person2_crop.png", "sheet.png", "report.json"]  # fmt: skip
    foreign = ["person4_predicted_00001_.safetensors", "person_anna.png", "comfyui/input/me.png",
               "comfyui/output/lidb/person_finetuned_best.safetensors", "notes.txt"]  # fmt: skip
    for name in own + foreign:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clear(tmp_path)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(foreign)


def test_an_older_link_no_longer_hides_the_embedded_hypernet(tmp_path):
    mine = tmp_path / "mine" / "faceworld.safetensors"
    mine.parent.mkdir()
    mine.touch()
    folder = tmp_path / "out" / "models" / "hypernets"
    assert _installed(str(mine), tmp_path / "out") == mine.name and (folder / mine.name).resolve() == mine
    (folder / "users.safetensors").touch()
    assert _installed(None, tmp_path / "out") is None
    assert [p.name for p in folder.iterdir()] == ["users.safetensors"]


@pytest.mark.parametrize(
    "chosen, may",
    [([], True), (["--zero-learning-rate", "0.02"], True), (["--seeds", "2"], True), (["--seeds", "3"], False),
     (["--no-zero"], False), (["--people", "9"], False), (["--images", "x"], False), (["--hypernet", "x"], False),
     (["--checkpoint", "x"], False)],
)  # fmt: skip
def test_only_the_plain_run_replaces_the_committed_result(chosen, may):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert is_the_committed_run(parser.parse_args(chosen)) == may


def test_finished_people_are_reused_only_for_the_same_run(tmp_path, capsys):
    reference, lidb = tmp_path / "r.png", tmp_path / "a_predicted_00001_.safetensors"
    noise(32, 32).save(reference)
    lidb.write_bytes(b"numbers")
    shown = [noise(16, 16, seed=i) for i in range(3)]
    one = {"pictures": {"plain": shown, "predicted": shown[:2]}, "seconds": {"predicted": 0.5}, "files": [lidb]}
    settings, folder = {"seeds": 2, "rate": 0.01}, tmp_path / "people"
    finished = Finished(folder, settings)
    assert finished.load(0, "a", reference) is None
    kept = finished.store(0, "a", reference, one)
    assert kept["files"] == [folder / "a" / lidb.name] and kept["files"][0].read_bytes() == b"numbers"
    again = Finished(folder, dict(settings)).load(0, "a", reference)
    assert again["seconds"] == one["seconds"] and again["files"] == kept["files"]
    for stage, pictures in one["pictures"].items():
        for before, after in zip(pictures, again["pictures"][stage], strict=True):
            assert (np.asarray(before) == np.asarray(after)).all()
    assert finished.load(1, "a", reference) is None  # another place in the list means other seeds
    capsys.readouterr()
    other = Finished(folder, {**settings, "rate": 0.02})
    assert other.load(0, "a", reference) is None and "another rate: starting afresh" in capsys.readouterr().out
    noise(32, 32, seed=5).save(reference)
    assert Finished(folder, settings).load(0, "a", reference) is None
    assert other.store(0, "a", reference, one) and other.load(0, "a", reference)
    (folder / "b").mkdir()
    with pytest.raises(ValueError, match="holds no finished person"):
        other.store(1, "b", reference, one)
    assert not list((folder / "b").iterdir())


def test_processes_that_boot_at_once_all_find_the_link(tmp_path):
    sys.setswitchinterval(1e-5)
    try:
        for i in range(10):
            base = tmp_path / str(i)
            (base / "custom_nodes").mkdir(parents=True)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(link_extension, [base] * 8))
            assert [p.resolve() for p in (base / "custom_nodes").iterdir()] == [REPOSITORY]
            assert not list(base.glob(".link*"))
    finally:
        sys.setswitchinterval(0.005)
    moved = base / "custom_nodes" / "ComfyUI-HyperDreamBooth"
    moved.unlink()
    moved.symlink_to(tmp_path / "an older clone")
    link_extension(base)
    assert moved.resolve() == REPOSITORY


def test_a_link_takes_the_place_of_an_older_one_and_leaves_nothing_else(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        link(tmp_path / name, tmp_path / "folder")
        link(tmp_path / name / "file", tmp_path / "linked")
        assert (tmp_path / "folder" / "file").read_text() == (tmp_path / "linked").read_text() == name
    assert {p.name for p in tmp_path.iterdir()} == {"one", "two", "folder", "linked"}


def test_an_archive_without_the_test_people_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("hyperdreambooth.cli.people.PEOPLE", tmp_path)
    with pytest.raises(ValueError, match="The test people are not in .*part of the repository"):
        choose_people(None, 4)


def test_faceworld_without_a_stage_names_them():
    with pytest.raises(SystemExit) as left:
        main(["faceworld"])
    assert "Choose a stage: " in left.value.code and "controlnet" in left.value.code
