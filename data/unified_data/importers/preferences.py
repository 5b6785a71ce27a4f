"""Preference pairs, as data sets for DPO have them: `prompt`, `chosen`, `rejected`.

Rafailov et al. 2023, https://arxiv.org/abs/2305.18290. The three are texts or lists of messages (of
an answer also one message); `messages` or `conversations` may stand for `prompt`, `system` before
it. Answers that are whole conversations begin with the prompt, which may then be left out: it is
what both begin with; so has the transcript that HH-RLHF's texts are ("Human: ... Assistant: ...",
Bai et al. 2022, https://arxiv.org/abs/2204.05862). Other fields (scores, margins) are counted.

A place <image> or <audio> takes the next name of `images` or `audios`: those of the prompt come
first, then those of the chosen answer, then those of the rejected one. An answer with lists of its
own (`chosen_images`, `rejected_audios`, ...) takes from these instead; without a text it is them.

A pair becomes two documents side by side in one shard, KEY-chosen and KEY-rejected, or is skipped
whole. What the prompt holds counts nothing, earlier answers among it included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.conversation import add_turns, refuse_fields, role_of, tags_of
from unified_data.importers.embedded import Name
from unified_data.importers.media_folder import MediaFolder
from unified_data.importers.records import IDS, expect, names_of, read_groups
from unified_data.importers.tags import Tags

_HALVES = ("chosen", "rejected")
_MEDIA = ("image", "audio")
_PROMPTS = ("prompt", "messages", "conversations")

_USED = (*IDS, *_HALVES, "system", *(f"{kind}{end}" for kind in _MEDIA for end in ("", "s")),
         *(f"{half}_{kind}s" for half in _HALVES for kind in _MEDIA))  # fmt: skip
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
"""Of a transcript of HH-RLHF."""

Names = dict[str, list[Name]]
"""Of media files by kind."""
Media = tuple[Names, dict[str, bool]]
"""Media files by kind, and by kind whether only tags that stand apart are places, see `tags`."""


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """Two documents a pair. source: JSON, JSONL or a folder of it."""
    return read_groups(source, images, make)


def make(key: str, record: dict[str, Any], media: MediaFolder) -> tuple[Sample, Sample]:
    """The two documents of one record."""
    refuse_fields(record, ("videos", "tools"))
    shared = {kind: names_of(record, f"{kind}s", kind) for kind in _MEDIA}
    owned = [{kind: names_of(record, f"{half}_{kind}s") for kind in _MEDIA} for half in _HALVES]
    answers = [_answer(record, half, own) for half, own in zip(_HALVES, owned)]
    prompt = _prompt(record, answers)
    asked = {kind: len(names) for kind, names in shared.items()}
    apart = {kind: _only_apart(kind, asked[kind], prompt, answers, owned) for kind in _MEDIA}
    of_prompt = _take(prompt, shared, {}, apart)
    of_answers = [_take(answer, shared, own, apart) for answer, own in zip(answers, owned)]
    for kind, left in shared.items():
        if left:
            raise ValueError(
                f"it has {asked[kind]} {kind} files for {asked[kind] - len(left)} places"
            )
    if _same(*answers) and of_answers[0] == of_answers[1]:
        raise ValueError("chosen and rejected are the same")
    used = (*_USED, next((name for name in _PROMPTS if record.get(name) is not None), ""))
    ignored = {name: value for name, value in record.items() if name not in used}
    chosen, rejected = (
        _half(f"{key}-{half}", half, media, (prompt, of_prompt), (answer, its), more)
        for half, answer, its, more in zip(_HALVES, answers, of_answers, (ignored, {}))
    )
    return chosen, rejected


def _half(
    key: str,
    half: str,
    media: MediaFolder,
    prompt: tuple[list[Any], Media],
    answer: tuple[list[Any], Media],
    ignored: dict[str, Any],
) -> Sample:
    builder = DocumentBuilder(key, media.read)
    builder.ignore_others(ignored, ())
    (turns, (names, apart)), (answering, (its, its_apart)) = prompt, answer
    try:
        add_turns(builder, turns, names, answered=False, only_apart=apart)
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from None
    if not len(builder):
        raise ValueError("its prompt is empty")
    builder.mute()
    try:
        add_turns(builder, answering, its, only_apart=its_apart)
    except ValueError as error:
        raise ValueError(f"{half}: {error}") from None
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


def _beginning(first: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """The turns that both begin with, up to the last that is no answer."""
    shared = 0
    while shared < min(len(first), len(other)) and _same([first[shared]], [other[shared]]):
        shared += 1
    while shared and role_of(first[shared - 1]) == "response":
        shared -= 1
    return list(first[:shared])


def _turns(record: dict[str, Any], name: str, who: str) -> list[Any]:
    """A text, a message or messages as a new list of turns."""
    value = expect(record, name, (str, list, dict))
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"{name if name in _HALVES else f'its {name}'} is empty")
        if name in _HALVES and (transcript := _transcript(value)):
            return transcript
        return [{"role": who, "content": value}]
    return list(value) if isinstance(value, list) else [value]


def _transcript(text: str) -> list[Any]:
    """The turns of a text like HH-RLHF's; none where it is no transcript."""
    before, *rest = _SPEAKER.split(text)
    if before.strip() or rest[:1] != ["Human"]:
        return []
    who = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": who[name], "content": content.strip()}
        for name, content in zip(rest[::2], rest[1::2])
    ]


def _same(first: Sequence[Any], other: Sequence[Any]) -> bool:
    def contents(turns: Sequence[Any]) -> list[Any]:
        return [
            (role_of(turn), turn.get("value", turn.get("content")))
            if isinstance(turn, dict)
            else turn
            for turn in turns
        ]

    return contents(first) == contents(other)


def _only_apart(
    kind: str, files: int, prompt: list[Any], answers: list[list[Any]], owned: list[Names]
) -> bool:
    """Whether of the shared files' tags only those that stand apart are places."""
    count = tags_of(prompt, kind)
    for answer, own in zip(answers, owned):
        count += Tags() if own[kind] else tags_of(answer, kind)
    return count.only_apart(files)


def _take(turns: list[Any], shared: Names, own: Names, apart: dict[str, bool]) -> Media:
    """The media that turns take: their own, or so many of the shared ones."""
    names: Names = {}
    only_apart = dict(apart)
    for kind in _MEDIA:
        tags = tags_of(turns, kind)
        if own.get(kind):
            names[kind] = own[kind]
            only_apart[kind] = tags.only_apart(len(own[kind]))
        else:
            count = tags.places(apart[kind])
            names[kind] = shared[kind][:count]
            del shared[kind][:count]
    return names, only_apart
