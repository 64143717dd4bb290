"""precompute on a folder that its user mends, and train on one that is not finished."""

import json
import shutil

import pytest
from PIL import Image

from hyperdreambooth.cli import main
from hyperdreambooth.faceworld.renderer.world import person_pictures
from hyperdreambooth.hypernet.shards import PreparedPeople, read_plan

SMALL = ["--a", "12", "--b", "6", "--steps", "2", "--samples", "1"]


@pytest.fixture
def faces(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for p in range(3):
        Image.fromarray(person_pictures(912, 1, 0, (p, False))[0][0]).save(folder / f"{p}.png")
    return folder


def prepare(faces, out) -> dict:
    main(["precompute", "--images", str(faces), "--out", str(out), *SMALL])
    return json.loads((out / "report.json").read_text())


@pytest.fixture
def here(host, monkeypatch):
    """The command in the host that is booted already."""
    import hyperdreambooth.cli.prepare  # noqa: F401  names the class that is replaced next

    monkeypatch.setattr("hyperdreambooth.cli.headless.HeadlessHost", lambda *_: host)


def test_a_mended_picture_is_read_and_nothing_else_is_read_again(here, faces, tmp_path, capsys):
    whole = (faces / "1.png").read_bytes()
    (faces / "1.png").write_bytes(whole[: len(whole) // 2])
    (faces / "2").mkdir()
    shutil.move(faces / "2.png", faces / "2" / "edit_1.png")
    (faces / "3.png").symlink_to(faces / "gone.png")
    (faces / "folder.png").mkdir()
    (faces / "folder.png" / "odd.png").mkdir()
    shutil.copy(faces / "0.png", faces / "folder.png" / "fine.png")
    report = prepare(faces, tmp_path / "out")
    reasons = {entry["picture"]: entry["reason"] for entry in report["skipped"]}
    assert (
        set(reasons) == {"1.png", "2/edit_1.png", "3.png", "folder.png/odd.png"}
        and "without a caption" in reasons["2/edit_1.png"]
    )
    assert (report["people"], report["pictures"], report["batches"]) == (2, 2, 1)
    assert prepare(faces, tmp_path / "out")["batches"] == 1
    (faces / "1.png").write_bytes(whole)
    (faces / "2" / "edit_1.txt").write_text("pop art of a [V] face")
    shutil.copy(faces / "1.png", faces / "folder.png" / "more.png")
    capsys.readouterr()
    report = prepare(faces, tmp_path / "out")
    assert "folder.png (one of 1) has other pictures than when it was prepared" in capsys.readouterr().out
    assert {entry["picture"] for entry in report["skipped"]} == {"folder.png/odd.png", "3.png"}
    assert (report["people"], report["pictures"], report["fitted"]) == (4, 4, 4)
    assert read_plan(tmp_path / "out")["batches"][1] == ["1.png", "2"]
    assert PreparedPeople(tmp_path / "out").names == ["0.png", "folder.png", "1.png", "2"]


def test_whose_lidb_is_not_finite_is_left_out_but_not_everybody(here, faces, tmp_path, monkeypatch):
    from hyperdreambooth.cli import prepare as preparing

    whole = preparing.fit_people

    def broken(*args):
        theta, loss = whole(*args)
        theta[list(spoilt)] = float("nan")
        return theta, loss

    monkeypatch.setattr(preparing, "fit_people", broken)
    spoilt = {1}
    report = prepare(faces, tmp_path / "out")
    assert report["skipped"] == [{"picture": "1.png", "reason": "its LiDB came out without finite numbers"}]
    people = PreparedPeople(tmp_path / "out")
    assert people.names == ["0.png", "2.png"] and people.fitted.tolist() == [0, 1]
    spoilt = {0, 1, 2}
    with pytest.raises(
        SystemExit, match=r"LiDB of 0.png \(3 of 3 people\) came out without finite numbers.*lower --lr"
    ):
        prepare(faces, tmp_path / "other")


def test_a_folder_that_is_not_finished_is_not_trained_on_unasked(here, faces, tmp_path):
    prepare(faces, tmp_path / "out")
    plan = tmp_path / "out" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"batches": [["0.png", "1.png", "2.png"], ["9.png"]]}))
    run = ["train", "--data", str(tmp_path / "out"), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="is not finished: 1 of 2 batches.*--partial"):
        main(run)
    assert not (tmp_path / "run").exists()
