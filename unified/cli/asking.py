"""Asking a model: what it can be asked, and a request sampled with what comes shown on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from unified.cli.options import Opening
from unified.cli.terminal import AsJson, Progress, follow, note, result

if TYPE_CHECKING:
    from collections.abc import Callable

    from unified.models.asking_models import AskedRequest
    from unified.models.model import UnifiedModel
    from unified.tasks.response import Response
    from unified_data.document import Document

__all__ = ["fill", "fill_each", "tasks", "with_thought"]

T = TypeVar("T")
# Of KV slots, where a document fits in it several times: 64 pictures of the pocket at once take 76
# MB. More at once are not much quicker, and a command should leave memory to others.
_CACHE_BYTES = 96 << 20
_MOST_BRANCHES = 3  # of guidance, the document itself included


def fill(
    model: UnifiedModel,
    request: AskedRequest,
    number: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Document]:
    """`number` documents of a request, with the seeds seed, seed + 1, ..."""
    return fill_each(model, request, number, seed, lambda document: document, progress)


def fill_each(
    model: UnifiedModel,
    request: AskedRequest,
    number: int,
    seed: int,
    use: Callable[[Document], T],
    progress: Progress | None = None,
) -> list[T]:
    """What `use` makes of each document as it comes; the documents themselves are not held."""
    from unified_base.arguments import seeds_from
    from unified_data.document import Slot

    for text in request.notes:
        note(text)
    slots = [segment for segment in request.document if isinstance(segment, Slot)]
    if progress is None:
        pictures = sum(slot.modality == "image" for slot in slots) * number
        answers = request.verb is not None and slots[-1].modality == "text"
        thinks = request.task is not None and request.task.thinks
        progress = Progress(number, pictures or None, answers, hides_texts=thinks)
    _limit_memory(model, request.sampling.max_ids)
    rows = [request.document] * number
    events = model.stream(rows, request.sampling, seeds_from(seed, number), request.negative)
    results: dict[int, T] = {}
    notes: dict[int, tuple[str, ...]] = {}
    for done in follow(events, progress):
        results[done.row], notes[done.row] = use(done.document), request.finish(done.document)
    for row in range(number):
        for text in notes[row]:
            note(text)
    return [results[row] for row in range(number)]


def with_thought(plain: str, response: Response, visible: bool) -> str:
    """Plain output, with the thought on lines of their own before it where it shall be shown."""
    if not visible:
        return plain
    if response.thought is None:
        note("there is no thought: the model wrote the answer alone")
        return plain
    return f"{response.thought}\n{plain}"


def _limit_memory(model: UnifiedModel, max_ids: int | None) -> None:
    from unified.engine.engine import MAX_IDS

    decoder = model.decoder()
    longest = min(max_ids or MAX_IDS, decoder.max_positions)
    if _MOST_BRANCHES * decoder.cache_bytes(longest) <= _CACHE_BYTES:
        model.limit_engine(cache_bytes=_CACHE_BYTES)


def tasks(opening: Opening, as_json: AsJson = False) -> None:
    """What a model can be asked, how, and what it cannot do and why."""
    from unified.models.info import describe_tasks, tasks_in_words

    description = describe_tasks(opening.model, opening.load())
    result(description, as_json, tasks_in_words(description))
