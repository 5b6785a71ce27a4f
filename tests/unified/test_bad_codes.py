"""Codes that do not fit a format or a model: refused by name and position, before anything is
sampled or trained. What formats and folders refuse by themselves stands in `test_together`,
`test_streams` and `test_code_output`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_together import together_model

from unified import Sampling, UnifiedModel
from unified.__main__ import run
from unified.dataloading import Source
from unified.dataloading.layout import Layout
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Request
from unified.formats.coded import CodedAudio, CodedImage, CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.models.depth_files import DEPTH_FILE
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Document, Text
from unified_data.shards import ShardWriter

DELAYED = """
name: sounds
markers: [<pad>, <bos>, <eos>, <audio>, </audio>, <fill>]
padding: <pad>
document: {{begin: <bos>, end: <eos>}}
roles: {{}}
text: {{separator: null}}
spans:
  audio:
    - marker: <audio>
    - {{delayed: audio, by: {by}, fill: <fill>, together: true}}
    - marker: </audio>
"""
WORDS = CodedText((3, 4), "prompt")
SLOT = CodedSlot("audio", role="response")


@pytest.fixture(scope="module")
def model():
    return together_model()


def sound(*shape, value=0):
    return CodedAudio(np.full(shape, value), "response")


def beginning(model, *levels):
    """A slot that begins with so many frames of each level."""
    first = [model.vocabulary.id_range(f"audio.{level}")[0] for level in range(3)] * 2
    return replace(SLOT, begins=tuple((id,) * frames for id, frames in zip(first, levels)))


def delayed(by):
    """A format whose sounds of three levels are late by so many steps."""
    markers = ["<pad>", "<bos>", "<eos>", "<audio>", "</audio>", "<fill>"]
    vocabulary = Vocabulary.build(
        text_size=11, text_rows=11, markers=markers, max_grid=4, text_fingerprint="a",
        others={"audio": ((9, 8, 7), "b")},
    )  # fmt: skip
    return Grammar.from_text(DELAYED.format(by=by), vocabulary)


GIVEN = {
    "a level missing": (lambda m: sound(2, 5), "audio codes must have 3 levels, found 2"),
    "a level surplus": (lambda m: sound(4, 5), "audio codes must have 3 levels, found 4"),
    "one level": (lambda m: sound(1, 5), "audio codes must have 3 levels, found 1"),
    "of a picture": (
        lambda m: CodedImage(np.zeros((3, 1, 2), int), "response"),
        "image codes must have 2 levels, found 3",
    ),
    "of another codebook": (lambda m: sound(3, 5, value=9), "code 9 is outside block 'audio.0'"),
    "a beginning of two levels": (
        lambda m: beginning(m, 2, 2), "the codes that it begins with have 2 levels, expected 3",
    ),
    "a beginning of four levels": (
        lambda m: beginning(m, 2, 2, 2, 2), "begins with have 4 levels, expected 3",
    ),
    "a beginning of unequal length": (
        lambda m: beginning(m, 2, 1, 2), "levels of 1 to 2 frames, expected as many in each",
    ),
    "a beginning of another level": (
        lambda m: replace(SLOT, begins=((3,), (3,), (3,))),
        "id 3 in level 0, frame 0, which is none of block 'audio.0'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GIVEN)
def test_a_request_is_refused_before_anything_is_sampled(case, model):
    """Where it stands behind a slot that would be sampled first."""
    make, message = GIVEN[case]
    segment = make(model)
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    request = Request((WORDS, CodedSlot("text", role="response"), segment, SLOT), 0)
    with pytest.raises(ValueError, match=rf"^segment 2 \({segment.kind}\): .*{message}"):
        engine.add(request, lambda event: None, Sampling(max_audio_frames=2))
    assert (engine.counters.sampled_ids, engine.counters.passes) == (0, 0)


@pytest.mark.parametrize(
    "case", [name for name, (make, _) in GIVEN.items() if "beginning" not in name]
)
def test_documents_to_learn_from_are_refused_by_segment(case, model):
    make, message = GIVEN[case]
    segment = make(model)
    with pytest.raises(ValueError, match=rf"segment 1 \({segment.kind}\): .*{message}"):
        Layout(model.grammar, model.text_tokenizer).encode([Text("a", "prompt", 0.0), segment])


STREAMS = {
    "unequal length": ({"speaker": (8, 4), "listener": (8, 3)}, "and the same T for all streams"),
    "a level missing": ({"listener": (7, 3)}, r"shape \(7, 3\), expected \(8, T\)"),
    "a level surplus": ({"listener": (9, 3)}, r"shape \(9, 3\), expected \(8, T\)"),
    "of no such name": ({"reader": (8, 3)}, "no stream 'reader' that can be given, expected speak"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams_are_refused_by_name_before_anything_is_sampled(case):
    from unified.engine.given_segments import check_given

    shapes, message = STREAMS[case]
    vocabulary = Vocabulary.build(
        text_size=11, text_rows=11, markers=load_format("moshi").markers, max_grid=4,
        text_fingerprint="a", others={"audio": ((5,) * 16, "b")},
    )  # fmt: skip
    streams = {name: np.zeros(shape, int) for name, shape in shapes.items()}
    request = Request((CodedSlot("audio", streams=streams),), 0)
    with pytest.raises(ValueError, match=rf"^segment 0 \(audio\): .*{message}"):
        check_given(request, Grammar.load("moshi", vocabulary))


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("[0, 1]", "audio spans delay 2 levels, the vocabulary has 3"),
        ("[0, 1, 2, 3]", "audio spans delay 4 levels, the vocabulary has 3"),
        ("[1, 2, 3]", r"spans.audio\[1\].by begins with 1: the first level is on time"),
        ("[0, -1, 2]", r"spans.audio\[1\].by is \[0, -1, 2\], expected steps, 0 to 4096"),
        ("[0, 1, 5000]", r"spans.audio\[1\].by is \[0, 1, 5000\], expected steps, 0 to 4096"),
        ("[0, 1.5, 2]", r"spans.audio\[1\].by is \[0, 1.5, 2\], expected steps"),
        ("3", r"spans.audio\[1\].by is 3, expected steps"),
    ],
)
def test_delays_that_do_not_fit_a_span_are_refused_by_name(by, message):
    with pytest.raises(ValueError, match=message):
        delayed(by)


def test_a_delayed_span_that_is_cut_or_early_is_refused_by_position():
    grammar = delayed("[0, 2, 1]")
    ids = grammar.serialize([CodedAudio(np.zeros((3, 5), int))]).ids
    with pytest.raises(ValueError, match="position 9: the sequence ends in the audio span begun"):
        grammar.parse(ids[:9])
    early = ids.copy()
    early[3] = grammar.vocabulary.id_range("audio.1")[0]
    with pytest.raises(ValueError, match=r"position 3: expected <fill>, found audio.1 code 0"):
        grammar.parse(early)


def _without(folder):
    (folder / DEPTH_FILE).unlink()


def _wider(folder):
    manifest = json.loads((folder / "unified.json").read_text())
    manifest["codes"]["depth"]["hidden_size"] = 14
    (folder / "unified.json").write_text(json.dumps(manifest))


def _cut(folder):
    tensors = dict(load_file(folder / DEPTH_FILE))
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].copy()
    save_file(tensors, folder / DEPTH_FILE, metadata={"format": "pt"})


def _fewer(folder):
    manifest = json.loads((folder / "unified.json").read_text())
    manifest["codes"]["depth"]["num_ids"] = 2
    (folder / "unified.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without, f"has no {DEPTH_FILE}, but its unified.json says codes.output depth"),
        (_wider, rf"{DEPTH_FILE}: .*embed_tokens.weight has shape \(39, 12\), expected \(39, 14\)"),
        (_cut, rf"{DEPTH_FILE}: .*lm_head.weight has shape \(38, 12\), expected \(39, 12\)"),
        (_fewer, "unified.json: codes.depth.num_ids is 2, expected 3: the most ids of a position"),
    ],
)
def test_a_depth_decoder_that_does_not_fit_is_refused_by_every_door(
    damage, message, model, tmp_path, capsys
):
    """Opening, the command line, and training, which leaves no folder behind."""
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        UnifiedModel.from_pretrained(folder)
    with ShardWriter(tmp_path / "shards", "train", "texts") as writer:
        writer.write("d", Document((Text("a cat", "response"),)))
    config = TrainConfig(
        output=str(tmp_path / "run"), sources={"t": Source(str(tmp_path / "shards" / "*.tar"))},
        init_from=str(folder), steps=1, seq_len=64, global_batch_size=1, streams=1, threads=1,
        optimizer=OptimizerConfig(lr=0.01),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        train(config)
    assert not list((tmp_path / "run").rglob("step-*"))
    capsys.readouterr()
    out = tmp_path / "said.wav"
    assert run(["speak", "a cat", "--model", str(folder), "-o", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert not out.exists()
    shutil.rmtree(folder)
