"""Answers are read as people mean them, whether or not they begin with what is seen."""

from __future__ import annotations

import pytest

from unified.evaluation.answers import (
    number_in,
    relation_in,
    says_not_known,
    says_nothing_was_said,
    yes_or_no,
)
from unified_data.pocket.subjects import find_subject

CAT = find_subject("cat")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Yes.", True), ("no", False), ("There isn't one.", False), ("a cat", None), ("", None),
     ("Yes, not far from the dog", True), ("I know", None),
     # What is seen comes first.
     ("a fox and a car: no", False), ("a fox and a car: yes", True), ("no things: yes", True),
     ("nothing: no", False), ("a fox: it is not there", False), ("a fox: a car", None),
     ("Yes: a cat", True), ("No: there is a fox", False),
     ("一只狐狸和一辆汽车：没有", False), ("一只狐狸：有", True), ("不是", False), ("是的", True)],
)  # fmt: skip
def test_yes_and_no_are_read(text, answer):
    assert yes_or_no(text) is answer


@pytest.mark.parametrize(
    ("text", "number"),
    [("four", 4), ("There are 3 cats", 3), ("A total of two", 2), ("an owl", 1), ("none", 0),
     ("cats", None), ("There are no cats", 0), ("12", 12),
     ("three cats and two dogs: two", 2), ("two dogs: none", 0), ("two dogs: 0", 0),
     ("nothing: zero", 0), ("a cat and three dogs: a cat", 1), ("三只猫：三", 3), ("没有", 0)],
)  # fmt: skip
def test_numbers_are_read(text, number):
    assert number_in(text) == number


@pytest.mark.parametrize(
    ("text", "relation"),
    [("to the left of the dog", "to the left of"), ("It is above the dog.", "above"),
     ("The cat is under the dog", "below"), ("The dog is to the right of the cat.",
     "to the left of"), ("The dog is below it", "above"), ("on top of the dog", "above"),
     ("a cat to the left of a dog: to the left of the dog", "to the left of"),
     ("a dog above a cat: below the dog", "below"), ("somewhere", None), ("", None),
     ("left", "to the left of"), ("一只猫和一只狗：左边", "to the left of")],
)  # fmt: skip
def test_relations_are_read_of_the_thing_that_was_asked_for(text, relation):
    assert relation_in(text, CAT) == relation


@pytest.mark.parametrize(
    ("text", "known"),
    [("I do not know what this is.", False), ("I don't know.", False), ("It is unknown", False),
     ("我不知道这是什么。", False), ("I cannot tell what it is", False), ("a cat", True),
     ("", True), ("a cat, as I know", True)],
)  # fmt: skip
def test_what_is_not_known_is_said_in_words(text, known):
    assert says_not_known(text) is not known


@pytest.mark.parametrize(
    ("text", "nothing"),
    [("Nothing is said.", True), ("", True), ("...", True), ("It is a cat.", False),
     ("/.../ Nothing is said.", True)],
)  # fmt: skip
def test_silence_is_told_from_speech(text, nothing):
    assert says_nothing_was_said(text) is nothing
