"""Broken media in a tokenizer's training: skipped, named, counted and limited."""

import io
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from picture_training import SIZES, picture, run
from PIL import Image
from safetensors.torch import load_file

from unified_base.shard_sums import make_sums, sums_path
from unified_tokenizers.training import train
from unified_tokenizers.training_recordings import Recordings

pytestmark = pytest.mark.usefixtures("torch_threads")


def spoiled(folder, mixed, broken):
    folder.mkdir()
    for path in mixed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for number in range(broken):
        (folder / f"bad{number}.png").write_bytes(b"no picture")
    return folder


def test_broken_pictures_are_skipped_named_counted_and_limited(tmp_path, mixed, capsys):
    folder = spoiled(tmp_path / "data", mixed, 2)
    train(run(folder, tmp_path / "out", max_corrupt=2, steps=1))
    message = capsys.readouterr().err
    assert f"skipped: {folder}/bad0.png: " in message
    assert f"skipped: {folder}/bad1.png: " in message
    assert f"2 of {len(SIZES) + 2} pictures are broken and skipped" in message
    train(run(mixed, tmp_path / "sound", steps=1))
    first, second = (load_file(tmp_path / name / "tokenizer" / "model.safetensors")
                  for name in ("out", "sound"))  # fmt: skip
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match=r"bad1\.png.*2 are broken, at most 1 may be"):
        train(run(folder, tmp_path / "no", max_corrupt=1))
    with pytest.raises(ValueError, match=r"bad1\.png.*2 are broken, at most 1 may be"):
        train(run(mixed, tmp_path / "no", validation=(str(folder),), max_corrupt=1))


def test_nothing_that_can_be_used_is_said_with_the_reason(tmp_path):
    (tmp_path / "bad").mkdir()
    for number in range(3):
        (tmp_path / "bad" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match=r"can be used: all 3 were skipped, 3 of them like .*0\.png: .*readable"
    ):
        train(run(tmp_path / "bad", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no pictures in .*empty: expected files of their kinds"):
        train(run(tmp_path / "empty", tmp_path / "out"))


def test_a_sample_whose_bytes_have_changed_is_skipped_by_its_key(tmp_path, capsys):
    """A picture stored as it is: one changed bit of it is a picture, too."""
    shard, ends = tmp_path / "x.tar", []
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(6):
            stream = io.BytesIO()
            Image.fromarray(picture(16, 16, number)).save(stream, "BMP")
            member = tarfile.TarInfo(f"k{number}.0.bmp")
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)
            ends.append(archive.offset)
    _, sums = make_sums(shard, [f"k{number}" for number in range(6)], ends)
    sums_path(shard).write_bytes(sums)
    data = bytearray(shard.read_bytes())
    data[ends[2] + 512 + 300] ^= 4
    shard.write_bytes(data)
    train(run(shard, tmp_path / "out", steps=1))
    message = capsys.readouterr().err
    assert f"skipped: shard {shard}, sample 'k3'" in message
    assert "its bytes have changed since they were written (checksum)" in message
    assert "1 of 6 pictures are broken and skipped" in message
    sums_path(shard).write_bytes(sums[:-3])
    with pytest.raises(ValueError, match=r"x\.tar\.sums is damaged"):
        train(run(shard, tmp_path / "no"))


def test_sounds_that_are_broken_or_short_are_counted(tmp_path):
    for number, samples in enumerate((300, 4000, 9000)):
        tone = 9000 * np.sin(np.arange(samples) * 0.1)
        soundfile.write(tmp_path / f"{number}.flac", tone.astype(np.int16), 16_000)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    audio = {
        "hop": 64, "quantizer": {"levels": [4, 4], "depth": 2}, "num_mels": 8, "encoder_width": 8,
        "encoder_depth": 1, "decoder_width": 8, "decoder_depths": [1, 0],
    }  # fmt: skip
    messages = []
    config = run(tmp_path, modality="audio", tokenizer=audio, crop=8, validation=(str(tmp_path),))
    data = Recordings(config, messages.append)
    assert len(data.recordings) == len(data.held) == 3
    assert [line for line in messages if line.startswith("skipped: ")]
    assert messages.count("1 of 4 recordings are broken and skipped") == 2
    assert (
        messages[-1]
        == "1 of 3 recordings are shorter than a crop of 0.03 s and are followed by silence"
    )
    target, _ = data._crops(3, 0, 1)
    assert target.shape == (4, 512)
    assert torch.equal(target[1::2], data._crops(3, 1, 2)[0])
