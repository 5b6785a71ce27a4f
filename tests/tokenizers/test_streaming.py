"""Streams of audio: any chunks give what the whole gives, and errors are the user's to read.

The streams of others' codecs are in test_adapters_audio.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.base import Codes
from unified_tokenizers.streaming import DecodeStream, EncodeStream

HOP = 128
SHAPES = {
    "halves": {},
    "quarters": {"decoder_depths": (1, 1, 1), "short_window": 48},
    "conv": {"encoder": "conv"},
    "causal-halves": {"causal": True},
    "causal-quarters": {"causal": True, "decoder_depths": (1, 1, 1), "short_window": 48},
}


@pytest.fixture(scope="module", params=list(SHAPES))
def tokenizer(request, make_audio_tokenizer) -> VQAudioTokenizer:
    return make_audio_tokenizer(**SHAPES[request.param])


def sound(batch: int, samples: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(7)
    swell = torch.sin(torch.arange(samples) / 300).abs()
    return swell * (torch.rand(batch, 1, samples, generator=rng) * 1.8 - 0.9)


def in_frames(samples: int) -> int:
    return -(-samples // HOP)


def test_the_contexts_are_as_far_as_anything_reaches(tokenizer):
    """Not upper bounds alone: what lies just inside is heard."""
    waveform = sound(1, 36 * HOP)
    changed = waveform.clone()
    changed[:, :, 15 * HOP : 16 * HOP] *= -0.3
    moved = (tokenizer.features(waveform[:, 0]) - tokenizer.features(changed[:, 0])).abs().sum(-1)
    before, after = map(in_frames, tokenizer.encode_context)
    assert moved[0].nonzero().flatten().tolist() == list(range(15 - after, 16 + before))

    codes = tokenizer.encode(sound(1, 41 * HOP)).codes
    other = codes.clone()
    other[:, :, 20] = (other[:, :, 20] + 7) % 20
    size = (41 * HOP,)
    moved = tokenizer.decode(Codes(codes, size)) - tokenizer.decode(Codes(other, size))
    heard = (moved[0, 0].abs().view(41, HOP).amax(1) > 0).nonzero().flatten().tolist()
    before, after = tokenizer.decode_context
    assert heard == list(range(20 - after, 21 + before))


def cut(total: int, sizes: list[int]) -> list[slice]:
    """Slices of the given sizes, again and again, to the end."""
    parts, at = [], 0
    while at < total:
        size = sizes[len(parts) % len(sizes)]
        parts.append(slice(at, min(total, at + size)))
        at += size
    return parts


@settings(max_examples=12, deadline=None)
@given(
    samples=st.integers(1, 20 * HOP),
    sizes=st.lists(st.integers(1, 5 * HOP), min_size=1, max_size=4),
    frames=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_chunks_of_any_size_give_what_the_whole_gives(tokenizer, samples, sizes, frames):
    waveform = sound(2, samples)
    whole = tokenizer.encode(waveform)
    stream = EncodeStream(tokenizer)
    # At most 60 chunks, or chunks of one sample take minutes.
    least = -(-samples // 60)
    parts = [
        stream.push(waveform[:, :, part]) for part in cut(samples, [max(least, n) for n in sizes])
    ]
    codes = torch.cat([*parts, stream.finish()], 2)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, whole.codes)
    assert stream.num_samples == samples

    wanted_sound = tokenizer.decode(whole)
    decoding = DecodeStream(tokenizer)
    pieces = [decoding.push(codes[:, :, part]) for part in cut(codes.shape[2], frames)]
    streamed = torch.cat([*pieces, decoding.finish(samples)], 2)
    assert streamed.shape == wanted_sound.shape
    torch.testing.assert_close(streamed, wanted_sound, atol=2e-5, rtol=0)


def test_what_is_certain_comes_at_once(tokenizer):
    waveform = sound(1, 40 * HOP)
    stream, came = EncodeStream(tokenizer), 0
    for start in range(0, 40 * HOP, HOP):
        came += stream.push(waveform[:, :, start : start + HOP]).shape[2]
        assert came == max(0, (start + HOP - tokenizer.encode_context[1]) // HOP)
    codes = tokenizer.encode(waveform).codes
    decoding, heard = DecodeStream(tokenizer), 0
    for frame in range(40):
        heard += decoding.push(codes[:, :, frame : frame + 1]).shape[2]
        assert heard == max(0, frame + 1 - tokenizer.decode_context[1]) * HOP


def test_a_stream_holds_no_more_than_it_needs(tokenizer):
    stream, decoding = EncodeStream(tokenizer), DecodeStream(tokenizer)
    codes = tokenizer.encode(sound(1, 10 * HOP)).codes
    for _ in range(20):
        stream.push(sound(1, 10 * HOP))
        decoding.push(codes)
    before, after = tokenizer.encode_context
    for held, most in (
        (stream._held, (in_frames(before) + 1) * HOP + after),
        (decoding._held, sum(tokenizer.decode_context)),
    ):
        assert sum(chunk.shape[2] for chunk in held) <= most
        for chunk in held:  # no view into all that was pushed
            assert chunk.untyped_storage().nbytes() == chunk.numel() * chunk.element_size()


def test_streams_refuse_what_does_not_fit(tokenizer):
    stream = EncodeStream(tokenizer)
    with pytest.raises(ValueError, match="no samples: there is nothing to encode"):
        stream.finish()
    with pytest.raises(ValueError, match="the stream is finished; begin another"):
        stream.push(sound(1, 5))
    stream = EncodeStream(tokenizer)
    stream.push(sound(2, 5))
    for bad, reason in (
        (sound(1, 5), "1 waveforms, but the stream began with 2"),
        (sound(2, 5).expand(2, 2, 5), r"expected \(B, 1, S\) and not empty; mix stereo down"),
        (sound(2, 5) * float("nan"), "not finite"),
    ):
        with pytest.raises(ValueError, match=reason):
            stream.push(bad)

    with pytest.raises(ValueError, match="no codes: there is nothing to decode"):
        DecodeStream(tokenizer).finish()
    decoding = DecodeStream(tokenizer)
    good = torch.zeros(2, 2, 3, dtype=torch.int64)
    decoding.push(good)
    for codes, reason in (
        (good[:1], "1 rows of codes, but the stream began with 2"),
        (good + 20, "audio code 20 at level 0 is out of range, expected 0 to 19"),
        (good[:, :1], r"expected \(B, 2, T\)"),
    ):
        with pytest.raises(ValueError, match=reason):
            decoding.push(codes)
    with pytest.raises(ValueError, match="999 samples do not have 3 frames at 128 samples each"):
        decoding.finish(999)
