"""The order of rows: the same whoever makes them, exactly resumed; and what is skipped of it."""

from __future__ import annotations

import json
import random
import tarfile
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from unified.dataloading import Loader, Source, validation_sequences
from unified.formats.coded import CodedImage
from unified_data.document import Text
from unified_data.shards import add_sample

LENGTH = 96
ARRAYS = ("input_ids", "labels", "loss_weights", "allowed", "modality", "starts")


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


def same(first, other) -> bool:
    plain = ("ranges", "keys", "stream", "number", "counters", "reports", "state")
    return all(np.array_equal(getattr(first, n), getattr(other, n)) for n in ARRAYS) and all(
        getattr(first, n) == getattr(other, n) for n in plain
    )


def ids_of(rows) -> dict[str, int]:
    """Ids of every source."""
    served: dict[str, int] = {}
    for row in rows:
        for key, start, stop in zip(row.keys, row.starts, row.starts[1:]):
            name = key.rpartition("/")[0]
            served[name] = served.get(name, 0) + int(stop - start)
    return served


def take(loader, number):
    return list(islice(loader, number))


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


# What is skipped.


@pytest.fixture
def faulty(stored_codes, write_codes, random_documents, tmp_path, forget_checksums):
    """A function: a folder with one shard of sound documents and some broken ones among them."""

    def make(sound, broken):
        folder = write_codes(tmp_path / f"faulty{sound}-{broken}", {"x": random_documents(sound)})
        path = folder / "x.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, document in enumerate(random_documents(sound + broken)):
                obj, media = stored_codes.to_parts(f"k{number}", document)
                if number >= sound:
                    obj["segments"][0]["type"] = "pickle"
                add_sample(tar, f"k{number}", obj, media)
        forget_checksums(folder, lambda index: index["shards"][0].update(samples=sound + broken))
        return folder

    return make


def test_broken_samples_are_left_out_counted_and_named(loader, faulty):
    folder = faulty(20, 2)
    first = loader(sources={"x": Source(str(folder), epochs=3)}, max_corrupt=6)
    rows = list(first)
    assert first.counts == {"documents": 60, "ids": first.counts["ids"], "split": 0, "corrupt": 6,
                          "too_long": 0, "not_reversed": 0}  # fmt: skip
    assert sum(row.counters["corrupt"] for row in rows) == 6
    reports = sorted({report for row in rows for report in row.reports})
    assert reports == [
        f"shard {folder}/x.tar, sample k{n}: segment 0: type is 'pickle', expected text, image or "
        "audio"
        for n in (20, 21)
    ]
    stopping = loader(sources={"x": Source(str(folder), epochs=3)}, max_corrupt=5)
    with pytest.raises(
        ValueError, match="6 samples are corrupt, max_corrupt is 5; the last: shard"
    ):
        list(stopping)


def test_the_limit_holds_over_a_resumption_and_in_workers(loader, faulty):
    sources = {"x": Source(str(faulty(20, 2)))}
    first = loader(sources=sources, max_corrupt=6, streams=1)
    rows = iter(first)
    next(rows)
    saved = first.state()
    with pytest.raises(ValueError, match="7 samples are corrupt, max_corrupt is 6"):
        list(rows)
    resumed = loader(sources=sources, max_corrupt=6, streams=1, workers=1)
    resumed.load_state([saved])
    with pytest.raises(
        ValueError, match=r"^7 samples are corrupt, max_corrupt is 6; the last: shard"
    ):
        list(resumed)


def test_a_shard_cut_off_after_its_index_was_written_loses_its_last_samples(loader, faulty):
    folder = faulty(20, 0)
    path = folder / "x.tar"
    path.write_bytes(path.read_bytes()[:-25_000])
    first = loader(sources={"x": Source(str(folder), epochs=1)})
    reports = [report for row in first for report in row.reports]
    assert 0 < first.counts["corrupt"] < 20
    assert first.counts["corrupt"] + first.counts["documents"] == 20
    assert any("cut off?" in report for report in reports)


def test_a_source_without_a_usable_sample_ends_the_run(loader, faulty):
    sources = {"x": Source(str(faulty(0, 3)))}
    with pytest.raises(ValueError, match="source x: none of 1000 samples can be used; the last"):
        take(loader(sources=sources, max_corrupt=10_000), 1)


def test_long_documents_are_cut_and_media_longer_than_a_row_left_out(
    loader, write_codes, tmp_path, tiny_sequencer
):
    rng = np.random.default_rng(0)
    wide = CodedImage(rng.integers(0, 12, (1, 9, 9)), "response")
    small = CodedImage(rng.integers(0, 12, (1, 2, 2)), "response")
    counting, on = (Text(" ".join(map(str, range(a, a + 60))), "response") for a in (0, 60))
    documents = [[counting, small, on], [Text("a cat", "prompt"), wide], [Text("a"), Text("b")]]
    folder = write_codes(tmp_path / "long", {"x": documents})
    first = loader(sources={"x": Source(str(folder), epochs=1)}, seq_len=50, streams=1)
    rows = list(first)
    assert (first.counts["split"], first.counts["too_long"], first.counts["corrupt"]) == (1, 1, 0)
    pieces = [
        (key, row.labels[start:stop])
        for row in rows
        for key, start, stop in zip(row.keys, row.starts, row.starts[1:])
    ]
    coded = [tiny_sequencer.code_segment(s) if isinstance(s, Text) else s for s in documents[0]]
    whole = tiny_sequencer.grammar.serialize(coded).ids.tolist()
    parts = [ids.tolist() for key, ids in pieces if key == "x/x-0000"]
    places = {}
    for part in parts:
        (position,) = [n for n in range(len(whole)) if whole[n : n + len(part)] == part]
        places[position] = part
    assert len(places) == len(parts) > 3
    assert [id for _, part in sorted(places.items()) for id in part] == whole
    (report,) = [report for row in rows for report in row.reports]
    assert "sample x-0001: its picture or sound of 8" in report
    assert report.endswith("is longer than a sequence of 50")


def test_a_document_that_changed_under_a_state_is_noticed(loader, write_codes, tmp_path):
    def write(words):
        document = [Text("panda " * words, "response")]
        return write_codes(tmp_path / "changing", {"x": [document] * 4})

    sources = {"x": Source(str(write(60)))}
    first = loader(sources=sources, seq_len=20, streams=1)
    take(first, 2)
    state = first.state()
    write(3)
    other = loader(sources=sources, seq_len=20, streams=1)
    other.load_state([state])
    with pytest.raises(ValueError, match="source x that waits to be packed has become shorter"):
        take(other, 1)


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


def test_held_out_documents_that_are_broken_are_counted(faulty, tiny_sequencer):
    rows = list(validation_sequences(Source(str(faulty(9, 2))), tiny_sequencer, LENGTH))
    assert sum(row.counters["corrupt"] for row in rows) == 2
    with pytest.raises(ValueError, match="x: none of its samples can be used; the last: shard"):
        list(validation_sequences(Source(str(faulty(0, 2))), tiny_sequencer, LENGTH, name="x"))
