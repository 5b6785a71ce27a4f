"""Reports: bits and quality of a tokenizer and of classical codecs on the same media."""

import numpy as np
import pytest
import torch
from PIL import Image

from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
from unified_tokenizers.base import Codes
from unified_tokenizers.classical import IMAGE_CODECS, check_codecs, code_picture, code_sound
from unified_tokenizers.modules import BaseImageTokenizer
from unified_tokenizers.quantizers import QuantizerConfig
from unified_tokenizers.report import (
    evaluate_pictures,
    evaluate_sounds,
    reconstruct_picture,
    reconstruct_sound,
    save_plot,
)


class Squares(BaseImageTokenizer):
    """A tokenizer whose codes are known: squares of 8x8, each black (0) or white (1)."""

    codebook_sizes = (4,)
    stride = 8

    def encode(self, media):
        height, width = media.shape[2:]
        rows, columns = -(-height // 8), -(-width // 8)
        spread = torch.nn.functional.pad(
            media.float(), (0, 8 * columns - width, 0, 8 * rows - height)
        )
        means = spread.mean(1).view(1, rows, 8, columns, 8).mean((2, 4))
        return Codes((means > 60).long()[:, None], (height, width))

    def decode(self, codes):
        squares = codes.codes[:, 0].float().repeat_interleave(8, 1).repeat_interleave(8, 2)
        return squares[:, None].expand(1, 3, -1, -1)[:, :, : codes.size[0], : codes.size[1]]


def board(rows: int, columns: int) -> np.ndarray:
    """A chess board of 8x8 pixels a square."""
    squares = np.indices((rows, columns)).sum(0) % 2 * 255
    return np.repeat(np.kron(squares, np.ones((8, 8))).astype(np.uint8)[..., None], 3, 2)


def test_bits_and_quality_of_pictures_of_several_sizes():
    grey = np.full((16, 24, 3), 120, np.uint8)
    report = evaluate_pictures(Squares(), [board(3, 4), grey])
    assert report["pictures"] == 2
    assert report["codes"] == 12 + 6
    assert report["bpp"] == pytest.approx(2 / 64)
    shares = np.array([6, 12]) / 18
    entropy = -(shares * np.log2(shares)).sum()
    assert report["bpp_entropy_coded"] == pytest.approx(entropy / 64, abs=1e-5)
    assert report["usage"] == [0.5]
    assert report["psnr_db"] == pytest.approx((100 + 20 * np.log10(255 / 135)) / 2, abs=1e-3)
    assert report["ssim"] < 1
    assert report["against"] == {}
    with pytest.raises(ValueError, match="there are no pictures"):
        evaluate_pictures(Squares(), [])


def test_classical_codecs_on_the_same_pictures(tmp_path):
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (9, n, 3), dtype=np.uint8)) for n in (11, 8)]
    pictures = [np.asarray(item.resize((88, 72), Image.Resampling.BICUBIC)) for item in small]
    report = evaluate_pictures(Squares(), pictures, ["webp", "avif", "jpeg"])
    for codec, points in report["against"].items():
        assert [point["quality"] for point in points] == list(IMAGE_CODECS[codec])
        rates = [point["bpp"] for point in points]
        assert rates == sorted(rates), codec
        quality = [point["psnr_db"] for point in points]
        assert quality[-1] > quality[0] + 8, codec
        assert all(0 < point["bpp_of_headers"] < point["bpp"] for point in points), codec
    alone = [code_picture("jpeg", 20, pixels) for pixels in pictures]
    (point,) = [point for point in report["against"]["jpeg"] if point["quality"] == 20]
    assert point["bpp"] == pytest.approx(
        8 * sum(item.num_bytes for item in alone) / (2 * 72 * 88), abs=1e-5
    )
    save_plot(report, tmp_path / "plot.png", "title")
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.format == "PNG"
        assert plot.size[0] > 900


def test_sounds_and_opus(tmp_path):
    torch.manual_seed(0)
    tokenizer = VQAudioTokenizer(
        AudioTokenizerConfig(
            hop=640, quantizer=QuantizerConfig(levels=(5, 4), depth=2), num_mels=12,
            encoder_width=8, encoder_depth=1, decoder_width=8, decoder_depths=(1, 0),
        )
    )  # fmt: skip
    tokenizer.fill()
    tokenizer.eval()
    rng = np.random.default_rng(0)
    swell = np.sin(np.arange(20_000) / 900) ** 2
    sounds = [
        (swell * rng.uniform(-0.5, 0.5, 20_000)).astype(np.float32),
        np.float32(0.3) * swell[:9_000].astype(np.float32),
    ]
    report = evaluate_sounds(tokenizer, sounds, ["opus"])
    frames = 32 + 15
    assert report["codes"] == 2 * frames
    seconds = 29_000 / 16_000
    assert report["seconds"] == round(seconds, 2)
    assert report["kbps"] == pytest.approx(2 * frames * np.log2(20) / seconds / 1000, abs=1e-4)
    assert report["kbps_entropy_coded"] < report["kbps"]
    low, *_, high = report["against"]["opus"]
    assert low["kbps"] < high["kbps"]
    assert high["stoi"] > low["stoi"]
    assert high["si_sdr_db"] > report["si_sdr_db"]
    restored, codes = reconstruct_sound(tokenizer, sounds[0])
    assert restored.shape == (20_000,)
    assert codes.shape == (1, 2, 32)
    save_plot(report, tmp_path / "plot.png", "title")


def test_opus_gives_the_rate_asked_for_and_the_length_it_got():
    rng = np.random.default_rng(0)
    waveform = (0.3 * rng.standard_normal(160_123)).clip(-1, 1).astype(np.float32)
    for kbps in (8.0, 24.0):
        coded = code_sound("opus", kbps, waveform, 16_000)
        assert coded.media.shape == waveform.shape
        # Ogg's pages come on top, and noise is the hardest there is.
        assert 0.7 * kbps < 8 * coded.num_bytes / (160_123 / 16_000) / 1000 < 1.5 * kbps
    with pytest.raises(ValueError, match=r"found 22050 Hz; resample first"):
        code_sound("opus", 8, waveform, 22_050)


def test_unknown_codecs_are_refused():
    check_codecs(["webp", "jpeg"], "image")
    with pytest.raises(ValueError, match="no codec 'opus' for image, only webp, avif, jpeg"):
        check_codecs(["opus"], "image")


def test_reconstructing_a_picture_gives_its_size_and_its_codes():
    pixels = board(2, 3)[:13, :20]
    restored, codes = reconstruct_picture(Squares(), pixels)
    assert restored.shape == pixels.shape
    assert codes.tolist() == [[[[0, 1, 0], [1, 0, 1]]]]
