"""pocketsphinx chooses the word that is said, and not the one that was to be said."""

from __future__ import annotations

from shutil import which

import pytest

from unified.evaluation.heard_sounds import said_plainly
from unified.evaluation.outside_recogniser import OutsideRecogniser
from unified_data.document import Audio
from unified_data.pocket.speech import VOICES

pytestmark = [
    pytest.mark.skipif(not OutsideRecogniser.installed(), reason="pocketsphinx is not installed"),
    pytest.mark.skipif(which("espeak-ng") is None, reason="espeak-ng is not installed"),
]
TEXT = "The cat sleeps in the garden."
RIVALS = ("market", "station", "water", "window", "morning")


@pytest.fixture(scope="module")
def recogniser():
    return OutsideRecogniser()


def speech(text):
    return Audio(said_plainly(text, VOICES["ben"]), 16_000)


def test_what_is_said_is_heard_and_not_what_was_to_be_said(recogniser):
    assert recogniser.choice(speech(TEXT), TEXT, "garden", RIVALS) == "garden"
    other = TEXT.replace("garden", "market")
    assert recogniser.choice(speech(other), TEXT, "garden", RIVALS) == "market"
    assert recogniser.choice(speech("Seven."), TEXT, "garden", RIVALS) != "garden"


def test_words_that_its_dictionary_lacks_are_not_judged(recogniser):
    assert recogniser.choice(speech(TEXT), "The snoort sleeps", "sleeps", RIVALS) is None
    assert recogniser.choice(speech(TEXT), TEXT, "fox", RIVALS) is None
    assert not recogniser.knows("snoort")
