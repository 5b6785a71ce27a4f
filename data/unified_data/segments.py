"""The segments of a document: text, media, and slots still to be filled.

Each modality beside text is one class of media, registered by `register_media`: pictures and sounds
here, others by whoever adds them. What documents, shards and pages know of a modality they take
from its class.

Shapes: H W pixels, S samples.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import Field, dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

import numpy as np

from unified_base.cells import note_cell, picture_cell, sound_cell, text_cell
from unified_base.foreign import foreign
from unified_base.images import decode_image, encode_png
from unified_base.sounds import decode_audio, encode_audio
from unified_base.text import quoted

__all__ = [
    "ANY", "MAX_LOSS", "MAX_MEDIA", "MAX_SIDE", "Audio", "Image", "Media", "Modality", "Role",
    "Segment", "Slot", "Text", "common_entries", "import_installed", "media_class",
    "media_classes", "modalities", "register_media",
]  # fmt: skip

Role = Literal["prompt", "response", "scene", "prefix", "suffix", "middle", "call", "result"]
"""Who says a segment: a user or the model; "scene": what sound is recorded in; prefix, suffix,
middle: before a gap, behind, in it; call: of a tool by a model; result: of the tool."""
Modality = str
"""A name in the registry: "text", "image", "audio", or that of another class of media."""
ANY = "any"
"""The modality of a slot that takes any interleaving."""

MAX_LOSS = 1e6
"""Largest weight of a segment's loss: sums of weights stay far from what float32 holds."""
MAX_SIDE = 65_536
"""Largest side of a picture that a slot asks for, in pixels."""
MAX_MEDIA = 4_096
"""Most pictures, or sounds, that an 'any' slot asks for, and frames that a 'video' slot does."""

_ROLES = (None, *get_args(Role))
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_RESERVED = ("text", "slot", "marker", ANY)


def common_entries(role: str | None, loss: float) -> dict[str, Any]:
    """What the JSON form says of any segment: role and loss weight, where they are not as usual."""
    entries: dict[str, Any] = {} if role is None else {"role": role}
    return entries if loss == 1.0 else entries | {"loss": float(loss)}


def check_common(what: str, role: Any, loss: Any) -> None:
    if not (role is None or isinstance(role, str)) or role not in _ROLES:
        raise ValueError(f"{what} has role {quoted(role)}, expected one of {_ROLES}")
    number = isinstance(loss, int | float) and not isinstance(loss, bool)
    # Compared before it becomes a float: an integer may be larger than any.
    if not number or not 0 <= loss <= MAX_LOSS:
        raise ValueError(
            f"{what} has loss weight {quoted(loss)}, expected a finite number, 0 or more "
            f"and {MAX_LOSS:,.0f} at most"
        )


def plain_numbers(segment: Any, *names: str) -> None:
    """Numpy's numbers in these fields of a segment become Python's, which JSON can hold."""
    for name in names:
        value = getattr(segment, name)
        if isinstance(value, np.generic):
            object.__setattr__(segment, name, value.item())


def _is_count(value: Any, least: int, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


@dataclass(frozen=True)
class Text:
    """A piece of text: a non-empty str of any Unicode characters that UTF-8 can hold."""

    text: str
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        plain_numbers(self, "loss")
        check_common("text", self.role, self.loss)
        if not isinstance(self.text, str) or not self.text:
            raise ValueError(
                f"text segment holds {quoted(self.text)}, expected a str that is not empty"
            )
        try:
            self.text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text segment has a lone surrogate at character {error.start}; "
                "expected text that UTF-8 can hold"
            ) from None

    def _repr_html_(self) -> str:
        return text_cell(self.text, self.role or "")


