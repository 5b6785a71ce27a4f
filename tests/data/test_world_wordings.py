"""Wordings: each fact three times in two languages, and the same fact each time."""

import re

import numpy as np
import pytest

from unified_data.pocket.subjects import load_subjects
from unified_data.world.numerals import number_of, number_words
from unified_data.world.outside import not_known, strangers
from unified_data.world.prose import JOINTS, Prose, lowered, shortest, split_sentences
from unified_data.world.wordings import (
    HEADINGS_ZH,
    KIND_NAMES,
    facts_of_subject,
    heading_in,
    kind_name,
    subject_named,
)

SUBJECTS = load_subjects()
FACTS = [(s, number, fact) for s in SUBJECTS for number, fact in enumerate(facts_of_subject(s))]

# A people or its language for its country, and the like.
DEMONYMS = {
    "italians": "ital", "italian": "ital", "italy": "ital", "french": "fran", "france": "fran",
    "greek": "gree", "greeks": "gree", "greece": "gree", "welsh": "wale", "wales": "wale",
    "english": "engl", "england": "engl", "spanish": "spai", "spain": "spai", "irish": "irel",
    "ireland": "irel", "britain": "brit", "british": "brit", "rome": "roma", "romans": "roma",
    "lebanese": "leba", "philippine": "phil", "philippines": "phil", "viking": "viki",
    "vikings": "viki", "turkish": "turk", "icelanders": "icel", "olympic": "olym",
}  # fmt: skip
NUMBERS = re.compile(
    r"\b(?:three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen(?:th)?|hundreds?"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ies|ieth)|thousands?|millions?|billions?)\b"
)


def names_in(text, common):
    """First four letters of the words that are names, in any of a sentence's wordings."""
    words = re.findall(r"[A-Za-z]+", text)
    large = {word.lower() for word in words if word[0].isupper()} - (common - DEMONYMS.keys())
    return {DEMONYMS.get(word, word[:4]) for word in large}


def test_every_fact_has_three_wordings_in_each_language_and_none_twice():
    assert len(FACTS) == 9 * 265
    for language, low, high in (("en", 25, 95), ("zh", 8, 34)):
        wordings = [w for _, _, fact in FACTS for w in fact.wordings(language)]
        assert len(wordings) == 3 * len(FACTS)
        assert len(set(wordings)) == len(wordings)
        assert all(low <= len(w) <= high for w in wordings)
        assert all(split_sentences(w) == [w] for w in wordings)
    for subject, number, fact in FACTS:
        assert fact.en[0] == subject.sentences[number]
        assert fact.heading == ["", *(s.heading for s in subject.sections for _ in "12")][number]


def test_numbers_are_the_same_in_each_english_wording():
    for subject, _, fact in FACTS:
        numbers = [set(NUMBERS.findall(wording.lower())) for wording in fact.en]
        assert numbers[0] == numbers[1] == numbers[2], (subject.name, fact.en)


def test_names_are_the_same_in_each_english_wording():
    small = {w for _, _, fact in FACTS for t in fact.en for w in re.findall(r"\b[a-z]+\b", t)}
    inside = {w.lower() for _, _, f in FACTS for t in f.en for w in re.findall(r" ([A-Z]\w+)", t)}
    common = {w.split()[0].strip(",").lower() for _, _, f in FACTS for w in f.en} - inside | small
    different = set()
    for subject, _, fact in FACTS:
        names = [names_in(wording, common) for wording in fact.en]
        if names[0] != names[1] or names[0] != names[2]:
            different.add((subject.name, fact.en))
    assert not different


def test_headings_and_kinds_have_chinese_names():
    headings = {section.heading for subject in SUBJECTS for section in subject.sections}
    assert headings == set(HEADINGS_ZH)
    assert len(set(HEADINGS_ZH.values())) == 18
    assert {subject.kind for subject in SUBJECTS} == set(KIND_NAMES)
    assert heading_in("Food", "zh") == "食物"
    assert kind_name(subject_named("fox"), "zh") == "哺乳动物"
    with pytest.raises(ValueError, match="no subject 'griffin'"):
        subject_named("griffin")


def test_joined_facts_are_both_told_and_held_out_ones_are_not_in_training():
    rng = np.random.default_rng(1)
    facts = facts_of_subject(subject_named("fox"))[1:3]
    for language in ("en", "zh"):
        wordings = [fact.wordings(language) for fact in facts]
        texts = {
            split: {Prose(language, split, "flowing").paragraph(wordings, rng) for _ in range(900)}
            for split in ("train", "heldout")
        }
        assert texts["heldout"] - texts["train"]
        for text in texts["train"]:
            first = [w for w in wordings[0] if text.startswith(w[:-1])]
            assert len(first) == 1, text
            rest = text.removeprefix(first[0][:-1])
            assert any(rest.endswith(w[2:]) for w in wordings[1]), text
            assert rest.startswith((*JOINTS[language], ".", "。")), text


def test_children_get_the_shortest_wording():
    facts = [fact.en for fact in facts_of_subject(subject_named("fox"))]
    text = Prose("en", "train", "simple").paragraph(facts, np.random.default_rng(0))
    assert text == " ".join(map(shortest, facts))


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("It is a cat.", "it is a cat."),
        ("Red foxes have orange fur.", "red foxes have orange fur."),
        ("China has many.", None),
        ("Dutch sailors ate it.", None),
        ("James Naismith invented it.", None),
    ],
)
def test_a_sentence_goes_on_in_small_letters_unless_it_begins_with_a_name(sentence, expected):
    assert lowered(sentence) == expected


def test_numbers_in_words_are_read_back():
    for language in ("en", "zh"):
        for number in (*range(130), 200, 305, 1005, 1010, 1250, 9999):
            for counted in (False, True):
                assert number_of(number_words(number, language, counted)) == number
    assert number_words(1250, "zh") == "一千二百五十"
    assert number_words(2, "zh", counted=True) == "两"
    for bad in ("", "百", "三三", "many", "零五"):
        with pytest.raises(ValueError, match="is no number"):
            number_of(bad)


def test_strangers_are_no_subjects_and_are_in_every_split():
    assert len(strangers()) >= 200
    assert len({s.en for s in strangers()}) == len({s.zh for s in strangers()}) == len(strangers())
    assert {s.split for s in strangers()} == {"train", "steer", "heldout"}
    assert not_known("unicorn", "en", "horse").endswith("thing that I know is the horse.")
    assert not_known("独角兽", "zh", "horse") == "我不知道独角兽。我知道的最接近的是马。"
