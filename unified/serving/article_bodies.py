"""Bodies of requests for articles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from unified.serving.api_errors import ApiError
from unified.serving.schema import ApiBody
from unified_base.text import quoted

__all__ = ["AnyChange", "ArticleRequestBody", "ChooseBody", "EditBody", "ExportBody",
           "RegenerateBody", "ReplaceBody", "change_body"]  # fmt: skip

Seed = Annotated[int, Field(ge=0, lt=2**63)] | None
_MOST_TEXT = 100_000  # characters of a text that is given
_MOST_PICTURES = 64


class ArticleRequestBody(ApiBody):
    """An article to write.

    pictures: how many; None: as the prompt says, or the model likes. narration: whether it may hold
    sound. decoder: of pictures.
    """

    prompt: str
    model: str | None = None
    seed: Seed = None
    pictures: Annotated[int, Field(ge=0, le=_MOST_PICTURES)] | None = None
    narration: bool = True
    language: str | None = None
    decoder: str = "vq"
    stream: bool = True


class RegenerateBody(ApiBody):
    """A segment anew. block: of a text, the one that is written anew; None: all of it.
    temperature: of what is written; None: the task's."""

    action: Literal["regenerate"]
    seed: Seed = None
    temperature: float | None = None
    block: Annotated[int, Field(ge=0)] | None = None
    stream: bool = True


class ChooseBody(ApiBody):
    """An alternative in the document."""

    action: Literal["choose"]
    alternative: Annotated[int, Field(ge=0)]


class EditBody(ApiBody):
    """A text of one's own. then: what becomes of all behind it."""

    action: Literal["edit"]
    text: Annotated[str, Field(max_length=_MOST_TEXT)]
    then: Literal["keep", "rewrite"] = "keep"
    seed: Seed = None
    stream: bool = True


class ReplaceBody(ApiBody):
    """A picture or a sound of one's own, in base64 or a `data:` URL. then: whether the article goes
    on from there."""

    action: Literal["replace"]
    media: str
    then: Literal["keep", "continue"] = "keep"
    seed: Seed = None
    stream: bool = True


class ExportBody(ApiBody):
    """The form of a file."""

    format: str


AnyChange = RegenerateBody | ChooseBody | EditBody | ReplaceBody
_CHANGES: dict[str, type[ApiBody]] = {
    "regenerate": RegenerateBody,
    "choose": ChooseBody,
    "edit": EditBody,
    "replace": ReplaceBody,
}


class _Change(ApiBody):
    """Any of the changes."""

    @classmethod
    def parse(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ApiError(400, f"the body is {quoted(value)}, expected a JSON object")
        action = value.get("action")
        kind = _CHANGES.get(action) if isinstance(action, str) else None
        if kind is None:
            raise ApiError(
                400, f"action is {quoted(action)}, expected one of {', '.join(_CHANGES)}",
                param="action",
            )  # fmt: skip
        return kind.parse(value)


change_body = _Change