class Media(ABC):
    """A segment whose content is a media file. Subclasses are frozen dataclasses, equal by content.

    Attributes:
        modality: its name in documents ("image"), in formats and in vocabularies ("image.0").
        noun, plural: what one is called in messages ("picture"), and several.
        endings: of its files, without the dot; those of `to_file` are among them.
        slot_fields: fields of a `Slot` that say what is wanted of this modality.
        count_field: the field of an "any" slot that says how many it shall hold; None: none does.
        role, loss: as of any segment.
    """

    modality: ClassVar[str]
    noun: ClassVar[str]
    plural: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    slot_fields: ClassVar[tuple[str, ...]] = ()
    count_field: ClassVar[str | None] = None
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # so that `replace` takes any
    role: Role | None
    loss: float

    def __post_init__(self) -> None:
        """Check what all segments have; a subclass that checks more calls this first."""
        plain_numbers(self, "loss")
        check_common(self.modality, self.role, self.loss)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that its content takes in memory."""

    @abstractmethod
    def to_file(self) -> tuple[str, bytes]:
        """(ending, bytes) of a file that holds the content without loss."""

    @classmethod
    @abstractmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Self:
        """The segment of a file's bytes. name: the file's, for errors.

        Raises ValueError for a file that is broken or of another kind.
        """

    def _repr_html_(self) -> str:
        """As a notebook shows it; a subclass shows more than its name."""
        return note_cell(f"[{self.noun}, {self.nbytes:,} bytes]", self.role or "")


GROUP = "unified.modalities"
"""The group of entry points: `NAME = "package.module"`, a module that registers a modality when it
is imported."""
_media: dict[str, type[Media]] = {}
M = TypeVar("M", bound=type[Media])


def register_media(cls: M) -> M:
    """Make a class of media known to documents. Returns it: it may decorate a class.

    Raises ValueError for a modality whose name cannot be one, or that another class has.
    """
    name = getattr(cls, "modality", None)
    if not isinstance(name, str) or not _NAME.match(name) or name in _RESERVED:
        raise ValueError(
            f"{cls.__name__}.modality is {quoted(name)}, expected lower case letters, digits and"
            f" '_', and none of {', '.join(_RESERVED)}"
        )
    known = _media.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (
        cls.__module__, cls.__qualname__,
    ):  # fmt: skip
        raise ValueError(f"modality '{name}' is that of {known.__qualname__} already")
    _media[name] = cls
    return cls


def media_classes() -> dict[str, type[Media]]:
    """The classes of media by modality, in the order in which they were registered."""
    return dict(_media)


def media_class(modality: str) -> type[Media]:
    """The class of media of a modality. Raises ValueError for one that is not registered."""
    if modality not in _media:
        import_installed()
    if modality not in _media:
        raise ValueError(
            f"there is no modality {quoted(modality)}; there are {', '.join(modalities())}"
        )
    return _media[modality]


def import_installed() -> None:
    """Import the modules of installed packages that register modalities."""
    for point in entry_points(group=GROUP):
        with foreign(f"cannot import {point.value}, the modality {point.name!r} of others"):
            point.load()


def modalities() -> tuple[str, ...]:
    """The modalities that segments can have: "text", then media as they were registered."""
    return ("text", *_media)


@register_media
@dataclass(frozen=True, eq=False)
class Image(Media):
    """A picture. pixels: uint8 (H, W, 3), RGB, H and W at least 1. Not to be changed."""

    modality: ClassVar[str] = "image"
    noun: ClassVar[str] = "picture"
    plural: ClassVar[str] = "pictures"
    endings: ClassVar[tuple[str, ...]] = ("png", "jpg", "webp")
    slot_fields: ClassVar[tuple[str, ...]] = ("height", "width")
    count_field: ClassVar[str | None] = "num_images"

    pixels: np.ndarray
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            dtype = getattr(pixels, "dtype", type(pixels).__name__)
            raise ValueError(f"image pixels are {dtype}, expected a uint8 numpy array")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"image pixels have shape {pixels.shape}, expected (H, W, 3)")

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes

    def to_file(self) -> tuple[str, bytes]:
        """PNG."""
        return "png", encode_png(self.pixels)

    @classmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Image:
        return cls(decode_image(data, name), role, loss)

    def _repr_html_(self) -> str:
        return picture_cell(self.pixels, self.role or "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        same = (self.role, self.loss) == (other.role, other.loss)
        return same and np.array_equal(self.pixels, other.pixels)

    __hash__ = None  # type: ignore[assignment]


@register_media
@dataclass(frozen=True, eq=False)
class Audio(Media):
    """A sound. waveform: float32 (channels, S) in [-1, 1]; sample_rate: Hz. Not to be changed."""

    modality: ClassVar[str] = "audio"
    noun: ClassVar[str] = "sound"
    plural: ClassVar[str] = "sound"
    endings: ClassVar[tuple[str, ...]] = ("flac", "wav")
    count_field: ClassVar[str | None] = "num_audios"

    waveform: np.ndarray
    sample_rate: int
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        plain_numbers(self, "sample_rate")
        waveform = self.waveform
        if not isinstance(waveform, np.ndarray) or waveform.dtype != np.float32:
            dtype = getattr(waveform, "dtype", type(waveform).__name__)
            raise ValueError(f"audio waveform is {dtype}, expected a float32 numpy array")
        if waveform.ndim != 2 or 0 in waveform.shape:
            raise ValueError(f"audio waveform has shape {waveform.shape}, expected (channels, S)")
        if not _is_count(self.sample_rate, 1):
            raise ValueError(
                f"audio sample rate is {quoted(self.sample_rate)}, expected a whole Hz"
            )
        peak = float(np.max(np.abs(waveform)))
        if not peak <= 1.0:  # true for NaN as well
            raise ValueError(f"audio waveform reaches {peak}, expected finite samples in [-1, 1]")

    @property
    def nbytes(self) -> int:
        return self.waveform.nbytes

    def to_file(self) -> tuple[str, bytes]:
        """FLAC where 16-bit FLAC is exact, otherwise float32 WAV."""
        return encode_audio(self.waveform, self.sample_rate)

    @classmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Audio:
        waveform, rate = decode_audio(data, name)
        return cls(waveform, rate, role, loss)

    def _repr_html_(self) -> str:
        return sound_cell(self.waveform, self.sample_rate, self.role or "", self.noun)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Audio):
            return NotImplemented
        same = (self.sample_rate, self.role, self.loss) == (
            other.sample_rate,
            other.role,
            other.loss,
        )
        return same and np.array_equal(self.waveform, other.waveform)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Slot:
    """A place to be filled by generation.

    modality: "text", that of media, or "any": an interleaving that runs to the document's end.
    height, width: pixels of an image ("image", or every image of an "any") or a video; both or
    neither. frames: of a video.
    num_images, num_audios: how many an "any" shall hold exactly; None leaves it free.
    begins: of an "audio" slot, the sound that it goes on with; it is the begin of what is made.
    listener: of an "audio" slot that becomes a `Dialogue`, the voice spoken with, which is heard
    while the answer is made; behind its end, and where there is none, that voice is silent.
    """

    modality: Modality
    height: int | None = None
    width: int | None = None
    num_images: int | None = None
    num_audios: int | None = None
    role: Role | None = None
    loss: float = 1.0
    begins: Audio | None = None
    listener: Audio | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        for name, sound in (("begins with", self.begins), ("has as listener", self.listener)):
            if sound is not None and not (self.modality == "audio" and isinstance(sound, Audio)):
                raise ValueError(
                    f"{self.modality} slot {name} {type(sound).__name__}, expected an Audio in an"
                    " audio slot"
                )
        plain_numbers(self, "loss", "height", "width", "num_images", "num_audios", "frames")
        check_common("slot", self.role, self.loss)
        known = (*modalities(), ANY)
        if not isinstance(self.modality, str) or self.modality not in known:
            raise ValueError(
                f"slot has modality {quoted(self.modality)}, expected one of {', '.join(known)}"
            )
        if (self.height is None) != (self.width is None):
            raise ValueError("slot gives only one of height and width, expected both or neither")
        allowed = _slot_fields(self.modality)
        for name, least, most in (
            ("height", 1, MAX_SIDE),
            ("width", 1, MAX_SIDE),
            ("num_images", 0, MAX_MEDIA),
            ("num_audios", 0, MAX_MEDIA),
            ("frames", 1, MAX_MEDIA),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if name not in allowed:
                raise ValueError(f"{self.modality} slot gives {name}, which it cannot have")
            if not _is_count(value, least, most):
                raise ValueError(
                    f"slot has {name} {quoted(value)}, expected a whole number >= {least} and "
                    f"{most:,} at most"
                )

    def _repr_html_(self) -> str:
        sides = f" of {self.width}x{self.height}" if self.height else ""
        return note_cell(f"[{self.modality} slot{sides}, still to be filled]", self.role or "")


Segment = Text | Media | Slot


def _slot_fields(modality: str) -> set[str]:
    """The fields that a slot of a modality may set: its own, and of an "any" slot everyone's."""
    if modality == "text":
        return set()
    if modality != ANY:
        return set(media_class(modality).slot_fields)
    counted = {cls.count_field: cls for cls in _media.values() if cls.count_field is not None}
    return {*counted}.union(*(cls.slot_fields for cls in counted.values()))
