"""Parallel streams of positions: two voices and a text, in every way a format lays them out."""

from __future__ import annotations

import numpy as np
import pytest

from unified.formats.coded import (
    CodedAudio,
    CodedText,
    FrameDone,
    GrammarError,
    SpanEnd,
    StreamFrameDone,
)
from unified.formats.grammar import MODALITIES, Grammar
from unified.vocabulary.vocabulary import Vocabulary

SIZES, TEXT, FRAMES = (9, 8, 7, 6, 5), 11, 4  # codebooks: three of the speaker, two of the listener

TEMPLATE = """
name: talk
markers: [<pad>, <bos>, <eos>, <talk>, </talk>, <none>, <quiet>, <still>]
padding: <pad>
document: {{begin: <bos>, end: <eos>}}
roles: {{}}
text: {{separator: null}}
spans:
  audio:
    streams: {streams}
    items:
    - marker: <talk>
    - {item}
    - marker: </talk>
"""
STREAMS = "{words: text, speaker: 3, listener: 2}"
FILL = "[<none>, <quiet>, <quiet>, <quiet>, <still>, <still>]"
DELAYED = f"{{delayed: audio, by: [0, 0, 1, 1, 0, 2], fill: {FILL}, together: true}}"
TOGETHER = "{repeat: open, of: [{codes: audio, together: true}]}"
IN_A_ROW = (
    "{repeat: open, of: [{codes: audio.listener}, {codes: audio.words}, {codes: audio.speaker}]}"
)


def talk(item: str, streams: str = STREAMS) -> Grammar:
    source = TEMPLATE.format(item=item, streams=streams)
    markers = source.split("markers: [")[1].split("]")[0].split(", ")
    vocabulary = Vocabulary.build(
        text_size=TEXT, text_rows=TEXT, markers=markers, max_grid=4, text_fingerprint="a",
        others={"audio": (SIZES, "b")},
    )  # fmt: skip
    return Grammar.from_text(source, vocabulary)


def streams(frames: int = FRAMES) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(frames)
    speaker = rng.integers(np.array(SIZES[:3])[:, None], size=(3, frames))
    listener = rng.integers(np.array(SIZES[3:])[:, None], size=(2, frames))
    return {"words": rng.integers(TEXT, size=(1, frames)), "speaker": speaker, "listener": listener}


@pytest.mark.parametrize("item", [DELAYED, TOGETHER, IN_A_ROW])
@pytest.mark.parametrize("frames", [1, 2, FRAMES])
def test_codes_of_streams_come_back(item, frames):
    grammar = talk(item)
    span = grammar.span_grammars["audio"]
    codes = span.join_streams(streams(frames))
    document = (CodedText((1,)), CodedAudio(codes), CodedText((2, 3)))
    (segment,) = [s for s in grammar.parse(grammar.serialize(document).ids) if s.kind == "audio"]
    back = span.split_streams(segment.codes)
    assert list(back) == ["words", "speaker", "listener"]
    for name, expected in streams(frames).items():
        np.testing.assert_array_equal(back[name], expected)


@pytest.mark.parametrize(
    ("item", "ends"),
    [
        # position and depth of the first frame's last id: <bos> and <talk> come before
        (DELAYED, {"words": (2, 0), "speaker": (3, 3), "listener": (4, 5)}),
        (TOGETHER, {"words": (2, 0), "speaker": (2, 3), "listener": (2, 5)}),
        (IN_A_ROW, {"words": (4, 0), "speaker": (7, 0), "listener": (3, 0)}),
    ],
)
def test_a_stream_tells_its_frames_when_they_are_complete(item, ends):
    grammar = talk(item)
    codes = grammar.span_grammars["audio"].join_streams(streams())
    laid = grammar.serialize([CodedAudio(codes)])
    positions = np.cumsum(laid.depth == 0) - 1
    state, heard, whole = grammar.start(), {name: [] for name in ends}, []
    firsts = {}
    for id, position, depth in zip(laid.ids.tolist(), positions, laid.depth):
        for event in state.advance(id):
            if isinstance(event, StreamFrameDone):
                assert event.frame == len(heard[event.stream])
                heard[event.stream].append(event.codes)
                firsts.setdefault(event.stream, (position, depth))
            elif isinstance(event, FrameDone):
                whole.append(event.codes)
                assert all(len(frames) > event.frame for frames in heard.values())
    assert firsts == ends
    for name, expected in streams().items():
        np.testing.assert_array_equal(np.stack(heard[name], 1), expected)
    np.testing.assert_array_equal(np.stack(whole, 1), codes)


