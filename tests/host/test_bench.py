"""The benches measure the same work in every row."""

from types import SimpleNamespace

import pytest
import torch


def test_batched_and_single_fits_reach_the_same_loss(host):
    from hyperdreambooth.bench.precompute import measure

    args = SimpleNamespace(people=3, steps=2, samples=1)
    single, batched = measure("faceworld.safetensors", "faceworld", (16, 16), (48, 24), args)
    assert single["final_loss"] == pytest.approx(batched["final_loss"], rel=1e-4)


def test_the_training_bench_runs_both_rows(host):
    from hyperdreambooth.bench.train_hypernet import measure

    args = SimpleNamespace(people=2, steps=1)
    rows = measure("faceworld.safetensors", "faceworld", "small", 16, (48, 24), args)
    assert len(rows) == 2 and all(row["samples_per_second"] > 0 for row in rows)


def test_the_finetune_bench_compares_the_same_work(host):
    """On the miniature; the floor and ours on one evaluation, the host's own trainer through its own nodes."""
    from hyperdreambooth.bench.finetune import compare, floor, ours
    from hyperdreambooth.bench.finetune_rivals import comfy_fastest
    from hyperdreambooth.bench.finetune_setting import FinetuneSetting

    setting = FinetuneSetting(host, "faceworld.safetensors", 128, 2, 12)
    rows = [{"name": row.__name__, **row(setting)} for row in (floor, ours, comfy_fastest)]
    bare, own, stock = rows
    assert bare["trainable"] == 0 < own["trainable"] < stock["trainable"]
    assert own["eval_loss"] < bare["eval_loss"]  # it learns what it is timed for
    times = [(row["total_40_s"], row["total_40_s"] / own["total_40_s"]) for row in rows]
    assert [(row["total_40_s"], row["total_over_ours"]) for row in compare(rows)[1:]] == times[1:]


def test_the_apply_bench_times_the_same_person_in_every_way(host):
    from hyperdreambooth.bench.apply import lora_file, measure, sample, ways
    from hyperdreambooth.bench.finetune_setting import FinetuneSetting

    setting = FinetuneSetting(host, "faceworld.safetensors", 128, 1, 2)
    how = ways(setting)
    with torch.inference_mode():
        plain, own, stock = (sample(setting, *how[name](3), 2) for name in ("plain", "ours", "stock_lora"))
    assert (own - stock).abs().max() < 0.05 * (own - plain).abs().max()
    assert [row["name"] for row in measure(setting)] == ["plain", "ours", "stock_lora", "plain_again"]
    assert not lora_file(setting, 0).exists()


def test_the_prediction_bench_times_its_parts(host):
    from hyperdreambooth.bench.predict import measure

    row = measure("small", 2, 1, layers=74, numbers=72)
    assert row["total_over_encoder"] == pytest.approx(row["total_s"] / row["encoder_s"])


def test_the_main_job_is_timed_from_picture_to_model(host):
    from hyperdreambooth.bench.end_to_end import measure

    events = host.server.events
    cold, warm = measure(host, "faceworld", "faceworld.safetensors", "faceworld.safetensors", 128, 2)
    host.server.events = events
    assert all(0 < row["model_s"] < row["picture_s"] for row in (cold, warm))
