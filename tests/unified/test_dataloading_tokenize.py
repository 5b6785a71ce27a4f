"""Shards of documents to shards of codes: the same codes, once, and only what is not done yet."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenized_shards import bytes_of, picture, sound, stored, write

from unified.dataloading import Loader, Source, prepare_sources, validation_sequences
from unified.dataloading import coded_shard as module
from unified.dataloading.media_encoder import MediaEncoder
from unified.dataloading.source_samples import SourceSamples, find_shards
from unified.dataloading.stored_codes import read_stored_codes
from unified.dataloading.tokenize import MediaEncoderSpec, tokenize_shards
from unified_data.document import Audio, Box, Document, Image, Slot, Text
from unified_data.shards import read_index, read_shards
from unified_tokenizers.locations import LocationTokenizer

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture
def encoder(tiny_tokenizers):
    return MediaEncoder(*tiny_tokenizers)


@pytest.fixture(scope="session")
def spec(tiny_tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    for tokenizer in tiny_tokenizers:
        tokenizer.save_pretrained(folder / tokenizer.modality)
    return MediaEncoderSpec(str(folder / "image"), str(folder / "audio"))


# The codes.


@pytest.mark.parametrize("kind", ["article", "ask", "speak"])
def test_the_sample_has_the_codes_and_ids_that_its_documents_have(
    tiny_sequencer, encoder, tmp_path, kind
):
    shard = SAMPLE / f"heldout-{kind}-00000.tar"
    index = tokenize_shards([shard], tmp_path / "codes", encoder)
    documents = dict(read_shards(shard))
    actual = stored(tmp_path / "codes", shard.name)
    assert list(actual) == list(documents)
    for key, segments in actual.items():
        for segment, original in zip(segments, documents[key], strict=True):
            expected = original if isinstance(original, Text) else None
            expected = expected or tiny_sequencer.code_segment(original)
            assert segment == expected
            assert (segment.role, segment.loss) == (original.role, original.loss)
    (info,) = index["shards"]
    assert (info["split"], info["kind"], info["samples"]) == ("heldout", kind, len(documents))
    assert info["bytes"] == (tmp_path / "codes" / shard.name).stat().st_size
    for row in validation_sequences(Source(str(tmp_path / "codes")), tiny_sequencer, 2048):
        for key, start, stop in zip(row.keys, row.starts, row.starts[1:]):
            expected = tiny_sequencer.encode(documents[key.rpartition("/")[2]])
            np.testing.assert_array_equal(row.labels[start:stop], expected.ids)
            np.testing.assert_array_equal(row.loss_weights[start:stop], expected.loss)
            np.testing.assert_array_equal(row.modality[start:stop], expected.modality)


def test_media_coded_together_have_the_codes_they_have_alone(
    tiny_sequencer, encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_WINDOW", 20_000)  # several windows
    documents = [
        Document((picture(a), Text("cats"), sound(b, 3200 * (1 + b)), picture(c, 24, 24)))
        for a, b, c in ((0, 0, 1), (2, 1, 0), (1, 1, 2), (0, 2, 1), (3, 1, 3))
    ]
    (shard,) = write(tmp_path / "documents", {"x": documents})
    tokenize_shards([shard], tmp_path / "codes", encoder)
    actual = stored(tmp_path / "codes", shard.name)
    for number, document in enumerate(documents):
        assert actual[f"k{number}"] == [
            s if isinstance(s, Text) else tiny_sequencer.code_segment(s) for s in document
        ]


def test_a_medium_is_coded_once_and_those_of_one_size_together(tiny_tokenizers):
    image, audio = tiny_tokenizers
    batches = []

    class Counting:
        modality, stride = "image", image.stride
        codebook_sizes, fingerprint = image.codebook_sizes, image.fingerprint

        def encode(self, media):
            batches.append(tuple(media.shape))
            return image.encode(media)

    encoder = MediaEncoder(Counting(), audio)
    documents = [Document((picture(n % 5), picture(n, 24, 24))) for n in range(70)]
    encoder.encode(documents)
    assert batches == [(5, 3, 48, 24), (64, 3, 24, 24), (6, 3, 24, 24)]


def test_a_round_trip_gives_the_codes_of_what_the_tokenizer_gives_back(
    tiny_tokenizers, tiny_sequencer
):
    image, audio = tiny_tokenizers
    still, tone = picture(1), sound(2, 6400)
    pixels = torch.from_numpy(still.pixels.transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        restored = (image.decode(image.encode(pixels)) * 255).round().byte()
        heard = audio.decode(audio.encode(torch.from_numpy(tone.waveform)[None]))
    again = (
        Image(restored[0].numpy().transpose(1, 2, 0).copy(), "response"),
        Audio(heard[0].numpy(), 16_000, "response", 0.5),
    )
    (actual,) = MediaEncoder(image, audio, round_trip=True).encode([Document((still, tone))])
    assert actual == [tiny_sequencer.code_segment(segment) for segment in again]
    assert actual != MediaEncoder(image, audio).encode([Document((still, tone))])[0]


def test_media_are_made_to_fit_where_that_is_asked_for(tiny_tokenizers):
    encoder = MediaEncoder(*tiny_tokenizers, fit=80)
    assert encoder.stored.to_json()["fit"] == 80
    actual = encoder.encode(
        [
            Document((picture(0, 100, 200),)),  # 40x80, of which 24x72 are multiples of 24
            Document((picture(0, 30, 24),)),
            Document((picture(0, 20, 300),)),
            Document((sound(0, 4000, rate=8_000, channels=2),)),
        ]
    )
    assert actual[0][0].codes.shape == (1, 1, 3)
    assert actual[1][0].codes.shape == (1, 1, 1)
    assert "a picture of 300x20 pixels, at most 80 to a side, holds no 24x24 pixels" in str(
        actual[2]
    )
    assert actual[3][0].codes.shape == (2, 3)  # half a second in frames of a fifth


# What is left out.


def test_broken_documents_are_left_out_counted_and_named(encoder, tmp_path):
    sound_ones = [Document((picture(0),)), Document((Text("a"), sound(0)))]
    broken = [
        Document((picture(0, 50, 24),)),
        Document((Text("a"), sound(0, channels=2))),
        Document((Text("a"), Slot("image"))),
        Document(()),
    ]
    (shard,) = write(tmp_path / "documents", {"x": [*sound_ones, *broken]})
    lines: list[str] = []
    index = tokenize_shards([shard], tmp_path / "codes", encoder, report=lines.append)
    assert list(stored(tmp_path / "codes", shard.name)) == ["k0", "k1"]
    left_out = index["left_out"][shard.name]
    assert left_out["samples"] == 4
    for reason, expected in zip(
        left_out["reasons"],
        (
            "k2: segment 0: a picture of 24x50 pixels does not divide into codes",
            "k3: segment 1: the sound has 2 channels at 16000 Hz, expected 1",
            "k4: segment 1: it is a slot, which only sampling fills",
            "k5: the document has no segments",
        ),
        strict=True,
    ):
        assert reason.startswith(expected)
    assert lines[0].startswith(f"1 of 1: {shard.name}, 2 documents, 4 skipped (the first: k2: seg")


def test_a_shard_that_is_cut_off_gives_what_is_before(encoder, tmp_path):
    (shard,) = write(tmp_path / "documents", {"x": [Document((picture(n),)) for n in range(6)]})
    shard.write_bytes(shard.read_bytes()[:-20_000])
    index = tokenize_shards([shard], tmp_path / "codes", encoder)
    samples = index["shards"][0]["samples"]
    assert 0 < samples < 6
    assert "cut off" in index["left_out"][shard.name]["reasons"][-1]


def test_a_tokenizer_that_refuses_one_medium_keeps_the_others(tiny_tokenizers):
    image, audio = tiny_tokenizers

    class Picky:
        modality, stride = "image", image.stride
        codebook_sizes, fingerprint = image.codebook_sizes, image.fingerprint

        def encode(self, media):
            if (media == 7).all(dim=(1, 2, 3)).any():
                raise ValueError("it is all sevens")
            return image.encode(media)

    sevens = Image(np.full((48, 24, 3), 7, np.uint8))
    documents = [Document((part,)) for part in (picture(0), sevens, picture(1))]
    actual = MediaEncoder(Picky(), audio).encode(documents)
    assert [str(f) if isinstance(f, ValueError) else len(f) for f in actual] == [
        1, "segment 0: it is all sevens", 1
    ]  # fmt: skip


# Once, and only what is not done yet.


@pytest.fixture
def shards(tmp_path):
    return write(
        tmp_path / "documents",
        {kind: [Document((picture(n), Text(kind))) for n in range(3)] for kind in "abcd"},
    )


def test_a_run_that_was_killed_goes_on_with_the_shards_that_are_left(
    encoder, shards, tmp_path, monkeypatch, tiny_sequencer
):
    whole = tmp_path / "whole"
    tokenize_shards(shards, whole, encoder)
    folder = tmp_path / "codes"

    def killed(path, data):
        if path.name == "train-c-00000.json":
            raise KeyboardInterrupt  # after the shard was written, before it counts as finished
        atomic_write(path, data)

    atomic_write = module.atomic_write
    monkeypatch.setattr(module, "atomic_write", killed)
    with pytest.raises(KeyboardInterrupt):
        tokenize_shards(shards, folder, encoder)
    monkeypatch.setattr(module, "atomic_write", atomic_write)
    assert not (folder / "index.json").exists()
    with pytest.raises(ValueError, match="holds documents, not codes"):
        SourceSamples("x", Source(f"{folder}/*.tar"), tiny_sequencer.vocabulary)
    (folder / ".train-c-00000.tar.0123.partial").write_bytes(b"torn")
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    lines: list[str] = []
    tokenize_shards(shards, folder, encoder, report=lines.append)
    assert [line.partition(",")[0] for line in lines] == [
        "2 of 4 shards are done already", "3 of 4: train-c-00000.tar", "4 of 4: train-d-00000.tar"
    ]  # fmt: skip
    for name in ("train-a-00000.tar", "train-b-00000.tar"):
        assert (folder / name).stat().st_mtime_ns == done[name]
    assert bytes_of(folder) == bytes_of(whole)
    assert sorted(path.name for path in folder.iterdir()) == sorted(p.name for p in whole.iterdir())
    lines.clear()
    tokenize_shards(shards, folder, encoder, report=lines.append)
    assert lines == ["4 of 4 shards are done already"]


def test_a_shard_that_changed_or_lost_its_codes_is_done_again(encoder, shards, tmp_path):
    folder = tmp_path / "codes"
    tokenize_shards(shards, folder, encoder)
    write(tmp_path / "documents", {"a": [Document((picture(9), Text("new")))]})
    os.truncate(folder / "train-b-00000.tar", 1000)
    (folder / "train-c-00000.json").write_text("{torn")
    lines: list[str] = []
    tokenize_shards(shards, folder, encoder, report=lines.append)
    assert len(lines) == 4
    assert "1 of 4 shards" in lines[0]
    assert stored(folder, "train-a-00000.tar")["k0"][1] == Text("new")
    assert len(stored(folder, "train-b-00000.tar")) == 3


def test_a_shard_that_no_index_could_name_is_refused_before_it_is_coded(encoder, shards, tmp_path):
    named = tmp_path / "my shard.tar"
    named.write_bytes(shards[0].read_bytes())
    with pytest.raises(ValueError, match=r"my shard\.tar would become .* rename it"):
        tokenize_shards([named], tmp_path / "codes", encoder)
    assert not (tmp_path / "codes").exists()


def test_a_folder_keeps_the_codes_of_one_tokenizer(encoder, shards, tmp_path, tiny_tokenizers):
    folder = tmp_path / "codes"
    tokenize_shards(shards[:2], folder, encoder)
    more = tokenize_shards(shards[2:], folder, encoder)  # others are added
    assert [info["file"] for info in more["shards"]] == [shard.name for shard in shards]
    fingerprint = tiny_tokenizers[0].fingerprint
    for other in (
        MediaEncoder(*tiny_tokenizers, round_trip=True),
        MediaEncoder(audio=tiny_tokenizers[1]),
    ):
        with pytest.raises(ValueError, match=f"holds codes of .*{fingerprint}, these would be of"):
            tokenize_shards(shards, folder, other)
    with pytest.raises(ValueError, match="codes would take the place of the documents in"):
        tokenize_shards(shards, shards[0].parent, encoder)
    with pytest.raises(ValueError, match="holds codes already, expected documents"):
        tokenize_shards(sorted(folder.glob("*.tar")), tmp_path / "again", encoder)
    (twin,) = write(tmp_path / "twin", {"a": [Document((Text("x"),))]})
    with pytest.raises(ValueError, match="would both become"):
        tokenize_shards([shards[0], twin], tmp_path / "both", encoder)
    with pytest.raises(ValueError, match="the image tokenizer is one of audio"):
        MediaEncoder(image=tiny_tokenizers[1])


@pytest.mark.slow
def test_ray_makes_the_same_shards(encoder, spec, shards, tmp_path):
    ray = pytest.importorskip("ray", reason="ray, an extra, is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        tokenize_shards(shards, tmp_path / "ray", spec, workers=2, ray=True)
    finally:
        ray.shutdown()
    tokenize_shards(shards, tmp_path / "one", encoder)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "ray")


def test_ray_that_is_not_there_is_asked_for_in_one_line(spec, shards, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs ray, .* 'unified-tokens\[ray\]'"):
        tokenize_shards(shards, tmp_path / "codes", spec, ray=True)


# Before a run.


def test_sources_of_documents_become_sources_of_codes(tiny_sequencer, tmp_path):
    sources = {
        "draw": Source(f"{SAMPLE}/heldout-draw-*.tar", share=2),
        "speech": Source(
            sources={
                "say": Source(f"{SAMPLE}/heldout-say-*.tar", noise=0.1),
                "hear": Source(f"{SAMPLE}/heldout-say-*.tar", round_trip=True),
            }
        ),
    }
    lines: list[str] = []
    actual = prepare_sources(sources, tiny_sequencer, tmp_path, report=lines.append)
    assert len(lines) == 3
    draw, say = actual["draw"], actual["speech"].sources["say"]
    assert replace(draw, shards=sources["draw"].shards) == sources["draw"]
    assert say.noise == 0.1
    assert Path(draw.shards[0]).parent == Path(say.shards[0]).parent
    hear = actual["speech"].sources["hear"]
    assert Path(hear.shards[0]).parent != Path(say.shards[0]).parent
    assert read_stored_codes(Path(hear.shards[0]).parent).round_trip
    assert all(path.is_file() for path in find_shards(draw.shards))
    again = prepare_sources(sources, tiny_sequencer, tmp_path, report=lines.append)
    assert again == actual
    assert all("done already" in line for line in lines[3:])
    # Codes are taken as they are.
    assert prepare_sources(actual, tiny_sequencer, tmp_path / "none") == actual
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_several_processes_make_the_same_shards(tiny_sequencer, shards, tmp_path):
    sources = {"x": Source(tuple(map(str, shards)))}
    first = prepare_sources(sources, tiny_sequencer, tmp_path / "one")
    second = prepare_sources(sources, tiny_sequencer, tmp_path / "two", workers=2)
    folders = [Path(actual["x"].shards[0]).parent for actual in (first, second)]
    assert bytes_of(folders[0]) == bytes_of(folders[1])
    assert read_index(folders[0]) == read_index(folders[1])
    assert [path.name for path in (tmp_path / "two").iterdir()] == [folders[1].name]


def test_a_source_makes_documents_fit(tiny_sequencer, tmp_path):
    """As `data tokenize --fit` does, into a folder of its own."""
    documents = [Document((picture(1, 50, 100), sound(2, 2000, 22_050, 2)))]
    (shard,) = write(tmp_path / "documents", {"x": documents})
    with pytest.raises(ValueError, match=r"does not divide into codes.*`fit: PIXELS` of a source"):
        prepare_sources({"x": Source(str(shard))}, tiny_sequencer, tmp_path / "codes")
    fitted = prepare_sources({"x": Source(str(shard), fit=48)}, tiny_sequencer, tmp_path / "codes")
    folder = Path(fitted["x"].shards[0]).parent
    assert read_stored_codes(folder).fit == 48
    expected = MediaEncoder(tiny_sequencer.image_tokenizer, tiny_sequencer.audio_tokenizer, fit=48)
    assert stored(folder, shard.name)["k0"] == expected.encode(documents)[0]
    Loader(fitted, tiny_sequencer, 200, streams=1)
    with pytest.raises(ValueError, match=r"have fit 48, the source says 96"):
        Loader({"x": replace(fitted["x"], fit=96)}, tiny_sequencer, 200, streams=1)


def test_a_box_in_a_picture_that_would_be_cut_is_refused(tiny_tokenizers):
    """50x48 pixels in codes of 24 lose two columns; 96x48 are scaled, which moves no box."""
    boxes = LocationTokenizer("box", 8)
    encoder = MediaEncoder(tiny_tokenizers[0], fit=48, others={"box": boxes})
    cut, scaled = (
        Document((Image(np.zeros((48, width, 3), np.uint8)), Box(0, 0, width / 2, 24, width, 48)))
        for width in (50, 96)
    )
    refused, coded = encoder.encode([cut, scaled])
    assert "segment 1: its picture of 50x48 pixels would be cut" in str(refused)
    assert coded[1].codes.tolist() == [[0, 0, 3, 3]]
