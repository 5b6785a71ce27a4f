"""Measures of pictures, sounds and codes on what is known of them."""

import math

import numpy as np
import pytest
import torch

from unified_tokenizers import measures
from unified_tokenizers.measures import (
    CodeUse,
    mel_distance,
    ms_ssim,
    pesq,
    psnr,
    si_sdr,
    ssim,
    stoi,
)


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (3 + k) + y / (5 - k)) for k in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def sound(seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    times = np.arange(int(16_000 * seconds)) / 16_000
    tone = np.sin(2 * np.pi * 300 * times) * np.sin(2 * np.pi * 3 * times)
    hiss = 0.1 * rng.standard_normal(len(times)) * (np.sin(40 * times) > 0)
    return ((tone + hiss) / 2).astype(np.float32)


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(number).astype(np.float32)


def test_psnr():
    black = np.zeros((3, 5, 3), np.uint8)
    assert psnr(black, black) == math.inf
    assert psnr(black, black + 255) == 0
    assert psnr(black, black + 16) == pytest.approx(20 * math.log10(255 / 16))
    with pytest.raises(ValueError, match="uint8 of one shape"):
        psnr(black, black[1:])


def test_ssim_is_one_for_the_same_and_falls_with_noise_at_every_scale():
    clean = picture(60, 95)
    noisy = (clean + 20 * noise(clean.size).reshape(clean.shape)).clip(0, 255).astype(np.uint8)
    shifted = [np.roll(clean, by, 1).astype(int) for by in (0, 1, 2)]
    blurred = (sum(shifted) // 3).astype(np.uint8)
    for scales in (1, 2, 3, None):
        assert ms_ssim(clean, clean, scales) == pytest.approx(1, abs=1e-6)
        assert 0.1 < ms_ssim(clean, noisy, scales) < 0.99
    assert ssim(clean, noisy) == ms_ssim(clean, noisy, 1)
    # A blur is gone where the picture is seen from afar; so the default takes all scales it can.
    assert ms_ssim(clean, blurred) == ms_ssim(clean, blurred, 3) > ssim(clean, blurred)
    with pytest.raises(ValueError, match="60x95 pixels is too small for SSIM at 4 scales"):
        ms_ssim(clean, noisy, 4)
    with pytest.raises(ValueError, match="5x9 pixels is too small for SSIM at 1 scales"):
        ssim(clean[:5, :9], noisy[:5, :9])


def test_stoi_falls_with_noise():
    clean = sound()
    assert stoi(clean, clean, 16_000) == pytest.approx(1)
    assert stoi(clean, clean + noise(16_000), 16_000) < 0.8
    with pytest.raises(ValueError, match="expected \\(S,\\) both"):
        stoi(clean, clean[1:], 16_000)


def test_si_sdr_is_the_noise_and_not_the_loudness():
    clean = sound()
    noisy = clean + 0.1 * noise(16_000) * float(
        np.linalg.norm(clean) / np.linalg.norm(noise(16_000))
    )
    assert si_sdr(clean, noisy) == pytest.approx(20, abs=0.3)
    assert si_sdr(clean, 0.2 * noisy) == pytest.approx(si_sdr(clean, noisy), abs=1e-3)


def test_mel_distance_of_twice_as_loud_is_the_logarithm_of_two():
    clean = sound() / 2
    assert mel_distance(clean, clean, 16_000) == 0
    # Below the floor of the logarithm nothing changes.
    assert 0.5 < mel_distance(clean, 2 * clean, 16_000) <= math.log(2) + 1e-6
    with pytest.raises(ValueError, match="has 511 samples, expected at least 512"):
        mel_distance(clean[:511], clean[:511], 16_000)


def test_pesq_falls_with_noise_and_names_its_rates():
    with pytest.raises(ValueError, match="8,000 or 16,000 Hz, found 24000 Hz"):
        pesq(sound(), sound(), 24_000)
    pytest.importorskip("pesq", reason="pesq compiles C: pip install 'unified-tokens[measure]'")
    clean = sound(2.0)
    best = pesq(clean, clean, 16_000)
    assert best == pytest.approx(4.64, abs=0.01)
    assert 1 <= pesq(clean, clean + 0.05 * noise(32_000), 16_000) < best - 0.5
    assert pesq(np.zeros(16_000, np.float32), np.zeros(16_000, np.float32), 16_000) is None


def test_a_measure_that_is_not_installed_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(measures, "import_module", missing)
    with pytest.raises(
        ValueError, match=r"measuring a tokenizer needs pystoi, which is not installed: pip install"
    ):
        stoi(sound(), sound(), 16_000)


def test_use_of_codes_over_all_that_is_counted():
    use = CodeUse((4, 8))
    use.add(torch.tensor([[[0, 0], [1, 2]], [[1, 1], [3, 4]]]))
    use.add(torch.tensor([[[0, 1, 0, 1], [1, 2, 3, 4]]]))
    assert use.usage == [0.5, 0.5]
    assert use.entropy == pytest.approx([1, 2])
    assert use.perplexity == pytest.approx([2, 4])
    uneven = CodeUse((2,))
    uneven.add(torch.tensor([[[0, 0, 0, 1]]]))
    assert uneven.entropy == pytest.approx([0.811278])
