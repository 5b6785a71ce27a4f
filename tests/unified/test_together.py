"""Several codes in one position: how a format lays them out, and what a position holds."""

from __future__ import annotations

import numpy as np
import pytest

from unified.formats.coded import CodedAudio, CodedImage, CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary

LEVELS, FRAMES = 3, 7

TEMPLATE = """
name: sounds
markers: [<pad>, <bos>, <eos>, <audio>, </audio>, <fill>]
padding: <pad>
document: {{begin: <bos>, end: <eos>}}
roles: {{}}
text: {{separator: null}}
spans:
  audio:
    - marker: <audio>
    - {item}
    - marker: </audio>
"""
TOGETHER = "{repeat: open, of: [{codes: audio, together: true}]}"
IN_A_ROW = "{repeat: open, of: [{codes: audio}]}"
DELAYED = "{delayed: audio, by: [0, 2, 1], fill: <fill>, together: true}"


def sounds(item: str) -> Grammar:
    source = TEMPLATE.format(item=item)
    markers = source.split("markers: [")[1].split("]")[0].split(", ")
    vocabulary = Vocabulary.build(
        text_size=11, text_rows=11, markers=markers, max_grid=4, text_fingerprint="a",
        others={"audio": ((9, 8, 7), "b")},
    )  # fmt: skip
    return Grammar.from_text(source, vocabulary)


def sound(seed: int = 0) -> CodedAudio:
    sizes = np.array([[9], [8], [7]])
    return CodedAudio(np.random.default_rng(seed).integers(sizes, size=(LEVELS, FRAMES)))


def test_a_frame_is_one_position():
    together, in_a_row = (sounds(item).serialize([sound()]) for item in (TOGETHER, IN_A_ROW))
    np.testing.assert_array_equal(together.ids, in_a_row.ids)
    begin, marker = 1, 1
    frames = [0, 1, 2] * FRAMES
    np.testing.assert_array_equal(together.depth, [0] * (begin + marker) + frames + [0, 0])
    assert together.num_positions == in_a_row.num_positions - (LEVELS - 1) * FRAMES
    assert not in_a_row.depth.any()


def test_a_delayed_step_is_one_position():
    grammar = sounds(DELAYED)
    laid = grammar.serialize([sound()])
    steps = FRAMES + 2  # the latest level
    assert laid.num_positions == 2 + steps + 2
    fill = grammar.vocabulary.marker("<fill>")
    first, last = laid.ids[2:5].tolist(), laid.ids[-5:-2].tolist()
    assert first[1:] == [fill, fill]
    assert first[0] != fill
    assert last[0] == last[2] == fill
    assert last[1] != fill


def test_a_state_knows_what_is_to_come_in_a_position():
    def rests(item):
        """The levels to come before each id of a sound, the end left out."""
        grammar = sounds(item)
        state, levels = grammar.start(), []
        for id in grammar.serialize([sound()]).ids.tolist():
            levels.append(state.rest_of_position().levels)
            state.advance(id)
        return levels[2:-2]

    assert rests(TOGETHER) == [(0, 1, 2), (1, 2), (2,)] * FRAMES
    assert set(rests(IN_A_ROW)) == {()}
    # Fill stands in the first two steps and behind the last frame, and nothing is free there.
    whole = [(0, 1, 2), (1, 2), (2,)]
    assert rests(DELAYED)[:9] == [(), (), (), (), (), (2,), *whole]
    grammar = sounds(TOGETHER)
    state = grammar.start()
    for id in grammar.serialize([sound()]).ids[:-2].tolist():
        state.advance(id)
    (end, first), *others = state.rest_of_position().ranges  # another frame, or none
    assert end[0] == grammar.vocabulary.marker("</audio>")
    assert [stop - start for start, stop in (first, *(own for (own,) in others))] == [9, 8, 7]


@pytest.mark.parametrize("item", [TOGETHER, IN_A_ROW, DELAYED])
def test_a_state_knows_the_depth_of_every_id(item):
    grammar = sounds(item)
    laid = grammar.serialize([CodedText((3, 5)), sound(), CodedText((1,)), sound(1)])
    state = grammar.start()
    for id, depth in zip(laid.ids.tolist(), laid.depth.tolist()):
        assert state.copy().depth == state.depth == depth
        state.advance(id)
    assert state.finished
    assert state.depth == 0
    assert grammar.parse(laid.ids) == (
        CodedText((3, 5)), sound(), CodedText((1,)), sound(1),
    )  # fmt: skip


@pytest.mark.parametrize(("item", "number"), [(TOGETHER, 3), (IN_A_ROW, 1), (DELAYED, 3)])
def test_a_grammar_knows_how_many_ids_a_position_holds(item, number):
    assert sounds(item).num_together == number


def test_the_pocket_formats_hold_the_same_ids():
    markers = load_format("pocket").markers
    vocabulary = Vocabulary.build(
        text_size=11, text_rows=11, markers=markers, max_grid=6, text_fingerprint="a",
        others={"image": ((9, 5), "b"), "audio": ((9, 8, 7), "c")},
    )  # fmt: skip
    picture = CodedImage(np.arange(2 * 3 * 5).reshape(2, 3, 5) % 5, role="response")
    segments = [CodedText((1, 2), "prompt"), picture, sound()]
    segments[2] = CodedAudio(segments[2].codes, role="response")
    laid = {
        name: Grammar.load(name, vocabulary).serialize(segments)
        for name in ("pocket", "pocket-together")
    }
    np.testing.assert_array_equal(laid["pocket"].ids, laid["pocket-together"].ids)
    saved = 15 + 2 * FRAMES  # a second code a place, two more a frame
    assert laid["pocket"].num_positions - laid["pocket-together"].num_positions == saved


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("{repeat: open, of: [{codes: audio, together: 1}]}", "together is 1, expected true or"),
        ("{delayed: audio, by: [0, 1], fill: <fill>, together: true}", "delay 2 levels, the voc"),
        ("{repeat: open, of: [{codes: audio, joined: true}]}", "unknown keys"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(item, message):
    with pytest.raises(ValueError, match=message):
        sounds(item)
