"""One sequence under way: what stands is fed, slots are filled under the grammar.

A row has a *branch* for its own ids, and one more for each thing that guidance does without: the
same slots, filled with the same ids, in a document whose given texts (or given media too) are
left out. Only the first is held to the grammar; the others are what the decoder is shown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unified.engine.loops import LoopFinder
from unified.engine.request import (
    CodedSlot,
    CutShort,
    Finished,
    Request,
    Sampling,
    Step,
    least_ids,
    slot_limits,
)
from unified.engine.sampler import SpanSampling
from unified.engine.speculative import Drafts
from unified.engine.stop import StopFinder
from unified.formats.coded import Coded, CodedText, Event, SpanBegin, SpanEnd, TextIds
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.vocabulary.text_tokenizer import TextTokenizer

__all__ = ["Branch", "Row"]


@dataclass(eq=False)
class Branch:
    """Ids that the decoder is shown for a row. without: "", "prompt" or "text" (see `Guidance`).

    fed: how many of them it has seen. place: in its cache, -1 while it has none.
    """

    without: str
    ids: list[int] = field(default_factory=list)
    fed: int = 0
    place: int = -1
    # Of the last segment.
    kind: str | None = None
    role: str | None = None


class Row:
    """One request under way. Sampling happens where `proceed` stops: `take` goes on from there."""

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
        self.begun = time.perf_counter()
        self.state = grammar.start()
        self.generator = np.random.default_rng(request.seed)
        wanted: dict[str, None] = {"": None}  # in order, without duplicates
        for kind, program in grammar.span_grammars.items():
            wanted.update(dict.fromkeys(sampling.of(kind, program.modality).guidance.without))
        wanted.update(dict.fromkeys(sampling.text.guidance.without))
        self.branches = {without: Branch(without) for without in wanted}
        self.ids = self.branches[""].ids
        self.at = 0  # segment of the request at hand
        self.slot: CodedSlot | None = None  # being filled
        self.stop: int | None = None  # ends a text slot
        self.steps: list[Step] = []
        self.texts: set[int] = set()  # text ids so far
        self.usage = dict.fromkeys(
            ("prompt_ids", "sampled_ids", "forced_ids")
            + ("text_ids", "image_ids", "audio_ids", "marker_ids"),
            0,
        )
        self.timings: dict[str, float] = {}
        self.drafts = Drafts()
        self._open = (False, 0)  # sampled and index of the open segment
        self._text_ids = 0  # of the open text
        # Of a slot that goes on with a text given: that text's ids, and the slot's index.
        self._goes_on: tuple[int, int] | None = None
        self._loops = LoopFinder(sampling.max_repeats) if sampling.max_repeats else None
        self._sampled_text = 0  # ids of the open text that were chosen
        self._cut = False  # whether the open text was
        self._finder = None
        if sampling.stop:
            if text_tokenizer is None:
                raise ValueError("stop needs the text tokenizer; give it to the sampler")
            self._finder = StopFinder(text_tokenizer, sampling.stop)
        for branch in self.branches.values():
            branch.role = grammar.format.start
            if branch.without:
                branch.ids += grammar.begin
                if grammar.uncond_token is not None and not request.negative:
                    branch.ids.append(grammar.uncond_token)
        self._show(request.negative)
        for id in grammar.begin:
            self._push(id)
        self.proceed()

    @property
    def most_ids(self) -> int:
        """How long the longest of its branches can become."""
        extra = max(len(branch.ids) for branch in self.branches.values()) - len(self.ids)
        return self.max_ids + extra

    @property
    def choosing(self) -> SpanSampling:
        """The parameters that hold for the next id."""
        mode = self.state.mode
        if mode in ("marker", "text"):
            return self.sampling.text
        return self.sampling.of(mode, self.grammar.span_grammars[mode].modality)

    def shown(self, choosing: SpanSampling) -> list[Branch]:
        """Its own branch and those that guidance needs, in the order of `Guidance.without`."""
        return [self.branches[without] for without in ("", *choosing.guidance.without)]

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
                for id in self.grammar.eos(self.state.role):
                    self._push(id)
            else:
                self._begin(self.request.segments[self.at])

    def _begin(self, segment: Coded | CodedSlot) -> None:
        goes_on = (
            isinstance(segment, CodedSlot)
            and segment.kind in ("text", "any")
            and self.state.kind == "text"
            and (segment.kind == "any" or self.grammar.separator is None)
            and (segment.role or self.grammar.format.start) == self.state.role
        )
        if goes_on:
            self._goes_on = (self._text_ids, self.at)
        else:
            for id in self.state.segment_prefix(segment.kind, segment.role):
                self._push(id)
        if not isinstance(segment, CodedSlot):
            for id in self.grammar.segment_ids(segment)[0].tolist():
                self._push(id)
            self._give(segment)
            self.at += 1
            return
        if not self.usage["prompt_ids"]:
            self.usage["prompt_ids"] = len(self.ids)
        for branch in self._others():
            role = segment.role or self.grammar.format.start
            if not goes_on:
                branch.ids += self._prefix(branch, segment.kind, role)
            branch.role = role
        self.slot = segment
        self.stop = None
        if segment.kind == "text":
            following = self.request.segments[self.at + 1 : self.at + 2]
            after = (following[0].kind, following[0].role) if following else None
            self.stop = self.grammar.text_stop(segment.role, after)
        self.state.restrict(self._limits(segment), goes_on)

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
            total += len(self.grammar.segment_prefix(before, role, segment.kind, segment.role))
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
        writing = slot.kind == "text" or self._sampled_text > 0
        if writing and self.state.kind == "text" and self.state.mode != "text":
            self._cut_text("max_ids")
        if id == self.stop and self.state.n_started:
            # What follows is fed under limits of its own; this id is the first of it.
            self._close("text")
            return
        for branch in self._others():
            branch.ids.append(id)
        events = self._push(id)
        for event in events:
            if isinstance(event, SpanEnd):
                self._begin_text()
                self.drafts = Drafts()
                for branch in self._others():
                    branch.kind = event.kind
                if event.kind == slot.kind or slot.kind == event.segment.kind:
                    self._close(event.kind)
            elif isinstance(event, TextIds):
                self._fill_text(event.ids, slot)

    def _fill_text(self, ids: tuple[int, ...], slot: CodedSlot) -> None:
        """End the text where one of its ends has come that the model does not choose."""
        self._sampled_text += len(ids)
        if self._finder and self._finder.push(ids):
            self._close("text")
        elif self._loops and self._loops.push(ids):
            self._cut_text("loop")
            if slot.kind == "text":
                self._close("text")
            else:
                self.state.end_text()
        elif slot.kind == "text" and self._sampled_text == self.sampling.max_text_ids:
            self._cut_text("max_text_ids")
            self._close("text")

    def _cut_text(self, reason: str) -> None:
        if not self._cut:
            self._cut = True
            cut = CutShort(reason, self._sampled_text)
            self.steps.append(Step(self.number, cut, True, self.at))

    def _begin_text(self) -> None:
        """Forget what was noticed of the text before."""
        self._sampled_text, self._cut = 0, False
        if self._loops:
            self._loops.reset()

    def _close(self, kind: str) -> None:
        self.state.restrict(None)
        self.slot = None
        self.stop = None
        self.at += 1
        for branch in self._others():
            branch.kind, branch.role = kind, self.state.role
        self._begin_text()
        if self._finder:
            self._finder.reset()

    def _push(self, id: int) -> tuple[Event, ...]:
        self.ids.append(id)
        events = self.state.advance(id)
        for event in events:
            if isinstance(event, SpanBegin):
                self._open = (self.slot is not None, self.at)
            elif isinstance(event, TextIds):
                self.texts.update(event.ids)
                self._text_ids += len(event.ids)
                if self._goes_on:
                    self._open = (True, self._goes_on[1])
            elif isinstance(event, SpanEnd) and isinstance(event.segment, CodedText):
                self._text_ids = 0
                if self._goes_on:
                    added = event.segment.ids[self._goes_on[0] :]
                    self._goes_on = None
                    if not added:
                        continue
                    event = SpanEnd("text", CodedText(added, event.segment.role))
            self.steps.append(Step(self.number, event, *self._open))
        return events

    # What guidance does without.

    def _others(self) -> list[Branch]:
        return [branch for without, branch in self.branches.items() if without]

    def _show(self, texts: Sequence[CodedText]) -> None:
        """Texts that the branches have in place of those given."""
        for branch in self._others():
            for text in texts:
                self._append(branch, text)

    def _give(self, segment: Coded) -> None:
        """A given segment, in the branches that do without some of them."""
        blank = self.grammar.pad_text_with
        for branch in self._others():
            if isinstance(segment, CodedText):
                if blank is None or self.request.negative:
                    continue
                branch.ids += self._prefix(branch, "text", segment.role)
                branch.ids += [blank] * len(segment.ids)
                branch.kind, branch.role = "text", segment.role or self.grammar.format.start
            elif branch.without == "text":
                self._append(branch, segment)

    def _prefix(self, branch: Branch, kind: str, role: str | None) -> list[int]:
        """What stands before a segment in a branch: padding where the format blanks it out, too."""
        ids = self.grammar.segment_prefix(branch.kind, branch.role, kind, role)
        blank = self.grammar.pad_text_with
        if self.grammar.pad_affixes and blank is not None and not self.request.negative:
            return [blank] * len(ids)
        return list(ids)

    def _append(self, branch: Branch, segment: Coded) -> None:
        role = segment.role or self.grammar.format.start
        branch.ids += self.grammar.segment_prefix(branch.kind, branch.role, segment.kind, role)
        branch.ids += self.grammar.segment_ids(segment)[0].tolist()
        branch.kind, branch.role = segment.kind, role

    def finished(self) -> Finished:
        self.timings["total"] = time.perf_counter() - self.begun
        ids = np.array(self.ids, dtype=np.int64)
        self.usage["forced_ids"] = len(ids) - self.usage["prompt_ids"] - self.usage["sampled_ids"]
        for id in self.ids[self.usage["prompt_ids"] :]:
            self.usage[f"{self.grammar.modality(id)}_ids"] += 1
        return Finished(self.number, ids, self.usage, self.timings)
