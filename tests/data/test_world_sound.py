"""Speech of the world: who says it, at which level, and how it is heard."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest

from unified_base.level import active_level
from unified_base.sounds import decode_audio, encode_audio
from unified_data.pocket.voices import TIMBRES
from unified_data.world import sound, voices
from unified_data.world.hearing import Hearing, draw_hearing, hear, hear_nothing
from unified_data.world.sound import FRAME, SAMPLE_RATE, Speech, say, speak_text
from unified_data.world.voices import SPEAKERS, draw_speaker, find_speaker, split_of_timbre

speaking = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng here")
recorded = pytest.mark.skipif(shutil.which("flite") is None, reason="no flite here")

TEXT = {"en": "A red fox.", "zh": "一只红色的狐狸。"}


def decibels(ratio: float) -> float:
    return float(20 * np.log10(ratio))


@pytest.fixture(scope="module")
def speech() -> Speech:
    return say("A fox and a car.", SPEAKERS["ben"])


@speaking
@pytest.mark.parametrize("name", SPEAKERS)
def test_what_is_spoken_is_level_framed_and_exact_in_16_bits(name):
    speaker = SPEAKERS[name]
    waveform, phonemes = speak_text(TEXT[speaker.language], speaker)
    assert (waveform.dtype, waveform.ndim, waveform.shape[1] % FRAME) == (np.float32, 2, 0)
    assert decibels(active_level(waveform, SAMPLE_RATE)[0]) == pytest.approx(-26, abs=0.5)
    quiet = np.abs(waveform[0]) < 0.01 * np.abs(waveform).max()
    assert quiet[: SAMPLE_RATE // 20].all()
    assert quiet[-SAMPLE_RATE // 20 :].all()
    decoded, rate = decode_audio(encode_audio(waveform, SAMPLE_RATE)[1], "clip.flac")
    assert rate == SAMPLE_RATE
    assert np.array_equal(decoded, waveform)
    assert phonemes.split()[-1] in ("fɑks", "fɒks", "li5")


@speaking
def test_bringing_to_16_khz_keeps_the_pitch_and_adds_no_tone():
    time = np.arange(22_050) / 22_050
    for frequency in (440, 5_000):
        resampled = sound._at_16_khz(np.sin(2 * np.pi * frequency * time))
        assert len(resampled) == SAMPLE_RATE
        expected = np.sin(2 * np.pi * frequency * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
        inner = slice(500, -500)  # the tone begins and ends at once
        np.testing.assert_allclose(resampled[inner], expected[inner], atol=0.01)
    above = sound._at_16_khz(np.sin(2 * np.pi * 9_000 * time))
    assert np.abs(above[500:-500]).max() < 0.01


@speaking
def test_an_unknown_voice_and_nothing_to_say_are_refused():
    with pytest.raises(ValueError, match="no voice 'zoe', expected one of amy, ben"):
        find_speaker("zoe")
    with pytest.raises(ValueError, match="nothing to speak"):
        say("...", SPEAKERS["ben"])


@speaking
@recorded
def test_recorded_voices_speak_as_well():
    text = "A fox on a blue ground."
    waveforms = []
    for name in ("slt", "rms"):
        flite = {**voices.RECORDED, **voices.HELD_OUT_RECORDED}[name]
        speaker = voices.Speaker(name, "en", SPEAKERS["ben"].manner, "", flite)
        speech = say(text, speaker)
        assert speech.phonemes == say(text, SPEAKERS["ben"]).phonemes
        np.testing.assert_array_equal(say(text, speaker).waveform, speech.waveform)
        waveforms.append(speech.waveform)
    assert all(SAMPLE_RATE < len(waveform) < 3 * SAMPLE_RATE for waveform in waveforms)


def test_a_missing_flite_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(sound, "has_recorded_voices", lambda: False)
    speaker = voices.Speaker("slt", "en", SPEAKERS["ben"].manner, "", "slt")
    with pytest.raises(ValueError, match=r"needs flite, which is not installed.*apt-get"):
        sound._flite("Hello.", "slt", 1.0)
    assert speaker.dialect == "en-us"


def test_held_out_voices_are_in_no_other_split():
    rng = np.random.default_rng(0)
    heard = {
        split: {
            draw.recorded or draw.manner.voice.partition("+")[2] or draw.name
            for draw in (draw_speaker(split, "en", rng) for _ in range(600))
        }
        for split in ("train", "steer", "heldout")
    }
    assert "rms" in heard["heldout"]
    assert {"kal16", "awb", "slt"} <= heard["train"]
    assert not heard["train"] & (heard["steer"] | heard["heldout"])
    assert not heard["steer"] & heard["heldout"]
    counts = Counter(split_of_timbre(timbre) for timbre in TIMBRES)
    assert counts["heldout"] >= 3
    assert counts["steer"] >= 3
    assert counts["train"] >= 60
    assert all(
        draw_speaker("heldout", "en", rng, recorded=False).recorded is None for _ in range(9)
    )


def test_chinese_is_heard_in_chinese_voices_alone():
    rng = np.random.default_rng(1)
    for split in ("train", "steer", "heldout"):
        drawn = [draw_speaker(split, "zh", rng) for _ in range(40)]
        assert all(draw.dialect == "cmn-latn-pinyin" and draw.language == "zh" for draw in drawn)


@speaking
def test_a_clean_hearing_is_the_speech_at_full_loudness(speech):
    heard = hear(speech.waveform, Hearing())[0]
    peak = np.abs(speech.waveform).max()
    np.testing.assert_allclose(heard, speech.waveform / peak, atol=1e-4)


@speaking
def test_silence_loudness_and_noise_are_what_was_drawn(speech):
    hearing = Hearing(before=0.4, after=0.25, loudness=-18, noise="pink", snr=20, seed=3)
    heard = hear(speech.waveform, hearing)[0]
    start = round(0.4 * SAMPLE_RATE)
    assert len(heard) == len(speech.waveform) + start + SAMPLE_RATE // 4
    assert decibels(np.abs(heard).max()) == pytest.approx(-18, abs=0.1)
    noise = np.sqrt(np.mean(np.square(heard[: start - 10])))
    level = float(active_level(heard[start : start + len(speech.waveform)], SAMPLE_RATE))
    assert decibels(level / noise) == pytest.approx(20, abs=2)
    np.testing.assert_array_equal(hear(speech.waveform, hearing)[0], heard)
    assert not np.array_equal(
        hear(speech.waveform, Hearing(0.4, 0.25, -18, "pink", 20, seed=4))[0], heard
    )


@speaking
def test_a_telephone_lets_no_high_sound_through(speech):
    def share_above(waveform: np.ndarray, frequency: float) -> float:
        power = np.square(np.abs(np.fft.rfft(waveform)))
        edges = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
        return float(power[edges > frequency].sum() / power.sum())

    line = hear(speech.waveform, Hearing(band=(300.0, 3400.0)))[0]
    assert share_above(line, 5000) < 0.05 * share_above(speech.waveform, 5000)
    assert share_above(line, 250) > share_above(speech.waveform, 250)


@speaking
def test_clipping_flattens_and_a_room_goes_on(speech):
    cut = hear(speech.waveform, Hearing(clipping=0.5))[0]
    at_peak = np.abs(cut) > 0.999
    assert (
        at_peak.sum() > 20 * (np.abs(speech.waveform / np.abs(speech.waveform).max()) > 0.999).sum()
    )
    room = hear(speech.waveform, Hearing(echo=0.3, seed=1))[0]
    assert len(room) == len(speech.waveform) + int(0.3 * SAMPLE_RATE)
    tail = room[len(speech.waveform) + 50 :]
    first, last = np.split(tail[: len(tail) // 2 * 2], 2)
    assert 0 < np.square(last).sum() < 0.1 * np.square(first).sum()


def test_hearings_are_drawn_over_the_whole_range():
    rng = np.random.default_rng(0)
    drawn = [draw_hearing(rng) for _ in range(400)]
    assert {hearing.noise for hearing in drawn} == {None, "white", "pink"}
    loudness = [hearing.loudness for hearing in drawn]
    assert min(loudness) < -28
    assert max(loudness) > -2
    assert max(hearing.before for hearing in drawn) > 0.9
    assert all(10 <= hearing.snr <= 40 and 0 <= hearing.after <= 1 for hearing in drawn)
    again = np.random.default_rng(0)
    assert draw_hearing(again) == drawn[0]


def test_nothing_is_silence_or_noise():
    clips = [hear_nothing(np.random.default_rng(seed)) for seed in range(40)]
    levels = [float(np.abs(clip).max()) for clip in clips]
    assert 0 in levels
    assert max(levels) > 0.05
    assert len({clip.shape[1] for clip in clips}) > 30
    assert all(SAMPLE_RATE // 2 <= clip.shape[1] <= 3 * SAMPLE_RATE for clip in clips)
