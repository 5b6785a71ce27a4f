"""Audio tokenizers with a level: how loud a clip is changes no code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from unified_base.level import active_level
from unified_tokenizers.arrays import encode_arrays
from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.loading_arrays import load_array_tokenizer
from unified_tokenizers.streaming import EncodeStream

HOP, SAMPLES = 128, 128 * 61 + 5


def clips(seed: int = 0) -> np.ndarray:
    """Bursts of noise and tones, the second clip much fainter: float32 (2, 1, S)."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / 16_000
    swell = np.maximum(0, np.sin(2 * np.pi * 3 * time))
    tones = np.sin(2 * np.pi * np.array([[180.0], [410.0]]) * time)
    waveforms = swell * tones * [[0.5], [0.02]] + 0.001 * rng.standard_normal((2, SAMPLES))
    return waveforms[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer(make_audio_tokenizer) -> VQAudioTokenizer:
    return make_audio_tokenizer(level=-20.0)


def test_codes_at_any_volume_are_those_of_the_clip(tokenizer, make_audio_tokenizer):
    waveforms = torch.from_numpy(clips())
    codes = tokenizer.encode(waveforms).codes
    for gain in (0.5, 0.0625, 0.3):
        assert torch.equal(tokenizer.encode(waveforms * gain).codes, codes)
    plain = make_audio_tokenizer()
    levels = active_level(clips()[:, 0], 16_000)
    brought = waveforms * torch.from_numpy(0.1 / levels).float()[:, None, None]
    assert (plain.encode(brought).codes == codes).float().mean() > 0.99
    assert not torch.equal(plain.encode(waveforms).codes, plain.encode(waveforms * 0.5).codes)


def test_each_clip_of_a_batch_is_as_it_is_alone_and_silence_stays(tokenizer, make_audio_tokenizer):
    waveforms = torch.from_numpy(clips())
    batch = tokenizer.encode(waveforms).codes
    for index in range(2):
        assert torch.equal(tokenizer.encode(waveforms[index : index + 1]).codes[0], batch[index])
    silence = torch.zeros(1, 1, 300)
    plain = make_audio_tokenizer()
    assert torch.equal(tokenizer.encode(silence).codes, plain.encode(silence).codes)


def test_the_level_is_saved_and_numpy_gives_the_same_codes(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["level"] == -20
    again = VQAudioTokenizer.from_pretrained(tmp_path / "saved")
    by_arrays = load_array_tokenizer(tmp_path / "saved")
    waveforms = clips(1)
    codes = tokenizer.encode(torch.from_numpy(waveforms)).codes
    assert again.fingerprint == by_arrays.fingerprint == tokenizer.fingerprint
    assert torch.equal(again.encode(torch.from_numpy(waveforms)).codes, codes)
    for gain in (1.0, 0.5):
        np.testing.assert_array_equal(
            encode_arrays(by_arrays, waveforms * np.float32(gain)), codes.numpy()
        )


def test_a_stream_gives_its_codes_at_the_end(tokenizer):
    waveforms = torch.from_numpy(clips())
    assert tokenizer.encode_context is None
    stream = EncodeStream(tokenizer)
    parts = [stream.push(waveforms[:, :, i : i + 1000]) for i in range(0, SAMPLES, 1000)]
    assert all(part.shape[2] == 0 for part in parts)
    assert torch.equal(stream.finish(), tokenizer.encode(waveforms).codes)


def test_a_level_that_cannot_be_is_refused(make_audio_tokenizer):
    with pytest.raises(ValueError, match=r"level is 3\.0 dB, expected -60 to 0"):
        make_audio_tokenizer(level=3.0)
