"""Bodies of requests: every field is understood, or refused by its name.

A field that OpenAI's schema has and that changes nothing here is declared `NoEffect`: it is
accepted, and the answer's `warnings` say so. One that would change what the answer means, and that
this server cannot do, is `Unavailable`: it is refused unless it asks for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from unified.serving.api_errors import ApiError, mistake
from unified_base.structured import parse_json
from unified_base.text import quoted

__all__ = ["ApiBody", "ApiObject", "NoEffect", "Unavailable", "read_body"]


_AT_ONCE = 1 << 16  # bytes of a body that are parsed while all streams wait


@dataclass(frozen=True)
class NoEffect:
    """An understood field without effect. because: why. neutral: values that need no warning."""

    because: str
    neutral: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Unavailable:
    """An understood field that is refused. because: why. neutral: values that ask for nothing."""

    because: str
    neutral: tuple[Any, ...] = ()


class ApiObject(BaseModel):
    """An object inside a body: no field that it does not declare, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ApiBody(ApiObject):
    """The body of a request."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """A body of plain data. Raises ApiError (400) that names the field."""
        if not isinstance(value, dict):
            raise ApiError(400, f"the body is {quoted(value)}, expected a JSON object")
        try:
            body = cls.model_validate(value)
        except ValidationError as error:
            raise _refusal(error, value, cls) from None
        body._check_available()
        return body

    def warnings(self) -> list[str]:
        """What was understood and changes nothing here."""
        texts = [
            f"{name} has no effect here: {mark.because}" for name, mark in _set(self, NoEffect)
        ]
        return list(dict.fromkeys(texts))

    def _check_available(self) -> None:
        for name, mark in _set(self, Unavailable):
            raise ApiError(
                400,
                f"{name} is not available here: {mark.because}; leave it out",
                param=name,
                code="unsupported_parameter",
            )


def _set(
    value: Any, kind: type[NoEffect] | type[Unavailable], path: str = ""
) -> Iterator[tuple[str, NoEffect | Unavailable]]:
    """(name, mark) of fields with a mark of a kind whose value is neither None nor neutral, those
    of objects inside included."""
    if isinstance(value, list):
        for entry in value:
            yield from _set(entry, kind, path)
    if not isinstance(value, ApiObject):
        return
    for name, field in type(value).model_fields.items():
        inner = getattr(value, name)
        where = f"{path}.{field.alias or name}" if path else field.alias or name
        mark = next((each for each in field.metadata if isinstance(each, kind)), None)
        if mark is None:
            yield from _set(inner, kind, where)
        elif inner is not None and inner not in mark.neutral:
            yield where, mark


async def read_body(request: Request, kind: type[ApiBody]) -> Any:
    """The body of a request, as its kind. Raises ApiError for another type, no JSON, and fields as
    `ApiBody.parse` does."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A page of another origin can send forms and plain text without being asked, and no JSON.
    if media_type != "application/json":
        raise ApiError(415, f"the body is {quoted(media_type)}, expected application/json")
    data = await request.body()
    if len(data) > _AT_ONCE:
        return await asyncio.to_thread(_parsed, data, kind)
    return _parsed(data, kind)


def _parsed(data: bytes, kind: type[ApiBody]) -> ApiBody:
    try:
        value = parse_json(data, "the body", limit=max(1, len(data)))
    except ValueError as error:
        raise mistake(error) from None
    return kind.parse(value)


def _refusal(error: ValidationError, value: Any, kind: type[ApiBody]) -> ApiError:
    """The first of the errors, with the path of its field."""
    first = error.errors(include_url=False, include_input=False)[0]
    path, holder = _path(first["loc"], value)
    if first["type"] == "extra_forbidden":
        expected = ""
        if holder is value:
            names = [field.alias or name for name, field in kind.model_fields.items()]
            expected = f"; expected some of {', '.join(sorted(names))}"
        return ApiError(
            400, f"unknown field {quoted(path)}{expected}", param=path, code="unknown_parameter"
        )
    if first["type"] == "union_tag_invalid":
        context = first.get("ctx", {})
        path = f"{path}.{str(context.get('discriminator', 'type')).strip(chr(39))}"
        expected = context.get("expected_tags", "")
        return ApiError(
            400, f"{path} is {quoted(context.get('tag'))}, expected one of {expected}", param=path
        )
    if first["type"] == "missing":
        return ApiError(400, f"{path} is missing", param=path, code="missing_required_parameter")
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return ApiError(400, f"{path or 'the body'}: {message}", param=path or None)


def _path(location: tuple[int | str, ...], value: Any) -> tuple[str, Any]:
    """("messages[0].content", what holds the last step) of an error's location, in which tags of
    unions stand between the steps."""
    path, node = "", value
    for number, step in enumerate(location):
        last = number == len(location) - 1
        if isinstance(node, list) and isinstance(step, int) and step < len(node):
            path, node = f"{path}[{step}]", node[step]
        elif isinstance(node, dict) and isinstance(step, str) and (step in node or last):
            path = f"{path}.{step}" if path else step
            if last:
                return path, node
            node = node[step]
    return path, node
