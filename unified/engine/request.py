"""Requests with slots, sampling parameters, and the steps that the engine answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unified.engine.sampler import SpanSampling, every_level
from unified.engine.text_scores import MOST_LOGPROBS, TextScore
from unified.formats.coded import Coded, CodedText, Event
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits, SpanLimits
from unified.formats.state import State
from unified.sequence.modality import modality_of
from unified_base.arguments import flag, item, seed_of, texts, whole, whole_or_none
from unified_base.config import parse_config
from unified_base.text import quoted

__all__ = [
    "Cancelled",
    "CodedSlot",
    "CutShort",
    "Failed",
    "Finished",
    "Request",
    "Sampling",
    "Step",
    "least_ids",
    "slot_limits",
]

_REPEATS = "0, or a whole number of at least 2"
MODES = ("text", "image", "audio")
_LIKELIEST = SpanSampling()


def _default(modality: str) -> SpanSampling:
    """How codes of a modality are sampled where nothing else is asked for."""
    return SpanSampling(temperature=modality_of(modality).temperature)


@dataclass(frozen=True)
class Sampling:
    """How sequences are sampled: parameters for each kind of span, and budgets.

    Markers are chosen with `text`, sizes with their own kind. Where a budget or a loop ends a text,
    `CutShort` says so.

    Attributes:
        text, image, audio: parameters of the spans of each modality.
        spans: parameters of other modalities, and of kinds of spans that a format has beside these
            ("music"); such kinds take their modality's otherwise.
        max_ids: ids of the whole sequence, prompt and end included; None: 2048, or the decoder's
            positions if they are fewer.
        max_audio_frames: of each sampled audio span; None: `max_ids` alone.
        max_text_ids: of each text slot; None: `max_ids` alone.
        max_repeats: a text ends once its last ids are this many copies of one phrase, and at least
            48 ids (see `loops`); 0: loops do not end a text.
        max_thought_ids: of what is written before an answer: of a text slot that another slot
            follows, which ends there, and of a text up to the first of `thought_ends`, which is
            then written for the model (see `thoughts`); None: thoughts count as texts alone.
        thought_ends: marks that end the thought which a text slot begins with, such as "</think>".
        stop: strings that end a text slot; they are cut off.
        calls: an "any" slot may hold, or end with, a call of a tool, if the format has role "call":
            the document ends behind it, for `models.tools` to go on with what the tool gives.
        top_logprobs: log probabilities of sampled text ids come with their texts, each with so many
            of the likeliest in its place, 0 to 20 (`text_scores`); None: none come.
        max_rows: requests of one call that are in the engine at a time; its others wait. The first
            document's holds for the call.
    """

    text: SpanSampling = _LIKELIEST
    image: SpanSampling = field(default_factory=partial(_default, "image"))
    audio: SpanSampling = field(default_factory=partial(_default, "audio"))
    spans: Mapping[str, SpanSampling] = field(default_factory=dict)
    max_ids: int | None = None
    max_audio_frames: int | None = None
    max_text_ids: int | None = 512
    max_repeats: int = 4
    stop: tuple[str, ...] = ()
    max_thought_ids: int | None = None
    thought_ends: tuple[str, ...] = ()
    calls: bool = False
    top_logprobs: int | None = None
    max_rows: int = 64

    def __post_init__(self) -> None:
        for name in MODES:
            item(name, getattr(self, name), SpanSampling, "a SpanSampling")
        if not isinstance(self.spans, Mapping):
            raise ValueError(f"spans is {quoted(self.spans)}, expected a mapping of SpanSampling")
        for kind, entry in self.spans.items():
            item(f"spans[{quoted(kind)}]", entry, SpanSampling, "a SpanSampling")
        checked = {
            "max_ids": whole_or_none("max_ids", self.max_ids, 1),
            "max_audio_frames": whole_or_none("max_audio_frames", self.max_audio_frames, 1),
            "max_text_ids": whole_or_none("max_text_ids", self.max_text_ids, 1),
            "max_repeats": whole("max_repeats", self.max_repeats, 0, expected=_REPEATS),
            "stop": texts("stop", self.stop),
            "max_thought_ids": whole_or_none("max_thought_ids", self.max_thought_ids, 1),
            "calls": flag("calls", self.calls),
            "thought_ends": texts("thought_ends", self.thought_ends),
            "top_logprobs": whole_or_none("top_logprobs", self.top_logprobs, 0, MOST_LOGPROBS),
            "max_rows": whole("max_rows", self.max_rows, 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.max_repeats == 1:
            raise ValueError(f"max_repeats is 1, expected {_REPEATS}")
        if any(own.repetition_penalty != 1 for own in every_level(self.image)):
            raise ValueError("image.repetition_penalty: it is for text and sound alone")

    def of(self, kind: str, modality: str) -> SpanSampling:
        """The parameters of a span of this kind, "text" included."""
        parameters = self.spans.get(kind) or self.spans.get(modality)
        if parameters is None and modality in MODES:
            parameters = getattr(self, modality)
        return _default(modality) if parameters is None else parameters

    def to_json(self) -> dict[str, Any]:
        modes = {name: getattr(self, name).to_json() for name in MODES}
        spans = {kind: own.to_json() for kind, own in self.spans.items()}
        rest = {name: getattr(self, name) for name in vars(self) if name not in modes}
        return {**modes, **rest, "spans": spans, "stop": list(self.stop),
                "thought_ends": list(self.thought_ends)}  # fmt: skip

    @classmethod
    def from_json(cls, obj: Any, where: str = "sampling") -> Sampling:
        """The inverse of `to_json`; what is left out takes its default, unknown keys are refused.

        `where` is for errors: ValueError naming the key.
        """
        return parse_config(cls, _renamed(obj), where)


def _renamed(obj: Any) -> Any:
    """Saved parameters by today's names: some models were saved with `drafts`."""
    if not isinstance(obj, dict):
        return obj
    renamed = {key: _renamed(value) for key, value in obj.items()}
    if "drafts" in renamed and not isinstance(renamed["drafts"], dict):  # and no kind of span
        renamed["draft_tokens"] = renamed.pop("drafts")
    return renamed


