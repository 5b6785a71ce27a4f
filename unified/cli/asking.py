"""A request is told of, sampled with what comes shown on stderr, and its notes are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unified.cli.terminal import Progress, follow, note

if TYPE_CHECKING:
    from unified.models.asking_models import AskedRequest
    from unified.models.model import UnifiedModel
    from unified_data.document import Document

__all__ = ["fill"]


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
