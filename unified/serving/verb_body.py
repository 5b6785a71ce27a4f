"""What a command of the command line asks of a server: a verb, its inputs, the model it means."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from unified.serving.api_errors import ApiError, mistake
from unified.serving.media_given import picture_of, sound_of
from unified.serving.model_identity import ModelIdentity
from unified.serving.schema import ApiBody, ApiObject
from unified.serving.server_limits import ServerLimits
from unified.tasks.asking import Example
from unified.tasks.settings import read_settings
from unified.tasks.task import Verb

__all__ = ["VerbBody", "asked_verb", "verb_inputs"]

_REPLIES = "reply"  # goes on while it is listened to, and is asked in another way


class OpeningBody(ApiObject):
    """`ModelIdentity`."""

    model: str
    folder: str | None = None
    stamp: str | None = None
    image_tokenizer: str | None = None
    audio_tokenizer: str | None = None
    device: str | None = None
    dtype: str | None = None
    backend: str | None = None
    settings: str | None = None
    version: str | None = None


class ExampleBody(ApiObject):
    """A picture, as a `data:` URL, of what is called so."""

    name: str
    image: str


class VerbBody(ApiBody):
    """Inputs of a verb and choices about its sampling, as `UnifiedModel.request` takes them.

    image, audio: files, as a `data:` URL and in base64. settings: as `--set` has them. look:
    whether rows of pictures come with the picture so far.
    """

    opening: OpeningBody
    text: str | None = None
    question: str | None = None
    image: str | None = None
    audio: str | None = None
    voice: str | None = None
    size: str | None = None
    images: int | None = None
    sounds: int | None = None
    language: str | None = None
    examples: list[ExampleBody] = Field(default_factory=list)
    guidance: float | None = None
    negative: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    max_text_ids: int | None = None
    max_repeats: int | None = None
    max_thought_ids: int | None = None
    settings: list[str] = Field(default_factory=list)
    decoder: Literal["vq", "diffusion", "diffusion-2x"] = "vq"
    number: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    look: bool = False

    @property
    def identity(self) -> ModelIdentity:
        """The model that the command means."""
        return ModelIdentity(**self.opening.model_dump())


_AS_THEY_ARE = (
    "text", "question", "voice", "size", "images", "sounds", "language", "guidance", "negative",
    "temperature", "top_k", "top_p", "max_text_ids", "max_repeats", "max_thought_ids",
)  # fmt: skip


def asked_verb(name: str) -> Verb:
    """The verb of a name. Raises ApiError for none, and for one that is not asked so."""
    verbs = [verb for verb in get_args(Verb) if verb != _REPLIES]
    if name not in verbs:
        raise ApiError(404, f"there is no verb {name[:40]!r}, expected one of {', '.join(verbs)}")
    return name  # type: ignore[return-value]


def verb_inputs(body: VerbBody, limits: ServerLimits) -> dict[str, Any]:
    """What `UnifiedModel.request` takes for a body. Takes a while: for a thread.

    Raises ApiError for media and settings that cannot be read.
    """
    inputs = {name: getattr(body, name) for name in _AS_THEY_ARE}
    if body.image is not None:
        inputs["image"] = picture_of(body.image, "image", limits)
    if body.audio is not None:
        inputs["audio"], _ = sound_of(body.audio, "audio", limits)  # peaks at 1, as it is sent
    inputs["examples"] = tuple(
        Example(each.name, picture_of(each.image, f"examples[{number}].image", limits))
        for number, each in enumerate(body.examples)
    )
    try:
        inputs["settings"] = read_settings(body.settings)
    except ValueError as error:
        raise mistake(error, "settings") from None
    return inputs
