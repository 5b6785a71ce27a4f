"""What a hostile or broken source may hold: refused or skipped with a reason, nothing run, nothing
big allocated."""

import io
import json
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unified_data import document
from unified_data.importers import Sample, importer
from unified_data.importers.import_shards import import_shards
from unified_data.shards import CorruptSample, read_samples, read_shards


def lines(path, *records):
    path.write_bytes(b"".join(
        (r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records
    ))  # fmt: skip
    return path


def tar(path, *members):
    """members: (name, bytes) or (name, bytes, type flag)."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as file:
        for name, data, *kind in members:
            member = tarfile.TarInfo(name)
            member.size, member.linkname = len(data), "/etc/passwd"
            member.type = (kind or [tarfile.REGTYPE])[0]
            file.addfile(member, io.BytesIO(data))
    return path


def reasons(kind, source, images=None):
    return [
        "" if isinstance(result, Sample) else result.reason
        for result in importer(kind)(source, images)
    ]


def resident_peak(reset=False):
    """Most bytes of memory this process has had since the last reset, where Linux tells."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def png_of(width, height):
    """A sound PNG header of that size, and the beginning of a picture."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(3000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, body, b"IEND")
    )


def flac_of(rate, channels, frames):
    """A small FLAC file that claims another rate, other channels and other samples."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((50, 1)), 16000, format="FLAC")
    data = bytearray(buffer.getvalue())
    data[18:26] = (rate << 44 | (channels - 1) << 41 | 15 << 36 | frames).to_bytes(8, "big")
    return bytes(data)


def wav_of(claimed, samples=b""):
    """A WAV file whose header claims that many bytes of samples."""
    layout = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", claimed)
    return b"RIFF" + struct.pack("<I", 36 + claimed) + b"WAVE" + chunks + samples


BOMBS = [
    ("png", png_of(60_000, 60_000), "too large|60000x60000 pixels"),
    ("png", png_of(9_000, 9_000), "9000x9000 pixels, expected at most 64,000,000"),
    ("png", png_of(0, 5), "not a readable|damaged"),
    ("flac", flac_of(16_000, 1, 2**36 - 1), "4,294,967 s long, expected at most 600 s"),
    ("flac", flac_of(655_350, 8, 390_000_000), "390,000,000 samples of 8 channels"),
    ("flac", flac_of(16_000, 1, 9_000_000), "cut off|cannot be read"),
    ("flac", flac_of(0, 1, 50), "has 0 samples a second"),
    ("wav", wav_of(2**31, b""), "empty|cannot be read"),
    ("wav", wav_of(0, b""), "empty"),
]


@pytest.mark.parametrize(("extension", "data", "reason"), BOMBS, ids=range(len(BOMBS)))
def test_a_bomb_is_refused_by_its_header(tmp_path, extension, data, reason):
    kind = "image" if extension == "png" else "audio"
    obj = {"segments": [{"type": kind, "file": f"k.0.{extension}"}]}
    path = tar(tmp_path / "x.tar", ("k.json", json.dumps(obj).encode()), (f"k.0.{extension}", data))
    before = resident_peak(reset=True)
    (broken,) = read_samples(path)
    assert resident_peak() - before < 20_000_000
    assert isinstance(broken, CorruptSample)
    with pytest.raises(ValueError, match=rf"x\.tar, sample k: segment 0: .*({reason})"):
        raise ValueError(str(broken))
    (tmp_path / f"k.{extension}").write_bytes(data)
    source = lines(tmp_path / "x.jsonl", {"text": "x", kind: f"k.{extension}"})
    (skipped,) = reasons("pairs", source)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(skipped)


def test_small_files_may_not_add_up_to_a_bomb(tmp_path, media_files, monkeypatch):
    monkeypatch.setattr(document, "MAX_DECODED", 3 * 5 * 7 * 3)
    row = {"type": "image", "file": "k.0.png"}
    png = (media_files / "a.png").read_bytes()
    skipped = []
    for count in (3, 4):
        obj = json.dumps({"segments": [row] * count}).encode()
        (sample,) = read_samples(tar(tmp_path / "x.tar", ("k.json", obj), ("k.0.png", png)))
        skipped.append(sample)
        record = {"images": ["a.png"] * count, "texts": [None] * count}
        skipped += reasons("obelics", lines(tmp_path / "x.jsonl", record), media_files)
    assert len(skipped[0][1]) == 3
    assert skipped[1] == ""
    assert "segment 3: the document's media take 420 bytes, expected 315" in skipped[2].reason
    assert "the document's media take 420 bytes" in skipped[3]


class Touch:
    """Its pickle makes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("extension", ["pkl", "pth", "pt", "pyd", "npy", "0.pkl"])
def test_a_pickle_in_a_tar_is_skipped_unopened(tmp_path, media_files, extension):
    payload = pickle.dumps(Touch(tmp_path / "ran"))
    png = (media_files / "a.png").read_bytes()
    path = tar(tmp_path / "x.tar", ("k.txt", b"x"), ("k.png", png), (f"k.{extension}", payload),
               ("l.txt", b"y"), ("l.png", png))  # fmt: skip
    assert reasons("webdataset", path) == [
        f"x.tar sample 'k': member 'k.{extension}' is no text, JSON, picture or sound",
        "",
    ]
    with pytest.raises(ValueError, match="is not KEY"):
        list(read_shards(tar(tmp_path / "y.tar", (f"k.{extension}", payload))))
    assert not (tmp_path / "ran").exists()


def test_comm_as_a_pickle_is_refused_unopened(tmp_path):
    (tmp_path / "train.pth").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(ValueError, match="is a pickle, which is never opened"):
        import_shards("comm", tmp_path / "train.pth", tmp_path / "out")
    (tmp_path / "train.pth").rename(tmp_path / "train.json")
    with pytest.raises(ValueError, match=r"nothing of .+ can be used"):
        import_shards("comm", tmp_path / "train.json", tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "climbs with '..'"),
        ("a/../../secret.png", "climbs"),
        ("/etc/passwd", "is absolute"),
        ("C:\\x.png", "is absolute"),
        ("..\\secret.png", "climbs"),
        ("link.png", "a link that leads out of its folder"),
        ("up/secret.png", "a link that leads out"),
        ("circle.png", "cannot be read|no file"),
        ("pipe.png", "not a regular file"),
        (".", "not a regular file|cannot be read"),
        ("a.png/x", "cannot be read|no file"),
        ("pipe:touch ran", "no file 'pipe:touch ran'"),
        ("http://127.0.0.1:9/z.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("\0", "absolute|climbs"),
        ("a" * 300, "cannot be read"),
        ("a" * 5000, "is 5,000 characters long"),
        ("\ud800.png", "no file"),
        ("", "not empty"),
        (7, "expected a str|expected a text"),
    ],
)
def test_a_name_may_not_lead_out_of_its_folder(tmp_path, media_files, name, reason):
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret.png").write_bytes((media_files / "a.png").read_bytes())
    os.symlink(tmp_path / "secret.png", inside / "link.png")
    os.symlink(tmp_path, inside / "up")
    os.symlink("circle.png", inside / "circle.png")
    os.mkfifo(inside / "pipe.png")
    (inside / "a.png").write_bytes((media_files / "a.png").read_bytes())
    os.symlink("a.png", inside / "b.png")
    source = lines(
        inside / "x.jsonl",
        {"images": [name], "texts": [None]},
        {"images": ["b.png"], "texts": [None]},  # a link that stays within
    )
    first, second = reasons("obelics", source)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(first)
    assert second == ""


def test_links_and_foreign_names_in_a_tar_are_skipped(tmp_path, media_files):
    png = (media_files / "a.png").read_bytes()
    path = tar(tmp_path / "x.tar",
               ("a.txt", b"x"), ("a.png", b"", tarfile.SYMTYPE),
               ("b.txt", b"x"), ("b.png", b"", tarfile.LNKTYPE),
               ("../c.txt", b"x"), ("../c.png", png), ("/d.txt", b"x"), ("/d.png", png),
               ("e", b"", tarfile.DIRTYPE), ("e/e.txt", b"x"), ("e/e.png", png),
               ("f.txt", b"\xff"), ("f.png", png), ("g.png", png), ("h.txt", b"x"))  # fmt: skip
    skipped = reasons("webdataset", path)
    for reason, expected in zip(skipped, (
        "'a.png' is a symbolic link", "'b.png' is a hard link", "climbs", "absolute", "",
        "'f.txt' is not UTF-8", "it has no text", "it has no picture or sound",
    ), strict=True):  # fmt: skip
        assert expected in reason
        assert bool(reason) == bool(expected)


def test_a_torn_tar_gives_what_is_before_the_tear(tmp_path, media_files):
    png = (media_files / "a.png").read_bytes()
    path = tar(tmp_path / "x.tar", *((f"{k}.{e}", png if e == "png" else b"x")
                                     for k in "ab" for e in ("txt", "png")))  # fmt: skip
    path.write_bytes(path.read_bytes()[: 3 * 1024 + 512])
    first, second, torn = reasons("webdataset", path)
    assert first == ""
    assert "no picture" in second
    assert "was it cut off?" in torn
    with pytest.raises(ValueError, match="not an uncompressed tar file"):
        reasons("webdataset", lines(tmp_path / "y.tar", b"PK"))


def test_nothing_is_written_under_the_name_unless_all_is_well(tmp_path, media_files):
    good, lost = {"text": "x", "image": "a.png"}, {"text": "x", "image": "lost.png"}
    source = lines(tmp_path / "x.jsonl", good, lost, lost)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"more than 1 of .* skipped; the last: 000000002: .*lost"):
        import_shards("pairs", source, tmp_path / "out", media_files, max_skipped=1)
    with pytest.raises(ValueError, match="can be used, 2 were skipped; the first: 000000000: "):
        import_shards("pairs", lines(tmp_path / "x.jsonl", lost, lost), tmp_path / "out")
    with pytest.raises(ValueError, match="and 2 more like it; give the folder of the media with"):
        import_shards("pairs", lines(tmp_path / "x.jsonl", lost, lost, lost), tmp_path / "out")
    wrong = [{"text": 7}, lost, {"text": "y", "image": "other.png"}]
    with pytest.raises(ValueError, match=r"the first: 000000000: .*; the commonest, 2 of them: 0"):
        import_shards("pairs", lines(tmp_path / "x.jsonl", *wrong), tmp_path / "out")
    with pytest.raises(ValueError, match=r"there is no .*absent to import"):
        import_shards("pairs", tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ValueError, match="more than 1 of "):
        import_shards("pairs", source, tmp_path / "new" / "out", media_files, max_skipped=1)
    with pytest.raises(ValueError, match=r"cannot write .*Not a directory"):
        import_shards("pairs", source, source / "out", media_files)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_shards("pairs", lines(tmp_path / "x.jsonl", good), tmp_path / "out", media_files,
                      progress=interrupt)  # fmt: skip
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ValueError, match="there is something already"):
        import_shards("pairs", source, tmp_path / "out", media_files)
    import_shards("pairs", source, tmp_path / "new" / "out", media_files)
    assert (tmp_path / "new" / "out" / "index.json").is_file()


def test_an_index_may_not_name_a_file_elsewhere(tmp_path):
    for file in ("../x.tar", "/etc/passwd", "a/b.tar", "x.tar\n", ".x.tar", 7, "pipe:id"):
        row = {"file": file, "split": "train", "kind": "x", "samples": 1, "bytes": 1}
        (tmp_path / "index.json").write_text(json.dumps({"shards": [row]}))
        with pytest.raises(ValueError, match="is not a shard index"):
            list(read_shards(tmp_path))
    for text in ("[" * 100_000, '{"shards": [{"file": []}]}', '{"shards": 7}', "[]"):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(ValueError, match="is not a shard index"):
            list(read_shards(tmp_path))
