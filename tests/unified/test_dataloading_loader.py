"""The order of rows: the same whoever makes them, and exactly resumed."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from loaded_rows import LENGTH, ids_of, same, take

from unified.dataloading import Loader, Source, validation_sequences


@pytest.fixture(scope="module")
def codes(write_codes, random_documents, tmp_path_factory):
    """Shards of 70 documents, of 30 in two shards, and of 5."""
    folder = tmp_path_factory.mktemp("codes")
    many = random_documents(70, seed=1)
    few = random_documents(30, seed=2)
    shards = {"many": many, "few0": few[:13], "few1": few[13:], "five": random_documents(5, 3)}
    return write_codes(folder, shards)


@pytest.fixture(scope="module")
def sources(codes):
    return {
        "many": Source(f"{codes}/many.tar", share=2, noise=0.2, media_loss=0.5),
        "rest": Source(
            share=1,
            sources={
                "few": Source(f"{codes}/few*.tar", share=3, orders="both", drop_prompt=0.3),
                "five": Source((f"{codes}/five.tar",), weight=2.0),
            },
        ),
    }


@pytest.fixture
def loader(sources, tiny_sequencer):
    def make(**options):
        options = {"seq_len": LENGTH, "streams": 12, "seed": 5, **options}
        return Loader(options.pop("sources", sources), tiny_sequencer, **options)

    return make


def test_rows_are_whole_documents_under_the_grammar(loader, tiny_sequencer):
    grammar = tiny_sequencer.grammar
    rows = take(loader(), 60)
    for index, row in enumerate(rows):
        assert (row.stream, row.number) == (index % 12, index // 12)
        assert row.labels.shape == (LENGTH,)
        assert (row.labels[row.num_ids :] == grammar.padding).all()
        assert not row.loss_weights[row.num_ids :].any()
        assert not row.loss_weights[row.starts[:-1]].any()
        assert len(row.keys) == len(row.starts) - 1
        for start, stop in zip(row.starts, row.starts[1:]):
            state = grammar.start()
            for id, number in zip(
                row.labels[start:stop].tolist(), row.allowed[start:stop].tolist()
            ):
                assert row.ranges[number] == state.allowed()
                state.advance(id)
            assert state.finished
    assert np.mean([row.num_ids for row in rows]) / LENGTH > 0.97
    assert any((row.input_ids != row.labels).any() for row in rows)


@pytest.mark.parametrize("world", [2, 4])
def test_any_number_of_processes_makes_the_same_rows(loader, world):
    expected = take(loader(), 60)
    streams = [iter(loader(rank=rank, world=world)) for rank in range(world)]
    for index, row in enumerate(expected):
        assert same(next(streams[index % world]), row)


def test_any_number_of_workers_makes_the_same_rows_and_states(loader):
    expected = take(loader(), 40)
    whole = loader()
    assert len(take(whole, 40)) == 40
    before = torch.get_rng_state()
    for workers in (1, 3):
        with loader(workers=workers) as built:
            assert all(same(a, b) for a, b in zip(take(built, 40), expected, strict=True))
            assert built.state() == whole.state()
            assert built.counts == whole.counts
            # What a worker has made ahead is not lost when another one goes on.
            again = take(built, 3)
    assert [(row.stream, row.number) for row in again] == [(4, 3), (5, 3), (6, 3)]
    # The numbers that the training draws are not touched.
    assert torch.equal(torch.get_rng_state(), before)


def test_a_worker_that_is_killed_is_missed_in_one_line(loader):
    with loader(workers=1) as first:
        rows = iter(first)
        next(rows)
        first._iterators[0]._process.kill()
        with pytest.raises(ValueError, match=r"a data worker has ended \(exit code -9\)"):
            list(rows)


def test_a_state_at_any_point_gives_exactly_the_rows_that_follow(loader):
    whole = loader()
    points = {0: (json.dumps(whole.state()), whole.counts)}
    rows = []
    for row in islice(whole, 150):
        rows.append(row)
        points[len(rows)] = json.dumps(whole.state()), whole.counts
    for at in [0, 1, 12, *random.Random(4).sample(range(13, 140), 4)]:
        saved, counts = points[at]
        resumed = loader()
        assert resumed.load_state([json.loads(saved)]) == []
        assert resumed.counts == counts
        expected = rows[at : at + 10]
        assert len(expected) == 10
        assert all(same(a, b) for a, b in zip(take(resumed, 10), expected, strict=True))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 4), (4, 3)])
def test_another_number_of_processes_goes_on_where_the_others_were(loader, before, after):
    steps = 24 // before
    rows = take(loader(), 24 + 36)
    stopped = [loader(rank=rank, world=before) for rank in range(before)]
    for first in stopped:
        take(first, steps)
    saved = json.loads(json.dumps([first.state() for first in stopped]))
    resumed = [loader(rank=rank, world=after) for rank in range(after)]
    for first in resumed:
        first.load_state(saved)
    streams = [iter(first) for first in resumed]
    for index, row in enumerate(rows[24:]):
        assert same(next(streams[index % after]), row)


def test_an_iterator_can_be_left_and_taken_up_again(loader):
    expected = take(loader(), 30)
    first = loader()
    actual = take(first, 7) + take(first, 1) + take(first, 22)
    assert all(same(a, b) for a, b in zip(actual, expected, strict=True))
    left = iter(first)
    next(left)
    later = iter(first)
    assert next(later).number >= 2
    with pytest.raises(StopIteration):
        next(left)  # a new iterator has ended it


def test_a_seed_gives_another_order(loader):
    first, other = take(loader(), 12), take(loader(seed=6), 12)
    assert [row.keys for row in first] != [row.keys for row in other]


def test_every_source_comes_to_its_share_of_the_ids(loader, tiny_sequencer):
    served = ids_of(take(loader(), 600))
    total = sum(served.values())
    for name, share in {"many": 2 / 3, "rest/few": 1 / 4, "rest/five": 1 / 12}.items():
        assert served[name] / total == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("world", [1, 3])
def test_epochs_end_a_source_after_every_sample_was_there_so_often(loader, codes, world):
    sources = {
        "many": Source(f"{codes}/many.tar", epochs=2),
        "five": Source(f"{codes}/five.tar", share=0.1, epochs=3),
    }
    times: dict[str, int] = {}
    counts = dict.fromkeys(("documents", "ids"), 0)
    for rank in range(world):
        first = loader(sources=sources, rank=rank, world=world)
        rows = list(first)
        for row in rows:
            for key in row.keys:
                times[key] = times.get(key, 0) + 1
        assert list(first) == []  # it has ended for good
        assert first.counts["ids"] == sum(row.num_ids for row in rows)
        counts = {name: counts[name] + first.counts[name] for name in counts}
    assert {key.partition("/")[0]: n for key, n in times.items()} == {"many": 2, "five": 3}
    assert len(times) == 75
    assert counts["documents"] == 70 * 2 + 5 * 3


def test_a_state_near_the_end_gives_the_last_rows(loader, codes):
    sources = {"five": Source(f"{codes}/five.tar", epochs=20)}
    rows = list(loader(sources=sources))
    stopped = loader(sources=sources)
    take(stopped, len(rows) - 5)
    resumed = loader(sources=sources)
    resumed.load_state([stopped.state()])
    assert all(same(a, b) for a, b in zip(list(resumed), rows[-5:], strict=True))


def test_a_state_of_another_run_is_refused_and_of_other_shares_is_not(loader, sources, codes):
    saved = loader()
    take(saved, 30)
    state = saved.state()
    for options, message in (
        ({"seed": 6}, "the saved state of the data has seed 5, this run 6; take the same, or"),
        ({"streams": 6}, "has streams 12, this run 6"),
        ({"seq_len": 64}, "has seq_len 96, this run 64"),
        ({"sources": {"many": sources["many"]}}, "has samples .*'rest/few': 30.* this run"),
        ({"sources": {**sources, "many": Source(f"{codes}/few0.tar")}}, "'many': 70.*'many': 13"),
    ):
        with pytest.raises(ValueError, match=message):
            loader(**options).load_state([state])
    with pytest.raises(ValueError, match=r"lacks streams \[1, 3, 5, 7, 9, 11\] of 12"):
        loader().load_state([loader(rank=0, world=2).state()])
    with pytest.raises(ValueError, match="there is no state"):
        loader().load_state([])
    other = {**sources, "many": replace(sources["many"], share=0.5)}
    changed = loader(sources=other)
    (note,) = changed.load_state([state])
    assert note.startswith("the shares of the sources have changed")
    # From here on it has half the share of the rest; what it had before is not held against it.
    served = ids_of(take(changed, 700)[350:])
    assert served["many"] / sum(served.values()) == pytest.approx(1 / 3, abs=0.02)
    assert changed.counts["documents"] > saved.counts["documents"]


# Held-out documents.


def test_held_out_documents_are_read_once_in_order_without_chance(codes, tiny_sequencer, sources):
    source = replace(
        sources["many"], orders="both", drop_prompt=0.5, noise=0.5, media_loss=0, epochs=3
    )
    rows = list(validation_sequences(source, tiny_sequencer, LENGTH, name="many"))
    keys = [key for row in rows for key in row.keys]
    assert sorted(keys) == [f"many/many-{number:04d}" for number in range(70)]
    assert keys[0] == "many/many-0000"
    assert sum(row.counters["documents"] for row in rows) == 70
    assert all((row.input_ids == row.labels).all() for row in rows)
    actual = {}
    for row in rows:
        for key, start, stop in zip(row.keys, row.starts, row.starts[1:]):
            actual[key] = tiny_sequencer.grammar.parse(row.labels[start:stop])
    assert {segments[0].role for segments in actual.values()} == {"prompt"}
    again = list(validation_sequences(source, tiny_sequencer, LENGTH, name="many"))
    assert all(same(a, b) for a, b in zip(rows, again, strict=True))
    few = list(validation_sequences(source, tiny_sequencer, LENGTH, limit=9))
    assert sum(len(row.keys) for row in few) == 9
    assert {key for row in few for key in row.keys} == {
        f"validation/many-{n:04d}" for n in range(9)
    }
