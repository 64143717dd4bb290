"""The workflows' example pictures are in the input folder after start-up, and nothing of the user's is overwritten."""

from pathlib import Path

import folder_paths

from hyperdreambooth.nodes import folders

EXAMPLE = "hyperdreambooth_person.png"


def test_the_example_pictures_are_there_after_start_up(host):
    pictures = sorted(Path(folders.WORKFLOWS).glob("*.png"))
    assert EXAMPLE in [p.name for p in pictures]
    for picture in pictures:
        assert (host.base / "input" / picture.name).read_bytes() == picture.read_bytes()


def test_a_picture_of_that_name_stays(host, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    (tmp_path / EXAMPLE).write_bytes(b"mine")
    folders.place_examples()
    assert (tmp_path / EXAMPLE).read_bytes() == b"mine"
    assert len(list(tmp_path.glob("*.png"))) == len(list(Path(folders.WORKFLOWS).glob("*.png")))


def test_the_folder_of_people_is_placed_once_and_then_left_to_its_owner(host, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    folders.place_examples()
    ours = sorted((Path(folders.WORKFLOWS) / folders.PEOPLE).iterdir())
    placed = tmp_path / folders.PEOPLE
    assert len(ours) == 4 and [p.read_bytes() for p in sorted(placed.iterdir())] == [p.read_bytes() for p in ours]
    (placed / ours[0].name).unlink()
    (placed / "mum.jpg").write_bytes(b"mine")
    folders.place_examples()
    assert sorted(p.name for p in placed.iterdir()) == ["mum.jpg"] + [p.name for p in ours[1:]]


def test_an_input_folder_that_cannot_be_written_is_reported_and_nothing_else(host, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "absent"))
    with caplog.at_level("INFO"):
        folders.place_examples()
    assert f"{EXAMPLE} could not be put into the input folder" in caplog.text
