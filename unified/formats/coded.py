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


class _CodedMedia:
    kind: str
    codes: np.ndarray
    role: str | None
    loss: float

    def __post_init__(self) -> None:
        codes = np.asarray(self.codes)
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

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, _CodedMedia)
        return (
            np.array_equal(self.codes, other.codes)
            and self.role == other.role
            and self.loss == other.loss
            and self.kind == other.kind
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.codes.shape, self.codes.tobytes(), self.role, self.loss))


@dataclass(frozen=True, eq=False)
class CodedImage(_CodedMedia):
    """codes: int64 (K, h, w), or (K, T) where the format lays pictures out without rows.

    kind: of its span, where a format has several that hold pictures.
    """

    codes: np.ndarray
    role: str | None = None
    loss: float = 1.0
    kind: str = "image"


@dataclass(frozen=True, eq=False)
class CodedAudio(_CodedMedia):
    """codes: int64 (K, T). kind: of its span, where a format has several, such as music."""

    codes: np.ndarray
    role: str | None = None
    loss: float = 1.0
    kind: str = "audio"


Coded = CodedText | CodedImage | CodedAudio
CODED_MEDIA: Mapping[str, type[CodedImage] | type[CodedAudio]] = {
    "image": CodedImage,
    "audio": CodedAudio,
}


@dataclass(frozen=True)
class TextIds:
    """Text ids (codes of the text block) as they arrive."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class SpanBegin:
    """A segment begins: "text" at its first id, media once the header has been read.

    sizes: what the header says ({"h": 12, "w": 9}). grid: the shape of the codes after the
    levels, (h, w) or (None,) where the end is not known yet; () for text.
    """

    kind: str
    sizes: Mapping[str, int]
    grid: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class RowDone:
    """Row `row` of a span with rows is complete. codes: int64 (K, w)."""

    kind: str
    row: int
    codes: np.ndarray


@dataclass(frozen=True, eq=False)
class FrameDone:
    """Frame `frame` of a span without rows is complete in every level. codes: int64 (K,)."""

    codes: np.ndarray
    frame: int
    kind: str


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


Event = TextIds | SpanBegin | RowDone | FrameDone | SpanEnd | RoleChange | End


class GrammarError(ValueError):
    """A sequence leaves the grammar. `position`: index of the first offending id; `reason`."""

    def __init__(self, position: int, reason: str):
        super().__init__(f"position {position}: {reason}")
        self.position = position
        self.reason = reason
