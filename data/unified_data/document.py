"""A document: an ordered list of text, image and audio segments, some perhaps still to be filled.

JSON form (media files lie beside it, lossless; `role` and `loss` are left out at their defaults):

    {"segments": [{"type": "text", "text": "![a cat]", "role": "prompt", "loss": 0.0},
                  {"type": "image", "file": "x.1.png"},
                  {"type": "audio", "file": "x.2.flac"},
                  {"type": "slot", "modality": "image", "height": 96, "width": 96}]}

Shapes: H W pixels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

import numpy as np

from unified_base.atomic import atomic_write
from unified_base.files import read_bytes
from unified_base.images import decode_image, encode_png
from unified_base.sounds import decode_audio, encode_audio
from unified_base.text import quoted

Role = Literal["prompt", "response"]
Modality = Literal["text", "image", "audio", "any"]

MAX_DECODED = 2 << 30
"""Bytes that the pixels and samples of one document read from files may take in all: small files
can hold much, and one file can be named again and again."""
MAX_SEGMENTS = 65_536
"""Segments of a document that is read from JSON."""
MAX_LOSS = 1e6
"""Largest weight of a segment's loss: sums of weights stay far from what float32 holds."""
MAX_SIDE = 65_536
"""Largest side of a picture that a slot asks for, in pixels."""
MAX_MEDIA = 4_096
"""Most pictures, or sounds, that an 'any' slot asks for."""

_ROLES = (None, *get_args(Role))
_MODALITIES = get_args(Modality)


def common_entries(role: str | None, loss: float) -> dict[str, Any]:
    """What the JSON form says of any segment: role and loss weight, where they are not as usual."""
    entries: dict[str, Any] = {} if role is None else {"role": role}
    return entries if loss == 1.0 else entries | {"loss": float(loss)}


def _check_common(what: str, role: Any, loss: Any) -> None:
    if not (role is None or isinstance(role, str)) or role not in _ROLES:
        raise ValueError(f"{what} has role {quoted(role)}, expected None, 'prompt' or 'response'")
    number = isinstance(loss, int | float) and not isinstance(loss, bool)
    # Compared before it becomes a float: an integer may be larger than any.
    if not number or not 0 <= loss <= MAX_LOSS:
        raise ValueError(
            f"{what} has loss weight {quoted(loss)}, expected a finite number, 0 or more "
            f"and {MAX_LOSS:,.0f} at most"
        )


def _plain_numbers(segment: Any, *names: str) -> None:
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
        _plain_numbers(self, "loss")
        _check_common("text", self.role, self.loss)
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


