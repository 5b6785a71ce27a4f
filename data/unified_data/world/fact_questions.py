"""Questions in words about what is known, with answers that say first what is known of it.

Is a fox a bird?                          a mammal: no
Is this said of the fox? It ...           the wolf: no
What is a unicorn?                        I do not know the unicorn. The nearest thing that I
                                          know is the horse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.world.chinese import chinese_name
from unified_data.world.free_scene import split_of_keys
from unified_data.world.made_up import made_up_name
from unified_data.world.outside import not_known, strangers
from unified_data.world.wordings import KIND_NAMES, Language, facts_of_subject, kind_name, name_in

__all__ = ["FactTurn", "draw_turns"]


class FactTurn(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


_PHRASES: dict[str, dict[Language, tuple[str, ...]]] = {
    "what": {"en": ("What is {a}?", "What is {a}, in one sentence?", "Explain: what is {a}?"),
             "zh": ("{the}是什么？", "什么是{the}？", "用一句话说，{the}是什么？")},
    "kind": {"en": ("What kind of thing is {a}?", "What sort of thing is {a}?"),
             "zh": ("{the}是哪一类东西？", "{the}属于哪一类？")},
    "is": {"en": ("Is {a} {kind}?", "Would you call {a} {kind}?"),
           "zh": ("{the}是{kind}吗？", "{the}算不算{kind}？")},
    "which": {"en": ("What is this? {fact}", "Which thing is meant? {fact}", "Guess: {fact}"),
              "zh": ("这说的是什么？{fact}", "猜一猜：{fact}", "说的是哪一样？{fact}")},
    "true": {"en": ("Is this said of {the}? {fact}", "Is this about {the}? {fact}"),
             "zh": ("这说的是{the}吗？{fact}", "这句话说的是不是{the}？{fact}")},
}  # fmt: skip
_STRANGE: dict[Language, tuple[str, ...]] = {
    "en": ("What is {a}?", "Tell me about {the}.", "Write: {The}.", "What kind of thing is {a}?",
           "Write about {the}."),
    "zh": ("{the}是什么？", "说说{the}。", "写：{the}。", "什么是{the}？",
           "写一篇关于{the}的文章。"),
}  # fmt: skip
_SHARES = {"what": 0.18, "kind": 0.1, "is": 0.18, "which": 0.2, "true": 0.14, "strange": 0.2}
_MADE_UP = 0.35  # of what is not known
_PATIENCE = 40


def draw_turns(
    subject: Subject, language: Language, split: str, rng: np.random.Generator
) -> tuple[FactTurn, ...]:
    """One to three questions about a subject, or about what is not known, of a split.

    Held out are a subject together with a kind or with another one's fact, a fact together with
    who is asked about, and strangers; of what anybody asks first (`What is a fox?`) nothing is.
    """
    kinds = list(_SHARES)
    turns: list[FactTurn] = []
    number = int(rng.integers(1, 4))
    for _ in range(_PATIENCE * number):
        kind = kinds[int(rng.choice(len(kinds), p=list(_SHARES.values())))]
        key, turn = _TURNS[kind](subject, language, split, rng)
        if split_of_keys(key) == split and turn not in turns:
            turns.append(turn)
        if len(turns) == number:
            break
    while not turns:
        turns.append(_strange(subject, language, split, rng)[1])
    return tuple(turns)


_Keyed = tuple[tuple[str, ...], FactTurn]


def _fill(phrase: str, subject: Subject, language: Language, rng: np.random.Generator,
          **values: str) -> str:  # fmt: skip
    phrases = _PHRASES[phrase][language]
    name = name_in(subject, language)
    named = {"a": subject.phrase, "the": name if language == "zh" else f"the {name}"}
    return phrases[int(rng.integers(len(phrases)))].format(**named, **values)


def _what(subject: Subject, language: Language, split: str, rng: np.random.Generator) -> _Keyed:
    leads = facts_of_subject(subject)[0].wordings(language)
    lead = leads[int(rng.integers(len(leads)))]
    return (), FactTurn(_fill("what", subject, language, rng), lead)


def _kind(subject: Subject, language: Language, split: str, rng: np.random.Generator) -> _Keyed:
    return (), FactTurn(_fill("kind", subject, language, rng), kind_name(subject, language))


def _is(subject: Subject, language: Language, split: str, rng: np.random.Generator) -> _Keyed:
    kinds = list(KIND_NAMES)
    asked = subject.kind if rng.random() < 0.5 else kinds[int(rng.integers(len(kinds)))]
    kind_word = KIND_NAMES[asked][0 if language == "en" else 2]
    question = _fill("is", subject, language, rng, kind=kind_word)
    answer = _answer(kind_name(subject, language), asked == subject.kind, language)
    return (f"is|{subject.name}|{asked}|{language}",), FactTurn(question, answer)


def _answer(known: str, yes: bool, language: Language) -> str:
    """`a mammal: no`, `哺乳动物：不是`."""
    if language == "en":
        return f"{known}: {'yes' if yes else 'no'}"
    return f"{known}：{'是' if yes else '不是'}"


def _which(subject: Subject, language: Language, split: str, rng: np.random.Generator) -> _Keyed:
    facts = nameless_facts(subject.name, language)
    fact = facts[int(rng.integers(len(facts)))]
    question = _fill("which", subject, language, rng, fact=fact)
    name = subject.phrase if language == "en" else name_in(subject, "zh")
    return (f"which|{subject.name}|{fact}",), FactTurn(question, name)


def _true(subject: Subject, language: Language, split: str, rng: np.random.Generator) -> _Keyed:
    subjects = load_subjects()
    if rng.random() < 0.5:
        owner = subject
    else:
        alike = [s for s in subjects if s.kind == subject.kind and s != subject]
        pool = alike if rng.random() < 0.5 else [s for s in subjects if s != subject]
        owner = pool[int(rng.integers(len(pool)))]
    facts = nameless_facts(owner.name, language)
    fact = facts[int(rng.integers(len(facts)))]
    question = _fill("true", subject, language, rng, fact=fact)
    name = name_in(owner, language)
    known = name if language == "zh" else f"the {name}"
    key = f"true|{subject.name}|{owner.name}|{fact}"
    return (key,), FactTurn(question, _answer(known, owner == subject, language))


def _strange(subject: Subject, language: Language, split: str, rng: np.random.Generator) -> _Keyed:
    """Something outside the world that is in the split."""
    phrases = _STRANGE[language]
    phrase = phrases[int(rng.integers(len(phrases)))]
    if language == "en" and rng.random() < _MADE_UP:
        name = made_up_name(rng, split)
        key, nearest, a = f"made up|{name}", None, f"a {name}"
    else:
        pool = [stranger for stranger in strangers() if stranger.split == split]
        chosen = pool[int(rng.integers(len(pool)))]
        name, nearest = chosen.name(language), chosen.nearest
        key = f"outside|{chosen.en}"
        article = "an" if name[0] in "aeio" else "a"  # a unicorn, a ukulele
        a = f"{article} {name}" if chosen.counted else name
    the = name if language == "zh" else f"the {name}"
    question = phrase.format(a=a, the=the, The=f"The {name}" if language == "en" else name)
    return (key,), FactTurn(question, not_known(name, language, nearest))


_TURNS: dict[str, Callable[[Subject, Language, str, np.random.Generator], _Keyed]] = {
    "what": _what, "kind": _kind, "is": _is, "which": _which, "true": _true, "strange": _strange,
}  # fmt: skip


@cache
def nameless_facts(name: str, language: Language) -> tuple[str, ...]:
    """The wordings of a subject's facts that do not name it, so that they can be asked about."""
    subject = next(s for s in load_subjects() if s.name == name)
    if language == "en":
        names = [subject.name, subject.plural, *subject.aliases]
        pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})", re.IGNORECASE)
    else:
        chinese = chinese_name(name)
        pattern = re.compile("|".join(map(re.escape, (chinese.name, *chinese.aliases))))
    wordings = [w for fact in facts_of_subject(subject)[1:] for w in fact.wordings(language)]
    return tuple(wording for wording in wordings if not pattern.search(wording))
