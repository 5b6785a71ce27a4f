"""Streams of three kinds, read as they come: an article, a picture row by row, a sound."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unified_data.pocket.subjects import load_subjects

__all__ = ["KINDS", "Asked", "Read", "asked_for", "begin", "read_stream", "vanish"]

KINDS = ("article", "picture", "sound")
_PATHS = {
    "article": "/v1/articles",
    "picture": "/v1/images/generations",
    "sound": "/v1/audio/speech",
    "chat": "/v1/chat/completions",
    "response": "/v1/responses",
}
# The first event that has something to see or to hear.
_FIRST = {
    "segment.text": "text",
    "segment.rows": "row",
    "segment.sound": "sound",
    "image_generation.partial_image": "row",
    "speech.audio.delta": "sound",
}
_LAST = ("article.completed", "image_generation.completed", "speech.audio.done")
_NAMES = [subject.name for subject in load_subjects()]


@dataclass(frozen=True)
class Asked:
    """One request. kind: of `KINDS`, or another of `_PATHS`."""

    kind: str
    body: dict[str, Any] = field(hash=False)

    @property
    def seed(self) -> int:
        return int(self.body["seed"])


def asked_for(kind: str, number: int) -> Asked:
    """The request of a number: a subject of the model's world, and a seed that no other has."""
    name, seed = _NAMES[number % len(_NAMES)], 1_000 + number
    if kind == "article":
        return Asked(kind, {"prompt": f"The {name}. One picture", "pictures": 1, "seed": seed})
    if kind == "picture":
        prompt = f"a {name}"
        return Asked(kind, {"prompt": prompt, "stream": True, "partial_images": 3, "seed": seed})
    body = {"model": "pocket", "input": f"The {name} is here.", "response_format": "pcm",
            "stream_format": "sse", "seed": seed}  # fmt: skip
    return Asked(kind, body)


@dataclass
class Read:
    """What came of a request.

    Attributes:
        first: seconds from the request to the first text, row and sound of it.
        ids: that were written for it.
        digest: of its texts, pictures and sounds; of an article's pictures, what was told of rows.
        id: of an article.
        segments: of it that were told to be done.
        complete: whether its last event came.
        failure: what the server said in place of it.
    """

    first: dict[str, float] = field(default_factory=dict)
    ids: int = 0
    digest: str = ""
    id: str = ""
    segments: list[int] = field(default_factory=list)
    complete: bool = False
    failure: str = ""


def begin(port: int, asked: Asked) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Send it; returns once its answer begins. Raises OSError and `http.client.HTTPException`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    data = json.dumps(asked.body).encode()
    connection.request("POST", _PATHS[asked.kind], data, {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def read_stream(port: int, asked: Asked, into: Read | None = None) -> Read:
    """Ask, and read to the end. into: filled while it comes, so that it has what came before an
    error. Raises OSError and `http.client.HTTPException` as the connection does."""
    read, began = into or Read(), time.perf_counter()
    digest = hashlib.sha256()
    connection, answer = begin(port, asked)
    try:
        if answer.status != 200:
            read.failure = f"{answer.status} {answer.read()[:300]!r}"
            return read
        for event in _events(answer):
            kind = event.get("type", "error")
            name = _FIRST.get(kind)
            if name is not None and name not in read.first:
                read.first[name] = time.perf_counter() - began
            if kind == "article.created":
                read.id = event["id"]
            elif kind == "segment.done":
                read.segments.append(event["segment"])
                digest.update(event.get("text", "").encode())
            elif kind == "segment.rows":
                digest.update(event["png"].encode())
            elif kind in ("segment.sound", "speech.audio.delta"):
                digest.update(event.get("pcm16", event.get("audio", "")).encode())
            elif kind == "image_generation.completed":
                digest.update(event["b64_json"].encode())
            elif "error" in kind:
                read.failure = json.dumps(event)
            if kind in _LAST:
                read.ids = event["ids"] if "ids" in event else event["usage"]["output_tokens"]
                read.complete = True
        read.digest = f"{digest.hexdigest()[:32]} {read.ids}"
        return read
    finally:
        connection.close()


def vanish(connection: http.client.HTTPConnection, answer: Any, abruptly: bool) -> float:
    """Be gone. abruptly: by a reset, else by an end of the connection. Returns when (monotonic)."""
    own = answer.fp.raw._sock if connection.sock is None else connection.sock
    if abruptly:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        own.shutdown(socket.SHUT_RDWR)
    answer.close()
    connection.close()
    return time.monotonic()


def _events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in answer:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
