"""Preference pairs, as data sets for DPO have them: `prompt`, `chosen`, `rejected`.

Rafailov et al. 2023, https://arxiv.org/abs/2305.18290. The three are texts or lists of messages (of
an answer also one message); `messages` or `conversations` may stand for `prompt`, `system` before
it. Answers that are whole conversations begin with the prompt, which may then be left out: it is
what both begin with. Other fields (scores, margins) are not looked at.

A place <image> or <audio> takes the next name of `images` or `audios`: those of the prompt come
first, then those of the chosen answer, then those of the rejected one. An answer with lists of its
own (`chosen_images`, `rejected_audios`, ...) takes from these instead; without a text it is them.

A pair becomes two documents side by side in one shard, KEY-chosen and KEY-rejected, or is skipped
whole. What the prompt holds counts nothing, earlier answers among it included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.conversation import add_turns, places_of, refuse_fields, role_of
from unified_data.importers.source import MediaFolder, expect, names_of, read_groups

_HALVES = ("chosen", "rejected")
_MEDIA = ("image", "audio")
_PROMPTS = ("prompt", "messages", "conversations")

Names = dict[str, list[str]]
"""Of media files by kind."""


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """Two documents a pair. source: JSON, JSONL or a folder of it."""
    return read_groups(source, images, _make)


def _make(key: str, record: dict[str, Any], media: MediaFolder) -> tuple[Sample, Sample]:
    refuse_fields(record, ("videos", "tools"))
    shared = {kind: names_of(record, f"{kind}s") for kind in _MEDIA}
    owned = [{kind: names_of(record, f"{half}_{kind}s") for kind in _MEDIA} for half in _HALVES]
    answers = [_answer(record, half, own) for half, own in zip(_HALVES, owned)]
    prompt = _prompt(record, answers)
    asked = {kind: len(names) for kind, names in shared.items()}
    given = _take(prompt, shared, {})
    names = [_take(answer, shared, own) for answer, own in zip(answers, owned)]
    for kind, left in shared.items():
        if left:
            raise ValueError(
                f"it has {asked[kind]} {kind} files for {asked[kind] - len(left)} places"
            )
    if _same(*answers) and names[0] == names[1]:
        raise ValueError("chosen and rejected are the same")
    chosen, rejected = (
        _half(f"{key}-{half}", half, media, (prompt, given), (answer, its))
        for half, answer, its in zip(_HALVES, answers, names)
    )
    return chosen, rejected


def _half(
    key: str,
    half: str,
    media: MediaFolder,
    prompt: tuple[list[Any], Names],
    answer: tuple[list[Any], Names],
) -> Sample:
    builder = DocumentBuilder(key, media.read)
    (turns, names), (answering, its) = prompt, answer
    add_turns(builder, turns, names["image"], names["audio"], answered=False)
    given = len(builder)
    if not given:
        raise ValueError("its prompt is empty")
    builder.mute()
    try:
        add_turns(builder, answering, its["image"], its["audio"])
    except ValueError as error:
        raise ValueError(f"{half}: {error}") from None
    if len(builder) == given:
        raise ValueError(f"{half} is empty")
    return builder.sample(joined=half == _HALVES[0])


def _answer(record: dict[str, Any], half: str, own: Names) -> list[Any]:
    """The turns of an answer."""
    if not record.get(half) and any(own.values()):
        text = "".join(f"<{kind}>" * len(names) for kind, names in own.items())
        return [{"role": "assistant", "content": text}]
    return _turns(record, half, "assistant")


def _prompt(record: dict[str, Any], answers: list[list[Any]]) -> list[Any]:
    """The turns of the prompt, taken away from answers that are whole conversations."""
    field = next((name for name in _PROMPTS if record.get(name) is not None), None)
    if field is None:
        prompt = _beginning(*answers)
        if not prompt:
            raise ValueError("it has no 'prompt', nor do chosen and rejected begin with the same")
    else:
        prompt = _turns(record, field, "user")
    for half, answer in zip(_HALVES, answers):
        if _same(answer[: len(prompt)], prompt):
            del answer[: len(prompt)]
        if not answer:
            raise ValueError(f"{half} has no answer after the prompt")
        if role_of(answer[0]) == "prompt":
            raise ValueError(f"{half} begins with another prompt than the pair's")
    if not prompt or role_of(prompt[-1]) == "response":
        raise ValueError("its prompt does not end with what a user says")
    if record.get("system") is not None:
        prompt = [{"role": "system", "content": expect(record, "system", str)}, *prompt]
    return prompt


def _beginning(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """The turns that both begin with, up to the last that is no answer."""
    shared = 0
    while shared < min(len(one), len(other)) and _same([one[shared]], [other[shared]]):
        shared += 1
    while shared and role_of(one[shared - 1]) == "response":
        shared -= 1
    return list(one[:shared])


def _turns(record: dict[str, Any], name: str, who: str) -> list[Any]:
    """A text, a message or messages as a new list of turns."""
    value = expect(record, name, (str, list, dict))
    if isinstance(value, str):
        return [{"role": who, "content": value}]
    return list(value) if isinstance(value, list) else [value]


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    def said(turns: Sequence[Any]) -> list[Any]:
        return [
            (role_of(turn), turn.get("value", turn.get("content")))
            if isinstance(turn, dict)
            else turn
            for turn in turns
        ]

    return said(one) == said(other)


def _take(turns: list[Any], shared: Names, own: Names) -> Names:
    """The names of media that turns take: their own, or so many of the shared ones."""
    found = {}
    for kind in _MEDIA:
        found[kind] = own.get(kind, [])
        if not found[kind]:
            count = places_of(turns, kind)
            found[kind] = shared[kind][:count]
            del shared[kind][:count]
    return found
