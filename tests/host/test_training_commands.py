"""The public commands, as a user runs them: prepare people, train, be killed, go on; one process or two."""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hyperdreambooth.cli import training_run
from hyperdreambooth.cli.train import SIZES, add_arguments, size_for, train
from hyperdreambooth.faceworld.renderer.world import person_pictures
from hyperdreambooth.hypernet.checkpoint import Identity, load_hypernet
from hyperdreambooth.hypernet.shards import PreparedPeople, open_plan, read_plan, read_shard, write_shard

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


def train_here(people: Path, out: Path, *arguments):
    """`train` in this process, in the host that is booted already: saves the seconds that a start takes."""
    parser, threads = argparse.ArgumentParser(), torch.get_num_threads()
    add_arguments(parser)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    try:
        train(parser.parse_args(["--data", str(people), "--out", str(out), *arguments]), PreparedPeople(people))
    finally:
        torch.set_num_threads(threads)


def kill_at_random(arguments, state: Path, kills: int, chance: random.Random) -> None:
    """Start the command again and again, and SIGKILL it a random moment after it has gone on and saved."""
    for _ in range(kills):
        process, saved = command(*arguments), state.stat().st_mtime_ns
        while state.stat().st_mtime_ns == saved:
            time.sleep(0.01)
            assert process.poll() is None, process.communicate()[0]
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, "it was done before it could be killed"
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Eight drawn people in folders, one of them with a broken picture; a file that shows nothing, and a person too deep."""
    folder = tmp_path_factory.mktemp("faces")
    for p in range(8):
        pictures, record = person_pictures(911, 2, 1, (p, False))
        (folder / f"{p}").mkdir()
        for k, (pixels, scene) in enumerate(zip(pictures, record["pictures"], strict=True)):
            Image.fromarray(pixels).save(folder / f"{p}" / f"{'edit' if k == 2 else 'photo'}_{k}.png")
            (folder / f"{p}" / f"{'edit' if k == 2 else 'photo'}_{k}.txt").write_text(scene["caption"])
    for name, caption in (("wordy", "very " * 90 + "old [V] face"), ("weighty", "(pop art:1.3) of a [V] face")):
        shutil.copy(folder / "4" / "photo_0.png", folder / "4" / f"{name}.png")
        (folder / "4" / f"{name}.txt").write_text(caption)
    (folder / "3" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 half a picture")
    Image.new("RGB", (200, 200), "grey").save(folder / "0_nobody.png")
    (folder / "family" / "anna").mkdir(parents=True)
    shutil.copy(folder / "4" / "photo_0.png", folder / "family" / "anna" / "photo.png")
    return folder


PREPARE = ["--a", "48", "--b", "24", "--batch", "4", "--steps", "12"]


@pytest.fixture(scope="module")
def people(images, tmp_path_factory) -> Path:
    """Prepared with two of the eight fitted, one at a time; then, by a second command, all."""
    out = tmp_path_factory.mktemp("people")
    finished(command("precompute", "--images", images, "--out", out, *PREPARE, "--fit", "2", "--together", "1"))
    assert json.loads((out / "report.json").read_text())["fitted"] == 2
    finished(command("precompute", "--images", images, "--out", out, *PREPARE))
    return out


def test_precompute_reports_what_it_skips(people):
    report = json.loads((people / "report.json").read_text())
    reasons = {entry["picture"]: entry["reason"] for entry in report["skipped"]}
    expected = {"3/torn.jpg": "not a readable picture", "0_nobody.png": "single colour", "4/wordy.png": "75 tokens",
                "4/weighty.png": "(weights)", "family": "further down"}  # fmt: skip
    assert reasons.keys() == expected.keys() and all(text in reasons[picture] for picture, text in expected.items())
    assert (report["people"], report["pictures"], report["fitted"]) == (8, 24, 8)


def test_a_killed_precompute_goes_on_to_the_same_shards(images, people, tmp_path):
    """Also the same as in one go: people fitted one at a time, and added to a shard that was there."""
    arguments = ["precompute", "--images", images, "--out", tmp_path / "out", *PREPARE]
    started = time.time()
    killed = command(*arguments)
    while not list(tmp_path.glob("out/shard-*.safetensors")):
        time.sleep(0.02)
        assert killed.poll() is None, killed.communicate()[0]
    killed.kill()
    killed.communicate()
    try:  # again, at any moment of its start or its work; should it be done by then, so it is
        (again := command(*arguments)).communicate(timeout=random.Random(1).uniform(0.4, 1) * (time.time() - started))
    except subprocess.TimeoutExpired:
        again.kill()
        again.communicate()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/shard-*.safetensors")}
    finished(command(*arguments))
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    for number, shard in enumerate(sorted(people.glob("shard-*.safetensors"))):
        straight, resumed = load_file(shard), load_file(tmp_path / "out" / shard.name)
        assert straight.keys() == resumed.keys()
        close = 1e-4 if number == 0 else 0.0
        assert all(torch.allclose(v.float(), resumed[k].float(), rtol=0, atol=close) for k, v in straight.items())


def test_two_processes_divide_the_batches_and_make_the_same_shards(images, people, tmp_path):
    out = tmp_path / "out"
    arguments = ["precompute", "--images", images, "--out", out, *PREPARE]
    first = command(*arguments, RANK="0", WORLD_SIZE="2")
    while not (out / "plan.json").is_file():
        time.sleep(0.02)
        assert first.poll() is None, first.communicate()[0]
    second, first = finished(command(*arguments, RANK="1", WORLD_SIZE="2")), finished(first)
    assert "batch 2 of 3" in second and "batch 1 of 3" not in second and "batch 3 of 3" not in second, second
    assert "batch 1 of 3" in first and "batch 3 of 3" in first and "batch 2 of 3" not in first, first
    made = sorted(people.glob("shard-*.safetensors"))
    assert [path.name for path in sorted(out.glob("shard-*.safetensors"))] == [path.name for path in made]
    for path in made:
        alone, together = load_file(path), load_file(out / path.name)
        assert alone.keys() == together.keys()
        assert all(torch.allclose(v.float(), together[k].float(), atol=1e-4) for k, v in alone.items())


def test_a_sheet_shows_references_predictions_and_the_plain_model(people, host):
    """Before training, the output head is nearly zero: the prediction's picture is nearly the plain one's."""
    import comfy.sd
    import folder_paths

    from hyperdreambooth.cli.sheets import people_sheet
    from hyperdreambooth.hypernet.hypernet import HyperNet, HyperNetConfig
    from hyperdreambooth.lidb.basis import Basis
    from hyperdreambooth.nodes.host import HostModel

    data = PreparedPeople(people)
    with torch.inference_mode():
        path = folder_paths.get_full_path_or_raise("checkpoints", "faceworld.safetensors")
        model = HostModel(*comfy.sd.load_checkpoint_guess_config(path)[:3])
    net = HyperNet(HyperNetConfig(**SIZES["small"], refinements=1, layers=len(model.table), numbers=72))
    identity = Identity(model.table, Basis(48, 24), "[V] face", model.base, {})
    pages = []
    for mean in (torch.zeros_like(net.mean), torch.randn(net.mean.shape, generator=torch.Generator().manual_seed(0))):
        net.mean.data.copy_(mean)
        with model.training((2, 8, 16, 16)):
            pages.append(people_sheet(net, identity, model, data, [0, 5], ["a photo of a [V] face"]))
    assert pages[0].size == (3 * 128, 2 * 128)
    shown, changed = (np.asarray(p).reshape(2, 128, 3, 128, 3).swapaxes(1, 2).astype(float) for p in pages)
    assert (shown[:, 0] == data.faces([data.references[p][0] for p in (0, 5)]).permute(0, 2, 3, 1).numpy() * 255).all()
    assert abs(shown[:, 1] - shown[:, 2]).mean() < 3 and shown[:, 2].std() > 20
    assert abs(changed[:, 1] - shown[:, 1]).mean() > 10 and np.array_equal(changed[:, 2], shown[:, 2])


@pytest.fixture(scope="module")
def uninterrupted(people, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    finished(command("train", "--data", people, "--out", out, *TRAIN))
    return out


def losses(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "logs"), size_guidance={"scalars": 0}).Reload()


def test_eight_people_are_memorised(uninterrupted):
    rows = losses(uninterrupted)
    assert [row["step"] for row in rows] == list(range(1, 67))
    start, end = (np.mean([row["weights"] for row in part]) for part in (rows[:3], rows[55:60]))
    assert end < 0.5 * start and rows[59]["cosine"] > max(0.75, rows[0]["cosine"] + 0.3)
    assert (uninterrupted / "hypernet.safetensors").is_file() and list((uninterrupted / "logs").iterdir())


def test_killed_and_stopped_runs_end_with_the_same_weights(people, uninterrupted, tmp_path):
    out, state = tmp_path / "run", tmp_path / "run" / "state.safetensors"
    arguments = ["train", "--data", people, "--out", out, *TRAIN]
    often = [*arguments, "--save-every", "0.005"]
    stopped = command(*often)
    while not state.is_file():
        time.sleep(0.02)
        assert stopped.poll() is None, stopped.communicate()[0]
    stopped.send_signal(signal.SIGTERM)
    output = stopped.communicate(timeout=120)[0]
    assert stopped.returncode == 143 and "stopped at step" in output, output
    assert losses(out)[-1]["step"] < 66
    kill_at_random(often, state, 2, random.Random(0))
    assert "going on from step" in finished(command(*arguments))
    for name in ("state.safetensors", "hypernet.safetensors"):
        straight, resumed = (load_file(run / name) for run in (uninterrupted, out))
        assert straight.keys() == resumed.keys()
        assert all((straight[k] == resumed[k]).all() for k in straight)
    assert losses(out) == losses(uninterrupted)
    straight, resumed = ([(e.step, e.value) for e in events(run).Scalars("loss/loss")] for run in (uninterrupted, out))
    assert resumed == straight and [step for step, _ in resumed] == list(range(1, 67))


@pytest.fixture(scope="module")
def twenty(people, tmp_path_factory) -> Path:
    """The eight under other names besides, so that two can be held out."""
    folder = tmp_path_factory.mktemp("twenty")
    for i in range(8):
        shard = read_shard(people, i % 3)
        shard.names = [f"{i}/{name}" for name in shard.names]
        open_plan(folder, read_plan(people)["settings"], dict.fromkeys(shard.names, ""), 4)
        write_shard(folder, i, shard)
    return folder


def test_a_report_shows_curves_controls_and_a_sheet_of_people_held_out(twenty, tmp_path):
    few = ["--people", "4", "--targets", "2", "--threads", "1", "--warmup-steps", "1", "--steps", "2"]
    train_here(twenty, tmp_path, *few, "--report-every", "2")
    found, net = events(tmp_path), load_hypernet(tmp_path / "hypernet.safetensors")[1]
    tags = found.Tags()
    controls = [
        f"controls {kind}/{row}" for kind in ("photo", "edit") for row in ("predicted", "mean", "wrong", "plain")
    ]
    levels = [f"loss/denoising {level}" for level in ("0.50-0.75", "0.75-0.90", "0.90-1.00")]
    groups = [f"{kind}/{group}" for kind in ("weights", "cosine") for group in ("mid attn1", "text")]
    assert set(controls + levels + groups + ["loss/loss", "loss/weights", "loss/cosine"]) <= set(tags["scalars"])
    for kind in ("cosine per layer", "cosine per layer, held out"):
        assert {f"{kind}/{name}" for name in net.table.names} <= set(tags["scalars"])
    assert [e.step for e in found.Scalars("controls photo/plain")] == [2, 3]
    assert len({e.value for e in found.Scalars("controls photo/plain")}) == 1  # nothing of the base is trained
    sheet = found.Images("held-out people")[-1]
    assert (sheet.width, sheet.height) == (5 * 128, 2 * 128) and tags["histograms"] == ["cosine per layer"]
    assert [p.name for p in sorted((tmp_path / "sheets").iterdir())] == ["step_0000002.png", "step_0000003.png"]
    assert (net.training["training_people"], net.training["people"]) == (len(PreparedPeople(twenty)) - 2, 4)


def test_literal_commands_choose_what_fits_the_data(people, uninterrupted, tmp_path, monkeypatch):
    """The warm-up where people were fitted, the size by the faces' pixels; a recipe to the letter; a cure less."""
    assert [SIZES[size_for(side)]["image_size"] for side in (128, 224)] == [128, 224] and size_for(224) == "base"
    monkeypatch.setattr(training_run, "WARMUP_STEPS", 2)
    init, cures = ["--init", str(uninterrupted / "hypernet.safetensors")], ["--without", "norm", "--without", "gauge"]
    cases = {"plus": [], "paper": ["--recipe", "paper"], "cure": cures, "init": init}
    first, facts = {}, {}
    for name, choice in cases.items():
        out = tmp_path / name
        train_here(people, out, *SMALL, "--steps", "1", *choice)
        rows, facts[name] = losses(out), load_hypernet(out / "hypernet.safetensors")[1].training
        first[name] = rows[0]
        warmup = 2 if name in ("plus", "cure") else 0
        assert len(rows) == warmup + 1 and facts[name]["warmup_steps"] == warmup and "denoising" in rows[-1]
        assert all(np.isfinite(list(row.values())).all() for row in rows) and ("denoising" in rows[0]) == (warmup == 0)
    assert facts["cure"]["without"] == ["gauge", "norm"] and facts["paper"]["kind"] == "paper"
    assert first["plus"]["weights"] == pytest.approx(first["cure"]["weights"], rel=0.5)  # shown by one measure
    assert first["cure"]["loss"] != pytest.approx(first["plus"]["loss"], rel=0.2)
    assert first["init"]["weights"] < 0.7 * first["plus"]["weights"] and facts["init"]["continued_from"]["steps"] == 6
    with pytest.raises(ValueError, match="cannot start without one"):
        train_here(people, tmp_path / "refused", *SMALL, "--without", "mean", *init)
    with pytest.raises(ValueError, match="begun with another lr"):
        train_here(people, tmp_path / "plus", *SMALL, "--steps", "1", "--lr", "1e-3")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(people, elsewhere)
    plan = json.loads((elsewhere / "plan.json").read_text())
    plan["settings"]["checkpoint"] = "0" * 16
    (elsewhere / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match="prepared with another file than today's faceworld.safetensors .sha256 000"):
        train_here(elsewhere, tmp_path / "mixed", *SMALL, "--steps", "1")


