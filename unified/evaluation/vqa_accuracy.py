"""VQA's soft accuracy: an answer counts as far as people gave it, after both are normalised.

Antol et al. (2015), "VQA: Visual Question Answering", https://arxiv.org/abs/1505.00468, with the
normalisation of its evaluation script (vqaEval.py), its quirks kept so that figures compare:
`somebody'd` loses its apostrophe, periods before digits stay and no more than 32 are taken out, and
where all people agree nothing is normalised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["normalise_vqa", "vqa_accuracy"]

_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
"""
"""As they are written with all their apostrophes; an answer may lack one of them."""
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the script passes the flag re.UNICODE, which is 32, as the number


def _without_one_apostrophe() -> dict[str, str]:
    table = {"somebody'd": "somebodyd"}
    for word in _CONTRACTED.split():
        for at, letter in enumerate(word):
            if letter == "'":
                table[word[:at] + word[at + 1 :]] = word
    return table


_CONTRACTIONS = _without_one_apostrophe()
_DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}


def normalise_vqa(text: str) -> str:
    """An answer in lower case, without articles and punctuation, number words as digits,
    contractions with their apostrophes."""
    plain = text
    for mark in _PUNCTUATION:
        beside_blank = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if beside_blank or _THOUSANDS.search(text) else " ")
    plain = _PERIOD.sub("", plain, count=_MOST_PERIODS)
    words = [_DIGITS.get(word, word) for word in plain.lower().split()]
    return " ".join(
        _CONTRACTIONS.get(word, word) for word in words if word not in ("a", "an", "the")
    )


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """The share of people, each left out in turn, of whose others at least three gave the answer.

    Of one or two others it counts a third or two. people: the answers of at least one person.
    """
    answer, *theirs = (" ".join(re.split(r"[\n\t]", text)).strip() for text in (answer, *people))
    if len(set(theirs)) > 1:
        answer, *theirs = map(normalise_vqa, (answer, *theirs))
    same = theirs.count(answer)
    scores = [min(1.0, (same - (each == answer)) / 3) for each in theirs]
    return sum(scores) / len(scores)
