"""Continuous positions in formats: what is written and read, what begins and ends them."""

import numpy as np
import pytest

from unified.formats.coded import CodedText, GrammarError, coded_media
from unified.formats.grammar import Grammar, Limits
from unified.formats.load import load_format
from unified.formats.parser import parse_format
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary

FORMAT = """
name: seeing
markers: [<s>, </s>, <pad>, <boi>, <eoi>]
padding: <pad>
document: {begin: <s>, end: </s>}
roles: {}
text: {separator: null}
spans:
  image:
    - repeat: 2
      of: [{repeat: 3, of: [{embeds: image}]}]
  sized:
    modality: image
    items:
      - marker: <boi>
      - {register: n, digits: 2}
      - marker: <eoi>
      - repeat: n
        of: [{embeds: sized}]
"""


def grammar(format=FORMAT, sized=1):
    markers = ("<s>", "</s>", "<pad>", "<boi>", "<eoi>")
    blocks = (
        Block("text", 0, 20), Block("markers", 20, 5, symbols=markers), Block("image.0", 25, 1, 0),
        Block("sized.0", 7 if sized == 1 else 26, sized, 0),
    )  # fmt: skip
    digits = tuple((str(digit), (digit + 8,)) for digit in range(10))
    return Grammar.from_text(format, Vocabulary(blocks, 20, 20, digits))


def places(kind, *grid):
    return coded_media("image", np.zeros((1, *grid), int), kind=kind)


def test_positions_are_fixed_or_stated_and_read_back():
    compiled = grammar()
    segments = [CodedText((1, 2)), places("image", 2, 3), CodedText((3,)), places("sized", 12)]
    ids = compiled.serialize(segments).ids.tolist()
    # <s>, a text, 2 x 3 places, a text, <boi> "12" <eoi> and 12 places, </s>
    assert ids == [20, 1, 2, *[25] * 6, 3, 23, 9, 10, 24, *[7] * 12, 21]
    assert list(compiled.parse(ids)) == segments
    with pytest.raises(GrammarError, match=r"position 8: .*5 codes of 6"):
        compiled.validate([20, 1, 2, *[25] * 5, 3, 21])
    with pytest.raises(ValueError, match="a grid of 2x4; the format's grids are 2x3"):
        compiled.serialize([places("image", 2, 4)])


def test_nothing_writes_them():
    compiled = grammar()
    state = compiled.start(Limits(allow=("text", "image")))
    state.advance(20)
    allowed = state.allowed()
    assert not any(start <= id < stop for start, stop in allowed for id in (7, 23, 25))
    state.advance(1)
    assert state.allowed() == ((0, 7), (8, 20), (21, 22))
    with pytest.raises(ValueError, match="no image spans to write, but the limits ask for 2"):
        compiled.start(Limits(num_images=2))


def test_a_picture_of_any_size_ends_with_what_follows():
    format = load_format("llava-onevision").source
    blocks = (
        Block("text", 0, 20), Block("markers", 20, 3, symbols=("<pad>", "<im_start>", "<im_end>")),
        Block("image.0", 7, 1, 0),
    )  # fmt: skip
    literals = (("user ", (3,)), ("assistant\n", (4,)))
    compiled = Grammar.from_text(format, Vocabulary(blocks, 20, 20, literals))
    picture = coded_media("image", np.zeros((1, 2, 3), int), "prompt")  # rows are no part of it
    segments = [picture, CodedText((3,), "prompt"), CodedText((5,), "response")]
    ids = compiled.serialize(segments).ids.tolist()
    assert ids == [21, 3, *[7] * 6, 3, 22, 21, 4, 5, 22]
    assert [segment.kind for segment in compiled.parse(ids)] == ["image", "text", "text"]
    state = compiled.start()
    for id in (21, 3, 7, 7):
        state.advance(id)
    with pytest.raises(GrammarError, match=r"expected .*found <pad>"):
        state.advance(20)
    state.advance(7)  # a refused id changes nothing
    (end,) = state.end_given()
    assert end.segment.codes.shape == (1, 3)


def test_one_marker_begins_codes_and_vectors():
    """Janus: what follows <boi> tells a picture that is drawn from one that is seen."""
    markers = ("<pad>", "<bos>", "<eos>", "<boi>", "<eoi>")
    blocks = (
        Block("text", 0, 20), Block("markers", 20, 5, symbols=markers), Block("image.0", 25, 9, 0),
        Block("seen.0", 7, 1, 0),
    )  # fmt: skip
    source = load_format("janus").source
    compiled = Grammar.from_text(source, Vocabulary(blocks, 20, 20))
    seen = coded_media("image", np.zeros((1, 24, 24), int), kind="seen")
    drawn = coded_media("image", np.ones((1, 24, 24), int))
    for segments in ([CodedText((3,)), seen, CodedText((5,))], [CodedText((3,)), drawn]):
        ids = compiled.serialize(segments).ids
        assert list(compiled.parse(ids)) == segments
        begun = [e.kind for e in compiled.events(ids) if type(e).__name__ == "SpanBegin"]
        assert begun == [segment.kind for segment in segments]
    state = compiled.start(Limits(allow=("image", "text")))
    for id in (21, 23):
        state.advance(id)
    assert state.allowed() == ((25, 34),)
    without = Vocabulary(blocks[:3], 20, 20)  # of a model without the encoder
    assert set(Grammar.from_text(source, without).span_grammars) == {"image"}


def test_formats_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"sized.0 of 3 for them, expected 'sized.0' of one id"):
        grammar(sized=3)
    with pytest.raises(ValueError, match="has unknown keys"):
        parse_format(FORMAT.replace("{embeds: image}", "{embeds: image, together: true}"))
    with pytest.raises(ValueError, match="must begin with a marker"):
        parse_format(FORMAT.replace("{embeds: image}", "{codes: image}"))
