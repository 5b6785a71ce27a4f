"""Reading training media: pictures and sound from folders and tars, and nothing else."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from unified_base.resample import resample as resample_data
from unified_tokenizers.media import conform, load_pictures, load_recordings, read_recordings
from unified_tokenizers.training import TokenizerTraining, train
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerSchedule

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
    media = load_pictures((str(tmp_path / "folder"),), 99)
    assert media.dtype == np.uint8
    np.testing.assert_array_equal(media, np.stack(pictures))
    np.testing.assert_array_equal(load_pictures((str(shard),), 99), media)


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
    with pytest.raises(ValueError, match=r"b\.tar, sample 'k', member 'k\.png': picture"):
        load_pictures((str(shard),), 99)
    with pytest.raises(ValueError, match=r"c\.tar, sample 'k', member 'k\.flac': sound"):
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
    for kind in ("symbolic", "hard"):
        broken = []
        with pytest.raises(ValueError, match="no pictures in"):
            load_pictures((str(tmp_path / "a.tar"),), 9, None, broken.append)
        assert any(f"it is a {kind} link, expected a regular file" in str(b) for b in broken)


def test_bad_pictures_are_refused_by_name(tmp_path):
    whole = png(picture(0, 60, 50))
    cases = {
        "cut.png": (whole[: len(whole) // 2], "picture 'cut.png' is cut off"),
        "empty.png": (b"", "picture 'empty.png' is not a readable"),
        "tif.png": (png(picture(0), "TIFF"), "picture 'tif.png' is not a readable"),
        "other size.png": (png(picture(0, 8, 14)), r"is \(8, 14\) pixels, the first \(9, 14\)"),
    }
    for name, (data, reason) in cases.items():
        shard = tar(tmp_path / "a.tar", {"fine.png": png(picture(1)), name: data})
        with pytest.raises(ValueError, match=reason) as caught:
            load_pictures((str(shard),), 9)
        assert f"a.tar, sample {name.partition('.')[0]!r}, member {name!r}" in str(caught.value)


def test_a_tar_cut_off_is_refused(tmp_path):
    shard = tar(tmp_path / "a.tar", {"a.png": png(picture(0)), "b.png": png(picture(1, 60, 60))})
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"shard .*a\.tar: after sample 'a': .*was it cut off"):
        load_pictures((str(shard),), 9)


def test_missing_data_says_what_to_do(tmp_path):
    for path, reason in (("no", "build data first"), ("no-*.tar", "nothing matches")):
        with pytest.raises(ValueError, match=reason):
            load_pictures((str(tmp_path / path),), 9)
    with pytest.raises(ValueError, match="no recordings in"):
        load_recordings((str(tmp_path),), 16_000, 9)


def test_recordings_come_as_mono_int16_until_they_are_long_enough(tmp_path):
    shard = tar(tmp_path / "a.tar", {f"k{n}.1.flac": flac(n) for n in (100, 250, 400)})
    media = load_recordings((str(shard),), 16_000, 99)
    assert [len(sound) for sound in media] == [100, 250, 400]
    assert {(sound.dtype, sound.ndim) for sound in media} == {(np.dtype(np.int16), 1)}
    assert len(load_recordings((str(shard),), 16_000, 300 / 16_000)) == 2


def tone(pitch: float, rate: int, samples: int, height: float = 0.5) -> np.ndarray:
    return (height * np.sin(2 * np.pi * pitch / rate * np.arange(samples))).astype(np.float32)


def test_channels_are_doubled_or_averaged():
    mono, stereo = tone(300, 16_000, 90)[None], np.stack([tone(200, 16_000, 90), tone(700, 1, 90)])
    np.testing.assert_array_equal(conform(mono, 16_000, 16_000, 1), mono)
    np.testing.assert_array_equal(conform(stereo, 16_000, 16_000, 2), stereo)
    np.testing.assert_array_equal(conform(mono, 16_000, 16_000, 2), np.concatenate([mono, mono]))
    np.testing.assert_allclose(conform(stereo, 8000, 8000, 1)[0], (stereo[0] + stereo[1]) / 2)
    changed = conform(stereo.astype(np.float64), 8000, 12_000, 2)
    assert (changed.shape, changed.dtype) == ((2, 135), np.float32)
    for channel in (0, 1):
        alone = conform(stereo[channel : channel + 1], 8000, 12_000, 1)
        np.testing.assert_allclose(changed[channel], alone[0], atol=1e-6)


@pytest.mark.parametrize(
    ("rate", "to_rate"), [(44_100, 16_000), (16_000, 24_000), (22_050, 16_000)]
)
def test_resampling_keeps_what_both_rates_can_hold_and_agrees_with_that_of_the_data(rate, to_rate):
    for samples in (1, 2, 999, rate // 2):
        changed = conform(tone(440, rate, samples)[None], rate, to_rate, 1)
        assert changed.shape == (1, -(-samples * to_rate // rate))
    both = tone(440, rate, rate // 2, 0.4) + tone(5200, rate, rate // 2, 0.3)
    changed = conform(both[None], rate, to_rate, 1)
    np.testing.assert_allclose(changed, resample_data(both[None], rate, to_rate), atol=3e-4)
    wanted = tone(440, to_rate, changed.shape[1], 0.4) + tone(5200, to_rate, changed.shape[1], 0.3)
    inner = slice(200, -200)  # the sound begins and ends at once, which no filter keeps
    np.testing.assert_allclose(changed[0, inner], wanted[inner], atol=1e-3)


def test_what_the_lower_rate_cannot_hold_is_left_out():
    changed = conform(tone(11_000, 44_100, 20_000)[None], 44_100, 16_000, 1)
    assert np.abs(changed[0, 200:-200]).max() < 1e-3


def test_a_long_sound_keeps_every_sample():
    """Lengths beyond 2**24, which a float32 no longer counts: 17 minutes at 16 kHz."""
    assert conform(np.zeros((1, 16_777_261), np.float32), 1001, 1000, 1).shape == (1, 16_760_501)


def test_sounds_that_cannot_conform_are_refused():
    sound = tone(300, 16_000, 90)[None]
    for waveform, rates, channels, reason in (
        (sound[0], (8000, 8000), 1, r"shape \(90,\) and dtype float32, expected floating point"),
        (sound[:, :0], (8000, 8000), 1, "not empty"),
        (sound.astype(np.int16), (8000, 8000), 1, "dtype int16, expected floating point"),
        (sound * np.float32("nan"), (8000, 8000), 1, "not finite"),
        (sound.repeat(6, axis=0), (8000, 8000), 1, r"6 channels, expected 1 \(mono\) or 2"),
        (sound, (8000, 8000), 3, "3 channels, expected"),
        (sound, (0, 8000), 1, "sample rates are 0 and 8000 Hz"),
        (sound, (8_000_009, 16_000), 1, "8000009 and 16000 Hz, expected .* at most 768,000"),
        (sound, (16_000, 40), 1, "cannot resample 16,000 Hz to 40 Hz"),
    ):
        with pytest.raises(ValueError, match=reason):
            conform(waveform, *rates, channels)


def test_recordings_at_any_rate_in_stereo_or_with_more_bits_come_as_the_training_wants_them(
    tmp_path,
):
    sound = np.stack([tone(440, 44_100, 4410), tone(900, 44_100, 4410)])
    wanted = np.rint(conform(sound, 44_100, 16_000, 1)[0] * 32768).astype(int)
    for name, subtype, tolerance in (("a.flac", "PCM_16", 1), ("b.wav", "FLOAT", 0)):
        soundfile.write(tmp_path / name, sound.T, 44_100, subtype=subtype)
        (media,) = load_recordings((str(tmp_path / name),), 16_000, 9)
        assert (media.shape, media.dtype) == ((1600,), np.int16)
        np.testing.assert_allclose(media, wanted, atol=tolerance)
    media = load_recordings((str(tmp_path),), 16_000, 9)
    assert [len(sound) for sound in media] == [1600, 1600]


def test_sixteen_bits_at_the_rate_come_as_they_are(tmp_path):
    samples = np.array([-32768, 32767, 0, 1, -1, 12345], np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    (media,) = load_recordings((str(tmp_path),), 16_000, 9)
    np.testing.assert_array_equal(media, samples)


def test_what_passes_full_scale_is_turned_down_and_counted(tmp_path):
    square = np.sign(tone(300, 44_100, 4410)) * np.float32(32767 / 32768)
    soundfile.write(tmp_path / "a.wav", square, 44_100, subtype="PCM_16")
    soundfile.write(tmp_path / "b.wav", square / 2, 44_100, subtype="PCM_16")
    soundfile.write(tmp_path / "c.wav", 4 * tone(300, 16_000, 1600), 16_000, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"^2 of the recordings .* turned down, by 6\.02 dB at"):
        media = dict(read_recordings((str(tmp_path),), 16_000))
    loud, soft, stored = media.values()
    assert np.abs(conform(square[None], 44_100, 16_000, 1)).max() > 1
    for sound in (loud, stored):
        assert int(np.abs(sound.astype(int)).max()) in (32767, 32768)
    scale = float(np.abs(soft.astype(int)).max()) / 32767
    np.testing.assert_allclose(loud * scale, soft, atol=3)
    with pytest.warns(UserWarning, match=r"^1 of the recordings"):
        load_recordings((str(tmp_path),), 16_000, 0.05)  # and when reading stops before the end


def test_bad_recordings_are_refused_by_name(tmp_path):
    for data, reason in (
        (flac(90, channels=3), "3 channels, expected 1"),
        (flac(90)[:40], "sound 'a.flac'"),
    ):
        (tmp_path / "a.flac").write_bytes(data)
        with pytest.raises(ValueError, match=reason) as caught:
            load_recordings((str(tmp_path),), 16_000, 9)
        assert "a.flac" in str(caught.value)


def test_a_tokenizer_trains_on_a_plain_folder_of_stereo_at_another_rate(tmp_path):
    (tmp_path / "sounds").mkdir()
    for index in range(3):
        sound = np.stack([tone(200 + 100 * index, 44_100, 6000), tone(900, 44_100, 6000)])
        soundfile.write(tmp_path / "sounds" / f"{index}.wav", sound.T, 44_100)
    config = TokenizerTraining(
        modality="audio", output=str(tmp_path / "run"), data=(str(tmp_path / "sounds"),),
        tokenizer={
            "hop": 64, "quantizer": {"levels": [4, 4]}, "num_mels": 8, "encoder_width": 8,
            "encoder_depth": 1, "decoder_width": 8, "decoder_depths": [1, 0],
        },
        validation=(), steps=2, batch_size=2, optimizer=TokenizerOptimizer(lr=1e-3),
        schedule=TokenizerSchedule(warmup_steps=1), save_every=2, log_every=1,
        crop=8,
    )  # fmt: skip
    threads = torch.get_num_threads()
    try:
        assert (train(config) / "model.safetensors").exists()
    finally:
        torch.set_num_threads(threads)


def test_the_committed_sample_reads():
    pictures = load_pictures((str(SAMPLE / "heldout-draw-*.tar"),), 9)
    assert pictures.shape[1:] == (96, 96, 3)
    recordings = load_recordings((str(SAMPLE / "heldout-speak-*.tar"),), 16_000, 9)
    assert all(len(sound) % 640 == 0 for sound in recordings)
