"""Reading what people bring, and never leaving half a file behind."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image as PillowImage

from unified_base import atomic, images, sounds


def picture(height=7, width=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_png_gives_the_same_pixels_back(tmp_path):
    images.save_png(tmp_path / "x.png", picture())
    assert np.array_equal(images.load_image(tmp_path / "x.png"), picture())


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "BMP"])
def test_other_pictures_are_read_as_rgb(tmp_path, form):
    flat = np.full((6, 9, 3), (200, 40, 90), np.uint8)
    PillowImage.fromarray(flat).save(tmp_path / "x", format=form)
    pixels = images.load_image(tmp_path / "x")
    assert pixels.shape == (6, 9, 3)
    assert np.abs(pixels.astype(int) - flat).max() <= 8


def test_transparency_is_put_on_white(tmp_path):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    PillowImage.fromarray(rgba).save(tmp_path / "x.png")
    pixels = images.load_image(tmp_path / "x.png")
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert (pixels[1] == 255).all()


def test_sixteen_bit_grey_becomes_eight_bit(tmp_path):
    grey = np.array([[0, 257, 65535]], np.uint16)
    PillowImage.fromarray(grey).save(tmp_path / "x.png")
    assert images.load_image(tmp_path / "x.png")[0, :, 0].tolist() == [0, 1, 255]


def png_header(width, height):
    """The bytes of a PNG that claims a size and holds nothing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 9_000)])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, size):
    (tmp_path / "x.png").write_bytes(png_header(*size))
    with pytest.raises(ValueError, match="at most 64,000,000"):
        images.load_image(tmp_path / "x.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_truncated_picture_is_refused_in_one_line(tmp_path, form, part):
    PillowImage.fromarray(picture(40, 30)).save(tmp_path / "x", format=form)
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=r"picture .*x") as caught:
        images.load_image(tmp_path / "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.4"])
def test_what_is_no_picture_is_refused(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ValueError, match="not a readable PNG"):
        images.load_image(tmp_path / "x.png")
    with pytest.raises(ValueError, match="cannot read picture"):
        images.load_image(tmp_path / "absent.png")


def test_wav_round_trip_is_the_int16_grid(tmp_path):
    wave = np.random.default_rng(1).uniform(-1, 1, (2, 33)).astype(np.float32)
    sounds.save_wav(tmp_path / "x.wav", wave, 16000)
    back, rate = sounds.load_audio(tmp_path / "x.wav")
    assert rate == 16000
    assert back.shape == (2, 33)
    assert np.abs(back - wave).max() <= 1 / 32768


def test_float_wav_is_exact_and_the_same_bytes_every_time():
    wave = np.float32([[0.1, -1.0, 1.0, 1e-8]])
    extension, data = sounds.encode_audio(wave, 22050)
    assert extension == "wav"
    back, rate = sounds.decode_audio(data, "x")
    assert rate == 22050
    assert np.array_equal(back, wave)
    assert soundfile.info(io.BytesIO(data)).subtype == "FLOAT"
    assert sounds.encode_audio(wave, 22050) == (extension, data)


def test_a_sound_with_nothing_or_nan_in_it_is_refused(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), 16000)
    with pytest.raises(ValueError, match="is empty"):
        sounds.load_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.float32([0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="NaN"):
        sounds.load_audio(tmp_path / "nan.wav")
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read"):
        sounds.load_audio(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="No such file"):
        sounds.load_audio(tmp_path / "absent.wav")


def test_a_long_sound_is_refused_before_it_is_read(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "x.wav", np.zeros(36_000), 1)  # ten hours at one sample a second
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(ValueError, match="36,000 s long, expected at most 600 s"):
        sounds.load_audio(tmp_path / "x.wav")


def test_a_sound_beyond_full_scale_is_scaled_and_said(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.float32([0.5, -2.0]), 16000, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"peaks at 2\.000"):
        wave, _ = sounds.load_audio(tmp_path / "x.wav")
    assert wave.tolist() == [[0.25, -1.0]]


def half_written(path, error):
    with atomic.atomic_path(path) as partial:
        partial.write_bytes(b"half")
        raise error


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    path = tmp_path / "x.txt"
    atomic.atomic_write(path, b"old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            half_written(path, error)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    atomic.atomic_write(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        atomic.atomic_write(tmp_path / "absent" / "x", b"")
    with pytest.raises(ValueError, match="is a folder"):
        atomic.atomic_write(tmp_path, b"")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(ValueError, match=r"cannot write .*denied"):
        atomic.atomic_write(closed / "x", b"")


def test_new_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic.atomic_write(tmp_path / "x", b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_reading_an_ordinary_picture_warns_of_nothing(tmp_path):
    images.save_png(tmp_path / "x.png", picture())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.load_image(tmp_path / "x.png")
