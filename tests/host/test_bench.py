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
