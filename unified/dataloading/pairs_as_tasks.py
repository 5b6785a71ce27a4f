"""Pairs laid out as the model is asked: a caption and its picture by the task to draw, and so on.

What a model is trained on is then, id for id, what it will be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unified.dataloading.stored_codes import Stored
from unified.formats.coded import CodedImage
from unified.tasks.asking import Inputs, segments_of
from unified.tasks.task import Task, Verb
from unified.tasks.task_table import Tasks
from unified_data.document import Text

__all__ = ["CAPTION_KINDS", "lay_out_by_task", "verb_of"]

CAPTION_KINDS = frozenset({"pairs", "coco", "folder", "webdataset"})
"""Kinds of shards that `unified data import` makes of captions: their text is what is meant, not
how it is asked for."""

_VERBS: dict[tuple[tuple[str, ...], tuple[str, ...]], Verb] = {
    (("text",), ("image",)): "draw",
    (("text",), ("audio",)): "speak",
    (("image",), ("text",)): "describe",
    (("image", "text"), ("text",)): "ask",
    (("audio",), ("text",)): "listen",
    (("video",), ("text",)): "describe",
    (("video", "text"), ("text",)): "ask",
    (("text",), ("video",)): "draw",
}


def verb_of(segments: Sequence[Stored], num_prompt: int) -> Verb | None:
    """What a pair teaches to do; None where it is no such pair.

    num_prompt: how many of the segments are the prompt.
    """
    kinds = tuple(_modality(segment) for segment in segments)
    return _VERBS.get((kinds[:num_prompt], kinds[num_prompt:]))


def lay_out_by_task(
    segments: Sequence[Stored], num_prompt: int, tasks: Tasks, image_stride: int | None
) -> tuple[list[Stored], int] | None:
    """The segments of a pair as the model's task for it lays them out, and how many are the prompt.

    None where the pair is of no task, or of one that the model does not have.

    Args:
        segments: of the pair, the prompt first.
        num_prompt: how many of them are the prompt.
        tasks: of the model.
        image_stride: pixels a code covers on each side; for tasks whose words say a size.

    Raises:
        ValueError: the task does not take such a pair.
    """
    verb = verb_of(segments, num_prompt)
    task = None if verb is None else tasks[verb]
    if not isinstance(task, Task):
        return None
    prompt, answer = segments[:num_prompt], segments[num_prompt]
    values: dict[str, Any] = {}
    for segment in prompt:
        if isinstance(segment, Text):
            values["question" if task.verb == "ask" else "text"] = segment.text
        else:
            values[_modality(segment)] = segment
    if "width" in task.placeholders and isinstance(answer, CodedImage) and image_stride is not None:
        rows, columns = answer.codes.shape[-2:]
        values["size"] = columns * image_stride, rows * image_stride
    if _modality(answer) == "video":
        values["frames"] = len(answer.codes[0])  # type: ignore[union-attr]
    document = segments_of(task, Inputs(**values), answer)
    return list(document), len(document) - 1  # type: ignore[arg-type]


def _modality(segment: Stored) -> str:
    return "text" if isinstance(segment, Text) else segment.modality
