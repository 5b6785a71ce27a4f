"""Facts by retrieval: true wordings are recognised, other subjects' and altered ones are not."""

from __future__ import annotations

import pytest

from unified_data.world.retrieval import fact_index, judge_sentences
from unified_data.world.wordings import facts_of_subject, subject_named

PANDA, GIRAFFE = map(subject_named, ("giant panda", "giraffe"))


def stated(sentence, subject=PANDA, language="en"):
    (statement,) = judge_sentences([sentence], subject, language).statements
    return statement


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_wording_of_the_world_is_verbatim_and_its_subjects_alone(language):
    for fact in facts_of_subject(PANDA):
        for wording in fact.wordings(language):
            statement = stated(wording, PANDA, language)
            assert statement.verbatim
            assert statement.is_of(PANDA)
            assert not stated(wording, GIRAFFE, language).is_of(GIRAFFE)


@pytest.mark.parametrize(
    ("sentence", "own"),
    [
        ("The only place where the giant panda, a shy bear, lives wild is China.", True),
        ("Black legs, ears and eye patches stand out from its thick white fur.", True),
        ("A newborn cub is pink and blind, about as long as three pencils.", False),  # a number
        ("A wrist bone never works like a thumb, and helps it grip no stems.", False),  # denied
        ("The giant panda is the tallest of all living land animals.", False),  # the giraffe's
        ("The giant panda plays the violin in a blue castle.", False),  # nowhere
        ("大熊猫只在中国有野生的，是一种害羞的熊。", True),
        ("它全身长着厚厚的白毛，三只耳朵和眼圈是黑色的。", False),  # a number
        ("它的食物几乎没有竹子，每天不吃。", False),  # denied
    ],
)
def test_a_fact_is_told_from_what_is_altered_or_of_another(sentence, own):
    statement = stated(sentence, language="en" if sentence.isascii() else "zh")
    assert not statement.verbatim
    assert statement.is_of(PANDA) is own


def test_what_is_nowhere_is_not_false_of_another():
    nowhere = stated("The giant panda plays the violin in a blue castle.")
    assert nowhere.is_nowhere("en")
    assert nowhere.fact is None
    other = stated("The giant panda is the tallest of all living land animals.")
    assert other.is_of(GIRAFFE)
    altered = stated("A wrist bone never works like a thumb, and helps it grip no stems.")
    assert not altered.is_nowhere("en")
    assert altered.fact is None
    assert stated("今天下午三点火车站前面很热闹。", language="zh").is_nowhere("zh")


def test_of_a_sentence_that_joins_two_facts_each_is_a_statement():
    joined = "Its home is in cool mountain forests full of mist and bamboo, and a wrist bone works"
    joined += " like a thumb and helps it grip the stems."
    judgement = judge_sentences([joined, PANDA.lead], PANDA, "en")
    assert [s.fact for s in judgement.statements] == [(PANDA.name, n) for n in (3, 6, 0)]
    assert [s.verbatim for s in judgement.statements] == [True, True, True]


def test_an_unknown_wording_is_recognised_by_the_others_of_its_fact():
    index = fact_index("en")
    for position in index.positions[GIRAFFE.name, 6]:
        text = index.wordings[position][2]
        assert index.statement(text, GIRAFFE.name, without=[position]).fact == (GIRAFFE.name, 6)
