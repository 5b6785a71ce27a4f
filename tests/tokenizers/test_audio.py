"""The audio tokenizer: exact lengths, residual codes, the inverse transform, errors."""

import pytest
import torch

from unified_tokenizers import tokenizer_configs
from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.spectral import InverseSTFT, LogMel, MultiScaleMelLoss


@pytest.fixture(scope="module")
def tokenizer(make_audio_tokenizer) -> VQAudioTokenizer:
    return make_audio_tokenizer(seed=2, depth=3, encoder_depth=2, decoder_depths=(1, 1))


def sound(batch: int, samples: int, seed: int = 0) -> torch.Tensor:
    """Tones that change along the way, with noise: (B, 1, S) within [-1, 1]."""
    rng = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / 16_000
    pitch = 100 + 900 * torch.rand(batch, 1, 1, generator=rng)
    swell = torch.sin(2 * torch.pi * 7 * time).abs()
    noise = torch.rand(batch, 1, samples, generator=rng) - 0.5
    return swell * torch.sin(2 * torch.pi * pitch * time) * 0.8 + 0.2 * noise


def test_figures_follow_from_the_configuration(tokenizer):
    assert tokenizer.codebook_sizes == (20, 20, 20)
    assert tokenizer.sample_rate == 16_000
    assert tokenizer.hop == 128
    assert tokenizer.channels == 1
    assert tokenizer.frame_rate == 125
    assert tokenizer.bits_per_second == pytest.approx(125 * 3 * 4.321928)


def test_a_long_recording_in_chunks_is_the_whole(tokenizer, monkeypatch):
    waveforms = sound(2, 128 * 37 + 5)
    whole = tokenizer.encode(waveforms)
    restored = tokenizer.decode(whole)
    for frames in (1, 7, 30):
        monkeypatch.setattr(tokenizer_configs, "_CHUNK_FRAMES", frames)
        assert torch.equal(tokenizer.encode(waveforms).codes, whole.codes)
        torch.testing.assert_close(tokenizer.decode(whole), restored, atol=1e-5, rtol=0)


def test_a_second_front_adds_bins_and_no_reach(make_audio_tokenizer):
    tokenizer = make_audio_tokenizer(short_window=40)
    assert tokenizer.encode_context == make_audio_tokenizer().encode_context
    assert tokenizer.fold.in_features == 4 * (12 + 6)
    # A click is in fewer frames of the short windows than of the long ones.
    click = torch.zeros(1, 128 * 20)
    click[0, 128 * 10] = 0.5
    quiet = torch.zeros_like(click)
    long, short = (
        (front(click) != front(quiet)).any(2).sum()
        for front in (tokenizer.front, tokenizer.short_front)
    )
    assert int(short) < int(long) / 4
    with pytest.raises(ValueError, match=r"short_window is 31 samples, expected 32 .*to 1023"):
        make_audio_tokenizer(short_window=31)


def test_decoding_codes_is_the_reconstruction_that_training_saw(tokenizer):
    waveforms = sound(2, 128 * 6)
    values, codes, _ = tokenizer.quantize(tokenizer.features(waveforms[:, 0]))
    trained = tokenizer.waveform(values, codes).clamp(-1, 1)
    coded = tokenizer.encode(waveforms)
    assert torch.equal(coded.codes, codes)
    torch.testing.assert_close(tokenizer.decode(coded)[:, 0], trained, atol=1e-5, rtol=0)


def test_each_level_refines_the_one_before(tokenizer):
    features = torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(4)) * 2 - 1
    _, codes, _ = tokenizer.quantize(features)
    parts = tokenizer.quantizer.parts[0].get_codes_from_indices(codes.transpose(1, 2))
    clamp = tokenizer.quantizer.parts[0].soft_clamp_input_value
    wanted = (features / clamp).tanh() * clamp
    errors = [float((wanted - parts[: n + 1].sum(0)).square().mean()) for n in range(3)]
    assert errors[1] < errors[0] / 8
    assert errors[2] < errors[1] / 8


def test_every_code_of_every_level_can_be_chosen(tokenizer):
    # Wide enough to saturate the outer levels, fine enough to reach every residual.
    features = torch.cartesian_prod(torch.linspace(-3, 3, 500), torch.linspace(-3, 3, 500))
    _, codes, _ = tokenizer.quantize(features[None])
    for level in range(3):
        assert codes[0, level].unique().tolist() == list(range(20)), f"level {level}"


def test_every_code_has_a_row_of_its_own_in_the_decoder(tokenizer):
    codes = torch.stack([torch.arange(20), torch.arange(20).flip(0), torch.arange(20).roll(7)])[
        None
    ]
    values = tokenizer.quantizer.values_of(codes.transpose(1, 2))
    tokenizer.waveform(values, codes).square().sum().backward()
    assert (tokenizer.code_rows.weight.grad.abs().sum(1) > 0).all()
    tokenizer.zero_grad(set_to_none=True)


def test_the_straight_through_gradient_reaches_every_part(tokenizer, check_gradients):
    check_gradients(tokenizer, sound(2, 128 * 8)[:, 0])


def test_a_code_depends_on_what_its_windows_reach_alone(tokenizer):
    wave = sound(1, 128 * 40)
    other = wave.clone()
    other[..., 128 * 20 :] = sound(1, 128 * 20) * 0.3
    first, second = tokenizer.encode(wave).codes, tokenizer.encode(other).codes
    reach = -(-tokenizer.encode_context[1] // 128)
    assert torch.equal(first[..., : 20 - reach], second[..., : 20 - reach])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("num_fft", "hop"), [(64, 16), (256, 64), (40, 10)])
def test_the_inverse_transform_undoes_a_windowed_transform(num_fft, hop):
    waveform = sound(2, hop * 21)[:, 0]
    inverse = InverseSTFT(num_fft, hop)
    margin = (num_fft - hop) // 2
    padded = torch.nn.functional.pad(waveform, (margin, num_fft - hop - margin))
    spectrum = torch.stft(
        padded, num_fft, hop, window=inverse.window, center=False, return_complex=True
    )
    assert spectrum.shape[2] == 21
    torch.testing.assert_close(inverse(spectrum), waveform, atol=1e-5, rtol=0)


def test_mel_frames_stand_over_the_samples_they_describe():
    front = LogMel(16_000, 128, 32, 8).fill()
    waveform = torch.zeros(1, 32 * 9)
    waveform[:, 32 * 4 : 32 * 5] = sound(1, 32)[0]
    mel = front(waveform)
    assert mel.shape == (1, 9, 8)
    energy = mel[0].exp().sum(1)
    assert energy.argmax() == 4
    # A window of four hops reaches two frames to each side, and no further.
    assert (mel[0, [0, 1, 7, 8]] == mel[0, 0, 0]).all()


def test_a_pure_tone_is_loudest_in_the_band_that_holds_it():
    front = LogMel(16_000, 1024, 160, 40).fill()
    peaks = []
    for pitch in (300, 1200, 5000):
        tone = torch.sin(2 * torch.pi * pitch * torch.arange(4800) / 16_000)[None]
        peaks.append(int(front(tone)[0, 15].argmax()))
    assert peaks == sorted(set(peaks))


def test_the_mel_loss_is_nothing_for_the_same_sound_and_grows_with_the_difference():
    loss = MultiScaleMelLoss(16_000, windows=(64, 256), mels=(5, 12))
    clean, noise = sound(2, 1024)[:, 0], sound(2, 1024, seed=8)[:, 0]
    assert loss(clean, clean) == 0
    near, far = loss(clean + 0.01 * noise, clean), loss(clean + 0.3 * noise, clean)
    assert 0 < near < far
