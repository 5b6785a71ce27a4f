"""The one walk over media: what it reads, what it says of the rest, and that it never hangs."""

import io
import os
import subprocess
import tarfile
from shutil import which

import numpy as np
import pytest
import soundfile

from unified_base.files import read_bytes, regular
from unified_base.images import encode_png
from unified_base.media_source import UnreadableMedium, read_media, sound_samples
from unified_base.resample import MAX_RATIO, resample
from unified_base.sounds import decode_audio
from unified_base.tar_members import scan_members

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
PNG = encode_png(PIXELS)


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def told(media):
    """Each medium by what is said of it, or its array's shape."""
    return [
        str(m) if isinstance(m, UnreadableMedium) else (str(m.where), m.array.shape) for m in media
    ]


def test_files_folders_patterns_and_shards_come_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.PNG", "a.png", "b/10.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    (tmp_path / "named").write_bytes(PNG)
    tar(tmp_path / "c.tar", [("d/k.1.png", PNG), ("d/k.json", b"{}"), ("l.0.png", PNG)])
    media = list(read_media((tmp_path, tmp_path / "b" / "*.png", tmp_path / "named"), "image"))
    assert [(m.where.file.rpartition("/")[2], m.where.key) for m in media] == [
        ("a.png", ""), ("10.png", ""), ("2.PNG", ""), ("k.1.png", "d/k"), ("l.0.png", "l"),
        ("10.png", ""), ("named", ""),
    ]  # fmt: skip
    assert all(np.array_equal(m.array, PIXELS) for m in media)
    assert str(media[3].where) == f"shard {tmp_path}/c.tar, sample 'd/k', member 'd/k.1.png'"


def test_what_cannot_be_read_is_told_with_shard_and_key_and_the_rest_goes_on(tmp_path):
    shard = tar(tmp_path / "a.tar", [("a.png", PNG), ("b.png", PNG[:-9]), ("c.png", PNG)])
    first, broken, last = read_media([shard], "image")
    assert (broken.where.file, broken.where.shard, broken.where.key) == ("b.png", str(shard), "b")
    assert "cut off" in broken.reason
    assert np.array_equal(first.array, last.array)
    data = shard.read_bytes()
    shard.write_bytes(data[:1100])  # in the middle of the second member's header
    _, torn = read_media([shard], "image")
    assert torn.where.key == ""
    assert "after sample 'a'" in torn.reason


def test_media_of_kinds_that_are_not_read_are_told_not_passed_over(tmp_path):
    for name in ("a.tiff", "b.avif", "c.m4a", "d.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    assert [text.partition(": ")[2][:25] for text in told(read_media([tmp_path], "image"))] == [
        ".tiff files cannot be rea", ".avif files cannot be rea", "it is a compressed tar fi",
    ]  # fmt: skip
    assert len(told(read_media([tmp_path], "audio"))) == 2


def test_pipes_devices_links_in_circles_and_folders_are_told_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").mkdir()
    os.mkfifo(tmp_path / "e.tar")
    with open(tmp_path / "f.png", "wb") as file:
        file.truncate(1 << 40)
    reasons = told(read_media([tmp_path], "image"))
    for reason, expected in zip(
        reasons,
        ("not a regular file", "symbolic links", "not a regular file", "not a regular file",
         "1,099,511,627,776 bytes long"), strict=True,
    ):  # fmt: skip
        assert expected in reason
    with pytest.raises(ValueError, match="nothing at"):
        list(read_media([tmp_path / "none.png"], "image"))
    with pytest.raises(ValueError, match="nothing matches"):
        list(read_media([tmp_path / "none*.png"], "image"))


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="a file of Linux")
def test_files_of_the_system_that_have_no_end_are_refused():
    with pytest.raises(ValueError, match="0 bytes and gives more"):
        read_bytes("/proc/self/pagemap")


