"""What sampling tells its listener, row by row, as it happens.

`row` is the number of the document in the call to `UnifiedModel.stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from unified.engine.text_scores import TextScore
from unified_base.text import counted
from unified_data.document import Audio, Document, Image, Media


@dataclass(frozen=True)
class TextPiece:
    """Some more characters of a text; never half a character. scores: of its ids, where
    `Sampling.top_logprobs` asks for them."""

    row: int
    text: str
    scores: tuple[TextScore, ...] = ()


@dataclass(frozen=True)
class ImageBegun:
    """A picture of height x width pixels begins; None where the format lays codes in no rows."""

    row: int
    height: int | None
    width: int | None


@dataclass(frozen=True, eq=False)
class ImageRow:
    """Row `y` of a picture's codes has landed. codes: int64 (K, w).

    picture: decodes what there is of the picture so far, uint8 (pixels of y + 1 rows, W, 3), when
    it is called. What a decoder makes of a row may still change with the rows that follow.
    """

    row: int
    y: int
    codes: np.ndarray
    picture: Callable[[], np.ndarray] = field(repr=False)


@dataclass(frozen=True, eq=False)
class ImageDone:
    row: int
    image: Image


@dataclass(frozen=True)
class AudioBegun:
    row: int


@dataclass(frozen=True, eq=False)
class AudioFrame:
    """A frame of a sound's codes has landed. codes: int64 (K,); seconds: of sound so far."""

    row: int
    codes: np.ndarray
    seconds: float


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """The next samples of a sound, float32 (channels, S) in [-1, 1]; all chunks joined are it."""

    row: int
    waveform: np.ndarray
    sample_rate: int


@dataclass(frozen=True, eq=False)
class AudioDone:
    row: int
    audio: Audio


@dataclass(frozen=True)
class MediaBegun:
    """Media of a modality beside pictures and sound begin. grid: of the codes behind the levels,
    None for what the sequence does not say beforehand."""

    row: int
    modality: str
    grid: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class MediaCodes:
    """Row or frame `index` of them has landed. codes: int64 (K, w) of a row, (K,) of a frame."""

    row: int
    modality: str
    index: int
    codes: np.ndarray


@dataclass(frozen=True, eq=False)
class MediaDone:
    """They are complete, and decoded."""

    row: int
    segment: Media


@dataclass(frozen=True)
class Dropped:
    """Something sampled could not be kept as it was; `reason` says what and what became of it."""

    row: int
    reason: str


@dataclass(frozen=True)
class TextCut:
    """A sampled text did not end by itself; it comes after the text's last piece.

    index: of the slot in the document. reason: "loop" (it wrote one phrase again and again),
    "max_text_ids" or "max_ids" (a budget of `Sampling`), or "max_thought_ids": the thought alone,
    told when it ends. ids: that were sampled of it.
    """

    row: int
    index: int
    reason: str
    ids: int

    @property
    def message(self) -> str:
        """What to tell the user."""
        length = counted(self.ids, "id")
        if self.reason == "loop":
            return (
                f"a text wrote one phrase again and again and was ended after {length}; "
                "max_repeats says when (--max-repeats, 0: never)"
            )
        if self.reason == "max_thought_ids":
            return (
                f"a thought reached its budget after {length} and was ended there; raise"
                " max_thought_ids (--max-thought-ids)"
            )
        whole = "" if self.reason == "max_text_ids" else " for the whole document"
        return (
            f"a text reached its budget{whole} after {length} and was ended there; raise "
            f"{self.reason}" + (" (--max-text-ids)" if not whole else "")
        )


@dataclass(frozen=True, eq=False)
class Done:
    """A row is complete.

    document: the one asked for, its slots filled. ids: int64 (L,), its whole sequence. usage and
    timings: see `sampling.Finished`; `decode`, seconds spent on turning codes into media, is added.
    """

    row: int
    document: Document
    ids: np.ndarray
    usage: dict[str, int]
    timings: dict[str, float]


Event = (
    TextPiece
    | ImageBegun
    | ImageRow
    | ImageDone
    | AudioBegun
    | AudioFrame
    | AudioChunk
    | AudioDone
    | MediaBegun
    | MediaCodes
    | MediaDone
    | Dropped
    | TextCut
    | Done
)


def completions(events: Iterable[Event], tell: Callable[[Event], None]) -> Iterator[Done]:
    """The completed rows of a stream, as they come. tell: told every event.

    Raises ValueError, behind the last one, where rows were dropped, with the reason of the first.
    """
    reasons: dict[int, str] = {}
    for event in events:
        tell(event)
        if isinstance(event, Dropped):
            reasons[event.row] = event.reason
        elif isinstance(event, Done):
            reasons.pop(event.row, None)  # of what was dropped in it
            yield event
    if reasons:
        row = min(reasons)
        raise ValueError(f"document {row} was dropped: {reasons[row]}")
