"""A command's question answered by a running server, as the command itself would answer it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from unified.cli.options import Opening, ServerOpening
from unified.cli.question import Answers, CommandQuestion
from unified.cli.server_connection import (
    SERVER,
    SentRequest,
    ServerRefusalError,
    ask_address,
    ask_sockets,
)
from unified.cli.terminal import Progress, note, stderr_is_terminal
from unified.serving.model_identity import identity_of

__all__ = ["ask_server"]

T = TypeVar("T")
_OTHER_MODEL, _MISTAKE = 409, 400


def ask_server(
    opening: ServerOpening, question: CommandQuestion, use: Callable[[Any], T]
) -> Answers[T] | None:
    """The answers of a running server; None: there is none that would answer as this process does.

    Args:
        opening: the model that is meant.
        question: what it is asked.
        use: makes of each response what is held of it.

    Raises:
        ValueError: UNIFIED_SERVER names a server that does not answer, has another model, or
            cannot do this.
    """
    address = os.environ.get(SERVER)
    if opening.no_server or address == "":
        return None
    if address is not None:
        return _ask_named(address, opening, question, use)
    if question.only_here is not None:
        return None
    body: dict[str, Any] = {}
    for waiting in _sent(opening, question, body):
        progress: list[Progress] = []
        try:
            return _answers(waiting, question, use, progress)
        except ServerRefusalError as refusal:
            for each in progress:
                each.end()
            # A mistake of the user's is told by this process, which says the same.
            if refusal.status not in (_OTHER_MODEL, _MISTAKE):
                note(f"the running server did not answer, so this process does: {refusal}")
                return None
            if refusal.status == _MISTAKE:
                return None
        finally:
            waiting.close()
    return None


def _sent(
    opening: Opening, question: CommandQuestion, body: dict[str, Any]
) -> Iterator[SentRequest]:
    from unified.serving.private_socket import running_sockets

    if not running_sockets():
        return
    body |= _body(question) | {"opening": identity_of(opening).to_json()}
    yield from ask_sockets(f"/v1/verbs/{question.verb}", body)


def _ask_named(
    address: str, opening: Opening, question: CommandQuestion, use: Callable[[Any], T]
) -> Answers[T]:
    """Raises ValueError where the server that the user named does not answer."""
    if question.only_here is not None:
        raise ValueError(f"{question.only_here} is not for servers, and {SERVER} names one: {_OFF}")
    body = _body(question) | {"opening": identity_of(opening, Opening()).to_json()}
    try:
        waiting = ask_address(address, f"/v1/verbs/{question.verb}", body)
        try:
            return _answers(waiting, question, use, [])
        finally:
            waiting.close()
    except ServerRefusalError as refusal:
        if refusal.status == _MISTAKE:
            raise ValueError(str(refusal)) from None
        raise ValueError(f"the server at {address} does not answer: {refusal}; {_OFF}") from None


_OFF = "--no-server asks none"


def _body(question: CommandQuestion) -> dict[str, Any]:
    """The request but for the model; see `serving.verb_body`."""
    inputs = dict(question.inputs)
    if (image := inputs.pop("image", None)) is not None:
        inputs["image"] = _url(image)
    if (audio := inputs.pop("audio", None)) is not None:
        inputs["audio"] = base64.b64encode(audio.to_file()[1]).decode("ascii")
    inputs["examples"] = [
        {"name": name, "image": _url(pixels)} for name, pixels in inputs.pop("examples", ())
    ]
    chosen = {name: value for name, value in vars(question.chosen).items() if value is not None}
    return {
        **{name: value for name, value in inputs.items() if value is not None}, **chosen,
        "decoder": question.decoder, "number": question.number, "seed": question.seed,
        "look": question.number == 1 and stderr_is_terminal(),
    }  # fmt: skip


def _url(pixels: Any) -> str:
    from unified_base.images import encode_png

    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode('ascii')}"


def _answers(
    waiting: SentRequest,
    question: CommandQuestion,
    use: Callable[[Any], T],
    started: list[Progress],
) -> Answers[T]:
    """Follow an answer to its end, all of it shown. started: gets the progress that is shown.

    Raises ServerRefusalError.
    """
    # While the server works: nothing of it is needed to ask.
    from unified.serving.api_errors import ApiError
    from unified.serving.inline_document import document_of
    from unified.serving.wire_events import event_of
    from unified.tasks.response import Response
    from unified_data.document import MAX_SEGMENTS

    if question.prepare is not None:
        question.prepare()
    events = waiting.events()
    asked = next(events)
    results: dict[int, T] = {}
    notes: dict[int, list[str]] = {}
    try:
        for text in asked["notes"]:
            note(text)
        progress = Progress.following(question.number, **asked["outlook"])
        started.append(progress)
        png = None
        for event in events:
            if event["type"] == "answer":
                row = event["row"]
                document = document_of(event["document"], "the answer", MAX_SEGMENTS)
                answer = document.segments[-1]
                if event["text"] is not None:
                    answer = _replace(answer, text=event["text"])
                response = Response(document, answer, event["thought"], event["known"])
                results[row], notes[row] = use(response), event["notes"]
            elif event["type"] != "completed":
                if event["type"] == "ImageRow":  # rows that bring no picture have the one before
                    png = event["png"] = event.get("png", png)
                progress.show(event_of(event))
        progress.end()
        rows = range(question.number)
        for row in rows:
            for text in notes[row]:
                note(text)
        return Answers(
            [results[row] for row in rows], asked["text"], asked["voice"], asked["vocabulary"],
            progress.images, progress.audios,
        )  # fmt: skip
    except (KeyError, TypeError, IndexError, ValueError, ApiError) as error:
        raise ServerRefusalError(
            f"its answer is none of this version's ({type(error).__name__}: {error})"
        ) from None


def _replace(segment: Any, **fields: Any) -> Any:
    from dataclasses import replace

    return replace(segment, **fields)
