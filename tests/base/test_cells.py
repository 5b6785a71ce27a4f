"""What notebooks show of documents: pictures, players, text that stays text, bounded."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from unified_base import cells
from unified_data.dialogue import Dialogue
from unified_data.document import Audio, Document, Image, Slot, Text

PIXELS = np.zeros((48, 96, 3), np.uint8)
WAVE = np.zeros((1, 800), np.float32)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \x00 {{ 7 * 7 }}"


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.elements, self.words = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += data

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_a_document_shows_its_segments_in_order():
    document = Document(
        (Text("Draw & say.", "prompt"), Image(PIXELS), Audio(WAVE, 8_000), Slot("image", 32, 64))
    )
    page = Elements(document._repr_html_())
    (image,) = page.of("img")
    assert image["src"].startswith("data:image/png;base64,")
    assert (image["width"], image["height"]) == ("288", "144")
    (player,) = page.of("audio")
    assert "controls" in player
    assert player["src"].startswith("data:audio/wav;base64,")
    order = ("prompt", "Draw & say.", "96x48", "0.1 s", "image slot of 64x32")
    places = [page.words.index(words) for words in order]
    assert places == sorted(places)


def test_each_kind_of_segment_shows_itself():
    assert (
        "two voices" in Dialogue(np.zeros((2, 80), np.float32), 8_000, words=("a",))._repr_html_()
    )
    assert "<img" in Image(PIXELS)._repr_html_()
    assert "<audio" in Audio(WAVE, 8_000)._repr_html_()
    assert "any slot" in Slot("any")._repr_html_()


def test_no_text_becomes_markup():
    page = Elements(Text(HOSTILE)._repr_html_())
    assert {tag for tag, _ in page.elements} == {"div"}
    assert HOSTILE.replace("\x00", "\ufffd") in page.words


def test_what_is_too_large_is_named(monkeypatch):
    monkeypatch.setattr(cells, "MAX_CELL", 4_000)
    large = Image(np.zeros((60, 60, 3), np.uint8))
    assert "too large to be shown" in large._repr_html_()
    assert "too long to be shown" in Audio(np.zeros((1, 9_000), np.float32), 8_000)._repr_html_()
    page = Elements(Document((Text("a" * 1_500),) * 9)._repr_html_())
    assert "7 more segments are not shown" in page.words
    assert "10,000 more characters" in Text("a" * 30_000)._repr_html_()


@pytest.mark.parametrize(("rows", "height"), [(16, 96), (96, 96), (96, None)])
def test_a_picture_under_way_has_the_room_of_the_whole(rows, height):
    cell = cells.picture_cell(np.zeros((rows, 96, 3), np.uint8), height=height)
    assert '<div style="height: 288px">' in cell
    assert f'height="{3 * rows}"' in cell
