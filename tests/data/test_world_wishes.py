"""Wishes: what a prompt asks for is read back, in the canonical form and in free words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_data.pocket.subjects import load_subjects
from unified_data.world.wish_reader import read_wishes
from unified_data.world.wish_words import OPENERS, SECTION_WORDS, WISHES
from unified_data.world.wishes import (
    FORMS,
    LENGTH_KINDS,
    Length,
    Wishes,
    aliases_of,
    canonical,
    phrased,
    title,
)
from unified_data.world.wordings import LANGUAGES, subject_named

NAMES = [subject.name for subject in load_subjects()]
SUBTITLES = {"en": ["", "a quiet friend"], "zh": ["", "自然界的温柔使者"]}


@st.composite
def wishes(draw):
    language, form = draw(st.sampled_from(LANGUAGES)), draw(st.sampled_from(FORMS))
    number = 2 if form == "comparison" else 1
    names = draw(st.lists(st.sampled_from(NAMES), min_size=number, max_size=number, unique=True))
    called = ()
    aliases = aliases_of(subject_named(names[0]), language)
    if number == 1 and aliases and draw(st.booleans()):
        called = (draw(st.sampled_from(aliases)),)
    headings = draw(st.lists(st.sampled_from(list(SECTION_WORDS)), max_size=6, unique=True))
    cut = draw(st.integers(0, len(headings)))
    kind = draw(st.sampled_from([None, *LENGTH_KINDS]))
    count = draw(st.integers(1, 2000)) if kind in ("about", "least", "most") else None
    return Wishes(
        language,
        form,
        tuple(names),
        called,
        draw(st.sampled_from(SUBTITLES[language])),
        tuple(headings[:cut]),
        tuple(headings[cut:]),
        draw(st.none() | st.integers(1, 12)) if form == "list" else None,
        None if kind is None else Length(kind, count),
        draw(st.booleans()),
        draw(st.none() | st.integers(0, 4)),
        draw(st.sampled_from([None, "none", "ben", "mei"])),
    )


@settings(max_examples=60, deadline=None)
@given(wishes(), st.integers(0, 2**32))
def test_prompts_are_read_back(wanted, seed):
    assert read_wishes(canonical(wanted)) == wanted
    assert read_wishes(phrased(wanted, np.random.default_rng(seed))) == wanted


def test_prompts_as_people_write_them():
    panda = read_wishes("写：熊猫：自然界的温柔使者。不少于八百字，配图。")
    assert panda == Wishes(
        "zh", "article", ("giant panda",), ("熊猫",), "自然界的温柔使者",
        length=Length("least", 800), pictures=2,
    )  # fmt: skip
    assert title(panda) == "熊猫：自然界的温柔使者"
    assert read_wishes("Write: The giant panda. For children, short, two pictures.") == Wishes(
        "en", "article", ("giant panda",), length=Length("short"), children=True, pictures=2
    )
    assert read_wishes("compare the fox and the wolf.").subjects == ("fox", "wolf")
    assert read_wishes("Tell me about foxes").form == "paragraph"
    assert read_wishes("Write: The fox. First food, then home, then looks.").sections == (
        "Food", "Home", "Appearance",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Write: The griffin.", "no article is asked for"),
        ("Write: The fox. In rhyme.", "'In rhyme' is no wish"),
        ("Write: The fox. Short. Long.", "two length"),
        ("写：狐狸。押韵。", "'押韵' is no wish"),
        ("Compare the fox and the red fox.", "expected 2 of different name"),
    ],
)
def test_what_cannot_be_read_is_named(prompt, words):
    with pytest.raises(ValueError, match=words):
        read_wishes(prompt)


def test_no_phrase_stands_for_two_wishes():
    for table in (OPENERS, WISHES):
        for language in LANGUAGES:
            phrases = [phrase for wish in table.values() for phrase in wish[language]]
            assert len(set(phrases)) == len(phrases)
    for language in LANGUAGES:
        words = [word for heading in SECTION_WORDS.values() for word in heading[language]]
        assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    "fields",
    [
        {"subjects": ("fox", "wolf")},
        {"subjects": ("griffin",)},
        {"sections": ("Food",), "without": ("Food",)},
        {"sections": ("Wings",)},
        {"items": 3},
        {"pictures": 5},
        {"called": ("a", "b")},
    ],
)
def test_wishes_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match=r"expected|no subject"):
        Wishes(**({"language": "en", "form": "article", "subjects": ("fox",)} | fields))


@pytest.mark.parametrize(("kind", "number"), [("about", None), ("short", 3), ("least", 0)])
def test_lengths_that_make_no_sense_are_refused(kind, number):
    with pytest.raises(ValueError, match="expected"):
        Length(kind, number)
