"""Speaking: cases ask for words that are in their text, and rivals are not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from unified.evaluation.judges import words
from unified.evaluation.part import Bench
from unified.evaluation.part_speaking import SPEAKING, _cases, content_words
from unified_data.pocket.subjects import load_subjects


def test_content_words_have_four_letters_and_come_once():
    assert content_words("A cat sees that other cat's bird, that bird.") == [
        "sees", "that", "other", "cats", "bird",
    ]  # fmt: skip


@pytest.fixture
def cases():
    return _cases(Bench(SimpleNamespace(), 8, SPEAKING.conditions, seed=3))


def test_a_word_is_of_its_text_and_its_twelve_rivals_are_not(cases):
    assert [case.condition for case in cases[::8]] == list(SPEAKING.conditions)
    for case in cases:
        assert case.word in words(case.text)
        assert len(set(case.rivals)) == 12
        assert not set(case.rivals) & set(words(case.text))
        assert max(abs(len(rival) - len(case.word)) for rival in case.rivals[:6]) <= 3


def test_sentences_outside_the_world_are_nowhere_in_it(cases):
    known = {s for subject in load_subjects() for s in subject.sentences}
    for case in cases:
        assert (case.text in known) == (case.condition in ("leads", "facts"))


def test_cases_depend_on_the_seed_alone(cases):
    def again(seed, conditions):
        return _cases(Bench(SimpleNamespace(), 8, conditions, seed=seed))

    assert again(3, SPEAKING.conditions) == cases
    assert again(3, ("facts",)) == [case for case in cases if case.condition == "facts"]
    assert again(4, ("facts",)) != again(3, ("facts",))
