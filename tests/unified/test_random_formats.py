"""Formats made at random: what serializes parses back, and what is sampled validates.

Levels of unequal sizes, in a row, level by level, together, delayed, in streams, and ended by a
frame of known codes; whatever the layout, a sequence is read back as it was written.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.formats.coded import CodedAudio, CodedText, FrameDone, GrammarError, StreamFrameDone
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.page import page
from unified.formats.parser import parse_format, write_format
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary

TEXT = 9


class Made(NamedTuple):
    """A format's grammar; sizes: of each level's block; ends: the code that no frame may be of."""

    grammar: Grammar
    sizes: tuple[int, ...]
    ends: int | None


def delayed(draw, levels: int) -> dict:
    by = [0, *draw(st.lists(st.integers(0, 4), min_size=levels - 1, max_size=levels - 1))]
    single = st.sampled_from(["<a>", "<b>"])
    each = st.lists(st.sampled_from(["<a>", "<b>", "<c>"]), min_size=levels, max_size=levels)
    fill = draw(single | each)
    if draw(st.booleans()):
        fill = {"before": draw(single | each), "after": fill}
        if draw(st.booleans()):
            fill["end"] = draw(each)
    return {"delayed": "audio", "by": by, "fill": fill, "together": draw(st.booleans())}


@st.composite
def formats(draw) -> Made:
    codebooks = draw(st.integers(1, 4))
    sizes = tuple(draw(st.lists(st.integers(2, 5), min_size=codebooks, max_size=codebooks)))
    streams = {}
    if draw(st.booleans()):
        first = draw(st.integers(1, codebooks))
        streams = {"one": first, **({"other": codebooks - first} if first < codebooks else {})}
        if draw(st.booleans()):
            streams = {"words": "text", **streams} if draw(st.booleans()) else {
                **streams, "words": "text"}  # fmt: skip
    levels = [("text", TEXT)] if streams and next(iter(streams)) == "words" else []
    levels += [(f"audio.{k}", size) for k, size in enumerate(sizes)]
    if "words" in streams and len(levels) == codebooks:
        levels.append(("text", TEXT))
    layouts = ["row", "together", "delayed", "layers", *([] if streams else ["until"])]
    layout, ends = draw(st.sampled_from(layouts)), None
    every = draw(st.permutations([name for name, _ in levels]))
    if layout == "layers":
        items = [{"repeat": "open", "sets": "n", "of": [{"codes": every[0]}]}]
        items += [{"repeat": "n", "of": [{"codes": name}]} for name in every[1:]]
    elif layout == "delayed":
        items = [delayed(draw, len(levels))]
    elif layout == "row":
        items = [{"repeat": "open", "of": [{"codes": name} for name in every]}]
    else:
        items = [{"repeat": "open", "of": [{"codes": "audio", "together": layout != "row"}]}]
        if layout == "until":
            ends = draw(st.integers(0, min(sizes) - 1))
            items[0]["until"] = ends
    together = layout in ("together", "until") or items[0].get("together", False)
    begin = [{"marker": "<talk>"}]
    if together and len(levels) > 1 and draw(st.booleans()):
        begin = [{"position": ["<talk>", *["<c>"] * (len(levels) - 1)]}]
    needs_end = layout != "until" and not (layout == "delayed" and draw(st.booleans()))
    entries = {
        "name": "random",
        "markers": ["<pad>", "<end>", "<talk>", "</talk>", "<a>", "<b>", "<c>"],
        "padding": "<pad>",
        "document": {"begin": None, "end": "<end>"},
        "roles": {},
        "text": {"separator": None},
        "spans": {
            "audio": {
                "items": [*begin, *items, *([{"marker": "</talk>"}] if needs_end else [])],
                "streams": streams,
            }
        },
    }
    blocks = [Block("text", 0, TEXT), Block("markers", TEXT, 7, symbols=tuple(entries["markers"]))]
    for k, size in enumerate(sizes):
        blocks.append(Block(f"audio.{k}", blocks[-1].stop, size, k))
    try:
        format = parse_format(write_format(entries))
        grammar = Grammar(format, Vocabulary(tuple(blocks), TEXT, TEXT))
    except ValueError as error:  # delays of 0 that nothing ends
        assert "on time need a follower" in str(error)  # noqa: PT017
        entries["spans"]["audio"]["items"].append({"marker": "</talk>"})
        format = parse_format(write_format(entries))
        grammar = Grammar(format, Vocabulary(tuple(blocks), TEXT, TEXT))
    assert page(format)
    return Made(grammar, tuple(size for _, size in levels), ends)


def talk(drawn: Made, frames: int, seed: int) -> CodedAudio:
    rng = np.random.default_rng(seed)
    codes = rng.integers(np.array(drawn.sizes)[:, None], size=(len(drawn.sizes), frames))
    if drawn.ends is not None:
        # Frames that nearly end the sound; one that does gets another code.
        codes = np.where(rng.random(codes.shape) < 0.6, drawn.ends, codes)
        codes[-1, (codes == drawn.ends).all(0)] = (drawn.ends + 1) % drawn.sizes[-1]
    return CodedAudio(codes)


@settings(deadline=None, max_examples=100)
@given(formats(), st.integers(1, 6), st.integers(0, 99))
def test_what_is_laid_out_reads_back(drawn, frames, seed):
    grammar = drawn.grammar
    document = (CodedText((1, 2)), talk(drawn, frames, seed), CodedText((3,)), talk(drawn, 1, seed))
    laid = grammar.serialize(document)
    state, heard, streams = grammar.start(), [], {}
    for id, depth in zip(laid.ids.tolist(), laid.depth.tolist()):
        assert state.depth == depth
        for event in state.advance(id):
            if isinstance(event, FrameDone):
                heard.append(event.codes)
            elif isinstance(event, StreamFrameDone):
                streams.setdefault(event.stream, []).append(event.codes)
    assert state.finished
    parsed = grammar.parse(laid.ids)
    assert parsed == document
    both = np.concatenate([parsed[1].codes, parsed[3].codes], 1)
    np.testing.assert_array_equal(np.stack(heard, 1), both)
    span = grammar.span_grammars["audio"]
    assert set(streams) == set(span.streams)
    for name, codes in span.split_streams(both).items():
        np.testing.assert_array_equal(np.stack(streams[name], 1), codes)
    # A position has one id, or as many as every other of several.
    sizes = np.diff(np.flatnonzero(np.r_[laid.depth == 0, True]))
    assert set(sizes.tolist()) <= {1, grammar.num_together}


@settings(deadline=None, max_examples=100)
@given(formats(), st.integers(0, 99), st.integers(4, 80))
def test_what_is_sampled_under_limits_validates(drawn, seed, most):
    grammar, rng = drawn.grammar, random.Random(seed)
    limits = Limits(
        max_ids=most, num_audios=rng.choice([None, 1]), min_audio_frames=rng.choice([1, 2]),
        max_audio_frames=rng.choice([None, 3]),
    )  # fmt: skip
    try:
        state = grammar.start(limits)
    except ValueError as error:
        assert "too small" in str(error)  # noqa: PT017
        return
    ids, lifted = [], False
    while not state.finished:
        if not lifted and rng.random() < 0.01:
            copy = state.copy()
            copy.restrict(None)
            assert set(_ids(state)) <= set(_ids(copy))
        ids.append(rng.choice(_ids(state)))
        state.advance(ids[-1])
    assert len(ids) <= most
    segments = grammar.parse(ids)
    for segment in segments:
        if segment.kind == "audio":
            assert limits.min_audio_frames <= segment.codes.shape[1]
            assert limits.max_audio_frames is None or segment.codes.shape[1] <= 3
    assert grammar.serialize(segments).ids.tolist() == ids


@settings(deadline=None, max_examples=100)
@given(formats(), st.integers(0, 99), st.integers(8, 80))
def test_the_rest_of_a_position_is_what_comes_whatever_is_chosen(drawn, seed, most):
    rng, coming, depth = random.Random(seed), [], 0
    state = drawn.grammar.start(Limits(max_ids=most))
    while not state.finished:
        if coming and state.depth:
            assert (state.level, state.allowed()) == coming[0]
        else:  # what came in place of a first code began no position
            assert not coming or not depth
            coming = []
        position, depth = state.rest_of_position(), state.depth
        rest = list(zip(*position[:2]))
        if rest:
            assert len(rest) == drawn.grammar.num_together - depth
            assert rest[0][1] == state.allowed()
            assert set(position.first) <= set(rest[0][1])
            assert coming in ([], rest)
        coming, chosen = rest[1:] or coming[1:], rng.choice(_ids(state))
        if rest and not any(start <= chosen < stop for start, stop in position.first):
            coming = []  # it is no code of that position, and may begin one of markers
        state.advance(chosen)


@settings(deadline=None, max_examples=100)
@given(formats(), st.data())
def test_a_changed_sequence_is_refused_where_it_is_wrong_or_is_another(drawn, data):
    ids = drawn.grammar.serialize([talk(drawn, 3, 5), CodedText((1,))]).ids.tolist()
    at = data.draw(st.integers(0, len(ids) - 1))
    other = data.draw(st.integers(0, drawn.grammar.vocabulary.size - 1))
    changed = data.draw(
        st.sampled_from([[*ids[:at], other, *ids[at + 1 :]], ids[:at] + ids[at + 1 :], ids[:at]])
    )
    try:
        segments = drawn.grammar.parse(changed)
    except GrammarError as error:
        # A frame of codes that end a sound shows at its last id.
        assert at <= error.position <= len(changed)  # noqa: PT017
        return
    assert drawn.grammar.serialize(segments).ids.tolist() == changed


def _ids(state) -> list[int]:
    return [id for start, stop in state.allowed() for id in range(start, stop)]