@dataclass(frozen=True)
class CodedSlot:
    """A slot to fill. kind: "text", a modality, or "any": interleaved, to the end.

    grid: of codes that its media must have, (h, w) of images. num_images, num_audios: exact
    numbers, for "any" only. None: free. allow: what an "any" slot may hold, see `Limits`.
    begins: codes (K, T) of the first frames of a sound, ids by level. streams: codes (levels, T) of
    some of the span's streams, by name: they are not sampled, and the span has T frames.
    """

    kind: str
    grid: tuple[int, ...] | None = None
    num_images: int | None = None
    num_audios: int | None = None
    role: str | None = None
    allow: tuple[str, ...] | None = None
    begins: tuple[tuple[int, ...], ...] = ()
    streams: Mapping[str, NDArray[np.int64]] | None = None


@dataclass(frozen=True)
class Request:
    """One request: given segments, slots to fill, and the seed of its random numbers.

    sampling: of this request alone; None: what the call says. negative: the negative prompt, texts
    that the unconditional branch of guidance has in place of those given; () leaves them out (or
    blank, where the format says so).
    """

    segments: tuple[Coded | CodedSlot, ...]
    seed: int
    sampling: Sampling | None = None
    negative: tuple[CodedText, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", seed_of(self.seed))
        slots = [i for i, s in enumerate(self.segments) if isinstance(s, CodedSlot)]
        if not slots:
            raise ValueError("the document has no slot, so there is nothing to sample; add a Slot")
        for index in slots:
            slot, following = self.segments[index], self.segments[index + 1 : index + 2]
            if slot.kind == "any" and following:
                raise ValueError(
                    f"segment {index} is an 'any' slot, which must be the last segment"
                )
            if slot.kind == "text" and following and following[0].kind == "any":
                raise ValueError(
                    f"segment {index} is a text slot before an 'any' slot: nothing says where "
                    "that text ends; leave the text slot out"
                )


@dataclass(frozen=True)
class CutShort:
    """A text did not end by itself, but for `reason`: "loop", "max_text_ids" or "max_ids"; or its
    thought did not, but for "max_thought_ids".

    ids: sampled ones that it had by then.
    """

    reason: str
    ids: int


@dataclass(frozen=True)
class Step:
    """A parse event of a request, or that a text was cut short.

    row: number of the request. sampled: whether it belongs to a slot. index: of the segment in the
    request. score: of a sampled text id, where scores are wanted.
    """

    row: int
    event: Event | CutShort
    sampled: bool
    index: int
    score: TextScore | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """A request is complete.

    Attributes:
        row: number of the request.
        ids: int64 (L,), a whole valid sequence.
        usage: `prompt_ids` before the first slot, `sampled_ids` chosen, `forced_ids` the rest; and
            of the sampled and forced ones together `text_ids`, `image_ids`, `audio_ids`,
            `marker_ids`.
        timings: seconds since the request joined the batch: `first_id`, `total`.
    """

    row: int
    ids: np.ndarray
    usage: dict[str, int]
    timings: dict[str, float]


@dataclass(frozen=True)
class Cancelled:
    """A request was cancelled before it was complete; `sampled` ids had been chosen."""

    row: int
    sampled: int


@dataclass(frozen=True)
class Failed:
    """A request was dropped before it was complete: memory ran out, or the backend had an error.

    row: number of the request. reason: in a line. error: what was raised.
    """

    row: int
    reason: str
    error: BaseException = field(repr=False)


def slot_limits(slot: CodedSlot, sampling: Sampling) -> Limits:
    """A slot as limits of the grammar, budget and stop left out."""
    if slot.kind == "any":
        return Limits(
            num_audios=slot.num_audios,
            allow=slot.allow,
            spans={"image": SpanLimits(count=slot.num_images, grid=slot.grid)},
            max_audio_frames=sampling.max_audio_frames,
            calls="call" if sampling.calls else None,
            role=slot.role,
        )
    if slot.streams:
        frames = min(np.shape(codes)[-1] for codes in slot.streams.values())
        exact = SpanLimits(min_frames=frames, max_frames=frames)
        return Limits(allow=(slot.kind,), single=True, spans={slot.kind: exact})
    return Limits(
        allow=(slot.kind,),
        single=True,
        spans={} if slot.grid is None else {slot.kind: SpanLimits(grid=slot.grid)},
        min_audio_frames=len(slot.begins[0]) if slot.begins else 1,
        max_audio_frames=sampling.max_audio_frames,
    )


def may_call(
    segment: Coded | CodedSlot, sampling: Sampling, grammar: Grammar, role: str | None
) -> bool:
    """Whether it is the model's choice whether a slot or the call of a tool begins.

    role: of what stands before. Raises ValueError for a format in which nothing is called.
    """
    if not (sampling.calls and isinstance(segment, CodedSlot) and segment.kind == "any"):
        return False
    if "call" not in grammar.roles:
        raise ValueError(
            f"format '{grammar.format.name}' has no role call, in which a tool is called; take a"
            " model of a format that has it, such as tools"
        )
    return (segment.role or grammar.format.start) != role


def next_given(slot: CodedSlot, state: State) -> int | None:
    """The next id of a sound that a slot begins with; None behind it, and for a marker."""
    level = state.level
    if not slot.begins or level < 0:
        return None
    frame = state.num_codes(level)
    return slot.begins[level][frame] if frame < len(slot.begins[level]) else None


def least_ids(slot: CodedSlot, grammar: Grammar, sampling: Sampling) -> int:
    """Fewest ids that fill a slot."""
    rules = grammar.rules(slot_limits(slot, sampling))
    if slot.kind == "any":
        return max(1, sum(number * rules.least[kind] for kind, number in rules.exact.items()))
    return rules.least.get(slot.kind, 1)
