"""The state of an active request: given segments are forced, slots are filled under the grammar.

A request has a *branch* for its own ids, and one more for each condition of classifier-free
guidance: the same slots, filled with the same ids, in a document whose given texts (or given media
too) are left out. Only the first is held to the grammar; the others are input of the decoder alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from unified.engine.branch import Branch, positions_of_segment
from unified.engine.guidance_branches import GuidanceBranches, conditions_of
from unified.engine.loops import LoopFinder
from unified.engine.noise import Noise
from unified.engine.request import (
    CodedSlot,
    CutShort,
    Finished,
    Request,
    Sampling,
    Step,
    least_ids,
    may_call,
    next_given,
    slot_limits,
)
from unified.engine.sampler import FULL, SpanSampling
from unified.engine.speculative import Drafter
from unified.engine.stop import StopFinder
from unified.engine.text_scores import TextScore, certain
from unified.engine.thoughts import ThoughtBudget
from unified.formats.coded import Coded, CodedText, Event, SpanBegin, SpanEnd, TextIds
from unified.formats.grammar import Grammar
from unified.formats.limits import BudgetError, Limits
from unified.formats.modality_ids import MODALITIES, USUAL
from unified.vocabulary.text_tokenizer import TextTokenizer

__all__ = ["ActiveRequest"]


class ActiveRequest:
    """One request while it is sampled.

    `proceed` stops where an id must be chosen among several; `accept` takes it and goes on.

    Attributes:
        current_sampling: the parameters for the next id.
        current_branches: those that it needs: the request's own, then those of guidance in the
            order of `Guidance.conditions`.
        prompt_positions: before the first slot.
    """

    def __init__(
        self,
        number: int,
        request: Request,
        grammar: Grammar,
        sampling: Sampling,
        max_ids: int,
        text_tokenizer: TextTokenizer | None = None,
    ) -> None:
        self.number = number
        self.request = request
        self.grammar = grammar
        self.sampling = sampling
        self.max_ids = max_ids
        self.started_at = time.perf_counter()
        self.state = grammar.start()
        self.noise = Noise(request.seed)
        self.branches = {name: Branch(name) for name in conditions_of(grammar, sampling)}
        self._apart = (
            grammar.num_together > 1
            or bool(grammar.format.bidirectional)
            or any(getattr(segment, "features", None) is not None for segment in request.segments)
        )
        # All ids in reading order; where each is a position of its own, one list is both.
        self.ids = cast("list[int]", [] if self._apart else self.branches[FULL].positions)
        self._begun: list[int] = []  # ids of the position that is not whole yet
        self.prompt_positions = 0
        self._of_mode = sampling.text
        self.current_sampling = sampling.text.of_level(-1)
        self.current_branches = self._branches_for(sampling.text)
        self._mode = "text"  # of `State.mode`, that these are for
        self.segment_index = 0  # of the request
        self.slot: CodedSlot | None = None  # being filled
        self.stop: int | None = None  # the id that ends a text slot
        self.steps: list[Step] = []
        self.text_ids: set[int] = set()  # all that the sequence has so far
        own = {span.modality for span in grammar.span_grammars.values()}
        kinds = [name for name in MODALITIES if name in (*USUAL, *own)]
        counted = ("prompt_ids", "sampled_ids", "forced_ids", *(f"{name}_ids" for name in kinds))
        self.usage = dict.fromkeys(counted, 0)
        self.timings: dict[str, float] = {}
        self.drafter = Drafter()
        self._score: TextScore | None = None  # of the id that is being appended
        self._open = (False, 0)  # `Step.sampled` and `Step.index` of the open segment
        self._num_text_ids = 0  # of the open text
        # Of a slot that continues a given text: the number of that text's ids, the slot's index.
        self._continued: tuple[int, int] | None = None
        self._loops = LoopFinder(sampling.max_repeats) if sampling.max_repeats else None
        self._num_sampled_text = 0  # ids of the open text that were chosen
        self._cut_reported = False  # whether the open text was cut short
        self._thought = ThoughtBudget.of(sampling, text_tokenizer, grammar.vocabulary)
        self._stop_finder = None
        if sampling.stop:
            if text_tokenizer is None:
                raise ValueError("stop needs the text tokenizer; give it to the sampler")
            self._stop_finder = StopFinder(text_tokenizer, sampling.stop)
        self.branches[FULL].role = grammar.format.start
        self._guidance = GuidanceBranches(self.branches.values(), grammar, request.negative)
        for id in grammar.begin:
            self._push(id)
        self.proceed()

    @property
    def in_position(self) -> bool:
        """Whether the next id stands in a position that has begun, and all before it are read."""
        own = self.branches[FULL]
        return self.state.depth > 0 and own.num_cached == len(own.positions)

    @property
    def begun(self) -> Sequence[int]:
        """The ids of the position that is not whole yet."""
        return self._begun

    @property
    def span_sampling(self) -> SpanSampling:
        """The parameters of what is open, of which those of levels are part."""
        return self._of_mode

    def _choose_next(self) -> None:
        """Settle what the next choice needs."""
        mode = self.state.mode
        if mode != self._mode:
            self._mode = mode
            self._of_mode = self.sampling.text
            if mode not in ("marker", "text"):
                modality = self.grammar.span_grammars[mode].modality
                self._of_mode = self.sampling.of(mode, modality)
        elif not self._of_mode.levels:
            return
        sampling = self._of_mode
        if sampling.levels:
            sampling = sampling.of_level(self.state.level)
        if sampling is not self.current_sampling:
            self.current_sampling = sampling
            self.current_branches = self._branches_for(sampling)

    def _branches_for(self, sampling: SpanSampling) -> list[Branch]:
        return [self.branches[name] for name in (FULL, *sampling.guidance.conditions)]

    def accept(self, id: int, score: TextScore | None = None) -> None:
        """Append an id chosen for this request, and go on to the next choice. score: of a text id,
        where scores are wanted."""
        if not self.usage["sampled_ids"]:
            self.timings["first_id"] = time.perf_counter() - self.started_at
        self.usage["sampled_ids"] += 1
        self._score = score
        self._fill(id)
        self._score = None
        self.proceed()

    def proceed(self) -> None:
        """Append every id without an alternative; stop at the next choice, or at the end."""
        while not self.state.finished:
            if self.slot is not None:
                if (given_id := next_given(self.slot, self.state)) is not None:
                    self._fill(given_id)
                    continue
                allowed = self.state.allowed()
                if self._thought and (mark_id := self._thought.next_id(allowed)) is not None:
                    self._fill(mark_id)
                    continue
                if len(allowed) > 1 or allowed[0][1] - allowed[0][0] > 1:
                    self._choose_next()
                    return
                self._fill(allowed[0][0])
            elif self.segment_index == len(self.request.segments):
                for id in self.grammar.eos(self.state.role):
                    self._push(id)
            else:
                self._begin(self.request.segments[self.segment_index])

    def _begin(self, segment: Coded | CodedSlot) -> None:
        continues = (
            isinstance(segment, CodedSlot)
            and segment.kind in ("text", "any")
            and self.state.kind == "text"
            and (segment.kind == "any" or self.grammar.separator is None)
            and (segment.role or self.grammar.format.start) == self.state.role
        )
        own, format = self.branches[FULL], self.grammar.format
        written = isinstance(segment, CodedSlot)
        own.begin_segment(self.grammar, self.state.role, segment.role, written)
        # The role is the model's choice where it may call a tool instead.
        chooses = may_call(segment, self.sampling, self.grammar, self.state.role)
        if continues:
            self._continued = (self._num_text_ids, self.segment_index)
        elif not chooses:
            for id in self.state.segment_prefix(segment.kind, segment.role):
                self._push(id)
        own.end_markers(format, segment.kind, written)
        if not isinstance(segment, CodedSlot):
            coded = self.grammar.segment_ids(segment)
            ids, positions = coded.ids.tolist(), own.positions
            if isinstance(segment, CodedText):
                self.ids += ids
                if self._apart:
                    positions += ids
                self._note(self.state.advance_text(ids))
            else:
                first = len(positions)
                for id in ids:
                    self._push(id)
                self._note(self.state.end_given())
                if segment.features is not None:
                    positions[first:] = positions_of_segment(segment, coded, self.grammar)
            own.end_given(format, segment.role)
            self._guidance.append_given(segment)
            self.segment_index += 1
            return
        if not self.usage["prompt_ids"]:
            self.usage["prompt_ids"] = len(self.ids)
            self.prompt_positions = len(self.branches[FULL].positions)
        role = segment.role or self.grammar.format.start
        self._guidance.begin_slot(segment.kind, role, continues or chooses)
        self.slot = segment
        self.stop = None
        if segment.kind == "text":
            following = self.request.segments[self.segment_index + 1 : self.segment_index + 2]
            after = (following[0].kind, following[0].role) if following else None
            self.stop = self.grammar.text_stop(segment.role, after)
        self.state.restrict(self._limits(segment), continues)
        self.state.settle_streams(segment.kind, segment.streams)

    def _limits(self, slot: CodedSlot) -> Limits:
        later = self._min_ids_from(self.segment_index + 1, slot.kind, slot.role)
        left = self.max_ids - len(self.ids) - later
        if left < 1:
            raise BudgetError(
                f"{len(self.ids)} ids stand before segment {self.segment_index} and {later} must"
                f" follow it, which leaves nothing of a budget of {self.max_ids}; raise max_ids"
            )
        return replace(slot_limits(slot, self.sampling), max_ids=left, stop=self.stop)

    def _min_ids_from(self, index: int, before: str, role: str | None) -> int:
        """Fewest ids of the segments from `index` on, the end of the document left out.

        before, role: kind and role of the segment before them.
        """
        total = 0
        for segment in self.request.segments[index:]:
            total += len(self.grammar.segment_prefix(before, role, segment.kind, segment.role))
            if isinstance(segment, CodedSlot):
                total += least_ids(segment, self.grammar, self.sampling)
            else:
                total += len(self.grammar.segment_ids(segment)[0])
            before, role = segment.kind, segment.role
        return total

    def _fill(self, id: int) -> None:
        """Append an id to the open slot."""
        slot = self.slot
        assert slot is not None
        writing = slot.kind == "text" or self._num_sampled_text > 0
        if writing and self.state.kind == "text" and self.state.mode != "text":
            self._cut_text("max_ids")
        if id == self.stop and self.state.n_started:
            # The next segment has limits of its own; this id is the first of it.
            self._close("text")
            return
        events = self._push(id, filled=True)
        for event in events:
            if isinstance(event, SpanEnd):
                self._begin_text()
                self._guidance.end_span(event.kind)
                if event.kind == slot.kind or slot.kind == event.segment.kind:
                    self._close(event.kind)
            elif isinstance(event, TextIds):
                self._fill_text(event.ids, slot)

    def _fill_text(self, ids: tuple[int, ...], slot: CodedSlot) -> None:
        """End the text at a stop string, a loop or its budget."""
        self._num_sampled_text += len(ids)
        if self._stop_finder and self._stop_finder.push(ids):
            self._close("text")
        elif self._loops and self._loops.push(ids):
            self._cut_text("loop")
            if slot.kind == "text":
                self._close("text")
            else:
                self.state.end_text()
        elif slot.kind == "text" and self._num_sampled_text == self.sampling.max_text_ids:
            self._cut_text("max_text_ids")
            self._close("text")
        elif slot.kind == "text" and self._thought is not None:
            self._bound_thought(ids, self._thought)

    def _bound_thought(self, ids: tuple[int, ...], thought: ThoughtBudget) -> None:
        """End the thought that a text is, or begins with, at its budget."""
        following = self.request.segments[self.segment_index + 1 : self.segment_index + 2]
        is_whole = bool(following) and isinstance(following[0], CodedSlot)
        if is_whole and self._num_sampled_text < thought.most:
            return
        if not is_whole and not thought.push(ids):
            return
        cut = CutShort("max_thought_ids", self._num_sampled_text)
        self.steps.append(Step(self.number, cut, True, self.segment_index))
        if is_whole:
            self._close("text")

    def _cut_text(self, reason: str) -> None:
        if not self._cut_reported:
            self._cut_reported = True
            cut = CutShort(reason, self._num_sampled_text)
            self.steps.append(Step(self.number, cut, True, self.segment_index))

    def _begin_text(self) -> None:
        """Reset what was counted of the text before."""
        self._num_sampled_text, self._cut_reported = 0, False
        if self._thought is not None:
            self._thought.reset()
        if self._loops:
            self._loops.reset()

    def _close(self, kind: str) -> None:
        self.state.restrict(None)
        self.slot = None
        self.stop = None
        self.segment_index += 1
        self._guidance.end_slot(kind, self.state.role)
        self._begin_text()
        if self._stop_finder:
            self._stop_finder.reset()

    def _push(self, id: int, filled: bool = False) -> tuple[Event, ...]:
        """Append an id. filled: to all branches, not the request's own alone."""
        self.ids.append(id)
        events = self.state.advance(id)
        if self._apart:
            self._begun.append(id)
            if not self.state.depth:
                position = tuple(self._begun) if len(self._begun) > 1 else id
                self._begun.clear()
                for branch in self.branches.values() if filled else (self.branches[FULL],):
                    branch.positions.append(position)
        elif filled:
            for branch in self._guidance:
                branch.positions.append(id)
        return self._note(events)

    def _note(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Make steps of events. Returns the events."""
        for event in events:
            if isinstance(event, SpanBegin):
                self._open = (self.slot is not None, self.segment_index)
            elif isinstance(event, TextIds):
                self.text_ids.update(event.ids)
                self._num_text_ids += len(event.ids)
                if self._continued:
                    self._open = (True, self._continued[1])
            elif isinstance(event, SpanEnd) and isinstance(event.segment, CodedText):
                self._num_text_ids = 0
                if self._continued:
                    added = event.segment.ids[self._continued[0] :]
                    self._continued = None
                    if not added:
                        continue
                    event = SpanEnd("text", CodedText(added, event.segment.role))
            score = self._score_of(event) if isinstance(event, TextIds) else None
            self.steps.append(Step(self.number, event, *self._open, score))
        return events

    def _score_of(self, event: TextIds) -> TextScore | None:
        """The score of a sampled text id; of one that nothing else was allowed beside, too."""
        number = self.sampling.top_logprobs
        if number is None or self.slot is None or len(event.ids) != 1:
            return None
        return self._score or certain(self.ids[-1], number)

    def usage_so_far(self) -> dict[str, int]:
        """See `Finished.usage`."""
        usage = dict(self.usage)
        if not usage["prompt_ids"]:  # no slot has begun
            usage["prompt_ids"] = len(self.ids)
        usage["forced_ids"] = len(self.ids) - usage["prompt_ids"] - usage["sampled_ids"]
        for id in self.ids[usage["prompt_ids"] :]:
            usage[f"{self.grammar.modality(id)}_ids"] += 1
        return usage

    def finished(self) -> Finished:
        self.timings["total"] = time.perf_counter() - self.started_at
        ids = np.array(self.ids, dtype=np.int64)
        return Finished(self.number, ids, self.usage_so_far(), self.timings)
