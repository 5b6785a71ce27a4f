"""The body of a chat completion, and its messages as a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from unified.engine.text_scores import MOST_LOGPROBS
from unified.serving.api_errors import ApiError
from unified.serving.conversation_given import Message
from unified.serving.media_given import picture_of, sound_of
from unified.serving.schema import ApiBody, ApiObject, NoEffect, Unavailable
from unified.serving.server_limits import ServerLimits
from unified.serving.speaking import VoiceName

__all__ = ["ChatBody", "SpokenAs", "chat_messages", "check_number_of_parts"]

_WRITER = "the model writes as it was trained to"
_NO_USERS = "nothing is told apart by it"
_NO_TOOLS = "the model calls no functions"
_CACHE = "prompts that begin alike are read once by themselves"
_PARTS_OF_ANSWERS = "pictures and sounds of earlier answers are not looked at"


class WrittenPart(ApiObject):
    """Words."""

    type: Literal["text"]
    text: str


class PictureUrl(ApiObject):
    """A picture's `data:` URL."""

    url: str
    detail: Annotated[str | None, NoEffect("pictures have one size", ("auto",))] = None


class PicturePart(ApiObject):
    """A picture."""

    type: Literal["image_url"]
    image_url: PictureUrl


class SoundData(ApiObject):
    """A sound's file in base64. What it is, its content says."""

    data: str
    format: str | None = None


class SoundPart(ApiObject):
    """A sound."""

    type: Literal["input_audio"]
    input_audio: SoundData


class AnswerPart(ApiObject):
    """A picture or sound of an earlier answer of this server's."""

    type: Literal["image_url", "audio"]
    image_url: Annotated[dict[str, Any] | None, NoEffect(_PARTS_OF_ANSWERS)] = None
    audio: Annotated[dict[str, Any] | None, NoEffect(_PARTS_OF_ANSWERS)] = None


def _form(value: Any) -> str:
    return "words" if isinstance(value, str) else "parts"


_UserPart = Annotated[WrittenPart | PicturePart | SoundPart, Field(discriminator="type")]
_UserContent = Annotated[
    Annotated[str, Tag("words")] | Annotated[list[_UserPart], Tag("parts")], Discriminator(_form)
]
_WrittenContent = Annotated[
    Annotated[str, Tag("words")] | Annotated[list[WrittenPart], Tag("parts")], Discriminator(_form)
]
_AnswerParts = Annotated[WrittenPart | AnswerPart, Field(discriminator="type")]
_AnswerContent = Annotated[
    Annotated[str, Tag("words")] | Annotated[list[_AnswerParts], Tag("parts")],
    Discriminator(_form),
]


class DirectionMessage(ApiObject):
    """What the model shall be like."""

    role: Literal["system", "developer"]
    content: _WrittenContent
    name: Annotated[str | None, NoEffect(_NO_USERS)] = None


class UserMessage(ApiObject):
    """What someone asks, shows or plays."""

    role: Literal["user"]
    content: _UserContent
    name: Annotated[str | None, NoEffect(_NO_USERS)] = None


class AssistantMessage(ApiObject):
    """What was answered before."""

    role: Literal["assistant"]
    content: _AnswerContent | None = None
    name: Annotated[str | None, NoEffect(_NO_USERS)] = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    images: Annotated[list[Any] | None, NoEffect(_PARTS_OF_ANSWERS, ([],))] = None
    audio: Annotated[dict[str, Any] | None, NoEffect(_PARTS_OF_ANSWERS)] = None
    tool_calls: Annotated[list[Any] | None, Unavailable(_NO_TOOLS, ([],))] = None
    function_call: Annotated[dict[str, Any] | None, Unavailable(_NO_TOOLS)] = None


class SpokenAs(ApiObject):
    """How sound is to come."""

    voice: str | VoiceName | None = None
    format: Literal["wav", "mp3", "flac", "opus", "pcm16"] = "wav"

    @property
    def voice_name(self) -> str | None:
        """The voice's name; None: the model's own."""
        return self.voice.id if isinstance(self.voice, VoiceName) else self.voice


class StreamOptions(ApiObject):
    """What a stream tells beside the answer."""

    include_usage: bool = False
    include_obfuscation: Annotated[bool | None, NoEffect("nothing is padded", (False,))] = None


