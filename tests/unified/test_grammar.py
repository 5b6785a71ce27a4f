"""The pocket grammar: one declaration as serializer, validator, constraint and streaming parser."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from unified.formats.grammar import Grammar, GrammarError
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary

VOCABULARY = Vocabulary.build(
    40, 45, load_format("pocket").markers, 9, image=([23], "im"), audio=([17, 19], "au")
)
GRAMMAR = Grammar.load("pocket", VOCABULARY)
M = VOCABULARY.marker


def codes(*sizes: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, shape) for size in sizes])


@st.composite
def documents(draw, max_segments: int = 6):
    """Coded documents: any mix of kinds, roles None first, then prompt and response."""
    segments, role = [], None
    for _ in range(draw(st.integers(0, max_segments))):
        role = draw(st.sampled_from([role, "prompt", "response"]))
        kind = draw(st.sampled_from(["text", "image", "audio"]))
        seed = draw(st.integers(0, 999))
        if kind == "text":
            ids = draw(st.lists(st.integers(0, 39), min_size=1, max_size=5))
            segments.append(CodedText(tuple(ids), role))
        elif kind == "image":
            grid = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
            segments.append(CodedImage(codes(23, shape=grid, seed=seed), role))
        else:
            frames = (draw(st.integers(1, 7)),)
            segments.append(CodedAudio(codes(17, 19, shape=frames, seed=seed), role))
    return segments


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


# Constraint.


def walk(grammar: Grammar, limits: Limits, rng: random.Random) -> list[int]:
    """A sequence sampled uniformly under the constraint: an untrained model's choice."""
    state, ids = grammar.start(limits), []
    while not state.finished:
        ranges = state.allowed()
        assert ranges
        assert all(start < stop for start, stop in ranges)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
        start, stop = rng.choice(ranges)
        # Block edges are where an error of one would show.
        id = rng.choice((start, stop - 1, rng.randrange(start, stop)))
        ids.append(id)
        state.advance(id)
    assert state.allowed() == ()
    return ids


def random_limits(rng: random.Random) -> Limits:
    allow = tuple(kind for kind in ("text", "image", "audio") if rng.random() < 0.75)
    single = rng.random() < 0.2 and bool(allow)
    longest = rng.choice([None, rng.randint(3, 6)])
    return Limits(
        max_ids=rng.randint(2, 90),
        num_images=rng.choice([None, 0, 1, 2]) if "image" in allow and not single else None,
        num_audios=rng.choice([None, 0, 1, 2]) if "audio" in allow and not single else None,
        allow=allow,
        image_grid=rng.choice([None, None, (2, 3), (3, 1), (1, 1)]),
        min_audio_frames=rng.randint(1, 3),
        max_audio_frames=longest,
        roles=rng.random() < 0.5,
        single=single,
    )


def start_or_least(limits: Limits) -> Limits:
    """These limits, with the budget raised to the least that the grammar asks for."""
    try:
        GRAMMAR.start(limits)
    except ValueError as error:
        message = str(error)
    else:
        return limits
    grids = re.search(r"a budget of \d+ ids is too small .* need at least (\d+)", message)
    assert grids, message
    return replace(limits, max_ids=int(grids[1]))


def test_ten_thousand_random_sequences_validate_and_keep_their_limits():
    rng = random.Random(3)
    kinds_seen: set[str] = set()
    for _ in range(10_000):
        limits = start_or_least(random_limits(rng))
        ids = walk(GRAMMAR, limits, rng)
        assert len(ids) <= limits.max_ids
        segments = GRAMMAR.parse(ids)
        kinds = [segment.kind for segment in segments]
        kinds_seen.update(kinds)
        assert set(kinds) <= set(limits.allow)
        assert limits.num_images in (None, kinds.count("image"))
        assert limits.num_audios in (None, kinds.count("audio"))
        assert not limits.single or len(kinds) == 1
        for segment in segments:
            if segment.kind == "image" and limits.image_grid is not None:
                assert segment.codes.shape[1:] == limits.image_grid
            if segment.kind == "audio":
                frames = segment.codes.shape[1]
                assert limits.min_audio_frames <= frames <= (limits.max_audio_frames or 999)
            assert limits.roles or segment.role is None
    assert kinds_seen == {"text", "image", "audio"}


@settings(deadline=None, max_examples=120)
@given(documents(5))
def test_the_budget_guard_refuses_no_document_that_fits(document):
    ids = GRAMMAR.serialize(document).ids.tolist()
    kinds = [segment.kind for segment in document]
    limits = Limits(
        max_ids=len(ids),
        num_images=kinds.count("image"),
        num_audios=kinds.count("audio"),
        roles=True,
    )
    state = GRAMMAR.start(limits)
    for id in ids:
        state.advance(id)
    assert state.finished
    assert state.remaining == 0
    with pytest.raises(ValueError):  # noqa: PT012
        state = GRAMMAR.start(replace(limits, max_ids=len(ids) - 1))
        for id in ids:
            state.advance(id)


