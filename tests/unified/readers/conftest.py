"""The readers of media: whatever takes a picture or a sound from a user, each as one function.

A reader is joined by one line in `picture_readers` or `sound_readers`. It takes a file's name and
bytes, gives the array or None (a command shows none), and raises ValueError with what the user is
told; it must name the file, or the shard and the key.
"""

import io
import json
import tarfile

import numpy as np
import pytest

from unified_base.images import load_image
from unified_base.media_source import UnreadableMedium, read_media
from unified_base.sounds import load_audio
from unified_data.check import check_shards
from unified_data.document import Audio, Document, Image
from unified_data.importers.import_shards import import_shards
from unified_data.shards import ShardWriter, read_shards, write_index
from unified_data.show import show_shards
from unified_tokenizers.media import load_pictures, load_recordings

STORED = {"image": ("png", "jpg", "webp"), "audio": ("flac", "wav")}


@pytest.fixture
def folder(tmp_path):
    """A function: a new empty folder."""
    count = iter(range(1000))

    def make():
        path = tmp_path / f"at-{next(count)}"
        path.mkdir()
        return path

    return make


@pytest.fixture
def file(folder):
    """A function: a file of some bytes in a folder of its own."""

    def write(name, data):
        path = folder() / name
        path.write_bytes(data)
        return path

    return write


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def media_of(document, kind):
    segment = next(s for s in document if isinstance(s, Image if kind == "image" else Audio))
    return segment.pixels if kind == "image" else segment.waveform


@pytest.fixture
def common_readers(folder, file):
    """The readers that pictures and sounds share, by name, for a kind of media."""

    def walk(kind, path):
        (medium,) = read_media((str(path),), kind)
        if isinstance(medium, UnreadableMedium):
            if medium.where.shard:
                assert medium.where.key == "key"
            raise ValueError(str(medium))
        return medium.array

    def imported(kind, importer, source):
        out = folder() / "out"
        import_shards(importer, source, out)
        ((_, document),) = read_shards(out)
        return media_of(document, kind)

    def beside_text(kind, name, data):
        path = file(name, data)
        path.with_suffix(".txt").write_text("a text")
        return imported(kind, "folder", path.parent)

    def webdataset(kind, name, data):
        path = tar(folder() / "a.tar", {f"key.{name}": data, "key.txt": b"a text"})
        return imported(kind, "webdataset", path)

    def document(kind, name, data):
        obj = {"segments": [{"type": kind, "file": name}]}
        return media_of(Document.from_json(obj, file(name, data).parent), kind)

    def shard(kind, name, data):
        """`data check`, `data show` and the samples of training, of a shard that has it as it is"""
        ending = name.rpartition(".")[2]
        if ending not in STORED[kind]:
            return document(kind, name, data)
        home = folder()
        member = f"key.0.{ending}"
        with ShardWriter(home, "train", "x") as writer:
            row = {"type": kind, "file": member}
            writer.write_parts("key", {"segments": [row]}, {member: data})
        write_index(home, writer.shards)
        show_shards(home, home / "page.html")
        report = check_shards(home)
        page = (home / "page.html").read_text("utf-8")
        if report["broken"]:
            assert "Broken." in page
            raise ValueError(f"{name}: {json.dumps(report['faults'])}")
        assert "Broken." not in page
        ((_, stored),) = read_shards(home)
        return media_of(stored, kind)

    def of(kind):
        return {
            "a file of a folder": lambda name, data: walk(kind, file(name, data).parent),
            "a member of a shard": lambda name, data: walk(
                kind, tar(folder() / "a.tar", {f"key.{name}": data, "key.json": b"{}"})
            ),
            "import folder": lambda name, data: beside_text(kind, name, data),
            "import webdataset": lambda name, data: webdataset(kind, name, data),
            "a document": lambda name, data: document(kind, name, data),
            "data check, data show": lambda name, data: shard(kind, name, data),
        }

    return of


@pytest.fixture
def command(unified, cli_model):
    """A function: runs a command that takes one file; ValueError with its error."""

    def run(*arguments, on=None):
        code, _, err = unified(*arguments, on=on)
        assert code in (0, 2), err
        assert "Traceback" not in err
        if code == 2:
            raise ValueError(err)

    return run


@pytest.fixture
def picture_readers(common_readers, file, folder, command, cli_model):
    tokenizer = cli_model / "image_tokenizer"
    return {
        **common_readers("image"),
        "load_image": lambda name, data: load_image(file(name, data)),
        "tokenizer train": lambda name, data: load_pictures((str(file(name, data)),), 9)[0],
        "tokenizer evaluate": lambda name, data: command(
            "tokenizer", "evaluate", tokenizer, file(name, data)
        ),
        "tokenizer reconstruct": lambda name, data: command(
            "tokenizer", "reconstruct", file(name, data), "-o", folder() / "x.png",
            "--tokenizer", tokenizer,
        ),
        "describe": lambda name, data: command("describe", file(name, data), on=cli_model),
    }  # fmt: skip


@pytest.fixture
def sound_readers(common_readers, file, folder, command, cli_model):
    tokenizer = cli_model / "audio_tokenizer"

    def recording(name, data):
        load_recordings((str(file(name, data)),), 16_000, 99)

    return {
        **common_readers("audio"),
        "load_audio": lambda name, data: load_audio(file(name, data))[0],
        "tokenizer train": recording,
        "tokenizer evaluate": lambda name, data: command(
            "tokenizer", "evaluate", tokenizer, "--audio", file(name, data)
        ),
        "tokenizer reconstruct": lambda name, data: command(
            "tokenizer", "reconstruct", file(name, data), "-o", folder() / "x.wav",
            "--tokenizer", tokenizer,
        ),
        "listen": lambda name, data: command("listen", file(name, data), on=cli_model),
    }  # fmt: skip


@pytest.fixture
def check_reading():
    """A function: that every reader reads a case as it should, or refuses it and says where.

    expected: the array; its shape (without the last axis) and mean; or what the refusal says.
    """

    def check(readers, name, data, expected):
        for reader, read in readers.items():
            if isinstance(expected, str):
                with pytest.raises(ValueError, match=expected) as caught:
                    read(name, data)
                message = str(caught.value)
                assert name in message or "key" in message, f"{reader}: {message}"
                continue
            array = read(name, data)
            if array is not None and isinstance(expected, tuple):
                assert (*array.shape[:-1], round(float(array.mean()), 3)) == expected, reader
            elif array is not None:
                assert array.shape == expected.shape, reader
                np.testing.assert_allclose(array.astype(float), expected, atol=2e-3, err_msg=reader)

    return check
