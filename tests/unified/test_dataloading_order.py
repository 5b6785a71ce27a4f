"""The order of samples and how streams are shared out."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified.dataloading.order import check_streams, draw, permute, sample_at, streams_of


@given(st.integers(1, 300), st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once(count, seed, epoch):
    order = [permute(index, count, seed, "draw", epoch) for index in range(count)]
    assert sorted(order) == list(range(count))


def test_the_order_differs_by_seed_source_and_epoch_and_by_nothing_else():
    def order(*key):
        return [permute(index, 100, *key) for index in range(100)]

    keys = [(1, "draw", 0), (2, "draw", 0), (1, "ask", 0), (1, "draw", 1)]
    orders = [order(*key) for key in keys]
    assert len({tuple(first) for first in orders}) == 4
    assert order(1, "draw", 0) == orders[0]
    # Neighbours are torn apart: two in a row stay so as often as in a shuffle, about once.
    assert all(sum(b - a == 1 for a, b in pairwise(first)) < 8 for first in orders)


@pytest.mark.parametrize("count", [2, 3, 70])
def test_every_sample_comes_first_equally_often(count):
    firsts = [permute(0, count, 7, "x", epoch) for epoch in range(3000)]
    times = np.bincount(firsts, minlength=count)
    expected = 3000 / count
    # Chi-square over its degrees of freedom: 1 on average, above 2 in one of many millions (70).
    assert ((times - expected) ** 2 / expected).sum() < 2 * count + 14


def test_a_large_source_is_permuted_in_no_memory():
    order = [permute(index, 10**12, 0, "x", 0) for index in range(1000)]
    assert len(set(order)) == 1000
    assert 0.4 < np.mean(order) / 10**12 < 0.6


def test_the_lanes_take_every_sample_of_an_epoch_once():
    drawn = [sample_at(stream + step * 5, 13, 3, "x") for step in range(26) for stream in range(5)]
    for epoch in range(10):
        samples = [sample for e, sample in drawn if e == epoch]
        assert sorted(samples) == list(range(13))


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (2, 3), (4, 3), (4, 1), (12, 1)])
def test_processes_and_workers_have_each_lane_once(world, workers):
    shared = [
        streams_of(12, rank, world, worker, workers)
        for rank in range(world)
        for worker in range(workers)
    ]
    assert sorted(stream for streams in shared for stream in streams) == list(range(12))
    assert streams_of(12, 1, 4) == [1, 5, 9]


def test_lanes_that_cannot_be_shared_are_refused():
    check_streams(48, 3, 4, 12)
    for wrong, message in (
        ((48, 0, 5, 0), "48 streams cannot be shared by 5 processes; take a multiple of 5"),
        ((8, 0, 4, 3), "3 workers for 2 streams of a process"),
        ((8, 4, 4, 0), "process 4 of 4 with 8 streams"),
        ((0, 0, 1, 0), "process 0 of 1 with 0 streams"),
    ):
        with pytest.raises(ValueError, match=message):
            check_streams(*wrong)


def test_draws_are_the_same_on_every_machine():
    assert draw("a", 1) != draw("a1") != draw("a", "1", "")
    assert draw("sample", 0, "draw", 2, 3) % 2**32 == 3915973483
    assert permute(5, 1000, 3, "draw", 2) == 538
