"""Speech: three voices, one exact form of clip."""

import shutil

import numpy as np
import pytest

from unified_base.sounds import encode_audio
from unified_data.pocket import speech
from unified_data.pocket.speech_rate import at_16_khz

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
SENTENCE = "This is a cat above a red drum."


@needs_espeak
@pytest.mark.parametrize("voice", speech.VOICES)
def test_a_clip_has_its_stated_form(voice):
    clip = speech.speak(SENTENCE, voice)
    assert clip.dtype == np.float32
    assert clip.shape[0] == 1
    assert clip.shape[1] % speech.CLIP_MULTIPLE == 0
    assert 1.5 < clip.shape[1] / speech.SAMPLE_RATE < 4  # eight words at 200 a minute
    assert 0.3 < np.abs(clip).max() <= 1
    assert encode_audio(clip, speech.SAMPLE_RATE)[0] == "flac"  # lies on the int16 grid
    loud = np.flatnonzero(np.abs(clip[0]) > 0.01 * np.abs(clip).max())
    # Nothing of a word is heard in a window that reaches 27 ms over the end of the word before it.
    assert 0.045 <= loud[0] / speech.SAMPLE_RATE <= 0.065
    assert clip.shape[1] - loud[-1] <= 0.03 * speech.SAMPLE_RATE + speech.CLIP_MULTIPLE


@needs_espeak
def test_a_word_sounds_the_same_wherever_it_stands():
    drum = speech.speak("drum", "amy")
    above = speech.speak("above", "amy")
    short = np.zeros((1, 2 * speech.CLIP_MULTIPLE), np.float32)
    long = np.zeros((1, 5 * speech.CLIP_MULTIPLE), np.float32)
    assert np.array_equal(speech.speak("Drum above.", "amy"), np.hstack([drum, above]))
    assert np.array_equal(speech.speak("(drum), above", "amy"), np.hstack([drum, short, above]))
    two = speech.speak("Above. \u2013 \u201cDrum!\u201d", "amy")
    assert np.array_equal(two, np.hstack([above, long, drum]))


@needs_espeak
def test_the_article_is_a_sound_and_not_a_letter():
    assert speech.speak("a").shape[1] < speech.speak("ay").shape[1]


@needs_espeak
def test_speech_is_the_same_each_time_and_voices_differ():
    assert set(speech.VOICES) == {"amy", "ben", "cole"}
    clips = [speech.speak(SENTENCE, voice) for voice in speech.VOICES]
    speech._word.cache_clear()
    again = [speech.speak(SENTENCE, voice) for voice in speech.VOICES]
    assert all(np.array_equal(a, b) for a, b in zip(clips, again))
    assert len({clip.tobytes() for clip in clips}) == 3


@needs_espeak
def test_a_returned_clip_is_the_callers_own():
    speech.speak("A cat.", "ben")[:] = 0
    assert speech.speak("A cat.", "ben").any()


@needs_espeak
def test_text_is_read_and_not_obeyed():
    assert speech.speak("-w stolen.wav", "ben").any()
    with pytest.raises(ValueError, match="no sound"):
        speech.speak("...", "ben")


def test_what_cannot_be_spoken_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="no voice 'zoe', expected one of amy, ben, cole"):
        speech.speak("A cat.", "zoe")
    with pytest.raises(ValueError, match="empty"):
        speech.speak(" \n", "ben")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="apt-get install espeak-ng"):
        speech.speak("Never said before.", "ben")


def test_the_worlds_filter_gives_the_same_samples_for_ever():
    """The same seed gives the same speech: no library's version changes it."""
    sweep = at_16_khz(np.sin(np.arange(2000) ** 1.6 / 40))
    assert (sweep.dtype, len(sweep)) == (np.float32, 1452)
    assert np.rint(sweep[100:1400:200] * 32767).astype(int).tolist() == [
        -7087,
        18663,
        23968,
        0,
        0,
        -1,
        -1,
    ]
