"""The facts: complete, plainly written, and each subject's written for itself."""

import re
from collections import Counter

import pytest

from unified_data.pocket.atlas import glyph
from unified_data.pocket.subjects import find_subject, load_subjects

SUBJECTS = load_subjects()


def masked(subject, sentence):
    """The sentence with every name of its subject taken out."""
    names = {subject.name, subject.plural, *subject.aliases, *(f"{a}s" for a in subject.aliases)}
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    return re.sub(rf"\b({'|'.join(longest_first)})\b", "_", sentence, flags=re.IGNORECASE)


def test_there_are_enough_subjects_of_enough_kinds():
    assert len(SUBJECTS) >= 250
    assert len({subject.kind for subject in SUBJECTS}) >= 10
    assert len({subject.name for subject in SUBJECTS}) == len(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_a_subject_is_complete(subject):
    assert subject.article in ("a", "an")
    assert subject.name
    assert subject.plural
    assert len(subject.sentences) == 9  # a lead, and eight in sections
    assert [len(section.sentences) for section in subject.sections] == [2, 2, 2, 2]
    headings = [section.heading for section in subject.sections]
    assert headings[0] == "Appearance"
    assert len(set(headings)) == 4
    assert len(set(subject.sentences)) == 9
    for sentence in subject.sentences:
        # Letters and simple marks alone: what espeak-ng reads without surprises.
        assert re.fullmatch(r"[A-Z][A-Za-z,.' -]*[A-Za-z]\.", sentence), sentence
        assert 6 <= len(sentence.split()) <= 15, sentence
    named = (subject.name, subject.plural, *subject.aliases)
    assert any(name.lower() in subject.lead.lower() for name in named), subject.lead
    assert glyph(subject.glyph).any()
    assert find_subject(subject.name.upper()) is subject
    assert find_subject(subject.plural) is subject


def test_articles_agree_with_the_names():
    odd = {"hourglass", "umbrella", "hamburger"}  # spelled as they sound
    for subject in SUBJECTS:
        if subject.name.split()[0].lower() in odd or subject.name[0].lower() in "uh":
            continue
        expected = "an" if subject.name[0].lower() in "aeio" else "a"
        assert subject.article == expected, subject.name


def test_sentences_stay_distinct_with_the_names_masked():
    counts = Counter(masked(s, sentence).lower() for s in SUBJECTS for sentence in s.sentences)
    assert len(counts) >= 0.95 * sum(counts.values())


def test_masking_takes_names_out():
    panda = find_subject("giant panda")
    assert (
        masked(panda, "The giant panda eats.") == masked(panda, "The Panda eats.") == "The _ eats."
    )
