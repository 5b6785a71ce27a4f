"""Readers x sounds: every reader gives the same samples, or the same reason.

A case is joined by one line in `CASES`: a file's name, its bytes, and what it is: the waveform,
or what the refusal says.
"""

import io
import struct
import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import soundfile

from unified_base.sounds import decode_audio

SHARED = Path(__file__).parents[4] / "shared" / "cases" / "audio"

RATE = 16_000
LONG = 8_000
WAVE = np.round(np.random.default_rng(1).uniform(-9000, 9000, (1, LONG))).astype(np.float32) / 32768
STEREO = np.concatenate([WAVE, WAVE[:, ::-1] / 2])


def coded(kind, subtype="PCM_16", wave=WAVE, rate=RATE, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave.T, rate, format=kind, subtype=subtype, **options)
    return buffer.getvalue()


def decoded(data):
    """What libsndfile makes of a file, float32 (channels, S)."""
    return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T


def twice(wave):
    return np.concatenate([wave, wave], axis=1)


def put(data, at, value):
    return data[:at] + value + data[at + len(value) :]


def wav(claimed=None, riff=None, samples=None, rate=RATE, channels=1, tail=b""):
    """A 16-bit WAV whose header may claim another size."""
    body = (WAVE[0] * 32768).astype("<i2").tobytes() if samples is None else samples
    layout = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    claimed = len(body) if claimed is None else claimed
    riff = 36 + len(body) if riff is None else riff
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt \x10\0\0\0" + layout
    return head + b"data" + struct.pack("<I", claimed) + body + tail


def flac(total=None, md5=True, data=None):
    """A FLAC whose header may claim another count or lack its MD5."""
    data = coded("FLAC") if data is None else data
    fields = int.from_bytes(data[18:26], "big")
    if total is not None:
        data = put(data, 18, (fields >> 36 << 36 | total).to_bytes(8, "big"))
    return data if md5 else put(data, 26, bytes(16))


def frames(data):
    """An MP3 without its Xing frame."""
    return data[data.index(data[:2], 4) :]


