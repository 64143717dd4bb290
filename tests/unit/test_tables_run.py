"""How the tables are measured: who measures whom, and with which commands their HyperNets are trained."""

import argparse
import importlib

import pytest
import torch

from hyperdreambooth.bench.tables import __main__ as T
from hyperdreambooth.bench.tables import arms as A
from hyperdreambooth.bench.tables import hypernets as H


class FakeBench:
    def __init__(self, fails_at=None):
        self.scored, self.fails_at = [], fails_at

    def score(self, arm, number):
        if (arm.name, number) == self.fails_at:
            raise RuntimeError("cut off")
        self.scored.append((number, arm.name))
        return {"identity": 0.5}, torch.zeros(1, 3, 8, 8)


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(T, "REPOSITORY", tmp_path)
    monkeypatch.setattr(T, "weights", lambda: {"weights": "a"})
    return T.Run("measured", [([A.FULL, A.LORA_1], 5), ([A.FULL], 7), ([A.LIDB], 2)])


def asked(share="0/1", groups=None, people=None, minutes=None):
    return argparse.Namespace(share=share, groups=groups, people=people, minutes=minutes)


def measure(monkeypatch, run, bench, **args):
    monkeypatch.setattr(T, "open_bench", lambda base, split: bench)
    T.work(asked(**args), run, run.records())
    return bench.scored


def test_workers_share_the_people_and_nobody_is_measured_twice(monkeypatch, run):
    both = [measure(monkeypatch, run, FakeBench(), share=f"{i}/2") for i in (0, 1)]
    wanted = [(i, arm.name) for arms, people in run.groups for i in range(people) for arm in arms]
    assert sorted(both[0] + both[1]) == sorted(set(wanted))
    assert {number % 2 for number, _ in both[0]} == {0} and {number % 2 for number, _ in both[1]} == {1}
    assert both[0][:4] == [(0, A.FULL.name), (0, A.LORA_1.name), (2, A.FULL.name), (2, A.LORA_1.name)]  # whole people


def test_a_run_that_was_cut_off_goes_on_where_it_was(monkeypatch, run):
    with pytest.raises(RuntimeError, match="cut off"):
        measure(monkeypatch, run, FakeBench(fails_at=(A.LORA_1.name, 1)))
    assert measure(monkeypatch, run, FakeBench())[0] == (1, A.LORA_1.name)
    assert measure(monkeypatch, run, FakeBench()) == []
    assert len(run.records().everybody(A.FULL)) == 7


def test_groups_people_and_minutes_can_be_fewer(monkeypatch, run):
    assert measure(monkeypatch, run, FakeBench(), minutes=1e-9) == []
    assert measure(monkeypatch, run, FakeBench(), groups=[2, 1], people=1) == [(0, A.LIDB.name), (0, A.FULL.name)]


def test_hypernets_are_trained_with_commands_that_exist_and_once(monkeypatch, tmp_path):
    said = []

    def command(verb, *words):
        said.append((verb, *map(str, words)))
        if verb == "faceworld":
            return
        parser = argparse.ArgumentParser()
        importlib.import_module(f"hyperdreambooth.cli.{verb}").add_arguments(parser)
        args = parser.parse_args(list(map(str, words)))
        if verb == "basis":
            (args.data / "basis.safetensors").touch()
        elif verb == "precompute":
            args.out.mkdir(exist_ok=True)
        else:
            assert args.data.is_dir() and (args.basis is None or args.basis.is_file())
            args.out.mkdir(parents=True)
            (args.out / "hypernet.safetensors").write_text(args.out.name)

    monkeypatch.setattr(H, "command", command)
    H.train_hypernets(set(H.HYPERNETS), tmp_path, 2)
    files = [H.hypernet_file(name, tmp_path) for name in H.HYPERNETS]
    assert len(set(files)) == len(files) and all(path.read_text() == path.stem for path in files)
    rendered = [words[words.index("--count") + 1] for words in said if words[0] == "faceworld"]
    assert {int(count) for count in rendered} == {H.PEOPLE, *map(int, H.CROWDS)}
    assert sum(words[0] == "train" for words in said) == len(files)
    said.clear()
    H.train_hypernets(set(H.HYPERNETS), tmp_path, 2)
    assert said == []


def test_another_recipe_is_another_file(monkeypatch, tmp_path):
    before = {name: H.hypernet_file(name, tmp_path) for name in H.HYPERNETS}
    monkeypatch.setattr(H, "RUN", [*H.RUN, "--seed", "1"])
    assert all(H.hypernet_file(name, tmp_path) != path for name, path in before.items())
    assert H.recipe(A.EMBEDDED) is None


def test_every_trained_row_names_a_hypernet_that_is_trained():
    rows = [arm for arm in A.all_arms().values() if arm.hypernet != A.EMBEDDED]
    assert {arm.hypernet for arm in rows} == set(H.HYPERNETS)
