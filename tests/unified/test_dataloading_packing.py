"""Documents cut into pieces, pieces packed into rows."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.packing import (
    Chunk,
    Packer,
    TooLongError,
    best_fill,
    pack,
    split_document,
    split_points,
)
from unified.dataloading.tokenized_document import TokenizedDocument


def laid(*boundaries: tuple[int, bool]) -> TokenizedDocument:
    """A document of boundaries (length, whether a text); its ids are their places."""
    edges = np.cumsum([0, *(length for length, _ in boundaries)]).tolist()
    ids = np.arange(edges[-1], dtype=np.int32)
    return TokenizedDocument(
        ids, np.ones(len(ids), np.float32), ids % 3, (ids % 4).astype(np.uint8),
        edges, [text for _, text in boundaries], [],
    )  # fmt: skip


def piece(length: int, name: str = "x", first: int = 0) -> Chunk:
    ids = np.arange(first, first + length, dtype=np.int32)
    zeros = np.zeros(length, np.uint8)
    return Chunk(ids, ids, np.ones(length, np.float32), ids % 2, zeros, name, (name, 0, 0))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=12),
    st.integers(2, 20),
)
def test_a_cut_document_is_whole_and_splits_no_medium(boundaries, length):
    document = laid((1, False), *boundaries, (1, False))
    longest = max((size for size, text in boundaries if not text), default=0)
    if sum(size for size, _ in boundaries) + 2 > length and longest > length:
        with pytest.raises(TooLongError, match=f"is longer than a sequence of {length}"):
            split_points(document, length)
        return
    edges = split_points(document, length)
    assert (edges[0], edges[-1]) == (0, len(document.ids))
    assert all(0 < b - a <= length for a, b in pairwise(edges))
    for (start, stop), text in zip(pairwise(document.boundaries), document.is_text):
        if not text or stop - start <= length:
            assert not any(start < edge < stop for edge in edges)
    # No two neighbouring pieces would have fitted into one row.
    if len(boundaries) and longest <= length and not any(t and n > length for n, t in boundaries):
        assert all(c - a > length for a, c in zip(edges, edges[2:]))


def test_a_cut_lies_between_segments_and_inside_texts_that_are_too_long():
    edges = split_points(laid((1, False), (5, True), (6, False), (7, False), (1, False)), 12)
    assert edges == [0, 12, 20]
    assert split_points(laid((1, False), (30, True), (4, False), (1, False)), 10) == [
        0,
        10,
        20,
        30,
        36,
    ]
    assert split_points(laid((1, False), (8, True), (1, False)), 10) == [0, 10]


def test_the_first_id_of_every_piece_has_no_loss():
    document = laid((1, False), (5, True), (6, False), (7, False), (1, False))
    pieces = split_document(document, document.ids + 100, 12, "a/k", "a", 7)
    assert [p.labels.tolist() for p in pieces] == [list(range(12)), list(range(12, 20))]
    assert [p.input_ids[0] for p in pieces] == [100, 112]
    assert [p.loss_weights.tolist() for p in pieces] == [[0.0] + [1.0] * 11, [0.0] + [1.0] * 7]
    assert [p.reference for p in pieces] == [("a", 7, 0), ("a", 7, 1)]


@given(st.lists(st.integers(1, 12), max_size=9), st.integers(0, 40))
def test_the_fullest_choice_is_as_full_as_any_and_takes_the_oldest(lengths, room):
    actual = best_fill(lengths, room)
    assert actual == sorted(set(actual))
    filled = sum(lengths[at] for at in actual)
    ways = [
        some
        for number in range(len(lengths) + 1)
        for some in combinations(range(len(lengths)), number)
        if sum(lengths[at] for at in some) <= room
    ]
    assert filled == max(sum(lengths[at] for at in some) for some in ways)
    # Of all ways that fill as much it ends earliest: the newest that it takes is the oldest newest.
    newest = [max(some, default=-1) for some in ways if sum(lengths[at] for at in some) == filled]
    assert max(actual, default=-1) == min(newest)


@pytest.mark.parametrize("length", [512, 1024, 4096])
def test_rows_of_a_realistic_mixture_are_98_percent_full(length):
    """Pictures, sentences and articles as long as the pocket world's, 78 to 500 ids and more."""
    rng = np.random.default_rng(length)
    packer = Packer(length)
    filled, ages, drawn, order = [], [], 0, {}
    while len(filled) < 200:
        while packer.wants_more:
            kind = rng.integers(4)
            sizes = {0: 80 + rng.integers(0, 8), 1: rng.integers(100, 330), 2: rng.integers(30, 60)}
            size = int(min(sizes.get(int(kind), rng.integers(300, 700)), length))
            packer.add([piece(size, str(drawn))])
            order[str(drawn)] = len(filled)
            drawn += 1
        assert sum(map(len, packer.waiting)) < 17 * length
        oldest = packer.waiting[0].key
        row = packer.next()
        assert row[0].key == oldest
        filled.append(sum(map(len, row)))
        ages += [len(filled) - 1 - order[p.key] for p in row]
    assert np.mean(filled) / length > (0.98 if length == 512 else 0.995)
    assert max(filled) <= length
    assert max(ages) < 32


