"""A document: an ordered list of text and media segments, some perhaps still to be filled.

JSON form (media files lie beside it, lossless; `role` and `loss` are left out at their defaults):

    {"segments": [{"type": "text", "text": "![a cat]", "role": "prompt", "loss": 0.0},
                  {"type": "image", "file": "x.1.png"},
                  {"type": "audio", "file": "x.2.flac"},
                  {"type": "audio", "file": "x.4.flac", "words": ["<pad>", "Yes", "<pad>"]},
                  {"type": "box", "at": [8, 8, 40, 32], "of": [96, 96]},
                  {"type": "video", "file": "x.5.film"},
                  {"type": "slot", "modality": "image", "height": 96, "width": 96}]}

Shapes: H W pixels, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from unified_base.atomic import atomic_write
from unified_base.cells import join_cells
from unified_base.files import read_bytes
from unified_base.text import quoted
from unified_data.dialogue import Dialogue
from unified_data.places import Box, Location, Point
from unified_data.segments import (
    ANY,
    MAX_LOSS,
    MAX_MEDIA,
    MAX_SIDE,
    Audio,
    Image,
    Media,
    Modality,
    Role,
    Segment,
    Slot,
    Text,
    common_entries,
    media_class,
    media_classes,
)
from unified_data.video import Video

# isort: split
# Behind the others: modalities are numbered in the order in which they are registered.
from unified_data.labels import Label
from unified_data.numbers import PointCloud, WorldState
from unified_data.regions import Region

__all__ = [
    "MAX_DECODED", "MAX_LOSS", "MAX_MEDIA", "MAX_SEGMENTS", "MAX_SIDE", "Audio", "Box", "Dialogue",
    "Document", "Image", "Label", "Location", "Media", "Modality", "Point", "PointCloud", "Region",
    "Role", "Segment", "Slot", "Text", "Video", "WorldState", "check_decoded", "check_file_name",
    "common_entries", "decoded_size", "keys_of",
]  # fmt: skip

MAX_DECODED = 2 << 30
"""Bytes that the pixels and samples of one document read from files may take in all: small files
can hold much, and one file can be named again and again."""
MAX_SEGMENTS = 65_536
"""Segments of a document that is read from JSON."""


_SLOT_KEYS = ("height", "width", "num_images", "num_audios", "frames")


def _keys(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys that a JSON segment may have beside "type", "role" and "loss": (required, optional)."""
    if kind == "text":
        return ("text",), ()
    if kind == "slot":
        return ("modality",), _SLOT_KEYS
    if issubclass(media_class(kind), Location):
        return Location.entries, ()
    return ("file",), ("words",) if kind == "audio" else ()


@dataclass(frozen=True)
class Document:
    """An ordered tuple of segments. Equal to another of the same content."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        for position, segment in enumerate(self.segments):
            if not isinstance(segment, Text | Slot | Media):
                names = ", ".join(cls.__name__ for cls in media_classes().values())
                raise ValueError(
                    f"segment {position} is a {type(segment).__name__}, "
                    f"expected Text, {names} or Slot"
                )
            if isinstance(segment, Media):
                media_class(segment.modality)  # one that is registered
            last = position == len(self.segments) - 1
            if isinstance(segment, Slot) and segment.modality == ANY and not last:
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

    def picture_of(self, position: int) -> int:
        """The position of the picture that the place at `position` lies in: the last one before it,
        or else the first one behind it.

        Raises ValueError where there is no place, and for a document without a picture.
        """
        if not 0 <= position < len(self.segments):
            raise ValueError(f"position is {position}, expected 0 to {len(self.segments) - 1}")
        if not isinstance(self.segments[position], Location):
            raise ValueError(f"segment {position} is no box and no point")
        pictures = [i for i, segment in enumerate(self.segments)
                    if isinstance(segment, Image)
                    or (isinstance(segment, Slot) and segment.modality == "image")]  # fmt: skip
        if not pictures:
            raise ValueError(f"segment {position} lies in no picture: the document has none")
        before = [i for i in pictures if i < position]
        return before[-1] if before else pictures[0]

    def to_parts(self, stem: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The JSON object, and the bytes of its media files by name: STEM.POSITION.png, ...

        Images are PNG, videos animated PNG; audio is FLAC where 16-bit FLAC is exact, otherwise
        float32 WAV.
        """
        media: dict[str, bytes] = {}
        rows = []
        for position, segment in enumerate(self.segments):
            row: dict[str, Any]
            if isinstance(segment, Text):
                row = {"type": "text", "text": segment.text}
            elif isinstance(segment, Slot):
                for name in ("begins", "listener"):
                    if getattr(segment, name) is not None:
                        raise ValueError(
                            f"a slot with a sound ({name}) has no JSON form; leave {name} out,"
                            " and give the sound when the document is sampled"
                        )
                row = {"type": "slot", "modality": segment.modality}
                for key in _SLOT_KEYS:
                    if getattr(segment, key) is not None:
                        row[key] = getattr(segment, key)
            elif isinstance(segment, Location):
                row = {"type": segment.modality, **segment.to_entries()}
            else:
                ending, data = segment.to_file()
                name = f"{stem}.{position}.{ending}"
                media[name] = data
                row = {"type": segment.modality, "file": name}
                if isinstance(segment, Dialogue):
                    row["words"] = list(segment.words)
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

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return join_cells(segment._repr_html_() for segment in self.segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)


def decoded_size(segment: Segment) -> int:
    """Bytes of a segment's pixels or samples."""
    return segment.nbytes if isinstance(segment, Media) else 0


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
    known = ("text", "slot", *media_classes())
    kind = row.get("type") if isinstance(row, dict) else type(row).__name__
    if not isinstance(row, dict) or not isinstance(kind, str) or kind not in known:
        raise ValueError(f"type is {quoted(kind)}, expected one of {sorted(known)}")
    required, optional = _keys(kind)
    missing = [key for key in required if key not in row]
    unknown = sorted(set(row) - {"type", "role", "loss", *required, *optional})
    if missing or unknown:
        raise ValueError(f"{kind} segment lacks {missing} and has unknown keys {quoted(unknown)}")
    role, loss = row.get("role"), row.get("loss", 1.0)
    if kind == "text":
        return Text(row["text"], role, loss)
    if kind == "slot":
        sizes = {key: row.get(key) for key in optional}
        return Slot(row["modality"], **sizes, role=role, loss=loss)
    media_kind = media_class(kind)
    if issubclass(media_kind, Location):
        return media_kind.of(row["at"], row["of"], role, loss)
    name = check_file_name(row["file"])
    media = media_kind.from_file(read(name), name, role, loss)
    if "words" in row:
        assert isinstance(media, Audio)  # of whose keys alone it is
        return Dialogue.of(media, row["words"])
    return media
