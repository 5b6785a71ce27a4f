"""Documents of text, pictures and sound: each check passes what is right and fails what is not."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from unified.evaluation.interleaved import (
    InterleavedWish,
    check_document,
    names_beside,
    said_aloud,
    shows,
)
from unified.evaluation.judges import GlyphJudge
from unified_data.document import Audio, Image, Text
from unified_data.pocket.scenes import compose, render
from unified_data.pocket.speech import SAMPLE_RATE, connected, find_voice, speak
from unified_data.pocket.subjects import find_subject

FOX, CAR, LEMON = map(find_subject, ("fox", "car", "lemon"))
JUDGE = GlyphJudge([FOX, CAR, LEMON])
needs_speech = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng")


def picture(subject, kind="one"):
    return Image(render(compose(np.random.default_rng(4), kind, subject, background="white")))


def article(*extra, first="# The fox\n\n> (ben) The fox is small.\n"):
    return [Text(first), *extra]


CAPTION = Text("\n\n![a fox]")
PLAIN = Text("\n\n## Home\n\nIt lives in a den.")
SILENT = Audio(np.zeros((1, 800), np.float32), SAMPLE_RATE)


def test_number_order_and_captions_of_an_article():
    wish = InterleavedWish(FOX, 2)
    right = article(CAPTION, picture(FOX), PLAIN, CAPTION, picture(FOX), PLAIN)
    checks = check_document(right, wish, JUDGE)
    assert checks.missing == []
    assert checks.voiced is None
    # One picture less; two at once; one before any word; another name beside it.
    assert check_document(right[:4], wish).missing == ["images"]
    heap = article(CAPTION, picture(FOX), picture(FOX), Text("a fox"))
    assert check_document(heap, wish).missing == ["order"]
    assert check_document(right[2:], wish).missing == ["order", "captions"]
    other = article(Text("\n\n![a car]"), picture(FOX), PLAIN, CAPTION, picture(FOX))
    assert check_document(other, wish, JUDGE).missing == ["captions"]
    assert check_document(right, InterleavedWish(FOX, 2, 1)).missing == ["sounds", "voiced"]
    assert check_document([], wish).missing == ["images", "order", "captions"]
    assert check_document(article(PLAIN), InterleavedWish(FOX, 0)).missing == []


def test_the_caption_may_stand_before_or_behind_its_picture_and_nowhere_else():
    behind = article(picture(FOX), Text("A fox at home.\n\nIt sleeps."), first="# It\n\nWhat?\n")
    assert names_beside(behind, 1, FOX)
    assert not names_beside(behind, 1, CAR)
    # The title names the fox, but the paragraph beside the picture is another.
    far = [Text("# The fox\n\nIt lives in a den.\n\n"), picture(FOX)]
    assert not names_beside(far, 1, FOX)


def test_pictures_are_looked_at():
    wish = InterleavedWish(FOX, 1)
    wrong = check_document(article(CAPTION, picture(CAR)), wish, JUDGE)
    assert wrong.missing == ["pictured"]
    assert check_document(article(CAPTION, picture(CAR)), wish).pictured is None
    # Of two things the one asked for may be the smaller find, where the caption names both.
    scene = compose(np.random.default_rng(4), "two", FOX)
    judge = GlyphJudge(scene.subjects)
    assert all(shows(judge, render(scene), subject, two=True) for subject in scene.subjects)
    assert not shows(JUDGE, np.zeros((8, 8, 3), np.uint8), FOX, two=False)
    # Of another size it is brought to that of the world.
    large = np.kron(picture(FOX).pixels, np.ones((3, 3, 1), np.uint8))
    assert shows(JUDGE, large, FOX, two=False)


def test_a_sound_is_to_say_the_paragraph_before_it_without_its_marks():
    segments = article(SILENT)
    assert said_aloud(segments, 1) == "The fox is small."
    split = [Text("# The fox\n\n## Home\n\n- It"), Text(" sleeps.\n"), SILENT]
    assert said_aloud(split, 2) == "It sleeps."
    assert said_aloud([SILENT], 0) == ""


@needs_speech
def test_a_sound_says_the_text_or_another():
    wish = InterleavedWish(FOX, 0, 1)
    text = Text(f"# The fox\n\n> (ben) {FOX.lead}\n")
    waves = {
        "plain": speak(FOX.lead, "amy"), "connected": connected(FOX.lead, find_voice("cole")),
        "other": speak(LEMON.lead, "ben"),
    }  # fmt: skip
    missing = {
        name: check_document([text, Audio(wave, SAMPLE_RATE)], wish).missing
        for name, wave in waves.items()
    }
    assert missing == {"plain": [], "connected": [], "other": ["voiced"]}
