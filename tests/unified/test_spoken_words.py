"""Utterances are told apart whatever their loudness, pace and surround; halves are joined."""

from __future__ import annotations

import numpy as np
import pytest

from unified.evaluation.figures import rate
from unified.evaluation.heard_sounds import (
    HEARD,
    HeardSound,
    alter_sound,
    draw_sound,
    lacks_of,
    splice,
)
from unified.evaluation.judges import corpus_word_error_rate, word_edits
from unified.evaluation.part_listening import nothing_said, recites, transcript_of
from unified.evaluation.spoken_words import features, rank, warped_distance
from unified_data.document import Audio

RATE = 16_000


def utterance(*pitches: float, seconds: float = 0.12, gain: float = 0.5) -> np.ndarray:
    """Tones with overtones one after another, a voice of a kind: float32 (1, S)."""
    time = np.arange(int(seconds * RATE)) / RATE
    tones = [sum(np.sin(2 * np.pi * p * k * time) / k for k in (1, 2, 3)) for p in pitches]
    return (gain * np.concatenate(tones) / 3)[None].astype(np.float32)


TRUE = (300, 900, 500)
RIVALS = [(900, 300, 500), (500, 900, 300), (300, 500, 1400), (1400, 900, 500)]


def frames(wave: np.ndarray) -> np.ndarray:
    return features(Audio(wave, RATE))


@pytest.mark.parametrize("condition", ["plain", "quiet", "loudness", "silence", "noise"])
def test_the_true_utterance_is_nearest_under_every_alteration(condition):
    rng = np.random.default_rng(4)
    wave = utterance(*TRUE)
    altered = alter_sound(condition, wave, rng)
    assert altered.dtype == np.float32
    assert np.array_equal(altered, wave) == (condition == "plain")
    rivals = [frames(utterance(*pitches)) for pitches in RIVALS]
    assert rank(frames(altered), frames(wave), rivals, anywhere=False) == 0
    assert rank(frames(altered), rivals[0], [frames(wave), *rivals[1:]], anywhere=False) > 0


def test_pace_is_forgiven_and_order_is_not():
    true, slower = frames(utterance(*TRUE)), frames(utterance(*TRUE, seconds=0.18))
    assert (
        warped_distance(true, slower) < warped_distance(frames(utterance(*RIVALS[0])), slower) / 2
    )
    assert warped_distance(true, true) == pytest.approx(0, abs=1e-3)
    assert warped_distance(true[:9], np.concatenate([true] * 3)) == np.inf  # too long to be it


def test_a_word_is_nearest_anywhere_in_a_sentence():
    sentence = np.concatenate(
        [utterance(700, 1200), np.zeros((1, 900), np.float32), utterance(*TRUE), utterance(400)], 1
    )
    rivals = [frames(utterance(*pitches)) for pitches in RIVALS]
    assert rank(frames(sentence), frames(utterance(*TRUE)), rivals, anywhere=True) == 0


def test_silence_is_a_sound_too():
    silence = frames(np.zeros((1, 100), np.float32))
    assert silence.shape == (1, 40)
    assert rank(silence, silence, [silence], anywhere=True) == 1  # no nearer than the rival


def test_sentences_are_spliced_in_their_middle():
    assert splice("One two three four.", "Five six seven eight.") == "One two seven eight."


def test_edits_are_those_of_jiwer():
    rng = np.random.default_rng(0)

    def sentence() -> str:
        return " ".join(rng.choice(list("abcd"), rng.integers(1, 8)))

    pairs = [(sentence(), sentence()) for _ in range(40)]
    edits, sizes = zip(*(word_edits(*pair) for pair in pairs))
    figure = rate("r", edits, sizes)
    assert figure.value == pytest.approx(corpus_word_error_rate(pairs))
    assert figure.low < figure.value < figure.high


def test_a_band_leaves_what_lies_inside_it_and_nothing_else():
    time = np.arange(8000) / RATE
    tones = {hertz: np.sin(2 * np.pi * hertz * time).astype(np.float32)[None] / 4
             for hertz in (100, 1000, 6000)}  # fmt: skip
    rng = np.random.default_rng(0)
    for hertz, wave in tones.items():
        level = np.abs(alter_sound("band", wave, rng)).mean() / np.abs(wave).mean()
        assert (level > 0.95) if hertz == 1000 else (level < 0.05)


@pytest.mark.parametrize("condition", HEARD)
def test_every_manner_of_speaking_gives_speech_that_says_its_text(condition):
    if lacks_of(condition):
        pytest.skip(lacks_of(condition))
    heard = draw_sound(condition, np.random.default_rng(3))
    assert heard.sound.waveform.dtype == np.float32
    assert heard.sound.sample_rate == RATE
    assert 0.02 < np.abs(heard.sound.waveform).max() <= 1
    assert heard.sound.waveform.shape[1] > 0.1 * RATE * len(heard.text.split())
    assert len(heard.sources) == (2 if HEARD[condition].splice else 0)
    assert draw_sound(condition, np.random.default_rng(3)).text == heard.text


def test_a_splice_that_is_written_as_one_of_its_sources_is_recited():
    sources = ("The cat sleeps all day long.", "A car has four round wheels.")
    text = splice(*sources)
    assert text == "The cat sleeps four round wheels."
    heard = HeardSound("splice", text, Audio(utterance(300), RATE), "ben", sources)
    assert recites(heard, sources[0])
    assert recites(heard, "a car has four wheels")
    assert not recites(heard, text)
    assert not recites(heard, "The cat sleeps four wheels")


def test_phonemes_before_a_transcript_are_no_words_of_it():
    assert transcript_of("/ɪt ɪz ɐ kæt/\nIt is a cat.") == "It is a cat."
    assert transcript_of("either/or is a word") == "either/or is a word"
    assert transcript_of("/hello/") == ""


def test_where_nothing_is_said_nobody_speaks_loudly():
    rng = np.random.default_rng(1)
    sounds = [nothing_said(rng).waveform for _ in range(12)]
    assert any(not sound.any() for sound in sounds)
    assert all(np.abs(sound).max() < 0.6 for sound in sounds)
