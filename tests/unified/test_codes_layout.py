"""What stored codes cost in a format, and whether they can be laid out in it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unified.formats.coded import CodedAudio, CodedImage
from unified_data.document import Text

UNTIL = """
name: silent
markers: [<pad>, <end>, <image>, <audio>]
padding: <pad>
document: {begin: null, end: <end>}
roles: {}
text: {separator: null}
spans:
  image: [{marker: <image>}, {repeat: 2, of: [{codes: image}]}]
  audio: [{marker: <audio>}, {repeat: open, until: 0, of: [{codes: audio, together: true}]}]
"""


@pytest.fixture
def codes(write_codes, tmp_path):
    picture = CodedImage(np.zeros((1, 3, 2), int))
    sounds = [CodedAudio(np.full((2, frames), 1)) for frames in (4, 1)]
    return write_codes(
        tmp_path / "codes", {"a": [[Text("cat"), picture, sounds[0]]], "b": [[sounds[1]]]}
    )


def test_a_folder_says_what_it_costs_in_a_row_and_together(unified, codes):
    code, out, err = unified("codes", codes, on=None)
    assert code == 0, err
    # A picture has two markers and two sizes, a sound two markers.
    assert out.splitlines() == [
        "audio pocket           2 spans, 10 codes: 14 ids in 14 positions",
        "image pocket           1 span, 6 codes: 10 ids in 10 positions",
        "audio pocket-together  2 spans, 10 codes: 14 ids in 9 positions",
        "image pocket-together  1 span, 6 codes: 10 ids in 10 positions",
    ]
    code, out, _ = unified("codes", codes, "--to", "together", "--json", on=None)
    assert json.loads(out)["codes"][0] == {
        "modality": "audio", "format": "pocket-together", "spans": 2, "codes": 10, "ids": 14,
        "positions": 9,
    }  # fmt: skip


def test_codes_that_a_format_cannot_hold_are_refused_by_their_place(
    unified, refused, codes, write_codes, tmp_path
):
    refused(unified("codes", codes, "--to", "csm", on=None), "format csm has no image spans")
    (tmp_path / "silent.yaml").write_text(UNTIL)
    silent = write_codes(tmp_path / "silent", {"c": [[CodedAudio(np.array([[1, 0], [0, 0]]))]]})
    refused(
        unified("codes", silent, "--to", tmp_path / "silent.yaml", on=None),
        "c.tar: c-0000: segment 0 cannot be laid out in format silent: frame 1 of audio codes is 0",
    )
    refused(unified("codes", tmp_path, on=None), "holds no codes: `unified data tokenize` makes")


def test_training_does_not_go_on_with_another_layout(write_codes, tiny_sequencer, tmp_path):
    """The same shards serve both; the state of a loader tells them apart."""
    from unified.dataloading.loader import Loader
    from unified.dataloading.source import Source
    from unified.formats.grammar import Grammar
    from unified.sequence.sequencer import Sequencer

    folder = write_codes(tmp_path / "codes", {"a": [[CodedAudio(np.full((2, 4), 1))]] * 3})
    sources = {"all": Source((str(folder),))}
    text, vocabulary = tiny_sequencer.text_tokenizer, tiny_sequencer.vocabulary
    with Loader(sources, tiny_sequencer, 24, 1) as loader:
        state = loader.state()
    together = Sequencer(vocabulary, Grammar.load("pocket-together", vocabulary), text)
    with Loader(sources, together, 24, 1) as loader, pytest.raises(ValueError, match="has format"):
        loader.load_state([state])