@dataclass(frozen=True, eq=False)
class Image:
    """A picture. pixels: uint8 (H, W, 3), RGB, H and W at least 1. Not to be changed."""

    pixels: np.ndarray
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        _plain_numbers(self, "loss")
        _check_common("image", self.role, self.loss)
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            dtype = getattr(pixels, "dtype", type(pixels).__name__)
            raise ValueError(f"image pixels are {dtype}, expected a uint8 numpy array")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"image pixels have shape {pixels.shape}, expected (H, W, 3)")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        same = (self.role, self.loss) == (other.role, other.loss)
        return same and np.array_equal(self.pixels, other.pixels)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Audio:
    """A sound. waveform: float32 (channels, S) in [-1, 1]; sample_rate: Hz. Not to be changed."""

    waveform: np.ndarray
    sample_rate: int
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        _plain_numbers(self, "loss", "sample_rate")
        _check_common("audio", self.role, self.loss)
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Audio):
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

    modality: "text", "image", "audio", or "any": an interleaving that runs to the document's end.
    height, width: pixels of an image ("image", or every image of an "any"); both or neither.
    num_images, num_audios: how many an "any" shall hold exactly; None leaves it free.
    """

    modality: Modality
    height: int | None = None
    width: int | None = None
    num_images: int | None = None
    num_audios: int | None = None
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        _plain_numbers(self, "loss", "height", "width", "num_images", "num_audios")
        _check_common("slot", self.role, self.loss)
        if not isinstance(self.modality, str) or self.modality not in _MODALITIES:
            raise ValueError(
                f"slot has modality {quoted(self.modality)}, expected one of {_MODALITIES}"
            )
        if (self.height is None) != (self.width is None):
            raise ValueError("slot gives only one of height and width, expected both or neither")
        for name, least, most, homes in (
            ("height", 1, MAX_SIDE, ("image", "any")),
            ("width", 1, MAX_SIDE, ("image", "any")),
            ("num_images", 0, MAX_MEDIA, ("any",)),
            ("num_audios", 0, MAX_MEDIA, ("any",)),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if self.modality not in homes:
                raise ValueError(f"{self.modality} slot gives {name}, which it cannot have")
            if not _is_count(value, least, most):
                raise ValueError(
                    f"slot has {name} {quoted(value)}, expected a whole number >= {least} and "
                    f"{most:,} at most"
                )


Segment = Text | Image | Audio | Slot

# Keys a JSON segment may have beside "type", "role" and "loss": (required, optional).
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "text": (("text",), ()),
    "image": (("file",), ()),
    "audio": (("file",), ()),
    "slot": (("modality",), ("height", "width", "num_images", "num_audios")),
}


@dataclass(frozen=True)
class Document:
    """An ordered tuple of segments. Equal to another of the same content."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        for position, segment in enumerate(self.segments):
            if not isinstance(segment, Text | Image | Audio | Slot):
                raise ValueError(
                    f"segment {position} is a {type(segment).__name__}, "
                    "expected Text, Image, Audio or Slot"
                )
            last = position == len(self.segments) - 1
            if isinstance(segment, Slot) and segment.modality == "any" and not last:
                raise ValueError(
                    f"segment {position} is an 'any' slot with segments after it; "
                    "it runs to the end of the document, so it must be the last"
                )

    __hash__ = None  # type: ignore[assignment]

    @property
    def slots(self) -> tuple[int, ...]:
        """Positions of the slots, ascending."""
        return tuple(i for i, segment in enumerate(self.segments) if isinstance(segment, Slot))

    @property
    def has_slots(self) -> bool:
        return bool(self.slots)

    def to_parts(self, stem: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The JSON object, and the bytes of its media files by name: STEM.POSITION.png, ...

        Images are PNG; audio is FLAC where 16-bit FLAC is exact, otherwise float32 WAV.
        """
        media: dict[str, bytes] = {}
        rows = []
        for position, segment in enumerate(self.segments):
            row: dict[str, Any]
            if isinstance(segment, Text):
                row = {"type": "text", "text": segment.text}
            elif isinstance(segment, Slot):
                row = {"type": "slot", "modality": segment.modality}
                for key in _KEYS["slot"][1]:
                    if getattr(segment, key) is not None:
                        row[key] = getattr(segment, key)
            else:
                if isinstance(segment, Image):
                    kind, extension, data = "image", "png", encode_png(segment.pixels)
                else:
                    kind = "audio"
                    extension, data = encode_audio(segment.waveform, segment.sample_rate)
                name = f"{stem}.{position}.{extension}"
                media[name] = data
                row = {"type": kind, "file": name}
            rows.append(row | common_entries(segment.role, segment.loss))
        return {"segments": rows}, media

    @classmethod
    def from_parts(cls, obj: Any, read: Callable[[str], bytes]) -> Document:
        """The document of a JSON object whose media files `read(name)` gives the bytes of.

        Raises ValueError, naming the segment's position, on anything not in the schema above.
        """
        if not isinstance(obj, dict) or set(obj) != {"segments"}:
            raise ValueError(
                f"document has {keys_of(obj)}, expected an object with only 'segments'"
            )
        if not isinstance(obj["segments"], list):
            raise ValueError("document's 'segments' is not a list")
        if len(obj["segments"]) > MAX_SEGMENTS:
            raise ValueError(
                f"document has {len(obj['segments']):,} segments, expected {MAX_SEGMENTS:,} at most"
            )
        segments = []
        decoded = 0
        for position, row in enumerate(obj["segments"]):
            try:
                segments.append(_segment(row, read))
                decoded = check_decoded(decoded + decoded_size(segments[-1]))
            except ValueError as error:
                raise ValueError(f"segment {position}: {error}") from error
        return cls(tuple(segments))

    def to_json(self, media_dir: str | Path, stem: str) -> dict[str, Any]:
        """The JSON object, its media files written into media_dir as STEM.POSITION.EXTENSION."""
        obj, media = self.to_parts(stem)
        for name in media:
            check_file_name(name)
        for name, data in media.items():
            atomic_write(Path(media_dir) / name, data)
        return obj

    @classmethod
    def from_json(cls, obj: Any, base_dir: str | Path) -> Document:
        """The document of a JSON object, its media files taken from base_dir.

        Raises ValueError, with the segment's position, for an unknown key, a missing or broken
        file, or a file name that is absolute or climbs out of base_dir.
        """

        def read(name: str) -> bytes:
            return read_bytes(Path(base_dir) / name, "media file")

        return cls.from_parts(obj, read)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)


def decoded_size(segment: Segment) -> int:
    """Bytes of a segment's pixels or samples."""
    if isinstance(segment, Image):
        return segment.pixels.nbytes
    return segment.waveform.nbytes if isinstance(segment, Audio) else 0


def check_decoded(size: int) -> int:
    """`size` itself. Raises ValueError where a document's media would take more than allowed."""
    if size > MAX_DECODED:
        raise ValueError(
            f"the document's media take {size:,} bytes, expected {MAX_DECODED:,} at most"
        )
    return size


def keys_of(value: Any) -> str:
    """The keys of a JSON object, or what else a value is, as an error quotes it."""
    return quoted(sorted(map(str, value))) if isinstance(value, dict) else type(value).__name__


def check_file_name(name: Any) -> str:
    """`name` itself if it is a relative path that stays below its folder; ValueError otherwise."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"file name is {quoted(name)}, expected a str that is not empty")
    path = PurePosixPath(name)
    windows = PureWindowsPath(name)
    if path.is_absolute() or windows.anchor or ".." in windows.parts or "\0" in name:
        raise ValueError(
            f"file name {quoted(name)} is absolute or climbs with '..'; expected a name below the "
            "document's own folder"
        )
    return name


def _segment(row: Any, read: Callable[[str], bytes]) -> Segment:
    kind = row.get("type") if isinstance(row, dict) else type(row).__name__
    if not isinstance(row, dict) or not isinstance(kind, str) or kind not in _KEYS:
        raise ValueError(f"type is {quoted(kind)}, expected one of {sorted(_KEYS)}")
    required, optional = _KEYS[kind]
    missing = [key for key in required if key not in row]
    unknown = sorted(set(row) - {"type", "role", "loss", *required, *optional})
    if missing or unknown:
        raise ValueError(f"{kind} segment lacks {missing} and has unknown keys {quoted(unknown)}")
    common: dict[str, Any] = {"role": row.get("role"), "loss": row.get("loss", 1.0)}
    if kind == "text":
        return Text(row["text"], **common)
    if kind == "slot":
        common |= {key: row.get(key) for key in optional}
        return Slot(row["modality"], **common)
    name = check_file_name(row["file"])
    data = read(name)
    if kind == "image":
        return Image(decode_image(data, name), **common)
    waveform, rate = decode_audio(data, name)
    return Audio(waveform, rate, **common)
