"""Spans of documents and sequences: what they are, where they lie, and where a sequence breaks."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from unified.formats.coded import CodedAudio, CodedImage, CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.sequence.inspect import inspect_document, inspect_ids, print_inspection, read_file
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Document, Slot, Text

TEXT = TextTokenizer.train(["a cat and a dog"], 260)
VOCABULARY = Vocabulary.build(
    TEXT.size, 272, load_format("pocket").markers, 5, image=((7,), "i"), audio=((3, 4), "a")
)
GRAMMAR = Grammar.load("pocket", VOCABULARY)
SEQUENCER = Sequencer(VOCABULARY, GRAMMAR, TEXT)
IMAGE = CodedImage(np.arange(6).reshape(1, 2, 3), "response")
AUDIO = CodedAudio(np.array([[0, 1, 2], [3, 2, 1]]), "response")
SEGMENTS = (
    CodedText(tuple(TEXT.encode("![a cat]")), "prompt"),
    IMAGE,
    CodedText(tuple(TEXT.encode("é")), "response"),
    CodedText(tuple(TEXT.encode("more")), "response"),
    AUDIO,
)
IDS = GRAMMAR.serialize(SEGMENTS).ids.tolist()


def kinds(inspection):
    return [(span.kind, span.role, span.content) for span in inspection.spans]


def test_spans_say_what_they_hold():
    inspection = inspect_ids(IDS, SEQUENCER)
    assert inspection.error is None
    assert kinds(inspection) == [
        ("marker", None, "<bos>"),
        ("marker", "prompt", "<prompt>"),
        ("text", "prompt", '"![a cat]"'),
        ("marker", "response", "<response>"),
        ("image", "response", "grid of 2 rows of 3 codes, 1 level"),
        ("text", "response", '"é"'),
        ("marker", "response", "<text>"),
        ("text", "response", '"more"'),
        ("audio", "response", "3 frames, 2 levels"),
        ("marker", "response", "<eos>"),
    ]
    assert inspection.to_json()["spans"][4]["stop"] - inspection.spans[4].start == 10


def check_tiling(inspection, ids):
    """Spans lie end to end and give every id back."""
    at = 0
    for span in inspection.spans:
        assert span.start == at
        at = span.stop
    assert [id for span in inspection.spans for id in span.ids] == list(ids)


def test_every_cut_of_a_sequence_is_shown_whole_and_called_unfinished():
    for length in range(len(IDS)):
        inspection = inspect_ids(IDS[:length], SEQUENCER)
        check_tiling(inspection, IDS[:length])
        assert inspection.error.startswith(f"position {length}: ")


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_a_mutated_sequence_is_shown_up_to_its_offence(data):
    ids = list(IDS)
    at = data.draw(st.integers(0, len(ids) - 1))
    ids[at] = data.draw(st.integers(-1, VOCABULARY.size + 1))
    inspection = inspect_ids(ids, SEQUENCER)
    check_tiling(inspection, ids)
    offences = [span for span in inspection.spans if span.kind == "offence"]
    if inspection.error is None or offences == []:
        return  # another text or code, or a sequence that only stops early
    (offence,) = offences
    assert inspection.error.startswith(f"position {offence.start}: ")
    assert inspection.spans[-1] is offence


def test_a_document_with_slots_is_shown_up_to_and_beyond_its_first_slot():
    document = Document(
        (
            Text("![a cat]", role="prompt"),
            Slot("image", 96, 96, role="response"),
            Text("more", role="response"),
        )
    )
    inspection = inspect_document(document, SEQUENCER)
    assert inspection.error is None
    assert kinds(inspection)[-3:] == [
        ("marker", "response", "<response>"),
        ("slot", "response", "to be filled: image (96x96 pixels)"),
        ("text", "response", '"more", placed once the slot is filled'),
    ]
    full = Document((document.segments[0],))
    assert inspect_document(full, SEQUENCER).length == len(TEXT.encode("![a cat]")) + 3


def test_the_table_is_coloured_by_modality_and_plain_where_it_is_no_terminal():
    inspection = inspect_ids(IDS, SEQUENCER)
    for terminal in (True, False):
        out = io.StringIO()
        colours = "standard" if terminal else "auto"
        console = Console(file=out, force_terminal=terminal, width=120, color_system=colours)
        print_inspection(inspection, console)
        assert ("\x1b[35m" in out.getvalue()) is terminal  # magenta: the image
        assert "grid of 2 rows of 3 codes" in out.getvalue()
        assert f"{len(IDS)} ids in 10 spans" in out.getvalue()


def test_markup_in_text_is_shown_not_obeyed():
    ids = GRAMMAR.serialize([CodedText(tuple(TEXT.encode("[bold]x[/]\x1b[2J")))]).ids.tolist()
    out = io.StringIO()
    print_inspection(inspect_ids(ids, SEQUENCER), Console(file=out, width=100))
    assert "[bold]x[/]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_files_of_ids_and_documents(tmp_path):
    np.save(tmp_path / "ids.npy", np.array(IDS))
    assert read_file(tmp_path / "ids.npy") == IDS
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    assert read_file(tmp_path / "ids.json") == IDS
    document = Document((Text("a"),))
    (tmp_path / "d.json").write_text(json.dumps(document.to_json(tmp_path, "d")))
    assert read_file(tmp_path / "d.json") == document


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.zeros((2, 2), int), "shape"), (np.zeros(3), "float64"), (np.array([{}]), "pickle")],
)
def test_arrays_that_are_no_ids_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        read_file(tmp_path / "x.npy")
    (tmp_path / "x.json").write_text("[1.5]")
    with pytest.raises(ValueError, match="not of integer ids"):
        read_file(tmp_path / "x.json")


def test_ids_of_one_position_stand_together():
    grammar = Grammar.load(
        "pocket-together",
        Vocabulary.build(
            TEXT.size, 272, load_format("pocket-together").markers, 5,
            image=((7,), "i"), audio=((3, 4), "a"),
        ),
    )  # fmt: skip
    sequencer = Sequencer(grammar.vocabulary, grammar, TEXT)
    ids = grammar.serialize(SEGMENTS).ids.tolist()
    assert ids == IDS
    inspection = inspect_ids(ids, sequencer)
    assert inspection.num_positions == len(IDS) - 3  # three frames of two levels
    (sound,) = [span for span in inspection.spans if span.kind == "audio"]
    assert (len(sound.ids), sound.num_positions) == (8, 5)
    assert inspection.to_json()["positions"] == len(IDS) - 3
    out = io.StringIO()
    print_inspection(inspection, Console(file=out, width=160))
    a, b, c, d, e, f = sound.ids[1:7]
    assert f"{sound.ids[0]} {a}+{b} {c}+{d} {e}+{f} {sound.ids[7]}" in out.getvalue()
    assert f"{len(IDS)} ids of {len(IDS) - 3} positions in 10 spans" in out.getvalue()
    # A sequence that leaves the grammar inside a position.
    broken = inspect_ids([*ids[: sound.start + 2], ids[0]], sequencer)
    assert "level 1" in broken.error
    assert broken.length == sound.start + 3
