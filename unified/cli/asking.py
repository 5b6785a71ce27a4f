"""Asking a model: what it can be asked, and a request sampled with what comes shown on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from unified.cli.options import Opening, ServerOpening
from unified.cli.question import Answers, CommandQuestion
from unified.cli.terminal import AsJson, Progress, follow, note, result

if TYPE_CHECKING:
    from collections.abc import Callable

    from unified.models.asking_models import AskedRequest
    from unified.models.model import UnifiedModel
    from unified.tasks.response import Response
    from unified_data.document import Document

__all__ = ["answers", "fill", "tasks", "with_thought"]

T = TypeVar("T")
# Of KV slots, where a document fits in it several times: 64 pictures of the pocket at once take 76
# MB. More at once are not much quicker, and a command should leave memory to others.
_CACHE_BYTES = 96 << 20
_MOST_BRANCHES = 3  # of guidance, the document itself included


def answers(
    opening: ServerOpening, question: CommandQuestion, use: Callable[[Response], T]
) -> Answers[T]:
    """What a model answers: a running server's, where there is one that has it, or this process's.

    Both give the same to the bit. use: makes of each response what is held of it.

    Raises ValueError as `ServerOpening.load`, `UnifiedModel.request` and `ask_server` do.
    """
    from unified.cli.asking_server import ask_server

    answered = ask_server(opening, question, use)
    return _ask_here(opening, question, use) if answered is None else answered


def _ask_here(
    opening: ServerOpening, question: CommandQuestion, use: Callable[[Response], T]
) -> Answers[T]:
    from unified.tasks.asking import Example

    choices = question.chosen.choices
    examples = tuple(Example(*each) for each in question.inputs.get("examples", ()))
    model = opening.load(question.decoder, question.steps)
    if question.check:
        model.tasks.task("ask")  # refused before anything is sampled
    inputs = {**question.inputs, "examples": examples}
    request = model.request(question.verb, **inputs, **choices)
    progress = _progress(request, question.number)
    results = _fill_each(
        model, request, question.number, question.seed,
        lambda document: use(request.response(document)), progress,
    )  # fmt: skip
    voice = request.inputs.voice or (None if request.task is None else request.task.voice)
    return Answers(
        results, request.inputs.text, voice, model.vocabulary.hash,
        progress.images, progress.audios, model,
    )  # fmt: skip


def fill(model: UnifiedModel, request: AskedRequest, number: int, seed: int) -> list[Document]:
    """`number` documents of a request, with the seeds seed, seed + 1, ..."""
    progress = _progress(request, number)
    return _fill_each(model, request, number, seed, lambda document: document, progress)


def _fill_each(
    model: UnifiedModel,
    request: AskedRequest,
    number: int,
    seed: int,
    use: Callable[[Document], T],
    progress: Progress,
) -> list[T]:
    """What `use` makes of each document as it comes; the documents themselves are not held."""
    from unified.formats.limits import BudgetError
    from unified_base.arguments import seeds_from

    for text in request.notes:
        note(text)
    _limit_memory(model, request.sampling.max_ids)
    rows = [request.document] * number
    events = model.stream(rows, request.sampling, seeds_from(seed, number), request.negative)
    results: dict[int, T] = {}
    notes: dict[int, tuple[str, ...]] = {}
    try:
        for done in follow(events, progress):
            results[done.row], notes[done.row] = use(done.document), request.finish(done.document)
    except BudgetError as error:
        raise request.explain(error) from None
    for row in range(number):
        for text in notes[row]:
            note(text)
    return [results[row] for row in range(number)]


def _progress(request: AskedRequest, number: int) -> Progress:
    return Progress.following(number, **request.outlook._asdict())


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
