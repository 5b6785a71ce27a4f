"""Sampling under a grammar: rows of one batch, each in a mode of its own.

A row is a sequence of coded segments and slots. Segments are fed as they are (forced); in a slot
the grammar says which ids are allowed now, the decoder computes the logits of only those, and one
is chosen. Ids without an alternative cost no logits. Every row has its own seed, grammar state and
budget, and gives the same ids whatever shares its batch (up to rounding, see `unified.decoder`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from unified.coded import Coded, Event, SpanBegin, SpanEnd
from unified.decoder import Array, Cache, Decoder, Ranges
from unified.grammar import Grammar
from unified.limits import Limits

MAX_IDS = 2048  # of a sequence, where neither the caller nor the decoder says less


@dataclass(frozen=True)
class SpanSampling:
    """How the ids of one kind of span are chosen.

    temperature: 0 takes the likeliest. top_k: only the k likeliest (None: all). top_p: only the
    likeliest that hold this much probability (Holtzman et al., arXiv:1904.09751).
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}, expected 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}, expected at least 1")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, expected more than 0 and at most 1")


@dataclass(frozen=True)
class Sampling:
    """How sequences are sampled: choices per kind of span, and budgets.

    Markers are chosen with `text`, sizes with their own kind. max_ids: ids of the whole sequence,
    prompt and end included; None: 2048, or the decoder's positions if they are fewer.
    max_audio_frames: of each sampled audio span; None: the budget alone.
    max_rows: rows that share the decoder at a time; others wait for a place.
    """

    text: SpanSampling = SpanSampling()
    image: SpanSampling = SpanSampling(temperature=0.7)
    audio: SpanSampling = SpanSampling(temperature=0.7)
    max_ids: int | None = None
    max_audio_frames: int | None = None
    max_rows: int = 64

    def __post_init__(self) -> None:
        for name in ("max_ids", "max_audio_frames", "max_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Sampling:
        """The inverse of `to_json`; what is left out takes its default, unknown keys are refused.

        Raises ValueError naming the key.
        """
        values = _known(cls, obj, "sampling")
        for kind in ("text", "image", "audio"):
            if kind in values:
                values[kind] = SpanSampling(
                    **_known(SpanSampling, values[kind], f"sampling.{kind}")
                )
        return cls(**values)


def _known(cls: type, obj: Any, where: str) -> dict[str, Any]:
    names = [f.name for f in fields(cls)]
    if not isinstance(obj, Mapping) or not set(obj) <= set(names):
        found = sorted(set(obj) - set(names)) if isinstance(obj, Mapping) else repr(obj)
        raise ValueError(f"{where} has {found}, expected some of {', '.join(names)}")
    return dict(obj)


@dataclass(frozen=True)
class CodedSlot:
    """A place to fill. kind: "text", "image", "audio", or "any": interleaved, to the end.

    grid: (h, w) in codes that its images must have. num_images, num_audios: exact numbers, for
    "any" only. None: free.
    """

    kind: str
    grid: tuple[int, int] | None = None
    num_images: int | None = None
    num_audios: int | None = None
    role: str | None = None


@dataclass(frozen=True)
class Request:
    """One row: what stands, what is wanted, and the seed of its random numbers."""

    segments: tuple[Coded | CodedSlot, ...]
    seed: int

    def __post_init__(self) -> None:
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
class Step:
    """A parse event of a row. sampled: whether it belongs to a slot; `index`: of the segment in
    the request."""

    row: int
    event: Event
    sampled: bool
    index: int


@dataclass(frozen=True, eq=False)
class Finished:
    """A row is complete. ids int64 (L,), a whole valid sequence.

    usage: `prompt_ids` before the first slot, `sampled_ids` chosen, `forced_ids` the rest; and of
    the sampled and forced ones together `text_ids`, `image_ids`, `audio_ids`, `marker_ids`.
    timings, seconds since the row took its place: `first_id`, `total`.
    """

    row: int
    ids: np.ndarray
    usage: dict[str, int]
    timings: dict[str, float]


def choose(
    logits: Array, sampling: SpanSampling, generators: Sequence[np.random.Generator]
) -> list[int]:
    """One column for each row of `logits` (N, V'), drawn with the row's own generator.

    The draw is an argmax over logits plus Gumbel noise: unlike a search in the cumulated
    probabilities, it turns on the two best candidates alone, so rounding elsewhere cannot tip it.
    Raises ValueError when the decoder gave no numbers.
    """
    scores = logits
    if sampling.temperature > 0:
        scores = logits / np.float32(sampling.temperature)
        size = scores.shape[1]
        if sampling.top_k is not None and sampling.top_k < size:
            place = size - sampling.top_k
            least = np.partition(scores, place, axis=1)[:, place, None]
            scores = np.where(scores < least, np.float32(-np.inf), scores)
        if sampling.top_p < 1:
            scores = _nucleus(scores, sampling.top_p)
        noise = np.stack([g.standard_exponential(size, dtype=np.float32) for g in generators])
        with np.errstate(divide="ignore"):
            scores = scores - np.log(noise)
    best = scores.argmax(axis=1)
    if np.isnan(scores[np.arange(len(best)), best]).any():
        raise ValueError(
            "the decoder gave logits that are not numbers; its weights are damaged: "
            "copy or train the model again"
        )
    return [int(column) for column in best]


def _nucleus(scores: Array, top_p: float) -> Array:
    ordered = -np.sort(-scores, axis=1)
    weights = np.exp(ordered - ordered[:, :1])
    before = np.cumsum(weights, axis=1) - weights
    kept = (before < top_p * weights.sum(axis=1, keepdims=True)).sum(axis=1)
    least = ordered[np.arange(len(kept)), kept - 1, None]
    return np.where(scores < least, np.float32(-np.inf), scores)


def slot_limits(slot: CodedSlot, sampling: Sampling) -> Limits:
    """What the grammar is told about a slot, budget and stop left out."""
    if slot.kind == "any":
        return Limits(
            num_images=slot.num_images,
            num_audios=slot.num_audios,
            image_grid=slot.grid,
            max_audio_frames=sampling.max_audio_frames,
        )
    return Limits(
        allow=(slot.kind,),
        single=True,
        image_grid=slot.grid,
        max_audio_frames=sampling.max_audio_frames,
    )


def least_ids(slot: CodedSlot, grammar: Grammar, sampling: Sampling) -> int:
    """Fewest ids that fill a slot."""
    rules = grammar.rules(slot_limits(slot, sampling))
    if slot.kind == "any":
        return max(1, sum(number * rules.least[kind] for kind, number in rules.exact.items()))
    return rules.least.get(slot.kind, 1)


@dataclass
class _Row:
    """One sequence under way."""

    number: int
    request: Request
    grammar: Grammar
    sampling: Sampling
    max_ids: int
    begun: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.state = self.grammar.start()
        self.generator = np.random.default_rng(self.request.seed)
        self.ids: list[int] = []
        self.fed = 0  # ids the decoder has seen
        self.at = 0  # segment of the request at hand
        self.slot: CodedSlot | None = None  # being filled
        self.stop: int | None = None  # ends a text slot
        self.steps: list[Step] = []
        self.usage = dict.fromkeys(
            ("prompt_ids", "sampled_ids", "forced_ids")
            + ("text_ids", "image_ids", "audio_ids", "marker_ids"),
            0,
        )
        self.timings: dict[str, float] = {}
        self._open = (False, 0)  # sampled and index of the open segment
        self._push(self.grammar.begin)
        self.proceed()

    @property
    def mode(self) -> str:
        """The kind of span whose sampling parameters hold now."""
        mode = self.state.mode
        return "text" if mode == "marker" else mode

    def take(self, id: int) -> None:
        """Continue with an id chosen for this row, up to the next choice."""
        if not self.usage["sampled_ids"]:
            self.timings["first_id"] = time.perf_counter() - self.begun
        self.usage["sampled_ids"] += 1
        self._fill(id)
        self.proceed()

    def proceed(self) -> None:
        """Push every id without an alternative; stop where one must be chosen, or at the end."""
        while not self.state.finished:
            if self.slot is not None:
                allowed = self.state.allowed()
                if len(allowed) > 1 or allowed[0][1] - allowed[0][0] > 1:
                    return
                self._fill(allowed[0][0])
            elif self.at == len(self.request.segments):
                self._push(self.grammar.end)
            else:
                self._begin(self.request.segments[self.at])

    def _begin(self, segment: Coded | CodedSlot) -> None:
        lead = self.state.lead_in(segment.kind, segment.role)
        for id in lead:
            self._push(id)
        if not isinstance(segment, CodedSlot):
            for id in self.grammar.segment_ids(segment)[0].tolist():
                self._push(id)
            self.at += 1
            return
        if not self.usage["prompt_ids"]:
            self.usage["prompt_ids"] = len(self.ids)
        self.slot = segment
        self.stop = None
        if segment.kind == "text":
            following = self.request.segments[self.at + 1 : self.at + 2]
            after = (following[0].kind, following[0].role) if following else None
            self.stop = self.grammar.text_stop(segment.role, after)
        self.state.restrict(self._limits(segment))

    def _limits(self, slot: CodedSlot) -> Limits:
        later = self._later(self.at + 1, slot.kind, slot.role)
        left = self.max_ids - len(self.ids) - later
        if left < 1:
            raise ValueError(
                f"{len(self.ids)} ids stand before segment {self.at} and {later} must follow it, "
                f"which leaves nothing of a budget of {self.max_ids}; raise max_ids"
            )
        return replace(slot_limits(slot, self.sampling), max_ids=left, stop=self.stop)

    def _later(self, at: int, before: str, role: str | None) -> int:
        """Fewest ids of the segments from `at` on, the end of the document left out."""
        total = 0
        for segment in self.request.segments[at:]:
            total += len(self.grammar.lead_in(before, role, segment.kind, segment.role))
            if isinstance(segment, CodedSlot):
                total += least_ids(segment, self.grammar, self.sampling)
            else:
                total += len(self.grammar.segment_ids(segment)[0])
            before, role = segment.kind, segment.role
        return total

    def _fill(self, id: int) -> None:
        """Take an id in the slot at hand."""
        slot = self.slot
        assert slot is not None
        if id == self.stop and self.state.opened:
            # What follows is fed under limits of its own; this id is the first of it.
            self._close()
            return
        events = self._push(id)
        if any(isinstance(e, SpanEnd) and e.kind == slot.kind for e in events):
            self._close()

    def _close(self) -> None:
        self.state.restrict(None)
        self.slot = None
        self.stop = None
        self.at += 1

    def _push(self, id: int) -> tuple[Event, ...]:
        self.ids.append(id)
        events = self.state.advance(id)
        for event in events:
            if isinstance(event, SpanBegin):
                self._open = (self.slot is not None, self.at)
            self.steps.append(Step(self.number, event, *self._open))
        return events

    def finished(self) -> Finished:
        self.timings["total"] = time.perf_counter() - self.begun
        ids = np.array(self.ids, dtype=np.int64)
        self.usage["forced_ids"] = len(ids) - self.usage["prompt_ids"] - self.usage["sampled_ids"]
        for id in self.ids[self.usage["prompt_ids"] :]:
            name = self.grammar.vocabulary.block_of(id).name.partition(".")[0]
            self.usage[f"{name}_ids" if name in ("text", "image", "audio") else "marker_ids"] += 1
        return Finished(self.number, ids, self.usage, self.timings)


class Sampler:
    """Runs requests through a decoder under a grammar."""

    def __init__(self, decoder: Decoder, grammar: Grammar) -> None:
        if decoder.vocab_size < grammar.vocabulary.size:
            raise ValueError(
                f"the decoder has {decoder.vocab_size} embedding rows, the vocabulary "
                f"{grammar.vocabulary.size} ids; it was made for another vocabulary"
            )
        self.decoder = decoder
        self.grammar = grammar

    def run(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Step | Finished]:
        """Fill every slot of every request. Steps come as ids are chosen, rows interleaved.

        Raises ValueError, before anything is sampled, where a request does not fit its budget or
        its sequence the decoder's positions.
        """
        max_ids = sampling.max_ids or min(MAX_IDS, self.decoder.max_ids)
        # Made at once, so that a request that cannot be met is refused before any work.
        waiting = deque(
            _Row(number, request, self.grammar, sampling, max_ids)
            for number, request in enumerate(requests)
        )
        places = min(sampling.max_rows, len(waiting))
        cache = self.decoder.cache(places, max_ids)
        active: list[_Row] = []  # active[i] has place i of the cache
        while waiting or active:
            while waiting and len(active) < places:
                active.append(waiting.popleft())
                active[-1].begun = time.perf_counter()
            place = 0
            while place < len(active):
                row = active[place]
                steps, row.steps = row.steps, []
                yield from steps
                if not row.state.finished:
                    place += 1
                    continue
                yield row.finished()
                active[place] = active[-1]
                active.pop()
                cache.move(len(active), place)
            if active:
                self._continue(active, cache, sampling)

    def _continue(self, active: list[_Row], cache: Cache, sampling: Sampling) -> None:
        """Choose one id for every row."""
        features = self._feed(active, cache)
        groups: dict[tuple[Ranges, str, int | None], list[int]] = {}
        for place, row in enumerate(active):
            key = (row.state.allowed(), row.mode, row.state.owed)
            groups.setdefault(key, []).append(place)
        for (ranges, mode, owed), group in groups.items():
            shown = features if len(group) == len(active) else features[group]
            logits = self.decoder.logits(shown, ranges)
            columns = choose(
                logits, getattr(sampling, mode), [active[place].generator for place in group]
            )
            ends = self._ends(shown, logits) if owed is not None else [False] * len(group)
            for place, column, end in zip(group, columns, ends):
                if end:
                    assert owed is not None
                    active[place].take(owed)
                    continue
                for start, stop in ranges:
                    if column < stop - start:
                        active[place].take(start + column)
                        break
                    column -= stop - start

    def _ends(self, features: Array, logits: Array) -> list[bool]:
        """Which rows would end the document rather than go on with anything that is allowed.

        While pictures or sounds are owed they may not; whatever else they wrote would be padding,
        so what is owed begins there.
        """
        end = self.decoder.logits(features, ((self.grammar.end, self.grammar.end + 1),))[:, 0]
        return [bool(one) for one in end > logits.max(axis=1)]

    def _feed(self, active: list[_Row], cache: Cache) -> Array:
        """Let the decoder see every id of every row. Returns its features after the last ones."""
        for place, row in enumerate(active):
            upto = len(row.ids) - 1
            if row.fed < upto:
                # Samples of one prompt share its prefill.
                twins = (
                    other
                    for other in range(place if row.fed == 0 else 0)
                    if active[other].fed == upto and active[other].ids[:upto] == row.ids[:upto]
                )
                twin = next(twins, None)
                if twin is None:
                    self.decoder.prefill(cache, place, row.ids[row.fed : upto])
                else:
                    cache.fork(twin, place)
                row.fed = upto
        for row in active:
            row.fed += 1
        return self.decoder.step(cache, [row.ids[-1] for row in active])
