"""The causal audio tokenizer: codes see the past alone, sound one code frame ahead."""

import json
import math

import pytest
import torch

from unified_tokenizers import tokenizer_configs
from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.base import Codes
from unified_tokenizers.presets import AUDIO_PRESETS
from unified_tokenizers.streaming import EncodeStream

HOP = 128


@pytest.fixture(scope="module", params=[(1, 2), (1, 1, 1)], ids=["halves", "quarters"])
def tokenizer(request, make_audio_tokenizer) -> VQAudioTokenizer:
    return make_audio_tokenizer(causal=True, decoder_depths=request.param)


def sound(batch: int, samples: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    swell = torch.sin(torch.arange(samples) / 500).abs()
    return swell * (torch.rand(batch, 1, samples, generator=rng) * 1.8 - 0.9)


@torch.no_grad()
@pytest.mark.parametrize("frame", [0, 7, 22])
def test_codes_depend_on_no_sample_after_their_frame(tokenizer, frame):
    waveform = sound(2, 24 * HOP)
    other, end = waveform.clone(), (frame + 1) * HOP
    other[:, :, end:] = sound(2, 24 * HOP - end, seed=1)
    first, second = tokenizer.features(waveform[:, 0]), tokenizer.features(other[:, 0])
    assert torch.equal(first[:, : frame + 1], second[:, : frame + 1])
    assert (first[:, frame + 1] != second[:, frame + 1]).any(-1).all()
    codes, others = tokenizer.encode(waveform).codes, tokenizer.encode(other).codes
    assert torch.equal(codes[:, :, : frame + 1], others[:, :, : frame + 1])
    assert len(codes.unique()) > 5

    # The end of its own frame it does hear.
    other[:, :, end - 16 : end] *= -1
    again = tokenizer.features(other[:, 0])
    assert torch.equal(again[:, :frame], second[:, :frame])
    assert (again[:, frame] != second[:, frame]).any(-1).all()


def test_a_frames_codes_come_with_its_last_sample(tokenizer):
    waveform = sound(1, 9 * HOP)
    whole = tokenizer.encode(waveform).codes
    stream = EncodeStream(tokenizer)
    for frame in range(9):
        start = frame * HOP
        assert stream.push(waveform[:, :, start : start + HOP - 1]).shape == (1, 2, 0)
        codes = stream.push(waveform[:, :, start + HOP - 1 : start + HOP])
        assert torch.equal(codes, whole[:, :, frame : frame + 1])


def test_sound_hears_the_next_frame_from_where_its_first_window_begins_and_no_later_frame(
    tokenizer,
):
    codes = tokenizer.encode(sound(1, 30 * HOP)).codes
    other = codes.clone()
    other[:, :, 15:] = (other[:, :, 15:] + 7) % 20
    size = (30 * HOP,)
    moved = (tokenizer.decode(Codes(codes, size)) != tokenizer.decode(Codes(other, size)))[0, 0]
    heard = moved.nonzero().flatten()
    spectra = 2 ** (len(tokenizer.config.decoder_depths) - 1)  # of a code frame
    # One and a half hops of a spectrum before its own samples; the window's first sample is zero.
    assert int(heard[0]) == 15 * HOP - 3 * HOP // (2 * spectra) + 1
    assert 14 * HOP <= int(heard[0]) < 15 * HOP
    assert tokenizer.encode_context[1] == 0
    assert tokenizer.decode_context[1] == 1


@pytest.mark.parametrize("samples", [1, 127, 128, 129, 1281])
def test_every_number_of_samples_comes_back_exactly(tokenizer, samples):
    codes = tokenizer.encode(sound(2, samples))
    assert codes.codes.shape == (2, 2, -(-samples // HOP))
    decoded = tokenizer.decode(codes)
    assert decoded.shape == (2, 1, samples)
    assert decoded.abs().max() <= 1


def test_a_batch_gives_what_each_waveform_gives_alone(tokenizer):
    waveforms = sound(3, 1100)
    together = tokenizer.encode(waveforms)
    at_once = tokenizer.decode(together)
    for row, waveform in enumerate(waveforms):
        alone = tokenizer.encode(waveform[None])
        assert torch.equal(alone.codes[0], together.codes[row])
        torch.testing.assert_close(tokenizer.decode(alone)[0], at_once[row], atol=1e-5, rtol=0)


def test_a_long_recording_in_chunks_is_the_whole(tokenizer, monkeypatch):
    waveforms = sound(2, HOP * 37 + 5)
    whole = tokenizer.encode(waveforms)
    restored = tokenizer.decode(whole)
    for frames in (1, 7, 30):
        monkeypatch.setattr(tokenizer_configs, "_CHUNK_FRAMES", frames)
        assert torch.equal(tokenizer.encode(waveforms).codes, whole.codes)
        torch.testing.assert_close(tokenizer.decode(whole), restored, atol=1e-5, rtol=0)


def test_saving_keeps_codes_sound_and_fingerprint(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["causal"] is True
    again = VQAudioTokenizer.from_pretrained(tmp_path)
    waveform = sound(1, 700)
    codes = tokenizer.encode(waveform)
    assert torch.equal(again.encode(waveform).codes, codes.codes)
    assert torch.equal(again.decode(codes), tokenizer.decode(codes))
    assert again.fingerprint == tokenizer.fingerprint


def test_the_gradient_reaches_every_part(tokenizer, check_gradients):
    check_gradients(tokenizer, sound(2, HOP * 24)[:, 0])


def test_tokenizers_that_are_not_causal_keep_names_and_fingerprint(make_audio_tokenizer):
    """Vocabularies hold fingerprints: those of tokenizers made before there was `causal` stay."""
    tokenizer = make_audio_tokenizer()
    with torch.no_grad():  # the same on every machine, and exact
        for value in tokenizer.state_dict().values():
            value.copy_((torch.arange(value.numel()) % 17 / 16).view(value.shape))
    assert tokenizer.fingerprint == "bfddf6f97ce8b37c"


@pytest.mark.parametrize(
    ("name", "rate", "codes", "bits"),
    [
        ("speech-16k", 16_000, 75, 747),
        ("speech-16k-residual", 16_000, 75, 750),
        ("speech-16k-single", 16_000, 50, 798),
        ("speech-24k", 24_000, 200, 1993),
        ("speech-24k-residual", 24_000, 200, 2000),
        ("speech-24k-single", 24_000, 50, 798),
        ("stream-16k", 16_000, 100, 997),
        ("stream-16k-single", 16_000, 50, 798),
        ("stream-24k", 24_000, 200, 1993),
        ("stream-24k-single", 24_000, 50, 798),
    ],
)
def test_presets_have_the_rates_that_their_comments_say(name, rate, codes, bits):
    config = VQAudioTokenizer.parse_config({"preset": name})
    sizes = config.quantizer.codebook_sizes
    frames = config.sample_rate / config.hop
    assert config.sample_rate == rate
    assert frames * len(sizes) == codes
    assert round(frames * sum(map(math.log2, sizes))) == bits
    assert config.causal == name.startswith("stream")
    assert len(AUDIO_PRESETS) == 10


def test_a_stream_preset_makes_a_tokenizer_with_40_ms_of_delay():
    narrow = {"encoder_width": 8, "decoder_width": 8}
    for name in ("stream-16k", "stream-24k-single"):
        created = VQAudioTokenizer(VQAudioTokenizer.parse_config({"preset": name, **narrow})).eval()
        created.fill()
        frames = 1 + created.decode_context[1]
        delay = (created.encode_context[1] + frames * created.hop) / created.sample_rate
        assert delay == pytest.approx(0.040)
        samples = 3 * created.hop + 1
        assert created.decode(created.encode(sound(1, samples))).shape == (1, 1, samples)
