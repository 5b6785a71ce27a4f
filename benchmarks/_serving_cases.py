"""Short requests of every verb, by the official client; each has one right answer."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
from _serving_streams import Asked, Read, read_stream

__all__ = ["Case", "NotServed", "all_cases", "official_client", "vanishing"]

_WORDS = ("The giant panda", "The rooster", "The umbrella", "The pizza")
_THINGS = ("a cat", "a red apple", "two green keys")


class NotServed(Exception):  # noqa: N818 (what a server says, not a fault of ours)
    """There is no answer, or not all of it: the connection failed, or the server is ending."""


@dataclass(frozen=True)
class Case:
    """One request.

    name: of the verb and what it is asked. ask: returns a digest of the answer. Raises NotServed
    where there is none, and ValueError for one that is a refusal.
    """

    name: str
    ask: Callable[[openai.OpenAI, Read], str]


def official_client(url: str) -> openai.OpenAI:
    """That asks once: asking again is counted here."""
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)


def all_cases(client: openai.OpenAI, port: int, seeds: int) -> list[Case]:
    """All of them, with so many seeds each. client: of a server that listens, for the picture and
    the sound that are sent in."""
    cases: list[Case] = []
    picture = client.images.generate(prompt="a cat", extra_body={"seed": 5}).data
    assert picture
    url = f"data:image/png;base64,{picture[0].b64_json}"
    sound = client.audio.speech.create(
        model="pocket", input="a red apple", voice="ben", response_format="wav",
        extra_body={"seed": 5},
    ).content  # fmt: skip
    seen = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    for seed in range(1, seeds + 1):
        for words in _WORDS:
            cases += [
                _case(f"chat {words}, {seed}", _chat(_asked(words), seed)),
                _case(f"responses {words}, {seed}", _responses(words, seed)),
            ]
        for words in _THINGS:
            cases += [
                _case(f"draw {words}, {seed}", _draw(words, seed)),
                _case(f"speak {words}, {seed}", _speak(words, seed)),
            ]
        cases += [
            _case(f"describe, {seed}", _chat(seen, seed)),
            _case(f"listen, {seed}", _listen(sound, seed)),
            Case(f"article, {seed}", _article(port, seed)),
        ]
    return cases


def vanishing(case: int) -> Asked:
    """A request for a stream, of each kind in turn; its client will not wait for the end."""
    kind = ("article", "picture", "sound", "chat", "response")[case % 5]
    bodies: dict[str, dict[str, Any]] = {
        "article": {"prompt": "The giant panda. One picture", "seed": 7},
        "picture": {"prompt": "a cat", "stream": True, "partial_images": 3, "seed": 7},
        "sound": {"model": "pocket", "input": "a red apple", "response_format": "pcm", "seed": 7},
        "chat": {"model": "pocket", "messages": _asked("The rooster"), "stream": True,
                 "modalities": ["text", "image"], "seed": 7},
        "response": {"model": "pocket", "input": "The pizza", "stream": True, "seed": 7},
    }  # fmt: skip
    return Asked(kind, bodies[kind])


def _case(name: str, ask: Callable[[openai.OpenAI], Any]) -> Case:
    def asked(client: openai.OpenAI, read: Read) -> str:
        try:
            return _digest(ask(client))
        except openai.APIConnectionError as error:
            raise NotServed(f"{type(error).__name__}: {error.__cause__}") from None
        except openai.APIStatusError as error:
            if error.status_code in (429, 503):
                raise NotServed(str(error.status_code)) from None
            raise ValueError(f"{error.status_code}: {error.message}") from None

    return Case(name, asked)


def _digest(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return hashlib.sha256(data).hexdigest()


def _asked(words: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": words}]


def _chat(messages: Any, seed: int) -> Callable[[openai.OpenAI], Any]:
    def ask(client: openai.OpenAI) -> Any:
        answer = client.chat.completions.create(
            model="pocket", messages=messages, seed=seed, max_completion_tokens=40
        )
        assert answer.usage is not None
        return [answer.choices[0].message.content, answer.usage.completion_tokens]

    return ask


def _responses(words: str, seed: int) -> Callable[[openai.OpenAI], Any]:
    """Streamed, with a picture."""

    def ask(client: openai.OpenAI) -> Any:
        events = client.responses.create(
            model="pocket", input=f"{words}. One picture", stream=True, max_output_tokens=150,
            tools=[{"type": "image_generation", "partial_images": 1}], extra_body={"seed": seed},
        )  # fmt: skip
        told: list[Any] = []
        for event in events:
            if event.type == "response.output_text.delta":
                told.append(event.delta)
            elif event.type in ("response.completed", "response.incomplete"):
                items = event.response.output
                return ["".join(told), *(item.model_dump(exclude={"id"})["type"] for item in items),
                        *(getattr(item, "result", None) for item in items),
                        event.response.usage and event.response.usage.output_tokens]  # fmt: skip
        raise openai.APIConnectionError(request=events.response.request)

    return ask


def _draw(words: str, seed: int) -> Callable[[openai.OpenAI], Any]:
    def ask(client: openai.OpenAI) -> Any:
        answer = client.images.generate(prompt=words, extra_body={"seed": seed})
        assert answer.data is not None
        assert answer.usage is not None
        return [answer.data[0].b64_json, answer.usage.output_tokens]

    return ask


def _speak(words: str, seed: int) -> Callable[[openai.OpenAI], Any]:
    def ask(client: openai.OpenAI) -> Any:
        return client.audio.speech.create(
            model="pocket", input=words, voice="amy", response_format="wav",
            extra_body={"seed": seed},
        ).content  # fmt: skip

    return ask


def _listen(sound: bytes, seed: int) -> Callable[[openai.OpenAI], Any]:
    def ask(client: openai.OpenAI) -> Any:
        return client.audio.transcriptions.create(
            model="pocket", file=("sound.wav", sound), extra_body={"seed": seed}
        ).text

    return ask


def _article(port: int, seed: int) -> Callable[[openai.OpenAI, Read], str]:
    body = {"prompt": "The giant panda. One picture", "narration": False, "seed": seed}

    def ask(client: openai.OpenAI, read: Read) -> str:
        try:
            read_stream(port, Asked("article", body), read)
        except (OSError, http.client.HTTPException) as error:
            raise NotServed(f"{type(error).__name__}: {error}") from None
        if read.failure and not read.failure.startswith(("429", "503")):
            raise ValueError(read.failure)
        if not read.complete:
            raise NotServed(read.failure or "the stream broke off")
        return read.digest

    return ask


def document_digest(obj: dict[str, Any]) -> str:
    """Of an article's `/document`, with its media."""
    rows = obj["segments"]
    media = [base64.b64decode(row["data"]) for row in rows if "data" in row]
    return _digest([row.get("text") for row in rows]) + "".join(map(_digest, media))
