"""Vocabulary: the only place that adds an offset, so every edge of every block is tried."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.vocabulary.vocabulary import Block, Vocabulary, VocabularyMismatchError


@st.composite
def vocabularies(draw):
    text_size = draw(st.integers(1, 60))
    markers = draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=6, unique=True))
    sizes = st.lists(st.integers(1, 50), min_size=1, max_size=4)
    fingerprint = st.text("0123456789abcdef", min_size=4, max_size=4)
    return Vocabulary.build(
        text_size,
        text_size + draw(st.integers(0, 9)),
        markers,
        draw(st.integers(1, 64)),
        image=draw(st.none() | st.tuples(sizes, fingerprint)),
        audio=draw(st.none() | st.tuples(sizes, fingerprint)),
        text_fingerprint=draw(st.none() | fingerprint),
    )


def small() -> Vocabulary:
    return Vocabulary.build(10, 13, ["<a>", "<b>"], 5, image=([7], "im"), audio=([3, 4], "au"))


def test_layout_is_exact():
    ids = [(b.name, b.start, b.size, b.level, b.fingerprint) for b in small().blocks]
    assert ids == [
        ("text", 0, 13, None, None),
        ("markers", 13, 2, None, None),
        ("size", 15, 5, None, None),
        ("image.0", 20, 7, 0, "im"),
        ("audio.0", 27, 3, 0, "au"),
        ("audio.1", 30, 4, 1, "au"),
    ]
    assert small().size == 34
    assert (small().marker("<a>"), small().marker("<b>")) == (13, 14)


@settings(deadline=None, max_examples=60)
@given(vocabularies())
def test_blocks_are_disjoint_and_cover_the_vocabulary(vocabulary):
    owners = [vocabulary.block_of(id).name for id in range(vocabulary.size)]
    expected = [block.name for block in vocabulary.blocks for _ in range(block.size)]
    assert owners == expected
    for outside in (-1, vocabulary.size):
        with pytest.raises(ValueError, match="outside the vocabulary"):
            vocabulary.block_of(outside)


@settings(deadline=None, max_examples=60)
@given(vocabularies())
def test_every_block_edge_round_trips_and_one_beyond_is_refused(vocabulary):
    for block in vocabulary.blocks:
        usable = vocabulary.text_size if block.name == "text" else block.size
        for kind in (int, np.int64, np.int32):
            codes = [kind(0), kind(usable - 1)]
            ids = [vocabulary.to_ids(block.name, code) for code in codes]
            assert ids == [block.start, block.start + usable - 1]
            assert [vocabulary.from_ids(block.name, id) for id in ids] == codes
        for code in (-1, usable):
            for codes in (code, np.array([0, code]), torch.tensor([[0], [code]])):
                with pytest.raises(ValueError, match=f"code {code} .*'{block.name}'"):
                    vocabulary.to_ids(block.name, codes)
        for id in (block.start - 1, block.start + usable):
            for ids in (id, np.array([id]), torch.tensor([block.start, id])):
                with pytest.raises(ValueError, match=f"outside block '{block.name}'"):
                    vocabulary.from_ids(block.name, ids)


def test_arrays_keep_kind_and_shape():
    codes = np.array([[0, 6, 3]], dtype=np.int16)
    ids = small().to_ids("image.0", codes)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[20, 26, 23]]
    tensor = small().from_ids("image.0", torch.tensor([[20], [26]]))
    assert tensor.tolist() == [[0], [6]]
    with pytest.raises(TypeError, match="must be integers"):
        small().to_ids("image.0", np.array([1.0]))
    with pytest.raises(TypeError, match="must be integers"):
        small().to_ids("image.0", torch.tensor([True]))


def test_padded_text_rows_are_never_text():
    for id in (10, 11, 12):
        assert small().block_of(id).name == "text"
        with pytest.raises(ValueError, match="padded row"):
            small().from_ids("text", id)
    assert small().text_ranges == ((0, 10),)


@settings(deadline=None, max_examples=60)
@given(vocabularies())
def test_json_round_trip(vocabulary):
    back = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert back == vocabulary
    assert back.hash == vocabulary.hash
    back.check_same(vocabulary)


@settings(deadline=None, max_examples=60)
@given(vocabularies(), vocabularies())
def test_hashes_are_equal_exactly_when_vocabularies_are(block, other):
    assert (block.hash == other.hash) == (block == other)


def test_hash_changes_with_anything():
    base = {"text_size": 10, "text_rows": 13, "markers": ["<a>", "<b>"], "max_grid": 5}
    base |= {"image": ([7], "im"), "audio": ([3, 4], "au"), "text_fingerprint": "te"}
    changes = {
        "text_size": 11,
        "text_rows": 14,
        "markers": ["<b>", "<a>"],
        "max_grid": 6,
        "image": ([7], "in"),
        "audio": ([4, 3], "au"),
        "text_fingerprint": "tf",
    }
    hashes = {Vocabulary.build(**(base | {key: value})).hash for key, value in changes.items()}
    assert len(hashes | {Vocabulary.build(**base).hash}) == len(changes) + 1


def test_mismatch_names_hashes_and_both_fingerprints():
    other = Vocabulary.build(10, 13, ["<a>", "<b>"], 5, image=([7], "xx"), audio=([3, 4], "au"))
    with pytest.raises(VocabularyMismatchError, match=r"'image\.0'.* im .*'image\.0'.* xx") as e:
        small().check_same(other)
    assert small().hash[:16] in str(e.value)
    assert other.hash[:16] in str(e.value)
    shorter = Vocabulary.build(10, 13, ["<a>", "<b>"], 5, image=([7], "im"))
    with pytest.raises(VocabularyMismatchError, match=r"'audio\.0'.* only one"):
        small().check_same(shorter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_size": 14}, "text_size"),
        ({"text_size": "10"}, "must be an integer"),
        ({"extra": 1}, "must be an object"),
        ({"blocks": [{"name": "text", "start": 0}]}, "needs name, start and size"),
        ({"blocks": [{"name": "text", "start": 0, "size": 13, "colour": 1}]}, "colour"),
        ({"blocks": [{"name": "text", "start": 1, "size": 13}]}, "contiguous"),
    ],
)
def test_broken_json_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_json(small().to_json() | change)


def test_unknown_names_are_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"no block 'video'; it has text, markers"):
        small().to_ids("video", 0)
    with pytest.raises(ValueError, match=r"no marker '<c>'; it has <a>, <b>"):
        small().marker("<c>")
    with pytest.raises(ValueError, match="declared twice"):
        Vocabulary((Block("text", 0, 2), Block("text", 2, 2)), 2, 2)
