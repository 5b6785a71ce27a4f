"""Fields of the schema: each is understood, has no effect and says so, or is refused by name."""

from __future__ import annotations

import pytest

from unified.serving.api_errors import ApiError
from unified.serving.chat_body import ChatBody
from unified.serving.drawing import DrawingBody
from unified.serving.response_body import ResponseBody
from unified.serving.schema import NoEffect, Unavailable
from unified.serving.speaking import SpeakingBody
from unified.serving.transcribing import TranscribingBody

USER = {"role": "user", "content": "The cat"}
LEAST = {
    ChatBody: {"model": "pocket", "messages": [USER]},
    ResponseBody: {"model": "pocket", "input": "The cat"},
    DrawingBody: {"prompt": "a cat"},
    SpeakingBody: {"model": "pocket", "input": "a cat"},
    TranscribingBody: {"model": "pocket"},
}
# Values of all types; the first that a field takes, and that asks for something, is its own.
VALUES = (True, "high", 3, 0.5, ["x"], {"x": 1.0}, {"x": "y"}, "transparent")


def _hashed(value):
    return value if isinstance(value, bool) else str(value)


def _marked(kind):
    for body in LEAST:
        for name, field in body.model_fields.items():
            mark = next((each for each in field.metadata if isinstance(each, kind)), None)
            # parallel_tool_calls: one call at a time is what either value permits.
            if mark is not None and not {True, False} <= set(map(_hashed, mark.neutral)):
                yield pytest.param(body, field.alias or name, mark, id=f"{body.__name__}.{name}")


def _given(body, name, mark):
    """Outcomes of a body with the field, for the first value that its type takes."""
    for value in VALUES:
        if value in mark.neutral:
            continue
        try:
            return body.parse({**LEAST[body], name: value})
        except ApiError as error:
            if error.code == "unsupported_parameter":
                return error
    raise AssertionError(f"no value fits {name}")


@pytest.mark.parametrize(("body", "name", "mark"), _marked(NoEffect))
def test_a_field_without_effect_says_so(body, name, mark):
    (warning,) = _given(body, name, mark).warnings()
    assert warning == f"{name.removesuffix('[]')} has no effect here: {mark.because}"
    for value in mark.neutral:
        assert body.parse({**LEAST[body], name: value}).warnings() == []


@pytest.mark.parametrize(("body", "name", "mark"), _marked(Unavailable))
def test_a_field_that_cannot_be_is_refused_unless_it_asks_for_nothing(body, name, mark):
    error = _given(body, name, mark)
    assert isinstance(error, ApiError)
    assert (error.status, error.param) == (400, name)
    assert mark.because in error.message
    for value in mark.neutral:
        assert body.parse({**LEAST[body], name: value}).warnings() == []


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"messages": [{**USER, "name": "Ann"}]}, ["messages.name"]),
        ({"extra_body": {"guidance": 3.0}}, ["guidance"]),
        ({"stop": ["x"], "extra_body": {"modalities": ["image"], "guidance": 2.0}}, ["stop"]),
        ({"audio": {"voice": "amy", "format": "wav"}}, ["audio"]),
        ({"messages": [{"role": "system", "content": "Be kind."}, USER]}, ["system"]),
        ({}, []),
    ],
)
def test_what_one_request_makes_no_use_of_its_answer_tells(client, fields, names):
    asked = {"model": "pocket", "seed": 0, "max_tokens": 400, **LEAST[ChatBody], **fields}
    warnings = client.chat.completions.create(**asked).warnings
    told = [text.split()[0] for text in warnings if "no effect here" in text]
    assert told == names
