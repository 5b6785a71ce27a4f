"""Formats as data: what the declaration's primitives lay out, and what is refused on reading."""

from __future__ import annotations

import random

import numpy as np
import pytest

from unified.formats.coded import CodedAudio, CodedImage, CodedText, FrameDone, RowDone
from unified.formats.grammar import Grammar, GrammarError
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.formats.parser import parse_format
from unified.formats.spec import Marker
from unified.vocabulary.vocabulary import Vocabulary

HEAD = """
name: tiny
markers: [<pad>, <bos>, <eos>, <text>, <boi>, <img>, <eol>, <eof>, <eoi>, <boa>, <mid>, <eoa>]
padding: <pad>
document: {begin: <bos>, end: <eos>}
roles: {}
text: {separator: <text>}
spans:
"""
SIZES = "    - {register: h, block: size}\n    - {register: w, block: size}\n"
LINES = """
  image:
    - marker: <boi>
    - {{register: h, block: size}}
    - {{register: w, block: size}}
    - marker: <img>
    - repeat: h
      of: [{{repeat: w, of: [{{codes: image}}]}}]
      separator: <eol>
      separate: {separate}
    - marker: <eof>
    - marker: <eoi>
"""
LAYERS = """
  audio:
    - marker: <boa>
    - {repeat: open, sets: n, of: [{codes: audio.0}]}
    - marker: <mid>
    - {repeat: n, of: [{codes: audio.1}]}
    - {repeat: n, of: [{codes: audio.2}]}
    - marker: <eoa>
"""
UNMARKED_LAYERS = """
  audio:
    - marker: <boa>
    - {repeat: open, sets: n, of: [{codes: audio.0}]}
    - {repeat: n, of: [{codes: audio.1}]}
    - {repeat: n, of: [{codes: audio.2}]}
"""
TURNS = """
  audio:
    - marker: <boa>
    - {repeat: open, of: [{codes: audio}, {marker: <mid>}]}
    - marker: <eoa>
"""
FIXED = "\n  image: [{marker: <boi>}, {repeat: 6, of: [{codes: image}]}]\n"


def compiled(*spans: str) -> Grammar:
    text = HEAD + "".join(spans)
    vocabulary = Vocabulary.build(
        8, 8, parse_format(text).markers, 5, image=([11], "im"), audio=([3, 4, 5], "au")
    )
    return Grammar.from_text(text, vocabulary)


def words(grammar: Grammar, segment) -> str:
    ids = grammar.serialize([segment]).ids.tolist()
    assert list(grammar.parse(ids)) == [segment]
    in_words = []
    for id in ids[1:-1]:
        block = grammar.vocabulary.block_of(id)
        code = id - block.start
        in_words.append(block.symbols[code] if block.symbols else f"{block.name[0]}{code}")
    return " ".join(in_words)


IMAGE = CodedImage(np.arange(6).reshape(1, 2, 3))
AUDIO = CodedAudio([[0, 1], [2, 3], [3, 4]])


@pytest.mark.parametrize(
    ("spans", "segment", "expected"),
    [
        (
            LINES.format(separate="each"),
            IMAGE,
            "<boi> s1 s2 <img> i0 i1 i2 <eol> i3 i4 i5 <eol> <eof> <eoi>",
        ),
        (
            LINES.format(separate="between"),
            IMAGE,
            "<boi> s1 s2 <img> i0 i1 i2 <eol> i3 i4 i5 <eof> <eoi>",
        ),
        (FIXED, CodedImage(np.arange(6).reshape(1, 6)), "<boi> i0 i1 i2 i3 i4 i5"),
        (LAYERS, AUDIO, "<boa> a0 a1 <mid> a2 a3 a3 a4 <eoa>"),
        (UNMARKED_LAYERS, AUDIO, "<boa> a0 a1 a2 a3 a3 a4"),
        (TURNS, AUDIO, "<boa> a0 a2 a3 <mid> a1 a3 a4 <mid> <eoa>"),
    ],
    ids=["each", "between", "fixed", "layers", "unmarked", "turns"],
)
def test_layouts_are_exact(spans, segment, expected):
    assert words(compiled(spans), segment) == expected


def test_equal_counts_are_enforced():
    grammar = compiled(UNMARKED_LAYERS)
    ids = grammar.serialize([AUDIO]).ids.tolist()
    with pytest.raises(GrammarError, match=r"position 5: expected audio\.1"):
        grammar.validate(ids[:5] + ids[6:])
    with pytest.raises(ValueError, match=r"must have 3 levels"):
        grammar.serialize([CodedAudio([[0], [1]])])


def test_rows_and_frames_are_complete_with_their_last_code():
    grammar = compiled(LINES.format(separate="each"), LAYERS)
    ids = grammar.serialize([IMAGE, AUDIO]).ids.tolist()
    state, done = grammar.start(), []
    for at, id in enumerate(ids):
        for event in state.advance(id):
            if isinstance(event, RowDone):
                done.append((at, event.row, event.codes.tolist()))
            elif isinstance(event, FrameDone):
                done.append((at, event.frame, event.codes.tolist()))
    audio = 1 + 14
    assert done == [
        (7, 0, [[0, 1, 2]]),
        (11, 1, [[3, 4, 5]]),
        (audio + 6, 0, [0, 2, 3]),
        (audio + 7, 1, [1, 3, 4]),
    ]