def id3(size):
    sevens = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + sevens + b"\xff\xfb\x90\x64" * (size // 4)


def ape(size):
    return b"APETAGEX" + struct.pack("<IIII", 2000, size + 32, 0, 1 << 31) + bytes(8)


MP3 = coded("MP3", None)
BARE = frames(MP3)
OGG, OPUS = coded("OGG", "VORBIS"), coded("OGG", "OPUS")
WAV, FLAC = coded("WAV"), coded("FLAC")
SIX = np.repeat(WAVE, 6, axis=0)
# Of frames without a Xing frame nothing tells the encoder's delay: all that is decoded stays.
PLAIN = decode_audio(BARE, "x")[0]

CASES = {
    "plain.wav": (WAV, WAVE),
    "stereo.wav": (coded("WAV", "PCM_24", STEREO), STEREO),
    "float.wav": (coded("WAV", "FLOAT"), WAVE),
    "ulaw.wav": (coded("WAV", "ULAW"), decoded(coded("WAV", "ULAW"))),
    "adpcm.wav": (coded("WAV", "MS_ADPCM"), decoded(coded("WAV", "MS_ADPCM"))[:, :LONG]),
    "plain.rf64": (coded("RF64"), WAVE),
    "plain.w64": (coded("W64"), WAVE),
    "plain.flac": (FLAC, WAVE),
    "deep.flac": (coded("FLAC", "PCM_24", STEREO), STEREO),
    "plain.aiff": (coded("AIFF"), WAVE),
    "little.aifc": (coded("AIFF", endian="LITTLE"), WAVE),
    "plain.au": (coded("AU"), WAVE),
    "plain.caf": (coded("CAF"), WAVE),
    "plain.ogg": (OGG, decoded(OGG)),
    "plain.opus": (OPUS, decoded(OPUS)),
    "plain.mp3": (MP3, decoded(MP3)),
    "stereo.mp3": (coded("MP3", None, STEREO), decoded(coded("MP3", None, STEREO))),
    "twice.mp3": (MP3 * 2, twice(decoded(MP3))),
    "twice.ogg": (OGG * 2, twice(decoded(OGG))),
    "twice.opus": (OPUS * 2, twice(decoded(OPUS))),
    "no_xing.mp3": (BARE, PLAIN),
    "tagged.mp3": (id3(4000) + MP3 + b"TAG" + bytes(125), decoded(MP3)),
    "ape.mp3": (MP3 + ape(0), decoded(MP3)),
    "tagged_twice.mp3": ((id3(800) + MP3 + b"TAG" + bytes(125)) * 2, twice(decoded(MP3))),
    "of_two_rates.mp3": (MP3 + coded("MP3", None, rate=24_000), "joined from sounds"),
    "of_two_rates.ogg": (OGG + coded("OGG", "VORBIS", rate=24_000), "chained from sounds"),
    "twice.wav": (WAV * 2, "joined from several WAV"),
    "twice.flac": (FLAC * 2, "joined from several FLAC"),
    "streamed_as_espeak.wav": (wav(0x7FFFF000, 0x7FFFF024), WAVE),
    "streamed_ff.wav": (wav(0xFFFFFFFF, 0xFFFFFFFF), WAVE),
    "never_closed.wav": (wav(0, 0), WAVE),
    "half.wav": (WAV[: len(WAV) // 2], "cut off"),
    "half.rf64": (coded("RF64")[:8_000], "cut off"),
    "half.w64": (coded("W64")[:8_000], "cut off"),
    "half.aiff": (coded("AIFF")[:8_000], "cut off"),
    "half.au": (coded("AU")[:8_000], "cut off"),
    "half.caf": (coded("CAF")[:8_000], "cut off"),
    "half.flac": (FLAC[: len(FLAC) // 2], "cut off|cannot be read"),
    "half_page.ogg": (OGG[: len(OGG) // 2], "cut off"),
    "half.mp3": (MP3[: len(MP3) // 2], "cut off"),
    "half_no_xing.mp3": (BARE[: len(BARE) // 2], "cut off"),
    "streamed.flac": (flac(0, False), WAVE),
    "half_streamed.flac": (flac(0, False)[: len(FLAC) // 2], "cut off|cannot be read"),
    "claims_2to36.flac": (flac((1 << 36) - 1), "4,294,967 s long"),
    "claims_more.flac": (flac(LONG + 5000), "cut off|cannot be read"),
    "wrong_md5.flac": (put(FLAC, 30, b"\1\2\3\4"), "MD5"),
    "wrong_frame.flac": (put(flac(md5=False), 9_000, b"\1\2\3\4"), "cannot be read"),
    "wrong_page.ogg": (put(OGG, len(OGG) // 2, b"\1\2\3\4"), "checksum"),
    "wrong_page.opus": (put(OPUS, len(OPUS) - 9, b"\1\2\3\4"), "checksum"),
    "frame_of_rubbish.mp3": (put(MP3, len(BARE) // 2 // 4 * 4, bytes(2) + b"abc"), "mp3"),
    "rate_0.wav": (wav(rate=0), "0 samples a second"),
    "rate_8000009.wav": (wav(rate=8_000_009), "8,000,009 samples a second"),
    "rate_1e9.wav": (wav(rate=10**9), "1,000,000,000 samples a second"),
    "channels_0.wav": (wav(channels=0), "0 channels"),
    "nan.wav": (coded("WAV", "FLOAT", np.float32([[0, np.nan, 0.1]])), "NaN"),
    "infinite.wav": (coded("WAV", "FLOAT", np.float32([[0, np.inf, 0.1]])), "NaN or infinite"),
    "no_samples.wav": (wav(samples=b""), "empty"),
    "long.wav": (coded("WAV", "PCM_U8", np.zeros((1, 700_000)), 1_000), "700 s long"),
    "empty.wav": (b"", "the file is empty"),
    "text.mp3": (b"hello", "no WAV, FLAC"),
    "picture.flac": (b"\x89PNG\r\n\x1a\n" + bytes(40), "no WAV, FLAC"),
    "aac.mp3": (b"\xff\xf1\x50\x80" + bytes(200), "AAC"),
    "free_format.mp3": (b"\xff\xfb\x00\x64" + bytes(2000), "free format"),
}  # fmt: skip
if which("espeak-ng"):
    spoken = subprocess.run(["espeak-ng", "--stdout", "a"], capture_output=True, check=True).stdout
    CASES["espeak.wav"] = (spoken, decoded(spoken))
RIGHT = {
    "audio_vbr_no_xing_3s.mp3": 133_632,
    "audio_cbr_no_xing_3s.mp3": 133_632,
    "mp3_twice.mp3": 88_200,
    "ogg_twice.ogg": 16_000,
    "flac_claims_2to36_samples.flac": "4,294,967 s long",
    "wav_rate_8000009.wav": "8,000,009 samples a second",
}
"""Of the shared cases, where they lie beside this checkout: samples, or what the refusal says."""
for shared in sorted(SHARED.glob("*")):
    right = RIGHT[shared.name]
    if isinstance(right, int):
        right = decode_audio(shared.read_bytes(), shared.name)[0]
        assert right.shape == (1, RIGHT[shared.name]), shared.name
    CASES[shared.name] = shared.read_bytes(), right


@pytest.mark.parametrize("name", CASES)
def test_every_reader_of_sounds(name, sound_readers, check_reading):
    check_reading(sound_readers, name, *CASES[name])


TAKEN_AS_ONE = ("tokenizer train", "tokenizer evaluate", "tokenizer reconstruct", "listen")


def test_more_channels_than_two_are_stored_but_end_no_run(sound_readers, check_reading):
    """Data keeps its channels; what is for one channel refuses the sound and goes on."""
    data = coded("WAV", wave=SIX)
    for reader in TAKEN_AS_ONE:
        with pytest.raises(ValueError, match="6 channels, expected 1"):
            sound_readers.pop(reader)("six.wav", data)
    check_reading(sound_readers, "six.wav", data, SIX)


def test_the_delay_that_an_encoder_adds_is_cut_off_where_its_tag_counts_it():
    wave = decode_audio(MP3, "x")[0]
    assert wave.shape == WAVE.shape
    assert PLAIN.shape[1] % 576 == 0
    assert PLAIN.shape[1] > wave.shape[1]
    start = 1105  # LAME's 576 samples and the decoder's 529
    np.testing.assert_allclose(PLAIN[:, start : start + wave.shape[1]], wave, atol=1e-3)


def test_a_stream_cut_out_of_another_begins_in_silence():
    """Its first frames refer to bytes that are not there; the rest is as in the whole."""
    long = np.random.default_rng(2).uniform(-0.3, 0.3, (1, 40_000)).astype(np.float32)
    bare = frames(coded("MP3", None, long))
    rest = bare[bare.index(bare[:2], len(bare) // 3) :]
    whole, wave = decode_audio(bare, "x")[0], decode_audio(rest, "x")[0]
    same = wave.shape[1] - 11 * 576
    assert same > 10_000
    np.testing.assert_allclose(wave[:, -same:], whole[:, -same:], atol=1e-6)
