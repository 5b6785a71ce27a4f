"""How a command reaches a running server: by UNIFIED_SERVER, or a socket in the runtime folder.

Nothing heavy is imported: a command that a server answers is as quick as it is to start.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from unified.serving.private_socket import connect, running_sockets
from unified_base.text import quoted, safe

__all__ = ["SERVER", "SentRequest", "ServerRefusalError", "ask_address", "ask_sockets"]

SERVER = "UNIFIED_SERVER"
_KEY = "UNIFIED_API_KEY"
_CONNECTING = 10.0  # seconds; an answer may take any time
_PROBING = 2.0  # seconds for a server of this machine to say that it lives
_LONGEST_LINE = 1 << 28  # bytes of an event
_LONGEST_REFUSAL = 1 << 16


class ServerRefusalError(Exception):
    """A server does not answer, and says why.

    status: of HTTP; 0: nothing came, or not all of it.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(safe(message)[:2_000])
        self.status = status


@dataclass
class SentRequest:
    """A request that is sent. Whoever has it must close it, which ends the server's work, too."""

    connection: http.client.HTTPConnection

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of the answer, until the last. Raises ServerRefusalError."""
        try:
            yield from self._events()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ServerRefusalError(f"the answer broke off: {reason}") from None

    def _events(self) -> Iterator[dict[str, Any]]:
        answer = self.connection.getresponse()
        if answer.status != 200:
            raise ServerRefusalError(_message(answer.read(_LONGEST_REFUSAL)), answer.status)
        while line := answer.readline(_LONGEST_LINE):
            if not line.startswith(b"data: "):
                continue
            event = _parsed(line.removeprefix(b"data: "))
            if "error" in event:
                raise ServerRefusalError(str(event["error"].get("message")))
            yield event
            if event.get("type") == "completed":
                return
        raise ServerRefusalError("the answer broke off before it was complete")

    def close(self) -> None:
        """Hang up."""
        self.connection.close()


def ask_address(url: str, path: str, body: dict[str, Any]) -> SentRequest:
    """Send a request to the server of an address. Raises ValueError for no address of HTTP, and
    ServerRefusalError where nobody is there."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname or port == -1 or parts.query:
        raise ValueError(
            f"{SERVER} is {quoted(url)}, expected an address such as http://127.0.0.1:8000"
        )
    connection = kinds[parts.scheme](parts.hostname, port, timeout=_CONNECTING)
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    key = os.environ.get(_KEY, "")
    try:
        connection.connect()
        connection.sock.settimeout(None)
        _send(connection, prefix + path, body, {"Authorization": f"Bearer {key}"} if key else {})
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        connection.close()
        raise ServerRefusalError(getattr(error, "strerror", None) or str(error)) from None
    except BaseException:
        connection.close()
        raise
    return SentRequest(connection)


def ask_sockets(path: str, body: dict[str, Any]) -> Iterator[SentRequest]:
    """A request to each of this user's servers in turn, sent when it is asked for; those that do
    not show that they live within a moment are left out."""
    for socket_path in running_sockets():
        connection = _alive(socket_path)
        if connection is None:
            continue
        try:
            _send(connection, path, body, {})
        except (OSError, http.client.HTTPException):
            connection.close()
            continue
        except BaseException:
            connection.close()
            raise
        yield SentRequest(connection)


def _alive(path: Path) -> http.client.HTTPConnection | None:
    connected = connect(path, _PROBING)
    if connected is None:
        return None
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connected
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200 or connection.sock is None:
            connection.close()
            return None
        connection.sock.settimeout(None)
    except (OSError, http.client.HTTPException):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _send(
    connection: http.client.HTTPConnection, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    data = json.dumps(body).encode("ascii")
    # It may refuse before it has read all; then its answer says why.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", path, data, {"Content-Type": "application/json", **headers})


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ServerRefusalError("the answer is none of this command's; is it a `unified serve`?")
    return value


def _message(data: bytes) -> str:
    """What a refusal says."""
    try:
        return str(json.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "it answers as no `unified serve` does"
