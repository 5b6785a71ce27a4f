"""Errors as the schema has them: {"error": {"message", "type", "param", "code"}}.

What is told is a sentence of ours. A fault inside the server is told by a fixed sentence, and
addresses of memory, which libraries write into their messages, are struck out of all others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from unified_base.text import safe

__all__ = ["ApiError", "fault", "mistake"]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_LONGEST = 2_000
_LONGEST_NAME = 200  # of a field, which may be a client's
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """What a client is told in place of an answer.

    Attributes:
        status: of HTTP, 400 to 599.
        message: for people.
        param: the field of the request that it is about, such as "messages[0].content".
        code: for programs, such as "model_not_found".
        headers: of the answer, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = _ADDRESS.sub("0x...", safe(message))[:_LONGEST]
        self.param = None if param is None else param[:_LONGEST_NAME]
        self.code = code
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, Any]:
        """The error object of the schema."""
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


def mistake(error: BaseException | str, param: str | None = None) -> ApiError:
    """The 400 of a ValueError that says what the client did wrong."""
    text = " ".join(str(error).split())
    return ApiError(400, text or "the request is wrong", param=param)


def fault() -> ApiError:
    """The 500 of an error of ours, whose text stays in the server's log."""
    return ApiError(500, "the server met a fault of its own; its log says which")