def test_the_words_of_a_talk_are_text_and_its_codes_are_sound():
    grammar = talk(TOGETHER)
    codes = grammar.span_grammars["audio"].join_streams(streams())
    _, modality, depth = grammar.segment_ids(CodedAudio(codes))
    inside = slice(1, -1)
    expected = np.where(depth == 0, MODALITIES["text"], MODALITIES["audio"])
    np.testing.assert_array_equal(modality[inside], expected[inside])
    assert grammar.num_together == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listener": (2, 3)}, "'listener' of audio ends at frame 3, where 'words' goes on to 4"),
        ({"listener": (3, 4)}, r"'listener' of audio must have codes of shape \(2, frames\)"),
        ({"listener": None}, "streams words, speaker, listener, found words, speaker"),
        ({"third": (1, 4)}, "found words, speaker, listener, third"),
    ],
)
def test_streams_that_do_not_fit_are_refused_by_name(change, message):
    codes: dict[str, np.ndarray] = streams()
    for name, shape in change.items():
        if shape is None:
            del codes[name]
        else:
            codes[name] = np.zeros(shape, int)
    with pytest.raises(ValueError, match=message):
        talk(TOGETHER).span_grammars["audio"].join_streams(codes)


def test_a_stream_that_ends_early_is_refused_where_it_does():
    grammar = talk(DELAYED)
    codes = grammar.span_grammars["audio"].join_streams(streams())
    laid = grammar.serialize([CodedAudio(codes)])
    at = 2 + 6 * 2 + 4  # the third step's first code of the listener
    short = laid.ids.copy()
    short[at] = grammar.vocabulary.marker("<still>")
    with pytest.raises(GrammarError, match=r"expected audio.3 .* found <still>") as refused:
        grammar.parse(short)
    assert refused.value.position == at
    assert "stream listener, level 0" in refused.value.reason


@pytest.mark.parametrize(
    ("item", "declared", "message"),
    [
        (TOGETHER, "{words: text, speaker: 3}", "3 codebooks .words text, speaker 3., the"),
        (TOGETHER, "{words: text, speaker: 3, listener: 3}", "hold 6 codebooks"),
        (TOGETHER, "{words: text}", "expected codebooks, and at most one stream of text"),
        (TOGETHER, "{speaker: 0, listener: 5}", "names, each with its number of codebooks"),
        (TOGETHER, "[words]", "expected names, each"),
        (DELAYED.replace(", 0, 2]", ", 0]"), STREAMS, "6 markers, expected one for each of the 5"),
        (IN_A_ROW.replace("audio.words", "audio.third"), STREAMS, "codes of block 'audio.third'"),
        (IN_A_ROW.replace("audio.words", "audio.0"), STREAMS, "hold level 1 twice"),
    ],
)  # fmt: skip
def test_wrong_streams_are_refused_by_name(item, declared, message):
    with pytest.raises(ValueError, match=message):
        talk(item, declared)


def test_codes_of_too_few_levels_name_the_streams():
    with pytest.raises(ValueError, match=r"6 levels \(words 1, speaker 3, listener 2\), found 5"):
        talk(TOGETHER).serialize([CodedAudio(np.zeros((5, 3), int))])


def test_random_talks_read_back():
    for item in (DELAYED, TOGETHER, IN_A_ROW):
        grammar = talk(item)
        rng = np.random.default_rng(0)
        talks = 0
        for _ in range(20):
            state, ids = grammar.start(), []
            while not state.finished:
                start, stop = state.allowed()[rng.integers(len(state.allowed()))]
                ids.append(int(rng.integers(start, stop)))
                talks += sum(
                    isinstance(event, SpanEnd) and event.kind == "audio"
                    for event in state.advance(ids[-1])
                )
            assert grammar.serialize(grammar.parse(ids)).ids.tolist() == ids
        assert talks > 5