@pytest.mark.parametrize(
    "spans",
    [
        (LINES.format(separate="each"), LAYERS),
        (LINES.format(separate="between"), UNMARKED_LAYERS),
        (FIXED, TURNS),
    ],
    ids=["each", "between", "fixed"],
)
def test_sequences_sampled_under_any_layout_validate(spans):
    grammar, rng = compiled(*spans), random.Random(1)
    for _ in range(300):
        limits = Limits(
            max_ids=rng.randint(30, 70),
            num_images=rng.choice([None, 1]),
            num_audios=rng.choice([None, 1]),
            min_audio_frames=rng.randint(1, 3),
        )
        state, ids = grammar.start(limits), []
        while not state.finished:
            ids.append(rng.randrange(*rng.choice(state.allowed())))
            state.advance(ids[-1])
        assert len(ids) <= limits.max_ids
        kinds = [segment.kind for segment in grammar.parse(ids)]
        assert limits.num_images in (None, kinds.count("image"))
        assert limits.num_audios in (None, kinds.count("audio"))


def test_limits_that_a_format_cannot_keep_are_refused():
    with pytest.raises(ValueError, match=r"grid of 2 axes \(2x3\), the format's have 1 \(6\)"):
        compiled(FIXED).start(Limits(image_grid=(2, 3)))
    with pytest.raises(ValueError, match="a grid of 5; the format's grids are 6"):
        compiled(FIXED).serialize([CodedImage(np.zeros((1, 5), int))])
    with pytest.raises(ValueError, match="no audio spans"):
        compiled(FIXED).start(Limits(num_audios=1))
    with pytest.raises(ValueError, match="no audio spans"):
        compiled(FIXED).serialize([AUDIO])


def test_pocket_is_shipped_and_its_text_reads_back():
    shipped = load_format("pocket")
    assert parse_format(shipped.source) == shipped
    assert [role.begin for role in shipped.roles.values()] == [
        (Marker("<prompt>"),),
        (Marker("<response>"),),
    ]
    with pytest.raises(ValueError, match=r"no format 'poket'; shipped formats: .*pocket"):
        load_format("poket")


def test_a_format_file_is_read_by_path(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(HEAD + FIXED)
    vocabulary = Vocabulary.build(8, 8, load_format(file).markers, 5, image=([11], "im"))
    grammar = Grammar.load(file, vocabulary)
    assert list(grammar.parse(grammar.serialize([CodedText((1,))]).ids)) == [CodedText((1,))]
    with pytest.raises(ValueError, match="cannot read format"):
        load_format(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ("\n  image: [{codes: image}]\n", "must begin with a marker"),
        (
            "\n  depth: [{marker: <boi>}]\n",
            "depth.modality is .depth., expected one of image, audio, box, point, video",
        ),
        ("\n  image: [{marker: <boo>}]\n", "'<boo>', which is not among"),
        ("\n  image: [{marker: <boi>, codes: image}]\n", "must be one of"),
        ("\n  image: [{marker: <boi>}, {repeat: h, of: [{codes: image}]}]\n", "nothing before"),
        ("\n  image: [{marker: <boi>}, {repeat: open, of: [{codes: image}]}]\n", "a follower"),
        ("\n  image: [{marker: <boi>}, {repeat: 0, of: [{codes: image}]}]\n", "at least 1"),
        ("\n  image: [{marker: <boi>}, {repeat: 2, of: [{codes: image}], by: 1}]\n", "by"),
        ("\n  image: [{marker: <bos>}, {repeat: 2, of: [{codes: image}]}]\n", "two things"),
    ],
)
def test_broken_declarations_are_refused(spans, message):
    with pytest.raises(ValueError, match=message):
        parse_format(HEAD + spans)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ("\n  image: [{marker: <boi>}, {codes: image}]\n", "in 0 nested repeats, expected one"),
        ("\n  image: [{marker: <boi>}, {repeat: 2, of: [{codes: image.1}]}]\n", r"'image\.1'"),
        (
            "\n  audio: [{marker: <boa>}, {repeat: open, of: [{codes: audio.0}]}, {codes: audio.0},"
            " {marker: <eoa>}]\n",
            "twice",
        ),
        (
            "\n  audio: [{marker: <boa>}, {repeat: 2, of: [{codes: audio.0}]},"
            " {repeat: 3, of: [{codes: audio.1}]}, {repeat: 3, of: [{codes: audio.2}]}]\n",
            "equal numbers",
        ),
        (
            "\n  image:\n    - marker: <boi>\n"
            + SIZES
            + "    - {repeat: h, of: [{codes: image}]}\n",
            "register w, which is no side",
        ),
        (
            "\n  image:\n    - marker: <boi>\n    - {register: h, block: size}\n"
            "    - {repeat: h, of: [{repeat: h, of: [{codes: image}]}]}\n",
            "by h inside a repeat by h",
        ),
        (
            "\n  audio: [{marker: <boa>}, {repeat: open, of: [{marker: <mid>}, {codes: audio}]},"
            " {marker: <mid>}]\n",
            "begins with the same ids",
        ),
    ],
)
def test_declarations_that_do_not_fit_are_refused_on_compiling(spans, message):
    with pytest.raises(ValueError, match=message):
        compiled(spans)
