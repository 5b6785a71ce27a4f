"""Sampling on the device: numpy's law in torch, with noise that a seed and a counter decide."""

import numpy as np
import pytest
import torch

from unified.engine.backends.torch_static.device_sampling import (
    choose_columns,
    exponential,
    guide_on_device,
    noise_keys,
    penalize_on_device,
)
from unified.engine.sampler import FORMULAS, Guidance, SpanSampling, distribution, guide, penalize

SETTINGS = [
    (700, SpanSampling(temperature=1.0)),
    (40, SpanSampling(temperature=0.7, top_k=9)),
    (600, SpanSampling(temperature=1.3, top_p=0.8, min_p=0.01)),
    (40, SpanSampling(temperature=0.5, top_p=0.3)),
]


def logits_of(shape, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 1.5).astype(np.float32)


@pytest.mark.parametrize(("columns", "sampling"), SETTINGS)
def test_columns_are_drawn_as_often_as_numpy_would(columns, sampling):
    logits, number = logits_of((1, columns)), 8000
    expected = distribution(logits, sampling)[0].astype(np.float64) * number
    keys = torch.from_numpy(noise_keys([3] * number, range(number)))
    wide = torch.from_numpy(logits).expand(number, columns)
    drawn = np.bincount(choose_columns(wide, sampling, keys).numpy(), minlength=columns)
    assert not drawn[expected == 0].any()
    often = expected >= 5
    statistic = ((drawn - expected)[often] ** 2 / expected[often]).sum()
    freedom = often.sum() - 1
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


def test_a_choice_depends_on_its_seed_and_counter_alone():
    logits = torch.from_numpy(logits_of((6, 900)))
    seeds, counters = [5, 5, 2**63 - 1, 0, 7, 7], [0, 1, 9, 3, 4, 2**40]
    sampling = SpanSampling(temperature=1.0)
    keys = torch.from_numpy(noise_keys(seeds, counters))
    together = choose_columns(logits, sampling, keys)
    for row in (5, 0, 3):
        key = torch.from_numpy(noise_keys([seeds[row]], [counters[row]]))
        assert choose_columns(logits[row : row + 1], sampling, key) == together[row]
    # The numbers themselves, so that another device or version cannot drift unnoticed.
    assert noise_keys([0, 5], [0, 1]).tolist() == [0, 5085904676777434204]
    np.testing.assert_allclose(
        exponential(keys[:1], 3)[0], [3.09094119, 1.93493116, 0.46441928], rtol=1e-6
    )


def test_noise_is_exponential_and_keys_differ():
    keys = torch.from_numpy(noise_keys([7, 7, 8], [0, 1, 0]))
    noise = exponential(keys, 100_000)
    assert (noise > 0).all()
    np.testing.assert_allclose(noise.mean(1), 1, atol=0.015)
    np.testing.assert_allclose((noise > 3).float().mean(1), np.exp(-3), atol=0.003)
    np.testing.assert_allclose((noise < 0.01).float().mean(1), 0.00995, atol=0.0015)
    streams = torch.cat([noise[:, :5000], noise[:, 5000:10_000]])
    correlation = np.corrcoef(streams.numpy()) - np.eye(6)
    assert np.abs(correlation).max() < 0.06


@pytest.mark.parametrize("formula", FORMULAS)
def test_guidance_is_numpys(formula):
    guidance = Guidance(scale=2.5, formula=formula, image_scale=1.4)
    conditions = ("full", *guidance.conditions)
    arrays = {name: logits_of((3, 50), seed) for seed, name in enumerate(conditions)}
    for seed, array in enumerate(arrays.values()):
        array[:, seed : seed + 2] = -np.inf
    full = arrays.pop("full")
    expected = guide(guidance, full, arrays)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    actual = guide_on_device(guidance, torch.from_numpy(full), tensors)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_penalties_are_numpys():
    logits, columns = logits_of((2, 30)), [[1, 5, 29], [7]]
    expected = np.stack([penalize(row, own, 1.7) for row, own in zip(logits, columns)])
    rows = torch.tensor([row for row, own in enumerate(columns) for _ in own])
    at = torch.tensor([column for own in columns for column in own])
    actual = penalize_on_device(torch.from_numpy(logits), rows, at, 1.7)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_the_likeliest_and_damaged_rows():
    logits = torch.from_numpy(logits_of((4, 300)))
    logits[1, 7], logits[2, 8] = torch.nan, torch.inf
    keys = torch.from_numpy(noise_keys([1, 2, 3, 4], [0] * 4))
    for sampling in (SpanSampling(), SpanSampling(temperature=1.0, top_p=0.9)):
        columns = choose_columns(logits, sampling, keys)
        assert columns[1] == columns[2] == -1
        assert columns[0] >= 0
    assert choose_columns(logits, SpanSampling(), keys)[3] == logits[3].argmax()
