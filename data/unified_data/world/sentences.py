"""What is said in the world: captions, facts, names, numbers, words alone and words in no order.

A model that hears only the sentences of a world learns to know them from their beginnings and
writes the rest by heart. So some begin like one sentence and end like another, and others are words
in no order at all; and every word of the world is said alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

import numpy as np
import yaml

from unified_data.pocket.subjects import load_subjects
from unified_data.world.captions_en import COUNT_WORDS, caption_en
from unified_data.world.captions_zh import COLOUR_WORDS_ZH, RELATIONS_ZH, ZONES_ZH, caption_zh
from unified_data.world.chinese import chinese_names
from unified_data.world.colours import TINTS
from unified_data.world.description import RELATION_NAMES, ZONES, Description, Item
from unified_data.world.free_scene import split_of_keys
from unified_data.world.ground import GROUND_NAMES

__all__ = ["Language", "SentenceKind", "draw_sentence", "facts_in", "split_of_sentence",
           "words_in", "words_in_turn"]  # fmt: skip

Language = Literal["en", "zh"]
SentenceKind = Literal["caption", "fact", "name", "number", "salad", "splice"]

_FRAMES = ("This is", "There is", "Here is", "I can see", "The picture shows")
_LETTERS = re.compile("[A-Za-z]")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def split_of_sentence(text: str) -> str:
    """The split of a sentence, or of a word alone, by hash."""
    return split_of_keys((f"speech|{text}",))


class _Texts(NamedTuple):
    en: list[str]
    zh: list[str]


@cache
def _facts() -> _Texts:
    texts = _Texts([s for subject in load_subjects() for s in subject.sentences], [])
    folder = resources.files(__package__) / "wordings"
    files = sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
    for path in files:
        if path.name.endswith(".yaml"):
            for entry in yaml.load(path.read_text("utf-8"), Loader=_Loader):
                for wordings in (entry["lead"], *entry["facts"]):
                    texts.en.extend(wordings["en"])
                    texts.zh.extend(wordings["zh"])
    # mei says Chinese alone.
    return _Texts(texts.en, [text for text in texts.zh if not _LETTERS.search(text)])


def facts_in(language: Language) -> list[str]:
    """Leads and facts of every subject in every wording."""
    return _facts().en if language == "en" else _facts().zh


@cache
def words_in(language: Language) -> tuple[str, ...]:
    """Every word of the world, once: of English those of names, captions and facts; of Chinese,
    which writes none apart, names and what captions are made of."""
    if language == "zh":
        names = [[name.name, *name.aliases] for name in chinese_names().values()]
        words = {word for group in names for word in group if not _LETTERS.search(word)}
        return tuple(
            sorted(words.union(*map(dict.values, (COLOUR_WORDS_ZH, RELATIONS_ZH, ZONES_ZH))))
        )
    subjects = load_subjects()
    texts = [*facts_in("en"), *GROUND_NAMES, *ZONES, *RELATION_NAMES, *COUNT_WORDS.values()]
    for subject in subjects:
        texts += [subject.name, subject.plural, *subject.aliases]
    words = {word for text in texts for word in re.findall(r"[A-Za-z]+(?:['’][a-z]+)?", text)}
    # Only names are written large: what occurs small as well is small.
    return tuple(
        sorted(word for word in words if word == word.lower() or word.lower() not in words)
    )


def words_in_turn(language: Language, split: str, rng: np.random.Generator) -> Iterator[str]:
    """Words of a split without end: all in a random order, then all in another."""
    words = [word for word in words_in(language) if split_of_sentence(word) == split]
    while True:
        for index in rng.permutation(len(words)):
            yield words[index]


def draw_sentence(
    kind: SentenceKind, language: Language, split: str, rng: np.random.Generator
) -> str:
    """A sentence of a kind whose split is `split`."""
    while True:
        text = _DRAWN[kind](language, rng)
        if split_of_sentence(text) == split:
            return text


def _pick(rng: np.random.Generator, choices: list[str] | tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _caption(language: Language, rng: np.random.Generator) -> str:
    description = _description(language, rng)
    if language == "zh":
        return f"{caption_zh(description)}。"
    text = caption_en(description)
    single = text.startswith(("a ", "an ")) and " and " not in text
    if single and rng.random() < 0.4:
        return f"{_pick(rng, _FRAMES)} {text}."
    return f"{text[0].upper()}{text[1:]}."


def _description(language: Language, rng: np.random.Generator) -> Description:
    """Something that a picture might show, without one."""
    names = list(chinese_names()) if language == "zh" else [s.name for s in load_subjects()]
    kind = int(rng.choice(6, p=[0.25, 0.2, 0.25, 0.15, 0.1, 0.05]))
    number = (1, 1, 2, 1, int(rng.integers(2, 4)), int(rng.integers(0, 2)))[kind]
    items = []
    for index in rng.permutation(len(names))[:number]:
        colour = _pick(rng, tuple(TINTS)) if rng.random() < 0.3 else None
        items.append(Item(names[index], int(rng.integers(2, 5)) if kind == 3 else 1, colour))
    return Description(
        tuple(items),
        relation=_pick(rng, RELATION_NAMES) if kind == 2 else None,
        zone=_pick(rng, ZONES) if kind == 1 else None,
        ground=_pick(rng, GROUND_NAMES) if rng.random() < 0.5 else None,
        writing=_number(rng) if kind == 5 and number else None,
    )


def _fact(language: Language, rng: np.random.Generator) -> str:
    return _pick(rng, facts_in(language))


def _name(language: Language, rng: np.random.Generator) -> str:
    if language == "zh":
        name = _pick(rng, list(chinese_names()))
        return f"{caption_zh(Description((Item(name, int(rng.integers(1, 5))),)))}。"
    subject = load_subjects()[int(rng.integers(len(load_subjects())))]
    count = int(rng.integers(1, 5))
    text = caption_en(Description((Item(subject.name, count),)))
    return f"{text[0].upper()}{text[1:]}."


def _number(rng: np.random.Generator) -> str:
    return str(int(rng.integers(0, 10 ** int(rng.integers(1, 5)))))


def _salad(language: Language, rng: np.random.Generator) -> str:
    words = words_in(language)
    parts = [_pick(rng, words) for _ in range(int(rng.integers(3, 9 if language == "en" else 6)))]
    return (" " if language == "en" else "，").join(parts)


def _splice(language: Language, rng: np.random.Generator) -> str:
    """The beginning of a sentence and the end of another."""
    first, last = (
        _caption(language, rng) if rng.random() < 0.4 else _fact(language, rng) for _ in range(2)
    )
    glue = " " if language == "en" else ""
    before, after = (list(text) if glue == "" else text.split() for text in (first, last))
    cut = int(rng.integers(2, max(3, len(before) - 1)))
    back = int(rng.integers(2, max(3, min(len(after), 10 if glue else 20))))
    return glue.join([*before[:cut], *after[-back:]])


_DRAWN: dict[SentenceKind, Callable[[Language, np.random.Generator], str]] = {
    "caption": _caption,
    "fact": _fact,
    "name": _name,
    "number": lambda language, rng: _number(rng),
    "salad": _salad,
    "splice": _splice,
}
