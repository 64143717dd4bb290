"""The benches measure the same work in every row."""

from types import SimpleNamespace

import pytest


def test_batched_and_single_fits_reach_the_same_loss(host):
    from hyperdreambooth.bench.precompute import measure

    args = SimpleNamespace(people=3, steps=2, samples=1)
    single, batched = measure("faceworld.safetensors", "faceworld", (16, 16), (48, 24), args)
    assert single["final_loss"] == pytest.approx(batched["final_loss"], rel=1e-4)
    assert single["ratio"] == 1 and batched["identities_per_minute"] > 0 and batched["peak_bytes"] > 0


def test_the_training_bench_trains(host):
    from hyperdreambooth.bench.train_hypernet import measure

    args = SimpleNamespace(people=2, steps=1)
    bare, training = measure("faceworld.safetensors", "faceworld", "small", 16, (48, 24), args)
    assert bare["time_ratio"] == 1 and training["samples_per_second"] > 0


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
    assert all(row["step_s"] > 0 and row["total_40_s"] > row["step_s"] for row in rows)
    compared = compare(rows)
    assert compared[0]["over_floor"] == 1 and compared[1]["total_over_ours"] == 1 and "floor_step_s" not in compared[1]


def test_the_apply_bench_gives_everybody_the_same_steps(host):
    from hyperdreambooth.bench.apply import measure
    from hyperdreambooth.bench.finetune_setting import FinetuneSetting

    plain, own, stock, again = measure(FinetuneSetting(host, "faceworld.safetensors", 128, 1, 2))
    assert (
        plain["step_over_plain"] == 1
        and again["step_over_plain"] > 0
        and own["switch_over_stock"] > 0
        and stock["switch_over_stock"] == 1
    )


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
