"""Experts give texts and media of a document's media, and it is known which gave what."""

import numpy as np
import pytest

from unified.models.grafting.experts import Expert, consult
from unified_data.document import Audio, Document, Image, Text

PIXELS = np.zeros((4, 6, 3), np.uint8)


def test_what_experts_give_stands_behind_the_medium():
    sound = Audio(np.zeros((1, 8), np.float32), 8000)
    experts = [
        Expert("size 1", lambda image: f"{image.pixels.shape[1]}x{image.pixels.shape[0]}"),
        Expert("crop", lambda image: [Image(image.pixels[:2]), Text("its top")]),
        Expert("silent", lambda image: ""),
        Expert("ear", lambda audio: "silence", "audio"),
    ]
    document = Document((Text("look"), Image(PIXELS, "prompt"), sound))
    consulted = consult(document, experts)
    kinds = [type(segment).__name__ for segment in consulted.document]
    assert kinds == ["Text", "Image", "Text", "Image", "Text", "Audio", "Text"]
    size = consulted.document.segments[2]
    assert (size.text, size.role, size.loss) == ("6x4", "prompt", 0.0)
    assert [(p.segment, p.expert, p.source) for p in consulted.provenance] == [
        (2, "size 1", 1), (3, "crop", 1), (4, "crop", 1), (6, "ear", 5),
    ]  # fmt: skip
    other = consult(Document((Image(PIXELS + 1),)), experts[:1]).provenance[0]
    assert other.digest != consulted.provenance[0].digest


def test_an_expert_that_gives_something_else_is_named():
    with pytest.raises(ValueError, match=r"expert 'boxes' gave .* for segment 0, expected a text"):
        consult(Document((Image(PIXELS),)), [Expert("boxes", lambda image: [(1, 2)])])
