"""Coded segments, between a Document and its ids, and the events a sequence parses into.

K codebook levels, h w grid of an image, T frames of audio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CodedText:
    """ids: codes of the text block (the text tokenizer's own ids), at least one."""

    ids: tuple[int, ...]
    role: str | None = None
    loss: float = 1.0

    kind = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(int(id) for id in self.ids))
        if not self.ids:
            raise ValueError("a coded text needs at least one id; drop empty texts")


@dataclass(frozen=True, eq=False)
class CodedMedia:
    """A medium as codes. Equal to another of the same content, made by `coded_media` or not.

    codes: int64 (K, *grid): (K, h, w) where a format lays codes out in rows, (K, T, h, w) in frames
    of rows, (K, T) otherwise.
    kind: of its span, where a format has several of one modality, such as music; the modality
    where it is left out. modality: a name in `unified_data.segments`; the kind where left out.
    features: of a span of continuous positions, whose codes are all 0: what stands there, float
    (n, D): of its encoder where a sequencer made it, of the decoder's width (and n = the number of
    codes) where a decoder reads it; or the medium itself, uint8, for an encoder to read later. None
    of codes.
    """

    codes: np.ndarray
    role: str | None = None
    loss: float = 1.0
    kind: str = ""
    modality: str = ""
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "modality", self.modality or self.kind)
        object.__setattr__(self, "kind", self.kind or self.modality)
        codes = np.asarray(self.codes)
        if not self.kind:
            raise ValueError("coded media need a modality, such as 'image'")
        if codes.dtype.kind not in "iu":
            raise ValueError(f"codes of a coded {self.kind} must be integers, found {codes.dtype}")
        if codes.ndim < 2 or codes.size == 0:
            raise ValueError(
                f"codes of a coded {self.kind} must be (levels, grid...) and not empty, "
                f"found shape {codes.shape}"
            )
        codes = codes.astype(np.int64)
        codes.setflags(write=False)
        object.__setattr__(self, "codes", codes)
        if self.features is not None:
            object.__setattr__(self, "features", np.asarray(self.features))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CodedMedia):
            return NotImplemented
        return (
            np.array_equal(self.codes, other.codes)
            and self.role == other.role
            and self.loss == other.loss
            and (self.kind, self.modality) == (other.kind, other.modality)
            and _same(self.features, other.features)
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.codes.shape, self.codes.tobytes(), self.role, self.loss))


@dataclass(frozen=True, eq=False)
class CodedImage(CodedMedia):
    """A picture as codes: int64 (K, h, w), or (K, T) where a format lays them out in no rows."""

    kind: str = "image"
    modality: str = "image"


@dataclass(frozen=True, eq=False)
class CodedAudio(CodedMedia):
    """A sound as codes: int64 (K, T)."""

    kind: str = "audio"
    modality: str = "audio"


def _same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)


Coded = CodedText | CodedMedia
_CLASSES: Mapping[str, type[CodedMedia]] = {"image": CodedImage, "audio": CodedAudio}


def coded_media(
    modality: str,
    codes: np.ndarray,
    role: str | None = None,
    loss: float = 1.0,
    kind: str = "",
    features: np.ndarray | None = None,
) -> CodedMedia:
    """The codes of a medium as a segment; of the modality's own class where it has one."""
    of_modality = _CLASSES.get(modality, CodedMedia)
    return of_modality(codes, role, loss, kind or modality, modality, features)


@dataclass(frozen=True)
class TextIds:
    """Text ids (codes of the text block) as they arrive."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class SpanBegin:
    """A segment begins: "text" at its first id, media once the header has been read.

    sizes: what the header says ({"h": 12, "w": 9}). grid: the shape of the codes after the
    levels, (h, w), (T, h, w) or (None,) where the end is not known yet; () for text.
    """

    kind: str
    sizes: Mapping[str, int]
    grid: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class RowDone:
    """Row `row` of a span with rows is complete, codes int64 (K, w); or what the first of more
    axes counts: frame `row` of a video, codes (K, h, w)."""

    kind: str
    row: int
    codes: np.ndarray


@dataclass(frozen=True, eq=False)
class FrameDone:
    """Frame `frame` of a span without rows is complete in every level. codes: int64 (K,)."""

    codes: np.ndarray
    frame: int
    kind: str


@dataclass(frozen=True, eq=False)
class StreamFrameDone:
    """Frame `frame` of one stream of a span is complete, which may be steps before that of all
    others is. codes: int64 (levels of the stream,); ids of the text tokenizer for a text stream."""

    codes: np.ndarray
    frame: int
    kind: str
    stream: str


@dataclass(frozen=True)
class SpanEnd:
    """A segment of any kind is complete."""

    kind: str
    segment: Coded


@dataclass(frozen=True)
class RoleChange:
    role: str


@dataclass(frozen=True)
class End:
    """The document is complete; where its format lets another role follow, it may still go on."""


Event = TextIds | SpanBegin | RowDone | FrameDone | StreamFrameDone | SpanEnd | RoleChange | End


class GrammarError(ValueError):
    """A sequence leaves the grammar. `position`: index of the first offending id; `reason`."""

    def __init__(self, position: int, reason: str):
        super().__init__(f"position {position}: {reason}")
        self.position = position
        self.reason = reason