def test_a_picture_begins_only_where_it_fits():
    grid, length = (3, 4), 1 + 2 + 12 + 1
    for spare in (-1, 0):
        limits = Limits(max_ids=2 + length + spare, image_grid=grid)
        state = GRAMMAR.start(limits)
        state.advance(M("<bos>"))
        open_now = any(start <= M("<image>") < stop for start, stop in state.allowed())
        assert open_now == (spare == 0)
    free = GRAMMAR.start(Limits(max_ids=2 + 1 + 2 + 10 + 1))
    for id in (M("<bos>"), M("<image>")):
        free.advance(id)
    size = VOCABULARY.block("size").start
    assert free.allowed() == ((size, size + 9),)
    free.advance(size + 2)  # h = 3: at most 3 columns in the 10 codes that are left
    assert free.allowed() == ((size, size + 3),)


def test_the_end_is_refused_while_pictures_are_owed():
    state = GRAMMAR.start(Limits(max_ids=60, num_images=1, image_grid=(2, 2)))
    state.advance(M("<bos>"))
    state.advance(3)
    with pytest.raises(GrammarError, match=r"found <eos> .*58 ids left"):
        state.advance(M("<eos>"))
    assert state.position == 2
    for id in GRAMMAR.serialize([CodedImage(np.zeros((1, 2, 2), int))]).ids[1:].tolist():
        state.advance(id)
    assert state.finished


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_ids": 1}, "budget of 1 ids is too small .* at least 2"),
        ({"max_ids": 20, "num_images": 2, "image_grid": (3, 3)}, "at least 28"),
        ({"image_grid": (10, 2)}, "h must be in 1..9"),
        ({"num_images": 1, "allow": ("text",)}, "allow leaves out image"),
        ({"allow": ("video",)}, "it may hold text, image, audio"),
        ({"min_audio_frames": 4, "max_audio_frames": 3}, "audio frames from 4 to 3"),
        ({"single": True, "num_images": 1}, "takes exactly one segment"),
        ({"stop": 3}, "needs single=True"),
        ({"stop": 3, "single": True, "allow": ("text",)}, "cannot be the stop"),
    ],
)
def test_limits_that_cannot_be_met_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        GRAMMAR.start(Limits(**limits))


def test_a_text_slot_ends_with_what_follows_it():
    state = GRAMMAR.start()
    before = [CodedText((1,), "prompt")]
    for id in GRAMMAR.serialize(before, end=False).ids.tolist():
        state.advance(id)
    for id in state.segment_prefix("text", "response"):
        state.advance(id)
    stop = GRAMMAR.text_stop("response", ("image", "response"))
    assert stop == M("<image>")
    state.restrict(Limits(max_ids=3, allow=("text",), single=True, stop=stop))
    assert state.allowed() == ((0, 40),)
    state.advance(7)
    assert state.allowed() == ((0, 40), (stop, stop + 1))
    state.advance(8)
    assert (state.allowed(), state.mode) == (((stop, stop + 1),), "marker")
    image = CodedImage(np.zeros((1, 2, 3), int), "response")
    for id in GRAMMAR.segment_ids(image)[0].tolist():
        state.advance(id)
    assert state.remaining is None
    assert GRAMMAR.text_stop("response", ("text", "response")) == M("<text>")
    assert GRAMMAR.text_stop("prompt", ("text", "response")) == M("<response>")
    assert GRAMMAR.text_stop("prompt", None) == M("<eos>")


def test_a_slot_after_a_text_of_its_role_starts_a_new_text():
    state = GRAMMAR.start()
    for id in (M("<bos>"), 3):
        state.advance(id)
    state.restrict(Limits(allow=("text",), single=True))
    assert state.allowed() == ((M("<text>"), M("<text>") + 1),)
    assert state.segment_prefix("text", None) == (M("<text>"),)


def test_limits_do_not_change_inside_a_span_but_can_be_lifted():
    state = GRAMMAR.start(Limits(max_ids=10, max_audio_frames=1))
    for id in (M("<bos>"), M("<audio>"), *(VOCABULARY.block(f"audio.{k}").start for k in (0, 1))):
        state.advance(id)
    assert state.mode == "marker"
    with pytest.raises(ValueError, match="inside the audio span begun at position 1"):
        state.restrict(Limits())
    state.restrict(None)
    assert state.mode == "audio"
    assert len(state.allowed()) == 2


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
