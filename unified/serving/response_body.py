"""The body of a response (`POST /v1/responses`), and its input as a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from unified.engine.text_scores import MOST_LOGPROBS
from unified.serving.chat_body import SoundData, SpokenAs, check_number_of_parts
from unified.serving.conversation_given import Message
from unified.serving.media_given import picture_of, sound_of
from unified.serving.media_written import PictureFile
from unified.serving.schema import ApiBody, ApiObject, NoEffect, Unavailable
from unified.serving.server_limits import ServerLimits

__all__ = ["DrawingTool", "ResponseBody", "response_messages"]

_NOTHING_KEPT = "nothing is kept between requests"
_NO_USERS = "nothing is told apart by it"
_WRITER = "the model writes as it was trained to"
_CACHE = "prompts that begin alike are read once by themselves"
_EARLIER = "pictures of earlier answers are not looked at"


class InputWords(ApiObject):
    """Words; "output_text" of an earlier answer."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputPicture(ApiObject):
    """A picture in a `data:` URL."""

    type: Literal["input_image"]
    image_url: str
    detail: Annotated[str | None, NoEffect("pictures have one size", ("auto",))] = None
    file_id: Annotated[str | None, Unavailable(_NOTHING_KEPT)] = None


class InputSound(ApiObject):
    """A sound's file in base64."""

    type: Literal["input_audio"]
    input_audio: SoundData


class OutputSound(ApiObject):
    """A sound of an earlier answer of this server's."""

    type: Literal["output_audio"]
    data: Annotated[str | None, NoEffect(_EARLIER)] = None
    transcript: str | None = None
    format: str | None = None
    sample_rate: int | None = None


def _form(value: Any) -> str:
    return "words" if isinstance(value, str) else "parts"


_Part = Annotated[InputWords | InputPicture | InputSound | OutputSound, Field(discriminator="type")]
_Content = Annotated[
    Annotated[str, Tag("words")] | Annotated[list[_Part], Tag("parts")], Discriminator(_form)
]


