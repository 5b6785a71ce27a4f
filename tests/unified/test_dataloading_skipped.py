"""Broken, overlong and changed documents: left out or cut, counted, named, and limited."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
from loaded_rows import LENGTH, take

from unified.dataloading import Loader, Source, validation_sequences
from unified.formats.coded import CodedImage
from unified_data.document import Text
from unified_data.shards import add_sample


@pytest.fixture
def loader(tiny_sequencer):
    def make(sources, **options):
        options = {"seq_len": LENGTH, "streams": 12, "seed": 5, **options}
        return Loader(sources, tiny_sequencer, **options)

    return make


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
        f"shard {folder}/x.tar, sample k{n}: segment 0: type is 'pickle', expected one of text, "
        "image, audio, box, point, video, label, state, points, region"
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


def test_held_out_documents_that_are_broken_are_counted(faulty, tiny_sequencer):
    rows = list(validation_sequences(Source(str(faulty(9, 2))), tiny_sequencer, LENGTH))
    assert sum(row.counters["corrupt"] for row in rows) == 2
    with pytest.raises(ValueError, match="x: none of its samples can be used; the last: shard"):
        list(validation_sequences(Source(str(faulty(0, 2))), tiny_sequencer, LENGTH, name="x"))
