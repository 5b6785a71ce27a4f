"""What cannot be tokenized, or has changed since; and the command `unified data tokenize`."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tokenized_shards import picture, sound, write

from unified.dataloading import Loader, Source
from unified.dataloading.compare import compare_shards
from unified.dataloading.media_encoder import MediaEncoder
from unified.dataloading.source_samples import find_shards
from unified.dataloading.stored_codes import read_stored_codes
from unified.dataloading.tokenize import MediaEncoderSpec, tokenize_shards
from unified_base.shard_sums import sums_path
from unified_data.check import check_shards
from unified_data.document import Document, Text
from unified_data.shard_file import ShardFile

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


@pytest.fixture
def shards(tmp_path):
    return write(
        tmp_path / "documents",
        {kind: [Document((picture(n), Text(kind))) for n in range(3)] for kind in "abcd"},
    )


# Where nothing can be coded.


@pytest.mark.parametrize("other", [True, False])
def test_a_step_that_leaves_all_out_fails_and_is_not_in_the_way(
    encoder, tiny_tokenizers, shards, tmp_path, other
):
    folder = tmp_path / "codes"
    odd = [Document((picture(seed, 50, 70 + seed),)) for seed in range(3)]
    odd.append(Document((sound(1, 800, 8000),)))
    paths = write(tmp_path / "odd", {"odd": odd})
    if other:
        tokenize_shards(shards, folder, encoder)
    before = sorted(path.name for path in folder.glob("*"))
    message = (
        r"nothing of .*train-odd-00000\.tar can be coded: all 4 documents were skipped, 3 of them "
        r"like k0: segment 0: a picture of 70x50 pixels does not divide .* --fit PIXELS"
    )
    for _ in range(2):  # the second time as well
        with pytest.raises(ValueError, match=message):
            tokenize_shards(paths, folder, encoder)
        assert sorted(path.name for path in folder.glob("*")) == before
    if not other:  # the repaired command, into the same folder
        assert not folder.exists()
        index = tokenize_shards(paths, folder, MediaEncoder(*tiny_tokenizers, fit=48))
        assert index["counts"] == {"train": {"odd": 4}}


def test_what_is_missing_is_said_where_nothing_can_be_coded(tiny_tokenizers, tmp_path):
    paths = write(tmp_path / "odd", {"odd": [Document((sound(1),))]})
    with pytest.raises(ValueError, match=r"no audio tokenizer .* give a tokenizer for them, too"):
        tokenize_shards(paths, tmp_path / "codes", MediaEncoder(tiny_tokenizers[0], None))


def test_codes_of_which_all_was_left_out_say_why(
    write_codes, tiny_sequencer, tmp_path, forget_checksums
):
    """As a folder that was made before that was an error."""
    folder = write_codes(tmp_path / "codes", {"x": []})
    with pytest.raises(ValueError, match="hold no samples; build or tokenize them again"):
        Loader({"x": Source(str(folder))}, tiny_sequencer, 200, streams=1)
    left_out = {"x.tar": {"samples": 7, "reasons": ["k3: segment 0: a picture of 5x5 pixels"]}}
    forget_checksums(folder, lambda index: index.update(left_out=left_out))
    with pytest.raises(
        ValueError, match=r"all 7 documents were skipped .* such as k3: .* with --fit PIXELS"
    ):
        Loader({"x": Source(str(folder))}, tiny_sequencer, 200, streams=1)


# Checksums.


def test_a_document_whose_bytes_have_changed_is_left_out_by_its_key(encoder, tmp_path):
    documents = [Document((Text(f"number {n}"), picture(n))) for n in range(3)]
    (shard,) = write(tmp_path / "documents", {"x": documents})
    data = bytearray(shard.read_bytes())
    data[data.index(b"number 1")] ^= 1  # still a text
    shard.write_bytes(data)
    index = tokenize_shards([shard], tmp_path / "codes", encoder)
    left_out = index["left_out"][shard.name]
    assert left_out["samples"] == 1
    assert left_out["reasons"][0].startswith("k1: its bytes have changed since they were written")
    sums_path(shard).unlink()
    with pytest.raises(ValueError, match="which sample it is cannot be told; take it anew"):
        tokenize_shards([shard], tmp_path / "again", encoder)


@pytest.mark.parametrize("suffix", [".tar", ".tar.sums", ".json"])
def test_every_bit_of_codes_that_changes_is_named_by_the_check(encoder, shards, tmp_path, suffix):
    folder = tmp_path / "codes"
    tokenize_shards(shards, folder, encoder)
    path = folder / f"train-a-00000{suffix}"
    whole = path.read_bytes()
    reader = read_stored_codes(folder).from_parts
    assert check_shards(folder, read_codes=reader)["broken"] == 0
    for bit in random.Random(4).sample(range(8 * len(whole)), 40):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        faults = check_shards(folder, read_codes=reader)["faults"]
        assert faults, bit
        assert {fault["shard"] for fault in faults} == {"train-a-00000.tar"}, bit
        assert suffix == ".tar" or any(path.name in fault["reason"] for fault in faults), bit
        path.write_bytes(whole)


def test_codes_are_compared_before_a_training(encoder, shards, tmp_path, tiny_sequencer):
    folder = tmp_path / "codes"
    tokenize_shards(shards, folder, encoder)
    assert compare_shards(find_shards([str(folder)])) == []
    path = next(iter(find_shards([str(folder)])))
    with ShardFile(path) as shard:
        keys = [shard.key(number) for number in range(len(shard))]
    whole = path.read_bytes()
    for bit in random.Random(2).sample(range(8 * len(whole)), 40):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        (line,) = compare_shards([path])
        assert line.startswith(f"shard {path}"), bit
        assert (
            any(f", sample {key}: its bytes" in line for key in keys) or "after its last" in line
        ), bit
    path.write_bytes(whole)
    for beside in folder.glob("*.sums"):
        beside.unlink()
    (folder / "index.json").unlink()
    (line,) = compare_shards([path])
    assert line == "1 of 1 shards were written without checksums and have not been compared"


# The command.


def test_the_command_makes_codes_of_a_models_tokenizers(unified, cli_model, tmp_path):
    pattern = f"{SAMPLE}/heldout-d*.tar"
    options = ("--workers", "1", "--json")
    code, out, err = unified("data", "tokenize", pattern, "-o", tmp_path / "codes", *options)
    assert code == 0, err
    values = json.loads(out)
    assert values["path"] == str(tmp_path / "codes")
    assert (values["documents"], values["left_out"]) == (7, 0)
    assert "2 of 2: heldout-draw-00000.tar, 5 documents" in err
    assert set(read_stored_codes(tmp_path / "codes").media) == {"image", "audio"}
    code, _, err = unified("data", "tokenize", pattern, "-o", tmp_path / "codes", *options)
    assert code == 0
    assert "2 of 2 shards are done already" in err


def test_the_command_fails_where_nothing_can_be_coded_and_works_once_repaired(
    unified, refused, cli_model, tmp_path
):
    write(tmp_path / "odd", {"odd": [Document((picture(seed, 50, 70),)) for seed in range(3)]})
    call = ("data", "tokenize", tmp_path / "odd", "-o", tmp_path / "codes", "--workers", "1")
    refused(unified(*call), "all 3 documents were skipped, 3 of them like k0: segment 0: a picture")
    assert not (tmp_path / "codes").exists()
    code, _, err = unified(*call, "--fit", "96")
    assert code == 0, err
    assert "3 documents in 1 shard, " in err


def test_the_command_says_what_it_needs(unified, refused, cli_model, tmp_path):
    call = ("data", "tokenize", f"{SAMPLE}/heldout-draw-*.tar", "-o", tmp_path / "codes")
    refused(unified(*call, on=None), "whose codes? give --model, or --image or --audio or both")
    refused(unified(*call, "--image", "x"), "whose codes? give --model, or --image or --audio")
    image = cli_model / "image_tokenizer"
    refused(unified(*call, "--audio", image, on=None), "the audio tokenizer is one of image")
    missing = ("data", "tokenize", tmp_path / "x*.tar", "-o", tmp_path / "codes")
    refused(unified(*missing), "no shards match")
