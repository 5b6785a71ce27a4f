"""The pocket grammar: one declaration as serializer, validator, constraint and streaming parser."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pocket_grammar import GRAMMAR, VOCABULARY, M, documents, walk

from unified.formats.coded import (
    CodedAudio,
    CodedImage,
    CodedText,
    FrameDone,
    RoleChange,
    RowDone,
    SpanBegin,
    SpanEnd,
    TextIds,
)
from unified.formats.grammar import GrammarError
from unified.formats.limits import Limits

# Serializer.


def test_exact_ids_of_a_hand_written_document():
    document = [
        CodedText((3, 4), "prompt"),
        CodedText((5,), "prompt"),
        CodedImage(np.array([[[7, 8, 9], [1, 2, 22]]]), "response"),
        CodedAudio(np.array([[5, 6], [18, 0]]), "response"),
    ]
    modalities = GRAMMAR.serialize(document)
    image, audio0, audio1 = (VOCABULARY.block(n).start for n in ("image.0", "audio.0", "audio.1"))
    size = VOCABULARY.block("size").start
    spans = [
        ([M("<bos>")], -1, [0]),
        ([M("<prompt>"), 3, 4], 0, [0, 1, 1]),
        ([M("<text>"), 5], 1, [0, 1]),
        ([M("<response>"), M("<image>"), size + 1, size + 2], 2, [0, 0, 0, 0]),
        ([image + c for c in (7, 8, 9, 1, 2, 22)] + [M("</image>")], 2, [2] * 6 + [0]),
        ([M("<audio>"), audio0 + 5, audio1 + 18, audio0 + 6, audio1 + 0], 3, [0, 3, 3, 3, 3]),
        ([M("</audio>")], 3, [0]),
        ([M("<eos>")], -1, [0]),
    ]
    assert modalities.ids.tolist() == [id for ids, _, _ in spans for id in ids]
    assert modalities.segment.tolist() == [owner for ids, owner, _ in spans for _ in ids]
    assert modalities.modality.tolist() == [m for _, _, modality in spans for m in modality]
    assert (modalities.ids.dtype, modalities.modality.dtype) == (np.int64, np.uint8)
    prefix = GRAMMAR.serialize(document, end=False)
    assert prefix.ids.tolist() == modalities.ids.tolist()[:-1]


@settings(deadline=None, max_examples=150)
@given(documents())
def test_parse_of_serialize_is_the_document(document):
    ids = GRAMMAR.serialize(document).ids
    assert GRAMMAR.validate(ids) is None
    assert list(GRAMMAR.parse(ids)) == document


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (CodedText((40,)), r"segment 0 \(text\): code 40 .*0\.\.39"),
        (CodedImage(np.zeros((1, 10, 2), int)), "h must be in 1..9"),
        (CodedImage(np.zeros((2, 2, 2), int)), "must have 1 levels, found 2"),
        (CodedImage(np.full((1, 2, 2), 23)), r"code 23 .*'image\.0'"),
        (CodedAudio(np.zeros((2, 2, 2), int)), "a grid of 2 axes"),
        (CodedText((1,), role="system"), "role 'system'"),
    ],
)
def test_what_the_format_cannot_say_is_refused(segment, message):
    with pytest.raises(ValueError, match=message):
        GRAMMAR.serialize([segment])


def test_a_role_cannot_be_taken_back():
    with pytest.raises(ValueError, match=r"segment 1 .*without a role cannot follow role 'prompt'"):
        GRAMMAR.serialize([CodedText((1,), "prompt"), CodedText((2,))])
    with pytest.raises(ValueError, match="at least one id"):
        CodedText(())
    with pytest.raises(ValueError, match="not empty"):
        CodedAudio(np.zeros((2, 0), int))


# Validator.


def refusal(ids: list[int]) -> GrammarError | None:
    try:
        GRAMMAR.validate(ids)
    except GrammarError as error:
        return error
    return None


@settings(deadline=None, max_examples=300)
@given(documents(4), st.data())
def test_a_mutated_sequence_is_refused_with_position_or_is_another_document(document, data):
    ids = GRAMMAR.serialize(document).ids.tolist()
    at = data.draw(st.integers(0, len(ids) - 1))
    other = data.draw(st.integers(-1, VOCABULARY.size))
    mutated = data.draw(
        st.sampled_from(
            [
                ids[:at] + [other] + ids[at + 1 :],
                ids[:at] + ids[at + 1 :],
                ids[:at] + [other] + ids[at:],
                ids[:at],
                ids[:at] + ids[at : at + 2][::-1] + ids[at + 2 :],
            ]
        )
    )
    if mutated == ids:
        return
    error = refusal(mutated)
    if error is None:
        assert list(GRAMMAR.parse(mutated)) != document
    else:
        # The first offence cannot come before the first change, and all before it may stand.
        assert at <= error.position <= len(mutated)
        assert str(error) == f"position {error.position}: {error.reason}"
        state = GRAMMAR.start()
        for id in mutated[: error.position]:
            state.advance(id)
        if error.position < len(mutated):
            bad = mutated[error.position]
            assert not any(start <= bad < stop for start, stop in state.allowed())
        else:
            assert not state.finished


@pytest.mark.parametrize(
    ("ids", "position", "reason"),
    [
        ([], 0, "the sequence ends where <bos> should follow"),
        ([3], 0, "expected <bos>, found text code 3"),
        (["<bos>", 42], 1, "a padded row of block text"),
        (["<bos>", 9999], 1, r"id 9999 \(outside the vocabulary"),
        (["<bos>", "<pad>"], 1, "found <pad>"),
        (["<bos>", 3], 2, "the sequence ends where text .*<eos>"),
        (["<bos>", "<eos>", 3], 2, "follows the end of the document"),
        (["<bos>", "<prompt>", "<eos>"], 2, "found <eos>"),
        (["<bos>", "<prompt>", 3, "<prompt>"], 3, "found <prompt>"),
        (["<bos>", "<text>"], 1, "found <text>"),
        (["<bos>", 3, "<text>", "<eos>"], 3, "expected text .*found <eos>"),
        (["<bos>", "<image>", 3], 2, "expected size .*found text code 3"),
        (["<bos>", "<audio>", "</audio>"], 2, r"expected audio\.0"),
    ],
)
def test_offences_are_placed_and_explained(ids, position, reason):
    with pytest.raises(GrammarError, match=reason) as error:
        GRAMMAR.validate([M(id) if isinstance(id, str) else id for id in ids])
    assert error.value.position == position


def test_a_cut_picture_says_how_far_it_came():
    ids = GRAMMAR.serialize([CodedText((1, 2)), CodedImage(np.zeros((1, 4, 5), int))]).ids
    with pytest.raises(GrammarError, match=r"begun at position 3, which has 19 codes of 20 \(4x5"):
        GRAMMAR.validate(ids[: 6 + 19])
    with pytest.raises(GrammarError, match=r"was generation cut off.*max_ids"):
        GRAMMAR.validate(ids[: 6 + 20])
    with pytest.raises(GrammarError, match=r"expected </image>, found image\.0 code 0"):
        GRAMMAR.validate([*ids[: 6 + 20], ids[10]])


# Streaming parser.


@settings(deadline=None, max_examples=80)
@given(documents())
def test_events_carry_the_document_piece_by_piece(document):
    events = list(GRAMMAR.events(GRAMMAR.serialize(document).ids))
    role, segments, begun = None, [], None
    rows, frames, text = [], [], []
    for event in events:
        if isinstance(event, RoleChange):
            role = event.role
        elif isinstance(event, SpanBegin):
            begun, rows, frames, text = event, [], [], []
        elif isinstance(event, TextIds):
            text += event.ids
        elif isinstance(event, RowDone):
            assert event.row == len(rows)
            rows.append(event.codes)
        elif isinstance(event, FrameDone):
            assert event.frame == len(frames)
            frames.append(event.codes)
        elif isinstance(event, SpanEnd):
            assert begun is not None
            assert (begun.kind, event.segment.role) == (event.kind, role)
            if event.kind == "text":
                assert tuple(text) == event.segment.ids
            elif event.kind == "image":
                h, w = event.segment.codes.shape[1:]
                assert (begun.sizes, begun.grid) == ({"h": h, "w": w}, (h, w))
                assert np.array_equal(np.stack(rows, axis=1), event.segment.codes)
            else:
                assert begun.grid == (None,)
                assert np.array_equal(np.stack(frames, axis=1), event.segment.codes)
            segments.append(event.segment)
    assert segments == document


def test_mode_and_kind_follow_the_sequence():
    document = [CodedText((1,)), CodedImage(np.zeros((1, 1, 2), int)), CodedAudio([[1], [2]])]
    state, modes, kinds = GRAMMAR.start(), [], []
    for id in GRAMMAR.serialize(document).ids.tolist():
        modes.append(state.mode)
        kinds.append(state.kind)
        state.advance(id)
    image, audio = ["image"] * 4 + ["marker"], ["audio"] * 3
    assert modes == ["marker", "text", "text", *image, "text", *audio, "text"]
    assert kinds == [None, None, "text", *["image"] * 5, None, *["audio"] * 3, None]


def test_a_copy_goes_its_own_way():
    rng = random.Random(5)
    for _ in range(50):
        limits = Limits(max_ids=60, num_images=1)
        ids = walk(GRAMMAR, limits, rng)
        cut = rng.randrange(len(ids))
        state = GRAMMAR.start(limits)
        for id in ids[:cut]:
            state.advance(id)
        twin = state.copy()
        while not twin.finished:
            twin.advance(twin.allowed()[0][0])
        events = [event for id in ids[cut:] for event in state.advance(id)]
        assert state.finished
        assert [e.segment for e in events if isinstance(e, SpanEnd)] == list(
            GRAMMAR.parse(ids)[-sum(isinstance(e, SpanEnd) for e in events) or 99 :]
        )
