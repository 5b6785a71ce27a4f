"""The sampling engine: requests of one batch under a grammar, each in a mode of its own.

A request is a sequence of coded segments and slots. Segments are given: their ids are forced. In a
slot the grammar says which ids are allowed now, the decoder computes the logits of only those, and
one is chosen. Ids without an alternative cost no logits. Every request has its own seed,
parameters, grammar state and budget, and gives the same ids whatever shares its batch.

Shape legend: `N` requests that choose together, `V'` ids that the grammar allows now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unified.engine.active import ActiveRequest, Branch
from unified.engine.backends.base import Array, Decoder, Ranges
from unified.engine.kv_cache import KVCacheManager
from unified.engine.request import Finished, Request, Sampling, Step
from unified.engine.sampler import SpanSampling, choose, distribution, guide, penalize
from unified.engine.speculative import id_at
from unified.formats.grammar import Grammar
from unified.vocabulary.text_tokenizer import TextTokenizer

__all__ = ["MAX_IDS", "Cancelled", "Engine"]

MAX_IDS = 2048  # of a sequence, where neither the caller nor the decoder says less


@dataclass(frozen=True)
class Cancelled:
    """A request was cancelled before it was complete; `sampled` ids had been chosen."""

    row: int
    sampled: int


class Engine:
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
        """Fill every slot of every request. Steps come as ids are chosen, requests interleaved.

        cancelled: asked before every pass of the decoder; once it says yes, there is no other.

        Raises ValueError, before anything is sampled, where a request does not fit its budget or
        its sequence the decoder's positions.
        """
        # All at once, so that a request that cannot be met is refused before any work.
        waiting = deque(
            self._activate(number, request, request.sampling or sampling)
            for number, request in enumerate(requests)
        )
        num_branches = sorted((len(request.branches) for request in waiting), reverse=True)
        longest = max((request.max_length for request in waiting), default=0)
        max_active = min(sampling.max_rows, len(waiting))
        cache = KVCacheManager(self.decoder, sum(num_branches[:max_active]), longest)
        active: list[ActiveRequest] = []
        while waiting or active:
            while waiting and len(active) < max_active:
                active.append(waiting.popleft())
                active[-1].started_at = perf_counter()
            unfinished = []
            for request in active:
                steps, request.steps = request.steps, []
                yield from steps
                if request.state.finished:
                    yield request.finished()
                    cache.free(request.branches.values())
                else:
                    unfinished.append(request)
            active = unfinished
            if cancelled is not None and cancelled():
                for request in (*active, *waiting):
                    yield Cancelled(request.number, request.usage["sampled_ids"])
                return
            if active:
                self._step(active, cache)

    def _activate(self, number: int, request: Request, sampling: Sampling) -> ActiveRequest:
        max_ids = sampling.max_ids or min(MAX_IDS, self.decoder.max_positions)
        positions, text = self.decoder.max_positions, self.text_tokenizer
        active = ActiveRequest(number, request, self.grammar, sampling, max_ids, text)
        excess = active.max_length - positions
        if excess > 0 and max_ids <= positions:
            # A branch of guidance is longer than the request itself, by a negative prompt.
            active = ActiveRequest(number, request, self.grammar, sampling, max_ids - excess, text)
        return active

    def _step(self, active: list[ActiveRequest], cache: KVCacheManager) -> None:
        """One pass of the decoder: choose at least one id for every request."""
        # Requests that choose among the same ids with the same parameters choose together.
        groups: dict[tuple[Ranges, SpanSampling, _Required | None], list[ActiveRequest]] = {}
        branches: list[Branch] = []
        draft_ids: dict[int, list[int]] = {}
        drafting: list[ActiveRequest] = []
        for request in active:
            sampling = request.current_sampling
            own_branches = request.branches_for(sampling)
            branches += own_branches
            if sampling.draft_tokens and request.state.mode not in ("text", "marker"):
                ids = request.drafter.draft(request.state, sampling.draft_tokens, request.generator)
                draft_ids.update((id(branch), ids) for branch in own_branches)
                drafting.append(request)
            else:
                key = (request.state.allowed(), sampling, _required(request))
                groups.setdefault(key, []).append(request)
        rows = cache.forward(branches, draft_ids)
        for (ranges, sampling, required), requests in groups.items():
            own_rows = [
                [rows[id(branch)] for branch in request.branches_for(sampling)]
                for request in requests
            ]
            logits = self._logits(own_rows, sampling, ranges, cache.hidden_states)
            if sampling.repetition_penalty != 1:
                logits = np.stack(
                    [
                        penalize(
                            row, _columns(_penalized(request), ranges), sampling.repetition_penalty
                        )
                        for row, request in zip(logits, requests)
                    ]
                )
            columns = choose(logits, sampling, [request.generator for request in requests])
            ids = [id_at(column, ranges) for column in columns]
            if required is not None:
                # Spans are still required. A request whose likeliest id ends the document may not
                # end yet; anything else it wrote would be padding, so the next span begins.
                end_range = ((required.end, required.end + 1),)
                end = self._logits(own_rows, sampling, end_range, cache.hidden_states)
                wants_end = end[:, 0] > logits.max(axis=1)
                ids = [required.begin if end else id for id, end in zip(ids, wants_end)]
            for request, chosen in zip(requests, ids):
                request.accept(chosen)
        for request in drafting:
            self._verify(request, cache, rows)

    def _verify(self, request: ActiveRequest, cache: KVCacheManager, rows: dict[int, int]) -> None:
        """Accept those drafts of a request that stand, and one id more."""
        sampling, drafter = request.current_sampling, request.drafter
        branches = request.branches_for(sampling)
        lengths = [len(branch.ids) for branch in branches]
        by_ranges: dict[Ranges, list[int]] = {}
        for index, ranges in drafter.choices:
            by_ranges.setdefault(ranges, []).append(index)
        probabilities: dict[int, Array] = {}
        for ranges, indices in by_ranges.items():
            own_rows = [[rows[id(branch)] + index for branch in branches] for index in indices]
            logits = self._logits(own_rows, sampling, ranges, cache.hidden_states)
            probabilities.update(zip(indices, distribution(logits, sampling)))
        chosen, accepted = drafter.verify(probabilities, request.generator)
        for id_ in chosen:
            request.accept(id_)
        for branch, length in zip(branches, lengths):
            # Where all drafts were accepted the last id runs again: its logits are needed anew.
            cache.truncate(branch, min(length + len(accepted), len(branch.ids) - 1))

    def _logits(
        self,
        rows: list[list[int]],
        sampling: SpanSampling,
        ranges: Ranges,
        hidden_states: Array,
    ) -> Array:
        """Guided logits float32 (N, V') of the ids in `ranges`.

        rows: of `hidden_states` (T, D), for each of N choices that of every branch.
        """
        flat = [row for branch_rows in zip(*rows) for row in branch_rows]
        all_rows = flat == list(range(len(hidden_states)))
        # (branches * N, V'), branch by branch.
        logits = self.decoder.logits(hidden_states if all_rows else hidden_states[flat], ranges)
        conditions = sampling.guidance.conditions
        if not conditions:
            return logits
        full, *others = logits.reshape(len(conditions) + 1, len(rows), -1)
        return guide(sampling.guidance, full, dict(zip(conditions, others)))


class _Required(NamedTuple):
    """Spans are still required. begin: the id that begins one; end: that ends the document."""

    begin: int
    end: int


def _required(request: ActiveRequest) -> _Required | None:
    begin = request.state.required_begin
    if begin is None:
        return None
    return _Required(begin, request.grammar.eos(request.state.role)[0])


def _penalized(request: ActiveRequest) -> Collection[int]:
    """The ids that a repetition penalty is of: of a text those of text, of media all before."""
    in_text = request.state.mode in ("text", "marker")
    return request.text_ids if in_text else request.ids


def _columns(ids: Collection[int], ranges: Ranges) -> NDArray[np.int64]:
    """Columns of logits over `ranges` of those ids that are in them, int64 (n,)."""
    every = np.fromiter(ids, np.int64, len(ids))
    columns, before = [], 0
    for start, stop in ranges:
        columns.append(every[(every >= start) & (every < stop)] + (before - start))
        before += stop - start
    return np.concatenate(columns)
