"""espeak-ng by its library: the samples of its command, whatever was said before."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unified_data.world.espeak import ESPEAK_RATE, VoiceSetting, espeak_phonemes, espeak_speech

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng here")

TEXTS = ("It is a red fox on a blue ground.", "Whisper, thin s sounds!")
MANNERS = (
    VoiceSetting("en-us"),
    VoiceSetting("en+f3", 210, 30),
    VoiceSetting("en-us+whisper", 160, 70),
)


def _by_command(text: str, manner: VoiceSetting) -> np.ndarray:
    command = ["espeak-ng", "-v", manner.voice, "-s", str(manner.pace), "-p", str(manner.pitch)]
    result = subprocess.run(
        [*command, "-b", "1", "--stdin", "--stdout"], input=text.encode(), capture_output=True
    )
    start = result.stdout.index(b"data") + 8
    return np.frombuffer(
        result.stdout[start : start + (len(result.stdout) - start) // 2 * 2], "<i2"
    )


def test_the_library_says_what_the_command_says_whatever_came_before():
    cases = [(text, manner) for text in TEXTS for manner in MANNERS]
    speech = {case: espeak_speech(*case, ipa=True).samples for case in cases}
    for case in reversed(cases):
        again = espeak_speech(*case, ipa=True).samples
        np.testing.assert_array_equal(again, speech[case])
        expected = _by_command(*case)
        # The command adds silence.
        shared = min(len(again), len(expected))
        np.testing.assert_array_equal(again[:shared], expected[:shared])
        assert not again[shared:].any()
        assert not expected[shared:].any()
        assert len(again) > ESPEAK_RATE // 2


def test_phonemes_with_and_without_sound_are_the_same():
    for text in TEXTS:
        spoken = espeak_speech(text, VoiceSetting("en-us+f3"), ipa=True).phonemes
        assert spoken == espeak_phonemes(text, "en-us", ipa=True)
    assert espeak_phonemes("A cat. Two dogs.", "en-us", ipa=True) == "ɐ kˈæt tˈuː dˈɑːɡz"


def test_threads_take_turns():
    alone = espeak_speech(TEXTS[0], MANNERS[0], ipa=True)
    with ThreadPoolExecutor(3) as pool:
        for speech in pool.map(lambda _: espeak_speech(TEXTS[0], MANNERS[0], ipa=True), range(6)):
            np.testing.assert_array_equal(speech.samples, alone.samples)
            assert speech.phonemes == alone.phonemes


def test_an_unknown_voice_is_refused_and_the_next_one_speaks():
    with pytest.raises(ValueError, match="has the voice 'en-xx'"):
        espeak_speech("Hello.", VoiceSetting("en-xx"), ipa=True)
    assert len(espeak_speech("Hello.", VoiceSetting("en-us"), ipa=True).samples)
