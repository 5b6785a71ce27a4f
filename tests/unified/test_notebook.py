"""A notebook, executed: documents show themselves, and streams while they come."""

from __future__ import annotations

import numpy as np
import pytest

from unified.engine import events, notebook
from unified.engine.notebook import watch
from unified_data.document import Audio, Document, Image, Text

PIXELS = np.full((32, 32, 3), 90, np.uint8)
SOUND = Audio(np.zeros((1, 800), np.float32), 8_000)
DOCUMENT = Document((Text("a <b>"), Image(PIXELS), SOUND))


def stream(row=0, interrupted=False, dropped=False):
    """The events of a document, as `UnifiedModel.stream` gives them."""
    yield events.TextPiece(row, "a <")
    yield events.TextPiece(row, "b>")
    yield events.ImageBegun(row, 32, 32)
    yield events.ImageRow(row, 0, np.zeros((1, 2), np.int64), lambda: PIXELS[:16])
    if interrupted:
        raise KeyboardInterrupt
    yield events.ImageDone(row, Image(PIXELS))
    yield events.AudioBegun(row)
    yield events.AudioFrame(row, np.zeros(1, np.int64), 0.1)
    yield events.AudioDone(row, SOUND)
    if dropped:
        yield events.Dropped(row, "there was <no> room")
        return
    yield events.Done(row, DOCUMENT, np.zeros(3, np.int64), {}, {})


@pytest.fixture
def views(monkeypatch):
    """What the cell showed, view after view; every event is due for one."""
    display = pytest.importorskip("IPython.display")
    pages = []

    class Handle:
        def update(self, html):
            pages.append(html.data)

    def show(html, display_id):
        pages.append(html.data)
        return Handle()

    monkeypatch.setattr(display, "display", show)
    monkeypatch.setattr(notebook, "_PAUSE", 0.0)
    monkeypatch.setattr(notebook, "_BYTES_A_SECOND", 1e12)
    return pages


def test_a_stream_grows_and_ends_as_the_document(views):
    assert watch(stream()) == [DOCUMENT]
    assert "a &lt;" in views[1]
    assert "b&gt;" not in views[1]
    growing = [view for view in views if 'height="144"' in view]  # half of the picture's rows
    assert growing
    assert all('<div style="height: 288px">' in view for view in growing)
    assert "picture: row 1" in growing[0]
    assert "sound: 0.1 s" in "".join(views)
    last = views[-1]
    assert (last.count("<img"), last.count("<audio"), last.count("...")) == (1, 1, 0)


def test_several_documents_stand_one_behind_the_other(views):
    def both():
        for pair in zip(stream(0), stream(1)):
            yield from pair

    assert watch(both()) == [DOCUMENT, DOCUMENT]
    last = views[-1]
    assert last.index("document 0") < last.index("<img") < last.index("document 1")


def test_an_interrupted_stream_stays_as_far_as_it_was_and_ends(views):
    running = stream(interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        watch(running)
    assert "a &lt;b&gt;" in views[-1]
    assert next(running, None) is None


def test_a_dropped_document_says_why(views):
    with pytest.raises(ValueError, match="document 0 was dropped: there was <no> room"):
        watch(stream(dropped=True))
    assert "dropped: there was &lt;no&gt; room" in views[-1]


CELLS = (
    "from unified import UnifiedModel, watch\n"
    "from unified_data.document import Document, Slot, Text\n"
    "model = UnifiedModel.from_pretrained('pocket')\n"
    "cat = Document((Text('![a cat]', role='prompt'),\n"
    "                Slot('image', height=96, width=96, role='response')))",
    "(document,) = watch(model.stream([cat], seeds=[1]))",
    "document",
    "document.segments[-1]",
)


def test_a_notebook_shows_a_document_and_its_stream():
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    sent = []

    class Client(nbclient.NotebookClient):
        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] in ("display_data", "update_display_data"):
                sent.append(msg["content"]["data"]["text/html"])
            return super().process_message(msg, cell, cell_index)

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    Client(book, timeout=600, kernel_name="python3").execute()
    _, watched, document, picture = (cell.outputs for cell in book.cells)
    assert len(sent) >= 2  # it grew
    for outputs in (watched, document, picture):
        html = outputs[-1]["data"]["text/html"]
        assert html.count("<img") == 1
        assert 'width="288" height="288"' in html
    assert "![a cat]" in document[-1]["data"]["text/html"]
