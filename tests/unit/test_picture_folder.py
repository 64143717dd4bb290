"""A folder of faces, as people really keep it."""

import pytest

from hyperdreambooth.cli.precompute import _part
from hyperdreambooth.hypernet.picture_folder import caption_of, find_people, fingerprint, is_reference, mask_of


def test_sub_folders_and_single_files_are_people_in_natural_order(tmp_path):
    for name in ("p10/b.png", "p10/a.JPG", "p2/photo.png", "p2/edit_1.webp", "p2/photo.mask.png", "empty/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("anna.jpeg", ".hidden.png", "anna.mask.png"):
        (tmp_path / name).touch()
    people = find_people(tmp_path)
    assert [p.name for p in people] == ["anna.jpeg", "p2", "p10"]
    assert [p.name for p in people[1].pictures] == ["edit_1.webp", "photo.png"]
    assert [is_reference(p) for p in people[1].pictures] == [False, True]
    assert mask_of(people[1].pictures[1]).name == "photo.mask.png" and mask_of(people[1].pictures[0]) is None


def test_captions_come_from_beside_the_picture_and_must_have_the_trigger(tmp_path):
    picture = tmp_path / "a.png"
    assert caption_of(picture, "a [V] face", "[V] face") == "a [V] face"
    (tmp_path / "a.txt").write_text("pop art of a [V] face\n")
    assert caption_of(picture, "a [V] face", "[V] face") == "pop art of a [V] face"
    (tmp_path / "a.txt").write_text("pop art of Anna")
    with pytest.raises(ValueError, match="lacks the trigger phrase"):
        caption_of(picture, "a [V] face", "[V] face")


def test_an_edit_is_named_so_and_has_a_caption(tmp_path):
    named = {
        "edit.png": False,
        "edit_2.png": False,
        "edit-sketch.jpg": False,
        "edit2.png": False,
        "edith.jpg": True,
        "edited.png": True,
    }
    assert {name: is_reference(tmp_path / name) for name in named} == named
    with pytest.raises(ValueError, match=r"an edit without a caption; write what it shows into edit_2\.txt"):
        caption_of(tmp_path / "edit_2.png", "a photo of a [V] face", "[V] face")
    (tmp_path / "edit_2.txt").write_text("pop art of a [V] face")
    assert caption_of(tmp_path / "edit_2.png", "a photo of a [V] face", "[V] face") == "pop art of a [V] face"


def test_a_persons_fingerprint_follows_pictures_captions_and_masks(tmp_path):
    (tmp_path / "anna").mkdir()
    seen = []
    for name, text in (("a.png", "."), ("a.png", ".."), ("a.txt", "a [V] face"), ("a.mask.png", "."), ("b.jpg", ".")):
        (tmp_path / "anna" / name).write_text(text)
        seen.append(fingerprint(find_people(tmp_path)[0]))
    assert len(set(seen)) == len(seen) and fingerprint(find_people(tmp_path)[0]) == seen[-1]


def test_nothing_to_learn_from_is_said(tmp_path):
    with pytest.raises(ValueError, match="has no pictures"):
        find_people(tmp_path)
    (tmp_path / "family" / "anna").mkdir(parents=True)
    (tmp_path / "family" / "anna" / "photo.png").touch()
    with pytest.raises(ValueError, match="has no pictures"):
        find_people(tmp_path)
    with pytest.raises(ValueError, match="There is no folder"):
        find_people(tmp_path / "gone")


def test_machines_and_their_processes_divide_the_batches_without_overlap(monkeypatch):
    taken = []
    for machine in ("1/3", "2/3", "3/3"):
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("WORLD_SIZE", "2")
            part, parts = _part(machine)
            taken += [number for number in range(20) if number % parts == part]
    assert sorted(taken) == list(range(20))
    for wrong in ("0/3", "4/3", "three"):
        with pytest.raises(ValueError, match="--part is i/n"):
            _part(wrong)
