"""What a user chooses about the sampling of one request, over the task's and the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from unified.engine.request import MODES, Sampling
from unified.tasks.settings import sampling_over
from unified.tasks.task import Task
from unified_base.arguments import item
from unified_base.arguments import text as of_text

__all__ = ["Choices", "choose_sampling"]


class Choices(TypedDict, total=False):
    """What every verb takes; None, or left out: as the task, then the model, says.

    guidance: scale of classifier-free guidance, of the picture in an article; 1 is none.
    negative: what guidance has in place of the prompt.
    temperature, top_k, top_p: of what the verb makes: pictures for `draw`, sound for `speak`, text
        for the others.
    max_text_ids: ids of each text, at most. max_repeats: a text ends when it has so many copies of
        one phrase on end; 0: never.
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
    settings: Mapping[str, Any] | None
    sampling: Sampling | None


_OF_THE_ANSWER = ("temperature", "top_k", "top_p")
_OF_TEXTS = ("max_text_ids", "max_repeats")


def choose_sampling(
    task: Task, sampling: Sampling, kinds: Mapping[str, str], choices: Choices
) -> tuple[Sampling, str | None]:
    """The parameters of a request, and what guidance has in place of its prompt.

    sampling: the model's. kinds: of spans that its format has, with their modality.

    Raises ValueError for an unknown choice or setting, a value out of range, and a negative prompt
    that nothing would read.
    """
    if unknown := sorted(set(choices) - set(Choices.__annotations__)):
        raise ValueError(
            f"there is no choice {unknown[0]!r}, expected some of"
            f" {', '.join(Choices.__annotations__)}"
        )
    whole = choices.get("sampling")
    if whole is None:
        chosen = task.sampling_over(sampling)
    else:
        chosen = item("sampling", whole, Sampling, "a Sampling")
    settings: dict[str, Any] = {}
    for name in _OF_THE_ANSWER:
        if (value := choices.get(name)) is not None:
            settings[f"{task.kind}.{name}"] = value
    guided = "image" if task.slot.kind == "any" else task.slot.kind
    if (scale := choices.get("guidance")) is not None:
        settings[f"{guided}.guidance"] = scale
    for name in _OF_TEXTS:
        if (value := choices.get(name)) is not None:
            settings[name] = value
    chosen = sampling_over(chosen, _of_spans(settings, chosen, kinds), kinds)
    chosen = sampling_over(chosen, choices.get("settings") or {}, kinds)
    return chosen, _negative(task, chosen, choices.get("negative"))


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


def _negative(task: Task, sampling: Sampling, negative: str | None) -> str | None:
    if negative is None:
        return task.negative
    of_text("negative", negative)
    guided = [getattr(sampling, mode) for mode in MODES] + list(sampling.spans.values())
    if not any(each.guidance.without for each in guided):
        raise ValueError(
            "negative is what guidance has in place of the prompt, and there is no guidance: give"
            " guidance above 1"
        )
    return negative
