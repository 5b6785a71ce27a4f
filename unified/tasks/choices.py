"""What a user chooses about one request: shots, and sampling over the task's and the model's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from unified.engine.request import MODES, Sampling
from unified.tasks.settings import sampling_over
from unified_base.arguments import item
from unified_base.arguments import text as of_text
from unified_base.text import quoted
from unified_data.document import Document

__all__ = ["Choices", "choose_sampling"]


class Choices(TypedDict, total=False):
    """What every verb takes; None, or left out: as the task, then the model, says.

    guidance: scale of classifier-free guidance, of the picture in an article; 1 is none.
    negative: what guidance has in place of the prompt.
    temperature, top_k, top_p: of what the verb makes: pictures for `draw`, sound for `speak`, text
        for the others.
    max_text_ids: ids of each text, at most. max_repeats: a text ends when it has so many copies of
        one phrase on end; 0: never.
    max_thought_ids: ids of a thought before an answer, at most. shots: documents of a prompt and
        its answer each, that stand before what is asked (`unified.tasks.shots`).
    settings: {"image.temperature": 0.9, "max_ids": 4096}, whatever `Sampling` has.
    sampling: in place of the model's and the task's; the others here come on top.
    """

    guidance: float | None
    negative: str | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    max_text_ids: int | None
    max_repeats: int | None
    max_thought_ids: int | None
    shots: Sequence[Document] | None
    settings: Mapping[str, Any] | None
    sampling: Sampling | None


_OF_THE_ANSWER = ("temperature", "top_k", "top_p")
_OF_TEXTS = ("max_text_ids", "max_repeats", "max_thought_ids")


def choose_sampling(
    answers: Collection[str],
    sampling: Sampling,
    kinds: Mapping[str, str],
    choices: Choices,
    negative: str | None = None,
) -> tuple[Sampling, str | None]:
    """The parameters of a request, and what guidance has in place of its prompt.

    answers: what is made: "text", "image", "audio", or "any", whose temperature is that of its text
    and whose guidance that of its pictures. sampling: the task's over the model's. kinds: of spans
    that the format has, with their modality. negative: where nobody chooses one.

    Raises ValueError for an unknown choice or setting, a value out of range, and a negative prompt
    that nothing would read.
    """
    if unknown := sorted(set(choices) - set(Choices.__annotations__)):
        raise ValueError(
            f"there is no choice {quoted(unknown[0])}, expected some of"
            f" {', '.join(Choices.__annotations__)}"
        )
    if (whole := choices.get("sampling")) is not None:
        sampling = item("sampling", whole, Sampling, "a Sampling")
    settings: dict[str, Any] = {}
    for answer in answers:
        for name in _OF_THE_ANSWER:
            if (value := choices.get(name)) is not None:
                settings[f"{'text' if answer == 'any' else answer}.{name}"] = value
        if (scale := choices.get("guidance")) is not None:
            settings[f"{'image' if answer == 'any' else answer}.guidance"] = scale
    for name in _OF_TEXTS:
        if (value := choices.get(name)) is not None:
            settings[name] = value
    sampling = sampling_over(sampling, _of_spans(settings, sampling, kinds), kinds)
    sampling = sampling_over(sampling, choices.get("settings") or {}, kinds)
    chosen = choices.get("negative")
    if chosen is not None:
        negative = _negative(sampling, chosen)
    return sampling, negative


def _of_spans(
    settings: Mapping[str, Any], sampling: Sampling, kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Settings of a modality, for the kinds of spans too that state parameters of their own."""
    spread = dict(settings)
    for name, value in settings.items():
        modality, dot, key = name.partition(".")
        for kind in sampling.spans:
            if dot and kinds.get(kind) == modality:
                spread[f"{kind}.{key}"] = value
    return spread


def _negative(sampling: Sampling, negative: str) -> str:
    guided = [getattr(sampling, mode) for mode in MODES] + list(sampling.spans.values())
    if not any(each.guidance.conditions for each in guided):
        raise ValueError(
            "negative is what guidance has in place of the prompt, and there is no guidance: give"
            " guidance above 1"
        )
    return of_text("negative", negative)
