"""Sampling under a grammar: rows of one batch, each in a mode of its own.

A row is a sequence of coded segments and slots. Segments are fed as they are (forced); in a slot
the grammar says which ids are allowed now, the decoder computes the logits of only those, and one
is chosen. Ids without an alternative cost no logits. Every row has its own seed, parameters,
grammar state and budget, and gives the same ids whatever shares its batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unified.engine.active import Branch, Row
from unified.engine.backends.cpu.decoder import Array, Decoder, Ranges
from unified.engine.kv_cache import Places
from unified.engine.request import Finished, Request, Sampling, Step
from unified.engine.sampler import SpanSampling, choose, distribution, guide, penalize
from unified.engine.speculative import id_at
from unified.formats.grammar import Grammar
from unified.vocabulary.text_tokenizer import TextTokenizer

__all__ = ["MAX_IDS", "Cancelled", "Sampler"]

MAX_IDS = 2048  # of a sequence, where neither the caller nor the decoder says less


@dataclass(frozen=True)
class Cancelled:
    """A row was given up before it was complete; `sampled` ids had been chosen."""

    row: int
    sampled: int


class Sampler:
    """Runs requests through a decoder under a grammar."""

    def __init__(
        self, decoder: Decoder, grammar: Grammar, text_tokenizer: TextTokenizer | None = None
    ) -> None:
        """text_tokenizer: needed for `Sampling.stop` alone."""
        if decoder.vocab_size < grammar.vocabulary.size:
            raise ValueError(
                f"the decoder has {decoder.vocab_size} embedding rows, the vocabulary "
                f"{grammar.vocabulary.size} ids; it was made for another vocabulary"
            )
        self.decoder = decoder
        self.grammar = grammar
        self.text_tokenizer = text_tokenizer

    def run(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Step | Finished | Cancelled]:
        """Fill every slot of every request. Steps come as ids are chosen, rows interleaved.

        cancelled: asked before every step of the decoder; once it says yes, no other is made.

        Raises ValueError, before anything is sampled, where a request does not fit its budget or
        its sequence the decoder's positions.
        """
        # Made at once, so that a request that cannot be met is refused before any work.
        waiting = deque(
            self._row(number, request, request.sampling or sampling)
            for number, request in enumerate(requests)
        )
        widths = sorted((len(row.branches) for row in waiting), reverse=True)
        longest = max((row.most_ids for row in waiting), default=0)
        most_rows = min(sampling.max_rows, len(waiting))
        places = Places(self.decoder, sum(widths[:most_rows]), longest)
        active: list[Row] = []
        while waiting or active:
            while waiting and len(active) < most_rows:
                active.append(waiting.popleft())
                active[-1].begun = perf_counter()
            left = []
            for row in active:
                steps, row.steps = row.steps, []
                yield from steps
                if row.state.finished:
                    yield row.finished()
                    places.free(row.branches.values())
                else:
                    left.append(row)
            active = left
            if cancelled is not None and cancelled():
                for row in (*active, *waiting):
                    yield Cancelled(row.number, row.usage["sampled_ids"])
                return
            if active:
                self._continue(active, places)

    def _row(self, number: int, request: Request, sampling: Sampling) -> Row:
        max_ids = sampling.max_ids or min(MAX_IDS, self.decoder.max_ids)
        return Row(number, request, self.grammar, sampling, max_ids, self.text_tokenizer)

    def _continue(self, active: list[Row], places: Places) -> None:
        """Choose at least one id for every row."""
        groups: dict[tuple[Ranges, SpanSampling, _Owed | None], list[Row]] = {}
        shown: list[Branch] = []
        guesses: dict[int, list[int]] = {}
        drafting: list[Row] = []
        for row in active:
            choosing = row.choosing
            branches = row.shown(choosing)
            shown += branches
            if choosing.drafts and row.state.mode not in ("text", "marker"):
                ahead = row.drafts.propose(row.state, choosing.drafts, row.generator)
                guesses.update((id(branch), ahead) for branch in branches)
                drafting.append(row)
            else:
                key = (row.state.allowed(), choosing, _owed(row))
                groups.setdefault(key, []).append(row)
        at = places.feed(shown, guesses)
        for (ranges, choosing, owed), rows in groups.items():
            lines = [[at[id(branch)] for branch in row.shown(choosing)] for row in rows]
            logits = self._logits(lines, choosing, ranges, places.features)
            if choosing.repetition_penalty != 1:
                penalty = choosing.repetition_penalty
                seen = [_columns(row.texts, ranges) for row in rows]
                logits = np.stack([penalize(x, at, penalty) for x, at in zip(logits, seen)])
            columns = choose(logits, choosing, [row.generator for row in rows])
            chosen = [id_at(column, ranges) for column in columns]
            if owed is not None:
                # Whoever would end rather than go on with anything that is allowed may not yet;
                # whatever else it wrote would be padding, so what is owed begins.
                end = self._logits(lines, choosing, ((owed.end, owed.end + 1),), places.features)
                eager = end[:, 0] > logits.max(axis=1)
                chosen = [owed.begin if e else one for one, e in zip(chosen, eager)]
            for row, one in zip(rows, chosen):
                row.take(one)
        for row in drafting:
            self._judge(row, places, at)

    def _judge(self, row: Row, places: Places, at: dict[int, int]) -> None:
        """Take those of a row's drafts that stand, and one id more."""
        choosing, drafts = row.choosing, row.drafts
        branches = row.shown(choosing)
        lengths = [len(branch.ids) for branch in branches]
        by_ranges: dict[Ranges, list[int]] = {}
        for line, ranges in drafts.places:
            by_ranges.setdefault(ranges, []).append(line)
        given: dict[int, Array] = {}
        for ranges, lines in by_ranges.items():
            each = [[at[id(branch)] + line for branch in branches] for line in lines]
            logits = self._logits(each, choosing, ranges, places.features)
            given.update(zip(lines, distribution(logits, choosing)))
        chosen, kept = drafts.judge(given, row.generator)
        for id_ in chosen:
            row.take(id_)
        for branch, length in zip(branches, lengths):
            # The last id is shown again where all were kept: what follows it is asked anew.
            places.keep(branch, min(length + len(kept), len(branch.ids) - 1))

    def _logits(
        self, lines: list[list[int]], choosing: SpanSampling, ranges: Ranges, features: Array
    ) -> Array:
        """Guided logits (N, V') of the ids in `ranges`. lines: of features, for each of N places
        that of every branch."""
        flat = [line for branch in zip(*lines) for line in branch]
        whole = flat == list(range(len(features)))
        every = self.decoder.logits(features if whole else features[flat], ranges)
        without = choosing.guidance.without
        if not without:
            return every
        parts = every.reshape(len(without) + 1, len(lines), -1)
        return guide(choosing.guidance, parts[0], dict(zip(without, parts[1:])))


class _Owed(NamedTuple):
    """Spans are owed. begin: the id that begins one; end: that would end the document."""

    begin: int
    end: int


def _owed(row: Row) -> _Owed | None:
    begin = row.state.required_begin
    return None if begin is None else _Owed(begin, row.grammar.eos(row.state.role)[0])


def _columns(ids: set[int], ranges: Ranges) -> NDArray[np.int64]:
    """The places of some ids among those of the ranges, int64 (n,)."""
    every = np.fromiter(ids, np.int64, len(ids))
    columns, before = [], 0
    for start, stop in ranges:
        columns.append(every[(every >= start) & (every < stop)] + (before - start))
        before += stop - start
    return np.concatenate(columns)