def test_what_waits_at_the_end_is_given_to_the_last_piece():
    packer = Packer(10)
    assert packer.next() == []
    packer.add([piece(6, "a"), piece(6, "b"), piece(4, "c"), piece(3, "d")])
    assert [[p.key for p in packer.next()] for _ in range(3)] == [["a", "c"], ["b", "d"], []]


def test_a_row_holds_its_documents_side_by_side_and_numbers_its_own_ranges():
    table = [((5, 9),), ((0, 3), (7, 8)), ((1, 2),), ((0, 2),)]
    single = Chunk(
        np.array([4, 9, 6], np.int32), np.array([4, 5, 6], np.int32),
        np.array([0, 1, 2], np.float32), np.array([3, 0, 3]), np.array([0, 1, 2], np.uint8),
        "a/k", ("a", 0, 0),
    )  # fmt: skip
    fields = pack([single, piece(2, "b/l", first=7)], 7, padding=99, table=table)
    row = PackedSequence(**fields, stream=0, number=0, counters={}, reports=(), state={})
    assert row.labels.tolist() == [4, 5, 6, 7, 8, 99, 99]
    assert row.input_ids.tolist() == [4, 9, 6, 7, 8, 99, 99]
    assert row.loss_weights.tolist() == [0, 1, 2, 1, 1, 0, 0]
    assert row.modality.tolist() == [0, 1, 2, 0, 0, 0, 0]
    assert (row.starts.tolist(), row.keys, row.num_ids) == ([0, 3, 5], ("a/k", "b/l"), 5)
    assert row.ranges == (((0, 2),), ((0, 3), (7, 8)), ((5, 9),))
    assert row.allowed[:5].tolist() == [0, 2, 0, 1, 2]
    assert row.position_ids().tolist() == [0, 1, 2, 0, 1, 0, 1]
    types = {
        name: str(getattr(row, name).dtype)
        for name in ("labels", "input_ids", "loss_weights", "allowed")
    }
    assert types == {
        "labels": "int32", "input_ids": "int32", "loss_weights": "float32", "allowed": "int32",
    }  # fmt: skip
    assert (str(row.modality.dtype), str(row.starts.dtype)) == ("uint8", "int32")


def test_a_full_row_has_no_padding():
    fields = pack([piece(4, "a"), piece(3, "b")], 7, 99, [((0, 9),), ((1, 9),)])
    row = PackedSequence(**fields, stream=0, number=0, counters={}, reports=(), state={})
    assert row.num_ids == 7
    assert row.position_ids().tolist() == [0, 1, 2, 3, 0, 1, 2]