class InputMessage(ApiObject):
    """Something that was said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: _Content
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class EarlierPicture(ApiObject):
    """A picture of an earlier answer."""

    type: Literal["image_generation_call"]
    id: str | None = None
    status: str | None = None
    result: Annotated[str | None, NoEffect(_EARLIER)] = None
    action: str | None = None
    background: str | None = None
    output_format: str | None = None
    quality: str | None = None
    size: str | None = None
    revised_prompt: str | None = None
    error: Any = None


def _kind(value: Any) -> str:
    kind = value.get("type", "message") if isinstance(value, dict) else "message"
    return "picture" if kind == "image_generation_call" else "message"


_Item = Annotated[
    Annotated[InputMessage, Tag("message")] | Annotated[EarlierPicture, Tag("picture")],
    Discriminator(_kind),
]
_Input = Annotated[
    Annotated[str, Tag("words")] | Annotated[list[_Item], Tag("items")],
    Discriminator(lambda value: "words" if isinstance(value, str) else "items"),
]


class DrawingTool(ApiObject):
    """Asks for pictures among the text."""

    type: Literal["image_generation"]
    size: str | None = None
    output_format: Literal["png", "webp", "jpeg"] = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] = 0
    action: Annotated[str | None, Unavailable("pictures are drawn anew", ("generate", "auto"))] = (
        None
    )
    background: Annotated[str | None, Unavailable("pictures are opaque", ("opaque", "auto"))] = None
    input_image_mask: Annotated[Any, Unavailable("pictures are drawn anew")] = None
    input_fidelity: Annotated[str | None, Unavailable("pictures are drawn anew")] = None
    quality: Annotated[str | None, NoEffect("the model has one quality", ("auto",))] = None
    moderation: Annotated[str | None, NoEffect("nothing is moderated", ("auto",))] = None
    model: Annotated[str | None, NoEffect("one model writes and draws")] = None

    @property
    def file(self) -> PictureFile:
        """How its pictures are written."""
        return PictureFile(self.output_format, self.output_compression)


class ChosenTool(ApiObject):
    """A tool that must be used, and nothing else."""

    type: Literal["image_generation"]


class ResponseBody(ApiBody):
    """`ResponseCreateParams` of the schema; `modalities`, `audio`, `seed` and `guidance` are
    ours."""

    model: str
    input: _Input
    tools: Annotated[list[DrawingTool], Field(max_length=1)] | None = None
    tool_choice: Literal["auto", "none"] | ChosenTool | None = None
    modalities: Annotated[list[Literal["text", "image", "audio"]], Field(min_length=1)] | None = (
        None
    )
    audio: SpokenAs | None = None
    stream: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    guidance: float | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    metadata: dict[str, str] | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None

    background: Annotated[bool | None, Unavailable(_NOTHING_KEPT, (False,))] = None
    previous_response_id: Annotated[str | None, Unavailable(_NOTHING_KEPT)] = None
    conversation: Annotated[Any, Unavailable(_NOTHING_KEPT)] = None
    prompt: Annotated[Any, Unavailable(_NOTHING_KEPT)] = None
    text: Annotated[
        Any,
        Unavailable("answers have no form beside text", ({}, {"format": {"type": "text"}})),
    ] = None

    store: Annotated[bool | None, NoEffect(_NOTHING_KEPT, (False,))] = None
    instructions: Annotated[
        str | None, NoEffect("the model takes no directions beside what it is asked", ("",))
    ] = None
    reasoning: Annotated[Any, NoEffect(_WRITER, ({},))] = None
    truncation: Annotated[str | None, NoEffect("what is too long is refused", ("disabled",))] = None
    max_tool_calls: Annotated[int | None, NoEffect("say in words how many pictures")] = None
    parallel_tool_calls: Annotated[bool | None, NoEffect("there is one order", (True, False))] = (
        None
    )
    stream_options: Annotated[
        Any, NoEffect("nothing is padded", ({}, {"include_obfuscation": False}))
    ] = None
    service_tier: Annotated[str | None, NoEffect("there is one tier", ("auto", "default"))] = None
    user: Annotated[str | None, NoEffect(_NO_USERS)] = None
    safety_identifier: Annotated[str | None, NoEffect(_NO_USERS)] = None
    moderation: Annotated[Any, NoEffect("nothing is moderated")] = None
    prompt_cache_key: Annotated[str | None, NoEffect(_CACHE)] = None
    prompt_cache_options: Annotated[Any, NoEffect(_CACHE)] = None
    prompt_cache_retention: Annotated[str | None, NoEffect(_CACHE)] = None

    @property
    def drawing(self) -> DrawingTool | None:
        """The tool that asks for pictures; None where there is none, or it shall not be used."""
        return None if self.tool_choice == "none" or not self.tools else self.tools[0]

    @property
    def wanted(self) -> list[str]:
        """The modalities of the answer."""
        if self.modalities is not None:
            return list(self.modalities)
        if isinstance(self.tool_choice, ChosenTool):
            return ["image"]
        return ["text"] if self.drawing is None else ["text", "image"]


def response_messages(body: ResponseBody, limits: ServerLimits) -> tuple[list[Message], list[str]]:
    """As `chat_messages`, of a response's input."""
    if isinstance(body.input, str):
        return [Message("user", body.input, "input")], []
    items = body.input
    parts = sum(
        len(item.content)
        if isinstance(item, InputMessage) and isinstance(item.content, list)
        else 1
        for item in items
    )
    check_number_of_parts(parts, limits, "input")
    warnings: list[str] = []
    messages = []
    for number, item in enumerate(items):
        if isinstance(item, EarlierPicture):
            continue
        param = f"input[{number}].content"
        role = "system" if item.role == "developer" else item.role
        if isinstance(item.content, str):
            messages.append(Message(role, item.content, param))
            continue
        texts, pictures, sounds = [], [], []
        for index, part in enumerate(item.content):
            where = f"{param}[{index}]"
            if isinstance(part, InputWords):
                texts.append(part.text)
            elif isinstance(part, InputPicture):
                pictures.append(picture_of(part.image_url, f"{where}.image_url", limits))
            elif isinstance(part, InputSound):
                sound, notes = sound_of(part.input_audio.data, f"{where}.input_audio.data", limits)
                sounds.append(sound)
                warnings += notes
        messages.append(Message(role, "\n".join(texts), param, tuple(pictures), tuple(sounds)))
    return messages, warnings