def test_a_regular_file_is_what_libraries_open(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert regular(tmp_path / "a", limit=5) == tmp_path / "a"
    with pytest.raises(ValueError, match="5 bytes long, expected at most 4"):
        regular(tmp_path / "a", "weights", 4)
    with pytest.raises(ValueError, match=r"weights .*not a regular file"):
        regular(tmp_path, "weights")


def test_a_limit_of_broken_media(tmp_path):
    shard = tar(tmp_path / "a.tar", [(f"{i}.png", PNG if i % 2 else b"") for i in range(6)])
    seen = []
    assert len(list(sound_samples(read_media([shard], "image"), None, seen.append))) == 3
    assert [broken.where.key for broken in seen] == ["0", "2", "4"]
    assert len(list(sound_samples(read_media([shard], "image"), 3))) == 3
    with pytest.raises(ValueError, match=r"sample '4'.*; 3 are broken, at most 2 may be"):
        list(sound_samples(read_media([shard], "image"), 2))
    with pytest.raises(ValueError, match=r"a\.tar, sample '0', member '0\.png': picture"):
        list(sound_samples(read_media([shard], "image")))


@pytest.mark.skipif(which("tar") is None, reason="needs GNU tar to write sparse members")
@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_members_are_refused_by_name_and_what_follows_is_read(tmp_path, form):
    (tmp_path / "a.png").write_bytes(PNG)
    with open(tmp_path / "b.png", "wb") as file:
        for part in range(40):  # a map that does not fit into one header
            file.seek(part << 20)
            file.write(b"x")
        file.truncate(20 << 30)
    (tmp_path / "c.png").write_bytes(PNG)
    command = ["tar", "-S", f"--format={form}", "-cf", "s.tar", "a.png", "b.png", "c.png"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("this tar knows no such form")
    first, sparse, last = read_media([tmp_path / "s.tar"], "image")
    assert str(sparse).endswith(
        "sample 'b', member 'b.png': it is a sparse file, expected a regular file"
    )
    assert np.array_equal(first.array, last.array)
    data = (tmp_path / "s.tar").read_bytes()
    members = scan_members(lambda at, count: data[at : at + count], 0, len(data))
    assert [m.kind for m in members] == ["file", "sparse file", "file"]


def test_resampling_is_bounded_before_it_begins():
    sound = np.ones((1, 1000), np.float32)
    for rates, reason in (
        ((8_000_009, 16_000), "at most 768,000"),
        ((16_000, 16_000 * MAX_RATIO // 2 // 128 + 768_000), "at most 768,000"),
        ((768_000, 2_000), f"rates at most {MAX_RATIO}"),
        ((1, 16_000), f"rates at most {MAX_RATIO}"),
    ):
        with pytest.raises(ValueError, match=reason):
            resample(sound, *rates)
    flat = np.broadcast_to(np.float32(0), (1, 1 << 27))  # takes no memory
    with pytest.raises(ValueError, match="at most 134,217,728, channels together"):
        resample(flat, 16_000, 16_001)
    assert resample(sound, 767_999, 44_100).shape == (1, 58)


@pytest.mark.parametrize(
    ("form", "subtypes"),
    [
        ("WAV", "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM"),
        ("WAVEX", "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT ULAW"), ("RF64", "PCM_16 PCM_24 FLOAT"),
        ("W64", "PCM_U8 PCM_16 PCM_24 FLOAT ALAW"), ("CAF", "PCM_16 PCM_24 FLOAT DOUBLE ULAW"),
        ("AIFF", "PCM_S8 PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW"),
        ("AU", "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW"),
        ("FLAC", "PCM_S8 PCM_16 PCM_24"), ("OGG", "VORBIS OPUS"), ("MP3", "MPEG_LAYER_III"),
    ],
)  # fmt: skip
def test_sound_files_give_what_libsndfile_gives(form, subtypes):
    rng = np.random.default_rng(3)
    for subtype in subtypes.split():
        for channels, samples in ((1, 1), (2, 7), (1, 1000), (2, 5003)):
            if (subtype, channels) == ("IMA_ADPCM", 2):
                continue  # libsndfile writes a wrong count
            for endian in ("FILE", "LITTLE", "BIG"):
                if not soundfile.check_format(form, subtype, endian):
                    continue
                if subtype == "IMA_ADPCM" and endian == "BIG":
                    continue
                wave = rng.uniform(-0.5, 0.5, (samples, channels))
                buffer = io.BytesIO()
                soundfile.write(buffer, wave, 16_000, subtype, endian, form)
                expected, _ = soundfile.read(
                    io.BytesIO(buffer.getvalue()), dtype="float32", always_2d=True
                )
                waveform, rate = decode_audio(buffer.getvalue(), "x")
                assert rate == 16_000
                np.testing.assert_array_equal(
                    waveform, expected.T[:, : waveform.shape[1]], err_msg=f"{subtype} {endian}"
                )
                assert waveform.shape[1] >= samples
