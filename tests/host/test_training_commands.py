"""The public commands, as a user runs them: prepare people, train, be killed, go on; one process or two."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from hyperdreambooth.faceworld.renderer.world import person_pictures

SMALL = ["--hold-out", "0", "--people", "8", "--targets", "1", "--threads", "1", "--report-every", "0"]
TRAIN = [*SMALL, "--warmup-steps", "60", "--steps", "6"]


def command(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "hyperdreambooth", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def finished(process) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Eight drawn people in folders, one of them with a broken picture; and a file that shows nothing."""
    folder = tmp_path_factory.mktemp("faces")
    for p in range(8):
        pictures, record = person_pictures(911, 2, 1, (p, False))
        (folder / f"{p}").mkdir()
        for k, (pixels, scene) in enumerate(zip(pictures, record["pictures"], strict=True)):
            Image.fromarray(pixels).save(folder / f"{p}" / f"{'edit' if k == 2 else 'photo'}_{k}.png")
            (folder / f"{p}" / f"{'edit' if k == 2 else 'photo'}_{k}.txt").write_text(scene["caption"])
    (folder / "3" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 half a picture")
    Image.new("RGB", (200, 200), "grey").save(folder / "0_nobody.png")
    return folder


PREPARE = ["--a", "48", "--b", "24", "--batch", "4", "--steps", "12"]


@pytest.fixture(scope="module")
def people(images, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("people")
    finished(command("precompute", "--images", images, "--out", out, *PREPARE))
    return out


def test_precompute_reports_what_it_skips_and_goes_on_after_a_kill(images, people, tmp_path):
    report = json.loads((people / "report.json").read_text())
    reasons = {entry["picture"]: entry["reason"] for entry in report["skipped"]}
    assert set(reasons) == {"3/torn.jpg", "0_nobody.png"}
    assert "not a readable picture" in reasons["3/torn.jpg"] and "single colour" in reasons["0_nobody.png"]
    assert (report["people"], report["pictures"], report["fitted"]) == (8, 24, 8)
    killed = command("precompute", "--images", images, "--out", tmp_path, *PREPARE)
    while not list(tmp_path.glob("shard-*.safetensors")):
        time.sleep(0.05)
        assert killed.poll() is None
    time.sleep(0.5)
    killed.kill()
    killed.communicate()
    first = tmp_path / "shard-00000.safetensors"
    stamp = first.stat().st_mtime_ns
    finished(command("precompute", "--images", images, "--out", tmp_path, *PREPARE))
    assert first.stat().st_mtime_ns == stamp
    for shard in sorted(people.glob("shard-*.safetensors")):
        straight, resumed = load_file(shard), load_file(tmp_path / shard.name)
        assert all((straight[k] == resumed[k]).all() for k in straight)
    refused = command("precompute", "--images", images, "--out", tmp_path, *PREPARE[:-1], "13")
    assert "another fit" in refused.communicate()[0] and refused.returncode != 0


def test_a_sheet_shows_references_predictions_and_the_plain_model(people, host):
    """Before training, the output head is nearly zero: the prediction's picture is nearly the plain one's."""
    import comfy.sd
    import folder_paths
    import torch

    from hyperdreambooth.cli.sheets import people_sheet
    from hyperdreambooth.cli.train import SIZES
    from hyperdreambooth.hypernet.checkpoint import Identity
    from hyperdreambooth.hypernet.hypernet import HyperNet, HyperNetConfig
    from hyperdreambooth.hypernet.shards import PreparedPeople
    from hyperdreambooth.lidb.basis import Basis
    from hyperdreambooth.nodes.host import HostModel

    data = PreparedPeople(people)
    with torch.inference_mode():
        path = folder_paths.get_full_path_or_raise("checkpoints", "faceworld.safetensors")
        model = HostModel(*comfy.sd.load_checkpoint_guess_config(path)[:3])
    net = HyperNet(HyperNetConfig(**SIZES["small"], refinements=1, layers=len(model.table), numbers=72))
    identity = Identity(model.table, Basis(48, 24), "[V] face", model.base, {})
    with model.training((2, 8, 16, 16)):
        page = people_sheet(net, identity, model, data, [0, 5], ["a photo of a [V] face"])
    assert page.size == (3 * 128, 2 * 128)
    shown = np.asarray(page).reshape(2, 128, 3, 128, 3).swapaxes(1, 2).astype(float)
    assert (shown[:, 0] == data.faces([data.references[p][0] for p in (0, 5)]).permute(0, 2, 3, 1).numpy() * 255).all()
    assert abs(shown[:, 1] - shown[:, 2]).mean() < 3 and shown[:, 2].std() > 20


@pytest.fixture(scope="module")
def uninterrupted(people, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    finished(command("train", "--data", people, "--out", out, *TRAIN))
    return out


def losses(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]


def test_eight_people_are_memorised(uninterrupted):
    rows = losses(uninterrupted)
    assert [row["step"] for row in rows] == list(range(1, 67))
    start, end = (np.mean([row["weights"] for row in part]) for part in (rows[:3], rows[55:60]))
    assert end < 0.5 * start and rows[59]["cosine"] > max(0.75, rows[0]["cosine"] + 0.3)
    assert (uninterrupted / "hypernet.safetensors").is_file() and list((uninterrupted / "logs").iterdir())


def test_killed_and_stopped_runs_end_with_the_same_weights(people, uninterrupted, tmp_path):
    chance = random.Random(0)
    for kill in (signal.SIGKILL, signal.SIGTERM):
        process = command("train", "--data", people, "--out", tmp_path, *TRAIN, "--save-every", "0.001")
        before = (tmp_path / "state.safetensors").stat().st_mtime_ns if kill == signal.SIGTERM else 0
        state = tmp_path / "state.safetensors"
        while not state.is_file() or state.stat().st_mtime_ns == before:
            time.sleep(0.02)
            assert process.poll() is None, process.communicate()[0]
        time.sleep(chance.uniform(0, 0.8))
        process.send_signal(kill)
        output = process.communicate(timeout=120)[0]
        assert kill == signal.SIGKILL or process.returncode == 0, output
        assert losses(tmp_path)[-1]["step"] < 66, "it was too late to interrupt the run"
    output = finished(command("train", "--data", people, "--out", tmp_path, *TRAIN))
    assert "going on from step" in output
    for name in ("state.safetensors", "hypernet.safetensors"):
        straight, resumed = (load_file(run / name) for run in (uninterrupted, tmp_path))
        assert straight.keys() == resumed.keys()
        assert all((straight[k] == resumed[k]).all() for k in straight)
    assert losses(tmp_path) == losses(uninterrupted)


def test_a_learned_basis_goes_through_training_to_a_loaded_person(people, host, tmp_path):
    import torch

    from hyperdreambooth.lidb.file import load_lidb, save_lidb
    from hyperdreambooth.nodes.learned import find_learned_basis
    from hyperdreambooth.nodes.lidb_files import LoadLiDB
    from hyperdreambooth.nodes.load_hypernet import LoadedHyperNet

    basis = tmp_path / "basis.safetensors"
    shares = finished(command("basis", "--data", people, "--a", "24", "--b", "12", "--out", basis))
    assert "learned" in shares and "random" in shares
    steps = [*SMALL, "--warmup-steps", "2", "--steps", "1"]
    finished(command("train", "--data", people, "--out", tmp_path / "run", "--basis", basis, *steps))
    installed = host.base / "models" / "hypernets" / "learned.safetensors"
    installed.parent.mkdir(exist_ok=True)
    installed.write_bytes((tmp_path / "run" / "hypernet.safetensors").read_bytes())
    hypernet = LoadedHyperNet(str(installed))
    person = hypernet.predict(torch.rand(1, 3, 128, 128), b"")
    folder = host.base / "models" / "lidb"
    folder.mkdir(exist_ok=True)
    save_lidb(folder / "learned.safetensors", person)
    with torch.inference_mode():
        loaded = LoadLiDB.execute("learned.safetensors").args[0]
    assert torch.equal(loaded.A_train, person.A_train) and loaded.basis == hypernet.identity.basis
    assert find_learned_basis(loaded.basis.digest) == loaded.basis
    with pytest.raises(ValueError, match="put that HyperNet's file into models/hypernets"):
        load_lidb(folder / "learned.safetensors", lambda digest: find_learned_basis("0" * 16))


def together(processes) -> None:
    """Wait for all; a failure shows what each of them printed, and the stack of those that never ended."""

    def ended(process) -> str:
        try:
            return process.communicate(timeout=240)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # PYTHONFAULTHANDLER prints the stack
            return process.communicate()[0]

    with ThreadPoolExecutor() as pool:
        printed = list(pool.map(ended, processes))
    assert all(process.returncode == 0 for process in processes), "\n\n".join(printed)


def test_two_processes_see_the_losses_of_one(people, tmp_path):
    few = [*SMALL, "--warmup-steps", "8", "--steps", "4"]
    finished(command("train", "--data", people, "--out", tmp_path / "one", *few))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    settings = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    settings["PYTHONFAULTHANDLER"] = "1"
    arguments = ["train", "--data", people, "--out", tmp_path / "two", *few]
    together([command(*arguments, RANK=str(i), LOCAL_RANK=str(i), **settings) for i in range(2)])
    pairs = list(zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True))
    assert len(pairs) == 12
    for step, (one, two) in enumerate(pairs):
        close = {"rel": 1e-4, "abs": 1e-5} if step < 5 else {"rel": 2e-2, "abs": 2e-3}
        assert one.keys() == two.keys()
        assert all(one[k] == pytest.approx(two[k], **close) for k in one), (one, two)


def test_evaluate_reports_on_a_folder_of_people(images, uninterrupted, tmp_path):
    hypernet = uninterrupted / "hypernet.safetensors"
    choice = ["--images", images, "--people", "2", "--seeds", "1", "--no-zero"]
    output = finished(command("evaluate", "--hypernet", hypernet, *choice, "--out", tmp_path))
    report = json.loads((tmp_path / "report.json").read_text())
    stages = [row["stage"] for row in report["rows"]]
    assert stages == ["plain", "wrong_person", "mean", "predicted", "finetuned", "ceiling"] and "predicted" in output
    assert report["hypernet"] == "hypernet.safetensors" and report["people"] == 2
    assert [s["picture"] for s in report["skipped"]] == ["0_nobody.png"]
    assert (tmp_path / "report.html").read_text().count('class="who"') == 2
    refused = command("evaluate", "--hypernet", "nothing.safetensors", *choice, "--out", tmp_path)
    assert "There is no 'nothing.safetensors'" in refused.communicate()[0] and refused.returncode != 0
