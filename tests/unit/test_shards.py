"""Shards on a shared folder: what killed writers leave behind, and what is read back."""

import os
import time

import torch

from hyperdreambooth.hypernet.shards import (
    PreparedPeople,
    Shard,
    count_shard,
    open_plan,
    read_shard,
    write_report,
    write_shard,
)

FACES, LATENTS = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.ones(2, 4, 1, 1).half()


def shard() -> Shard:
    owner, reference = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([1, 0], dtype=torch.uint8)
    theta, loss, skipped = torch.full((1, 3, 5), 0.5), torch.tensor([0.25]), [["c.png", "it is torn"]]
    return Shard(
        ["a", "b"], ["x", "y"], FACES, LATENTS, owner, reference, theta, loss, skipped, {"a": "1", "c.png": "2"}
    )


def test_a_shard_is_read_as_it_was_written(tmp_path):
    assert count_shard(tmp_path, 7) is None
    write_shard(tmp_path, 7, shard())
    assert count_shard(tmp_path, 7) == (2, 1)
    for key, value in vars(read_shard(tmp_path, 7)).items():
        wanted = getattr(shard(), key)
        assert torch.equal(value, wanted) and value.dtype == wanted.dtype if torch.is_tensor(value) else value == wanted
    assert [p.name for p in tmp_path.iterdir()] == ["shard-00007.safetensors"]


def test_only_old_partial_files_are_swept(tmp_path):
    hexes = "0123456789abcdef" * 2
    old = [f".shard-00001.safetensors.{hexes}", ".shard-00002.safetensors.17", f".plan.json.{hexes}", ".report.json.9"]
    kept = [".notes.txt.17", f"shard-00001.safetensors.{hexes}", f".shard-00003.safetensors.{hexes}"]
    for name in old + kept:
        (tmp_path / name).touch()
        if name != kept[-1]:  # the last one may still be written by another machine
            os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    open_plan(tmp_path, {}, {"a": ""}, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "plan.json"])


def test_two_writers_never_share_a_partial_file(tmp_path, monkeypatch):
    """Containers on one folder have equal process numbers; here, even the process is the same."""
    from hyperdreambooth.hypernet import shards

    partial, save_file = [], shards.save_file

    def save(tensors, path, metadata):
        partial.append(path.name)
        if len(partial) == 1:
            write_shard(tmp_path, 0, shard())  # another writer comes in between
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr(shards, "save_file", save)
    write_shard(tmp_path, 0, shard())
    assert len(set(partial)) == 2 and [p.name for p in tmp_path.iterdir()] == ["shard-00000.safetensors"]


def test_who_could_not_be_used_is_planned_again_when_their_files_have_changed(tmp_path):
    now = {"a": "1", "b": "5", "c.png": "2"}
    assert open_plan(tmp_path, {}, now, 8)[0] == [["a", "b", "c.png"]]
    assert open_plan(tmp_path, {}, now | {"c.png": "3"}, 8)[0] == [["a", "b", "c.png"]]  # not yet read at all
    write_shard(tmp_path, 0, shard())
    assert open_plan(tmp_path, {}, now, 8)[0] == [["a", "b", "c.png"]]
    mended = now | {"a": "other", "c.png": "3"}  # a stays as they were
    for _ in range(2):
        assert open_plan(tmp_path, {}, mended, 8)[0] == [["a", "b", "c.png"], ["c.png"]]
    assert PreparedPeople(tmp_path).batches == (1, 2)
    assert [skipped["picture"] for skipped in write_report(tmp_path)["skipped"]] == ["c.png"]
    read = shard()
    read.names, read.seen, read.skipped = ["c.png", "d"], {"c.png": "3"}, [["c.png/2.png", "it is small"]]
    write_shard(tmp_path, 1, read)
    assert open_plan(tmp_path, {}, mended, 8)[0] == [["a", "b", "c.png"], ["c.png"]]
    assert [skipped["reason"] for skipped in write_report(tmp_path)["skipped"]] == ["it is small"]


def test_a_person_is_dropped_with_all_that_is_theirs():
    three = shard()
    three.names, three.captions = ["a", "b", "c"], ["of a", "of b", "of c", "of b"]
    three.owner, three.reference = torch.tensor([0, 1, 2, 1], dtype=torch.int32), torch.tensor([1, 0, 1, 1])
    three.faces, three.latents = torch.arange(4), 10 * torch.arange(4)
    three.drop(1, "no numbers")
    assert (three.names, three.captions, three.skipped[-1]) == (["a", "c"], ["of a", "of c"], ("b", "no numbers"))
    assert three.owner.tolist() == [0, 1] and three.owner.dtype == torch.int32
    assert three.faces.tolist() == [0, 2] and three.latents.tolist() == [0, 20] and three.reference.tolist() == [1, 1]
