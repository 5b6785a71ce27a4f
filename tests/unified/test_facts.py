"""Facts by retrieval: true wordings are found, other subjects' and altered ones are not."""

from __future__ import annotations

import pytest

from unified.evaluation.facts import FactBook, fact_book, sentences_of
from unified_data.pocket.subjects import find_subject

PANDA, GIRAFFE = map(find_subject, ("giant panda", "giraffe"))
ENTRIES = [
    ("giant panda", "The giant panda has a thick white coat and black ears."),
    ("giant panda", "A giant panda eats bamboo for twelve hours a day."),
    ("giraffe", "A giraffe sleeps standing up for two hours a night."),
    ("giraffe", "The giraffe is the tallest animal of all."),
]


@pytest.fixture(scope="module")
def book():
    return FactBook(ENTRIES, "en")


def test_a_wording_of_the_world_is_verbatim(book):
    nearest = book.retrieve(ENTRIES[0][1])
    assert nearest.verbatim
    assert nearest.is_of(PANDA)
    assert not nearest.is_of(GIRAFFE)


@pytest.mark.parametrize(
    ("sentence", "own"),
    [
        ("The giant panda has black ears and a thick, white coat.", True),  # another order
        ("Giant pandas eat bamboo for twelve hours every day.", True),
        ("A giant panda eats bamboo for two hours a day.", False),  # another number
        ("A giant panda never eats bamboo for twelve hours a day.", False),  # denied
        ("The giant panda is the tallest animal of all.", False),  # the giraffe's
        ("The giant panda plays the violin in a blue castle.", False),  # nowhere
    ],
)
def test_a_fact_is_told_from_what_is_altered_or_of_another(book, sentence, own):
    nearest = book.retrieve(sentence)
    assert not nearest.verbatim
    assert nearest.is_of(PANDA) is own


def test_what_is_nowhere_is_not_false_of_another(book):
    assert book.retrieve("The giant panda plays the violin in a blue castle.").nowhere
    other = book.retrieve("The giant panda is the tallest animal of all.")
    assert not other.nowhere
    assert other.is_of(GIRAFFE)


def test_a_wording_that_is_taken_to_be_unknown_is_found_by_its_others():
    entries = [*ENTRIES, ("giraffe", "Of all animals the giraffe is the tallest.")]
    book = FactBook(entries, "en")
    assert book.retrieve(ENTRIES[3][1], without=ENTRIES[3][1]).is_of(GIRAFFE)


def test_the_world_has_facts_in_both_languages():
    english, chinese = fact_book("en"), fact_book("zh")
    assert english.owners(PANDA.lead) == {"giant panda"}
    nearest = chinese.retrieve("大熊猫是一种害羞的熊，野外只生活在中国。")
    assert nearest.verbatim
    assert nearest.is_of(PANDA)
    assert chinese.retrieve("今天下午三点火车站前面很热闹。").nowhere


def test_sentences_are_parted_in_both_languages():
    assert sentences_of("One. Two! Three?\nFour") == ["One.", "Two!", "Three?", "Four"]
    assert sentences_of("一。二！三？") == ["一。", "二！", "三？"]
    assert sentences_of(" .\n") == []
