"""Checksums of shards: one changed bit anywhere is noticed, and named with file and key."""

import random
import zlib

import numpy as np
import pytest

from unified_base import shard_sums
from unified_base.shard_sums import CHANGED, read_sums, sums_keys, verify_shard
from unified_data.check import check_shards
from unified_data.document import Document, Image, Text
from unified_data.shard_file import ShardFile
from unified_data.shards import CorruptSample, ShardWriter, read_index, read_samples, write_index

KEYS = ("a", "b-2", "c_3")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path, "train", "x", max_samples=3) as writer:
        for number, key in enumerate((*KEYS, "d")):
            picture = Image(rng.integers(0, 256, (3 + number, 5, 3), dtype=np.uint8))
            writer.write(key, Document((Text(f"text {number}"), picture)))
    write_index(tmp_path, writer.shards, seed=3)
    return tmp_path


def flipped(path, bit):
    """Change one bit of a file; returns what it held before."""
    whole = path.read_bytes()
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return whole


def bits(size, count):
    """Some bits of a file: those of its first and last bytes, and others all over it."""
    drawn = random.Random(5).sample(range(size * 8), count)
    return sorted({0, 7, size * 8 - 1, *drawn})


def test_a_shard_and_its_samples_have_checksums_beside_it_and_in_the_index(folder):
    shard = folder / "train-x-00000.tar"
    sums, data = read_sums(shard), shard.read_bytes()
    assert sums_keys(shard) == [*KEYS]
    starts = [0, *sums.ends[:-1]]
    assert [*sums.crcs] == [zlib.crc32(data[a:b]) for a, b in zip(starts, sums.ends)]
    assert sums.bytes == len(data)
    first, second = read_index(folder)["shards"]
    assert first.sha256 == sums.sha256 != second.sha256
    assert verify_shard(shard) == ()


def test_every_bit_that_changes_in_a_shard_is_named_with_its_key(folder):
    shard = folder / "train-x-00000.tar"
    ends = [*read_sums(shard).ends]
    for bit in bits(shard.stat().st_size, 250):
        whole = flipped(shard, bit)
        at = sum(bit // 8 >= end for end in ends)
        key = KEYS[at] if at < len(ends) else ""
        report = check_shards(folder)
        assert report["broken"] == 1, bit
        assert (report["faults"][0]["shard"], report["faults"][0]["key"]) == (shard.name, key), bit
        samples = [*read_samples(folder)]
        wrong = [sample for sample in samples if isinstance(sample, CorruptSample)]
        assert [(fault.shard, fault.key) for fault in wrong] == [(str(shard), key)], bit
        assert len(samples) == (5 if key == "" else 4), bit  # the others are all there
        if key:
            assert CHANGED in wrong[0].reason
        damaged = verify_shard(shard, again=True)
        assert [damage.key for damage in damaged] == [key], bit
        shard.write_bytes(whole)
    assert check_shards(folder)["broken"] == 0


@pytest.mark.parametrize("name", ["index.json", "train-x-00000.tar.sums"])
def test_every_bit_that_changes_in_what_lies_beside_is_named(folder, name):
    path = folder / name
    for bit in bits(path.stat().st_size, 250):
        whole = flipped(path, bit)
        with pytest.raises(ValueError, match=name):
            verify_shard(folder / "train-x-00000.tar")
        if name == "index.json":  # without which nothing is known of the folder
            with pytest.raises(ValueError, match=name):
                check_shards(folder)
        else:
            faults = check_shards(folder)["faults"]
            assert any(name in fault["reason"] for fault in faults), bit
        path.write_bytes(whole)


def test_without_the_sums_of_samples_the_file_is_named(folder):
    shard = folder / "train-x-00000.tar"
    (folder / "train-x-00000.tar.sums").unlink()
    assert verify_shard(shard) == ()
    whole = shard.read_bytes()
    at = whole.index(b"text 1")
    flipped(shard, at * 8)
    (damage,) = verify_shard(shard)
    assert damage.key == ""
    assert "which sample it is cannot be told" in damage.reason
    report = check_shards(folder)
    assert (report["samples"], report["broken"]) == (4, 1)
    assert report["faults"][0]["shard"] == shard.name


def test_a_shard_that_stays_as_it_is_is_read_once(folder, monkeypatch):
    shard = folder / "train-x-00001.tar"
    read = []
    digest = shard_sums.file_sha256
    monkeypatch.setattr(shard_sums, "file_sha256", lambda *a: read.append(a) or digest(*a))
    for _ in range(3):
        assert verify_shard(shard) == ()
    assert len(read) == 1
    assert verify_shard(shard, again=True) == ()
    assert len(read) == 2


def test_a_shard_built_again_has_its_own_sums(folder):
    other = folder / "other"
    with ShardWriter(other, "train", "x") as writer:
        writer.write("z", Document((Text("another"),)))
    shard = folder / "train-x-00000.tar"
    (other / shard.name).replace(shard)  # by hand, without what lies beside it
    with pytest.raises(ValueError, match="elsewhere than its checksums say"):
        ShardFile(shard)
    (broken,) = [s for s in read_samples(shard) if isinstance(s, CorruptSample)]
    assert "build it again" in broken.reason


@pytest.mark.parametrize("text", ["", "x\n", "unified-sums 1 3 abc\n"])
def test_what_is_no_file_of_sums_is_refused(folder, text):
    path = folder / "train-x-00000.tar.sums"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"train-x-00000\.tar\.sums is (damaged|no file)"):
        ShardFile(folder / "train-x-00000.tar", tolerant=True)
