"""The workflows' example picture is in the input folder after start-up, and nothing of the user's is overwritten."""

import folder_paths

from hyperdreambooth.nodes import folders


def test_the_example_picture_is_there_after_start_up(host):
    placed = host.base / "input" / folders.EXAMPLE
    with open(f"{folders.WORKFLOWS}/{folders.EXAMPLE}", "rb") as source:
        assert placed.read_bytes() == source.read()


def test_a_picture_of_that_name_stays(host, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    (tmp_path / folders.EXAMPLE).write_bytes(b"mine")
    folders.place_example()
    assert (tmp_path / folders.EXAMPLE).read_bytes() == b"mine"


def test_an_input_folder_that_cannot_be_written_is_reported_and_nothing_else(host, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "absent"))
    with caplog.at_level("INFO"):
        folders.place_example()
    assert "could not be put into the input folder" in caplog.text
