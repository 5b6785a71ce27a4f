"""Questions and answers in English and Chinese. An answer says first what is seen:

Is there a dog?          a fox and a car: no
How many foxes are there?  two foxes: two
What is to the left of the car?  a fox and a car: a fox
有狗吗？                  一只狐狸和一辆汽车：没有
"""

from __future__ import annotations

import numpy as np

from unified_data.world.captions_en import (
    RELATION_PHRASES,
    ZONE_PHRASES,
    caption_en,
    noun_phrase,
    subject_called,
)
from unified_data.world.captions_zh import (
    COLOUR_WORDS_ZH,
    RELATIONS_ZH,
    ZONES_ZH,
    caption_zh,
    count_zh,
    ground_zh,
    item_zh,
)
from unified_data.world.chinese import chinese_name
from unified_data.world.description import Description, Item
from unified_data.world.questions import Question

__all__ = ["answer_en", "answer_zh", "names_in", "question_en", "question_zh"]

_NUMBERS = ("none", "one", "two", "three", "four")


def names_in(question: Question) -> set[str]:
    """The subjects that a question or its answer names."""
    names = set() if question.item is None else {question.item.name}
    if question.other is not None:
        names.add(question.other)
    if question.kind == "beside":
        names.add(str(question.answer))
    return names


def question_en(question: Question, rng: np.random.Generator | None) -> str:
    """A question in English; where there are several wordings, one of them. None: the first."""
    return _worded(_wordings_en(question), rng)


def _worded(wordings: list[str], rng: np.random.Generator | None) -> str:
    if rng is None:
        return wordings[0]
    # The first is what most people say.
    return wordings[max(0, int(rng.integers(-1, len(wordings))))]


def _wordings_en(question: Question) -> list[str]:
    if question.kind == "what":
        return ["What is this?", "What do you see?", "What is in the picture?"]
    if question.kind == "ground":
        return ["What colour is the ground?", "What is the ground like?"]
    if question.kind == "written":
        return ["What is written?", "What does it say?"]
    assert question.item is not None
    subject = subject_called(question.item.name)
    if question.kind == "exist":
        phrase = noun_phrase(question.item)
        return [f"Is there {phrase}?", f"Is there {phrase} in the picture?",
                f"Do you see {phrase}?"]  # fmt: skip
    if question.kind == "count":
        return [f"How many {subject.plural} are there?", f"How many {subject.plural} do you see?"]
    if question.kind == "colour":
        if question.item.count > 1:
            return [f"What colour are the {subject.plural}?"]
        return [f"What colour is the {subject.name}?"]
    if question.kind == "where":
        return [f"Where is the {subject.name}?"]
    assert question.relation is not None
    phrase = RELATION_PHRASES[question.relation]
    if question.kind == "beside":
        return [f"What is {phrase} the {subject.name}?"]
    return [f"Is the {subject.name} {phrase} the {question.other}?"]


def answer_en(question: Question, seen: Description) -> str:
    """What is seen, and the answer to a question."""
    text = caption_en(seen)
    answer = question.answer
    if question.kind == "what":
        return text
    if isinstance(answer, bool):
        return f"{text}: {'yes' if answer else 'no'}"
    if isinstance(answer, int):
        return f"{text}: {_NUMBERS[answer]}"
    assert isinstance(answer, str)
    if question.kind == "where":
        where = ZONE_PHRASES.get(answer, "")
        if question.other is not None:
            where = f"{RELATION_PHRASES[answer]} the {question.other}"
        return f"{text}: {where}"
    return f"{text}: {subject_called(answer).phrase if question.kind == 'beside' else answer}"


def question_zh(question: Question, rng: np.random.Generator | None) -> str:
    """As `question_en`, in Chinese. Raises ValueError where something in it has no Chinese name."""
    return _worded(_wordings_zh(question), rng)


def _wordings_zh(question: Question) -> list[str]:
    if question.kind == "what":
        return ["这是什么？", "你看到了什么？"]
    if question.kind == "ground":
        return ["背景是什么颜色？", "背景是什么样的？"]
    if question.kind == "written":
        return ["写的是什么？"]
    assert question.item is not None
    name, measure, _ = chinese_name(question.item.name)
    if question.kind == "exist":
        colour = question.item.colour
        what = name if colour is None else f"{COLOUR_WORDS_ZH[colour]}的{name}"
        return [f"有{what}吗？", f"图里有{what}吗？"]
    if question.kind == "count":
        return [f"有几{measure}{name}？"]
    if question.kind == "colour":
        return [f"{name}是什么颜色？"]
    if question.kind == "where":
        return [f"{name}在哪里？"]
    assert question.relation is not None
    relation = RELATIONS_ZH[question.relation]
    if question.kind == "beside":
        return [f"{name}的{relation}是什么？"]
    assert question.other is not None
    return [f"{name}在{chinese_name(question.other).name}的{relation}吗？"]


def answer_zh(question: Question, seen: Description) -> str:
    """As `answer_en`, in Chinese. Raises ValueError as `question_zh` does."""
    text = caption_zh(seen)
    answer = question.answer
    if question.kind == "what":
        return text
    if isinstance(answer, bool):
        yes, no = ("有", "没有") if question.kind == "exist" else ("是", "不是")
        return f"{text}：{yes if answer else no}"
    if isinstance(answer, int):
        assert question.item is not None
        number = count_zh(question.item.name, answer) if answer else "没有"
        return f"{text}：{number}"
    assert isinstance(answer, str)
    if question.kind == "where":
        if question.other is None:
            return f"{text}：{ZONES_ZH[answer]}"
        return f"{text}：{chinese_name(question.other).name}的{RELATIONS_ZH[answer]}"
    if question.kind == "beside":
        return f"{text}：{item_zh(Item(answer))}"
    if question.kind == "written":
        return f"{text}：{answer}"
    return f"{text}：{ground_zh(answer)}"
