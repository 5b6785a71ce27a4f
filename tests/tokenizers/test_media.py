"""Reading training media: pictures and sound from folders and tars, and nothing else."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from unified_tokenizers.media import load_pictures, load_recordings

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def picture(seed: int, height: int = 9, width: int = 14) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format)
    return stream.getvalue()


def flac(samples: int, rate: int = 16_000, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    rng = np.random.default_rng(samples)
    data = rng.integers(-9000, 9000, (samples, channels)).astype(np.int16)
    soundfile.write(stream, data, rate, format="FLAC")
    return stream.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_a_folder_and_a_tar_of_the_same_pictures_read_the_same(tmp_path):
    pictures = [picture(seed) for seed in range(4)]
    folder = tmp_path / "folder" / "nested"
    folder.mkdir(parents=True)
    for index, pixels in enumerate(pictures):
        (folder / f"{index}.png").write_bytes(png(pixels))
    (folder / "notes.txt").write_text("not a picture")
    shard = tar(tmp_path / "a.tar", {f"k{i}.0.png": png(p) for i, p in enumerate(pictures)})
    found = load_pictures((str(tmp_path / "folder"),), 99)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.stack(pictures))
    np.testing.assert_array_equal(load_pictures((str(shard),), 99), found)


def test_shards_follow_one_another_and_the_limit_holds(tmp_path):
    tar(tmp_path / "part-0.tar", {f"k{i}.png": png(picture(i % 3)) for i in range(5)})
    tar(tmp_path / "part-1.tar", {"again.png": png(picture(0)), "new.PNG": png(picture(7))})
    pattern = str(tmp_path / "part-*.tar")
    expected = [picture(seed) for seed in (0, 1, 2, 0, 1, 0, 7)]  # a repeated one counts as often
    np.testing.assert_array_equal(load_pictures((pattern,), 99), np.stack(expected))
    np.testing.assert_array_equal(load_pictures((pattern,), 4), np.stack(expected[:4]))


def test_grey_and_transparent_pictures_become_three_channels(tmp_path):
    Image.fromarray(picture(0)[..., 0]).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([picture(1), picture(2)[..., :1]])).save(tmp_path / "b.png")
    assert load_pictures((str(tmp_path),), 9).shape == (2, 9, 14, 3)


def test_what_is_not_media_is_never_opened(tmp_path):
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    names = ("k.pkl", "k.pyd", "k.pth", "k.pt", "k.npy", "k.json", "k.cls", "../k.pickle", "k")
    shard = tar(tmp_path / "a.tar", {**dict.fromkeys(names, trap), "k.png": png(picture(0))})
    assert len(load_pictures((str(shard),), 99)) == 1
    assert not sprung.exists()
    # A pickle under a picture's name is read as a picture, and is none.
    shard = tar(tmp_path / "b.tar", {"k.png": trap})
    with pytest.raises(ValueError, match=r"cannot read the picture b\.tar:k\.png"):
        load_pictures((str(shard),), 99)
    with pytest.raises(ValueError, match=r"cannot read the recording c\.tar:k\.flac"):
        load_recordings((str(tar(tmp_path / "c.tar", {"k.flac": trap})),), 16_000, 9)
    assert not sprung.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "b.tar", "c.tar"]


def test_links_in_a_tar_lead_nowhere(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(picture(0)))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(link)
    with pytest.raises(ValueError, match="no pictures in"):
        load_pictures((str(tmp_path / "a.tar"),), 9)


def test_bad_pictures_are_refused_by_name(tmp_path):
    whole = png(picture(0, 60, 50))
    cases = {
        "cut.png": (whole[: len(whole) // 2], "cannot read the picture"),
        "empty.png": (b"", "cannot read the picture"),
        "gif.png": (png(picture(0), "GIF"), "cannot read the picture"),
        "other size.png": (png(picture(0, 8, 14)), r"is \(8, 14\) pixels, the first \(9, 14\)"),
    }
    for name, (data, reason) in cases.items():
        shard = tar(tmp_path / "a.tar", {"fine.png": png(picture(1)), name: data})
        with pytest.raises(ValueError, match=reason) as caught:
            load_pictures((str(shard),), 9)
        assert f"a.tar:{name}" in str(caught.value)


def test_a_tar_cut_off_is_refused(tmp_path):
    shard = tar(tmp_path / "a.tar", {"a.png": png(picture(0)), "b.png": png(picture(1, 60, 60))})
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cannot read the shard .*a\.tar"):
        load_pictures((str(shard),), 9)


def test_missing_data_says_what_to_do(tmp_path):
    for path, reason in (("no", "build data first"), ("no-*.tar", "nothing matches")):
        with pytest.raises(ValueError, match=reason):
            load_pictures((str(tmp_path / path),), 9)
    with pytest.raises(ValueError, match="no recordings in"):
        load_recordings((str(tmp_path),), 16_000, 9)


def test_recordings_come_as_mono_int16_until_they_are_long_enough(tmp_path):
    shard = tar(tmp_path / "a.tar", {f"k{n}.1.flac": flac(n) for n in (100, 250, 400)})
    found = load_recordings((str(shard),), 16_000, 99)
    assert [len(one) for one in found] == [100, 250, 400]
    assert {(one.dtype, one.ndim) for one in found} == {(np.dtype(np.int16), 1)}
    assert len(load_recordings((str(shard),), 16_000, 300 / 16_000)) == 2


def test_recordings_of_another_rate_or_in_stereo_are_refused(tmp_path):
    for data, reason in (
        (flac(90, rate=22_050), "is at 22050 Hz, expected 16000 Hz"),
        (flac(90, channels=2), "has 2 channels, expected mono"),
        (flac(90)[:40], "cannot read the recording"),
    ):
        (tmp_path / "a.flac").write_bytes(data)
        with pytest.raises(ValueError, match=reason):
            load_recordings((str(tmp_path),), 16_000, 9)


def test_the_committed_sample_reads():
    pictures = load_pictures((str(SAMPLE / "heldout-draw-*.tar"),), 9)
    assert pictures.shape[1:] == (96, 96, 3)
    recordings = load_recordings((str(SAMPLE / "heldout-speak-*.tar"),), 16_000, 9)
    assert all(len(one) % 640 == 0 for one in recordings)
