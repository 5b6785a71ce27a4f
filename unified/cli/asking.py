"""Asking a model: what it can be asked, and a request sampled with what comes shown on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unified.cli.options import Opening
from unified.cli.terminal import AsJson, Progress, follow, note, result

if TYPE_CHECKING:
    from unified.models.asking_models import AskedRequest
    from unified.models.model import UnifiedModel
    from unified_data.document import Document

__all__ = ["fill", "tasks"]


def fill(
    model: UnifiedModel,
    request: AskedRequest,
    number: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Document]:
    """`number` documents of a request, with the seeds seed, seed + 1, ..."""
    from unified_base.arguments import seeds_from
    from unified_data.document import Slot

    for text in request.notes:
        note(text)
    slots = [segment for segment in request.document if isinstance(segment, Slot)]
    if progress is None:
        pictures = sum(slot.modality == "image" for slot in slots) * number
        answers = request.verb is not None and slots[0].modality == "text"
        progress = Progress(number, pictures or None, answers)
    rows = [request.document] * number
    documents = follow(
        model.stream(rows, request.sampling, seeds_from(seed, number), request.negative), progress
    )
    for document in documents:
        for text in request.finish(document):
            note(text)
    return documents


def tasks(opening: Opening, as_json: AsJson = False) -> None:
    """What a model can be asked, how, and what it cannot do and why."""
    from unified.models.info import describe_tasks, tasks_in_words

    description = describe_tasks(opening.model, opening.load())
    result(description, as_json, tasks_in_words(description))