class ChatBody(ApiBody):
    """`CompletionCreateParams` of the schema; "image" among the modalities is ours, and so are
    `guidance`, of the pictures, `include_reasoning` (what was written before an answer comes as its
    `reasoning_content`) and `max_thought_ids`, of that."""

    model: str
    messages: list[
        Annotated[DirectionMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
    ]
    modalities: Annotated[list[Literal["text", "image", "audio"]], Field(min_length=1)] | None = (
        None
    )
    audio: SpokenAs | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    guidance: float | None = None
    include_reasoning: bool = False
    max_thought_ids: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None

    frequency_penalty: Annotated[float | None, Unavailable(_WRITER, (0,))] = None
    presence_penalty: Annotated[float | None, Unavailable(_WRITER, (0,))] = None
    logit_bias: Annotated[dict[str, float] | None, Unavailable(_WRITER, ({},))] = None
    tools: Annotated[list[Any] | None, Unavailable(_NO_TOOLS, ([],))] = None
    tool_choice: Annotated[Any, Unavailable(_NO_TOOLS, ("none", "auto"))] = None
    functions: Annotated[list[Any] | None, Unavailable(_NO_TOOLS, ([],))] = None
    function_call: Annotated[Any, Unavailable(_NO_TOOLS, ("none", "auto"))] = None
    response_format: Annotated[
        dict[str, Any] | None, Unavailable("answers have no form beside text", ({"type": "text"},))
    ] = None
    web_search_options: Annotated[Any, Unavailable("nothing is searched")] = None

    metadata: Annotated[Any, NoEffect("nothing is kept", ({},))] = None
    store: Annotated[bool | None, NoEffect("nothing is kept", (False,))] = None
    user: Annotated[str | None, NoEffect(_NO_USERS)] = None
    safety_identifier: Annotated[str | None, NoEffect(_NO_USERS)] = None
    service_tier: Annotated[str | None, NoEffect("there is one tier", ("auto", "default"))] = None
    reasoning_effort: Annotated[str | None, NoEffect(_WRITER, ("none",))] = None
    verbosity: Annotated[str | None, NoEffect(_WRITER, ("medium",))] = None
    parallel_tool_calls: Annotated[bool | None, NoEffect(_NO_TOOLS, (True, False))] = None
    prediction: Annotated[Any, NoEffect("ids are guessed ahead by themselves")] = None
    moderation: Annotated[Any, NoEffect("nothing is moderated")] = None
    prompt_cache_key: Annotated[str | None, NoEffect(_CACHE)] = None
    prompt_cache_options: Annotated[Any, NoEffect(_CACHE)] = None
    prompt_cache_retention: Annotated[str | None, NoEffect(_CACHE)] = None

    @property
    def stops(self) -> list[str]:
        """Strings that end a text."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def check_number_of_parts(number: int, limits: ServerLimits, param: str) -> None:
    """Raises ApiError for more messages and parts than a request may have."""
    if number > limits.max_parts:
        raise ApiError(
            400,
            f"{param} has {number:,} messages and parts, expected at most {limits.max_parts}",
            param=param,
        )


def chat_messages(body: ChatBody, limits: ServerLimits) -> tuple[list[Message], list[str]]:
    """The messages with their media decoded, and warnings. Takes a while: for a thread.

    Raises ApiError for too many parts and for media that cannot be read.
    """
    parts = sum(len(m.content) if isinstance(m.content, list) else 1 for m in body.messages)
    check_number_of_parts(parts, limits, "messages")
    warnings: list[str] = []
    messages = []
    for number, message in enumerate(body.messages):
        param = f"messages[{number}].content"
        role = "system" if message.role == "developer" else message.role
        if not isinstance(message.content, list):
            messages.append(Message(role, message.content or "", param))
            continue
        texts, pictures, sounds = [], [], []
        for index, part in enumerate(message.content):
            where = f"{param}[{index}]"
            if isinstance(part, WrittenPart):
                texts.append(part.text)
            elif isinstance(part, PicturePart):
                pictures.append(picture_of(part.image_url.url, f"{where}.image_url.url", limits))
            elif isinstance(part, SoundPart):
                sound, notes = sound_of(part.input_audio.data, f"{where}.input_audio.data", limits)
                sounds.append(sound)
                warnings += notes
        messages.append(Message(role, "\n".join(texts), param, tuple(pictures), tuple(sounds)))
    return messages, warnings
