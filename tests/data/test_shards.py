"""Shards: documents come back as they went in, and nothing damaged or foreign passes."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.shards import ShardWriter, read_index, read_shards, write_index


def document(seed):
    rng = np.random.default_rng(seed)
    return Document(
        (
            Text(f"naïve {seed} 🐼 <image>", role="prompt", loss=0.0),
            Image(rng.integers(0, 256, (3 + seed, 5, 3), dtype=np.uint8), role="response"),
            Audio(rng.integers(-9, 9, (1, 50)).astype(np.float32) / 32768, 16000),
            Slot("image", 9, 6),
        )
    )


def write(folder, split="train", kind="mixed", count=7, **limits):
    with ShardWriter(folder, split, kind, **limits) as writer:
        for i in range(count):
            writer.write(f"{kind}-{i}", document(i))
    return writer.shards


def tar_of(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_documents_come_back_in_order_over_several_shards(tmp_path):
    shards = write(tmp_path, max_samples=3)
    assert [shard.samples for shard in shards] == [3, 3, 1]
    write_index(tmp_path, shards, seed=5)
    assert list(read_shards(tmp_path)) == [(f"mixed-{i}", document(i)) for i in range(7)]
    single = list(read_shards(tmp_path / shards[2].file))
    assert single == [("mixed-6", document(6))]


def test_a_shard_ends_at_its_size(tmp_path):
    shards = write(tmp_path, max_bytes=10_000)
    assert len(shards) > 1
    assert all(shard.bytes == (tmp_path / shard.file).stat().st_size for shard in shards)


def test_equal_documents_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name)
    a, b = ((tmp_path / name / "train-mixed-00000.tar").read_bytes() for name in ("a", "b"))
    assert a == b


def test_index_counts_and_filters(tmp_path):
    shards = write(tmp_path, count=4) + write(tmp_path, "heldout", count=2)
    shards += write(tmp_path, "train", "other", count=1)
    write_index(tmp_path, shards, seed=3, world="w")
    index = read_index(tmp_path)
    assert index["counts"] == {"heldout": {"mixed": 2}, "train": {"mixed": 4, "other": 1}}
    assert (index["seed"], index["world"]) == (3, "w")
    assert len(list(read_shards(tmp_path, split="heldout"))) == 2
    assert [key for key, _ in read_shards(tmp_path, kinds=["other"])] == ["other-0"]
    with pytest.raises(ValueError, match="no split"):
        next(read_shards(tmp_path, split="test"))
    with pytest.raises(ValueError, match="no kind"):
        next(read_shards(tmp_path, kinds=["absent"]))


def test_an_error_while_writing_leaves_no_partial_shard(tmp_path):
    def interrupted():
        with ShardWriter(tmp_path, "train", "x") as writer:
            writer.write("a", document(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../a", "ä"])
def test_keys_that_would_not_survive_a_tar_are_refused(tmp_path, key):
    with ShardWriter(tmp_path, "train", "x") as writer, pytest.raises(ValueError, match="key"):
        writer.write(key, document(0))


def test_a_shard_cut_anywhere_is_noticed(tmp_path):
    shards = write(tmp_path, count=3)
    write_index(tmp_path, shards)
    path = tmp_path / shards[0].file
    data = path.read_bytes()
    # The last 1,024 bytes and the padding after them are tar's end mark: no document is lost.
    for size in range(0, len(data.rstrip(b"\0")), 997):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"train-mixed-00000\.tar"):
            list(read_shards(tmp_path))


TEXT = json.dumps({"segments": [{"type": "text", "text": "a"}]}).encode()
IMAGE = json.dumps({"segments": [{"type": "image", "file": "k.0.png"}]}).encode()
CLIMB = json.dumps({"segments": [{"type": "image", "file": "../k.0.png"}]}).encode()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"k.json": TEXT, "k.pkl": pickle.dumps(1)}, r"'k\.pkl' is not KEY"),
        ({"k.json": TEXT, "k.0.pyd": b""}, r"'k\.0\.pyd' is not KEY"),
        ({"d/k.json": TEXT}, r"'d/k\.json' is not KEY"),
        ({"k.json": b"{"}, "sample k: .*Expecting"),
        ({"k.json": b"\xff"}, "not JSON: .*decode"),
        ({"k.json": IMAGE}, r"segment 0: media file 'k\.0\.png' is not in the shard"),
        ({"k.json": IMAGE, "k.0.png": b"no"}, r"segment 0: picture k\.0\.png"),
        ({"k.json": CLIMB, "k.0.png": b"no"}, "climbs"),
        ({"k.json": TEXT, "k.0.png": b"no"}, "does not use"),
        ({"k.0.png": b"no"}, r"no k\.json"),
    ],
)
def test_foreign_or_broken_samples_are_refused_by_name(tmp_path, members, message):
    path = tar_of(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match=rf"x\.tar.*{message}"):
        list(read_shards(path))


def test_no_pipes_no_compressed_tars(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_shards([f"pipe:touch {tmp_path}/ran"]))
    assert not (tmp_path / "ran").exists()
    with tarfile.open(tmp_path / "x.tar", "w:gz"):
        pass
    with pytest.raises(ValueError, match="not an uncompressed tar"):
        list(read_shards(tmp_path / "x.tar"))


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no index\.json"):
        next(read_shards(tmp_path))
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(ValueError, match="not a shard index"):
        next(read_shards(tmp_path))


def test_shards_that_a_killed_writer_began_go_when_the_folder_is_opened_again(tmp_path):
    code = (
        "import os, sys\n"
        "from unified_data.document import Document, Text\n"
        "from unified_data.shards import ShardWriter\n"
        "writer = ShardWriter(sys.argv[1], 'train', 'x')\n"
        "writer.write('k0', Document((Text('a'),)))\n"
        "print(os.listdir(sys.argv[1]), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert ended.returncode == -9, ended.stderr
    (left,) = os.listdir(tmp_path)
    assert left.endswith(".partial")
    (tmp_path / ".train-x-00007.tar.partial").write_bytes(b"of an earlier version")
    (tmp_path / ".notes.partial").write_bytes(b"of somebody else")
    with ShardWriter(tmp_path, "train", "other") as living:
        living.write("k0", Document((Text("a"),)))
        # Another writer of the same folder leaves alone what a living one has begun.
        with ShardWriter(tmp_path, "train", "x") as writer:
            writer.write("k0", Document((Text("a"),)))
    assert sorted(os.listdir(tmp_path)) == [
        ".notes.partial", "train-other-00000.tar", "train-other-00000.tar.sums",
        "train-x-00000.tar", "train-x-00000.tar.sums",
    ]  # fmt: skip