def test_a_learned_basis_goes_through_training_to_a_loaded_person(people, host, tmp_path):
    from hyperdreambooth.lidb.file import load_lidb, save_lidb
    from hyperdreambooth.nodes.learned import find_learned_basis
    from hyperdreambooth.nodes.lidb_files import LoadLiDB
    from hyperdreambooth.nodes.load_hypernet import LoadedHyperNet

    shares = finished(command("basis", "--data", people))
    assert "learned" in shares and "random" in shares and "a = 24, b = 12 (of 48, 24)" in shares
    basis = people / "basis.safetensors"
    steps = [*SMALL, "--warmup-steps", "2", "--steps", "1", "--mixed-precision", "bf16"]
    finished(command("train", "--data", people, "--out", tmp_path / "run", "--basis", basis, *steps))
    assert all(np.isfinite(list(row.values())).all() for row in losses(tmp_path / "run"))
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


def pair(people: Path, outs, *arguments) -> list:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    settings = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    settings["PYTHONFAULTHANDLER"] = "1"
    alike = ["train", "--data", people, *arguments, "--out"]
    return [command(*alike, out, RANK=str(i), LOCAL_RANK=str(i), **settings) for i, out in enumerate(outs)]


@pytest.mark.parametrize("warmup, steps, exact", [(8, 4, 5), (0, 3, 3)])
def test_two_processes_see_the_losses_of_one(people, tmp_path, warmup, steps, exact):
    """Within rounding at first (``exact`` steps); a step later, Muon has made rounding larger."""
    few = [*SMALL, "--warmup-steps", str(warmup), "--steps", str(steps)]
    train_here(people, tmp_path / "one", *few)
    together(pair(people, [tmp_path / "two"] * 2, *few))
    pairs = list(zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True))
    assert len(pairs) == warmup + steps and ("denoising" in pairs[0][0]) == (warmup == 0)
    for step, (one, two) in enumerate(pairs):
        close = {"rel": 1e-4, "abs": 1e-5} if step < exact else {"rel": 2e-2, "abs": 2e-3}
        assert one.keys() == two.keys()
        assert all(one[k] == pytest.approx(two[k], **close) for k in one), (one, two)
    if warmup == 0:
        refused = pair(people, [tmp_path / "two", tmp_path / "elsewhere"], *few)
        printed = [process.communicate(timeout=240)[0] for process in refused]
        assert all("must be one folder that all processes on all machines see" in text for text in printed), printed


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
