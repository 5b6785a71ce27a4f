"""The sampling engine: requests join and leave a running batch, each in a mode of its own.

A request is a sequence of coded segments and slots. Segments are given: their ids are forced. In a
slot the grammar says which ids are allowed now, the decoder computes the logits of only those, and
one is chosen. Ids without an alternative cost no logits. Every request has its own seed,
parameters, grammar state and budget, and gives the same ids whatever shares its batch, whenever
others join, leave or pause.

`add` puts a request into the queue, `step` runs one pass of the decoder for whoever is admitted and
tells the events; any thread may call either. A request is admitted, in the order of arrival, once
KV slots for all the ids that it can need fit into the budget of memory (`kv_pool`).
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import Decoder
from unified.engine.counters import EngineCounters, by_modality
from unified.engine.given_segments import check_given
from unified.engine.handle import EngineEvent, Handle
from unified.engine.kv_pool import KVPool
from unified.engine.most_ids import branch_lengths
from unified.engine.request import Cancelled, Failed, Finished, Request, Sampling, Step
from unified.engine.scheduler import Scheduler
from unified.formats.grammar import Grammar
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.arguments import MOST_BYTES, whole, whole_or_none

__all__ = ["MAX_IDS", "MAX_ROWS", "Cancelled", "Engine", "Failed", "Handle"]

MAX_IDS = 2048  # of a sequence, where neither the caller nor the decoder says less
MAX_ROWS = 64
PREFILL_IDS = 512
# Without `cache_bytes`: this share of the memory that is available goes to KV slots, and so much of
# that to sequences that have ended.
_SHARE_OF_MEMORY = 4
_SHARE_OF_PREFIXES = 8


class Engine:
    """Runs requests through a decoder under a grammar; any number of threads share it.

    stepping: held by the thread that is inside `step`; whoever would rather wait for another's step
    than step itself can see by it.
    """

    def __init__(
        self,
        decoder: Decoder,
        grammar: Grammar,
        text_tokenizer: TextTokenizer | None = None,
        *,
        max_rows: int = MAX_ROWS,
        cache_bytes: int | None = None,
        prefill_ids: int = PREFILL_IDS,
    ) -> None:
        """
        Args:
            decoder: a backend.
            grammar: what sequences may be.
            text_tokenizer: needed for `Sampling.stop` alone.
            max_rows: requests in one pass; others wait.
            cache_bytes: that KV slots may take, those of sequences that have ended included. None:
                a quarter of the memory that is available when the first request is added, an
                eighth of that for sequences that have ended.
            prefill_ids: ids of prompts in one pass at most; fewer while others are decoding.

        Raises:
            ValueError: the decoder has fewer ids than the grammar's vocabulary, or no way to write
                positions of several ids, which the grammar has.
        """
        if decoder.vocab_size < grammar.vocabulary.size:
            raise ValueError(
                f"the decoder has {decoder.vocab_size} embedding rows, the vocabulary "
                f"{grammar.vocabulary.size} ids; it was made for another vocabulary"
            )
        if grammar.num_together > 1 and not hasattr(decoder, "begin_positions"):
            raise ValueError(
                f"format '{grammar.format.name}' has positions of {grammar.num_together} ids, and"
                f" the backend '{decoder.backend}' computes one id of a position alone; choose"
                " another backend, or a format with its codes in a row"
            )
        both_ways = grammar.format.bidirectional
        if both_ways and not getattr(decoder, "bidirectional", False):
            raise ValueError(
                f"format '{grammar.format.name}' reads {', '.join(both_ways)} both ways, and the"
                f" backend '{decoder.backend}' reads every position behind those before it; open"
                " the model with backend auto, torch_static or transformers"
            )
        self.decoder = decoder
        self.grammar = grammar
        self.text_tokenizer = text_tokenizer
        self.max_rows = whole("max_rows", max_rows, 1)
        self.cache_bytes = whole_or_none("cache_bytes", cache_bytes, 1, MOST_BYTES)
        self.prefill_ids = whole("prefill_ids", prefill_ids, 1)
        limit = self.cache_bytes or decoder.available_bytes() // _SHARE_OF_MEMORY
        prefixes = limit if self.cache_bytes else limit // _SHARE_OF_PREFIXES
        pool = KVPool(decoder, limit, prefixes)
        self.stepping = threading.RLock()
        together = grammar.num_together > 1
        self._scheduler = Scheduler(decoder, pool, self.max_rows, self.prefill_ids, together)
        self._inside = False  # of a step; `stepping` lets its own thread in
        # For the queue, `_leaving` and `_closed`. Finalizers of streams may cancel at any line.
        self._mutex = threading.RLock()
        self._queue: deque[Handle] = deque()
        self._leaving: list[Handle] = []  # cancelled since the last step
        self._numbers = itertools.count()
        self._closed = self._close_after = False

    # For any thread.

    def add(
        self,
        request: Request,
        on_event: Callable[[EngineEvent], None],
        sampling: Sampling | None = None,
    ) -> Handle:
        """Put a request into the queue.

        Args:
            request: what to sample.
            on_event: called by the thread that steps, with every `Step` of the request in order and
                then one of `Finished`, `Cancelled` and `Failed`. It must be quick: others wait for
                it. What it raises ends its request, and is raised by that `step`.
            sampling: parameters where the request has none of its own; None: the defaults.

        Raises:
            ValueError: the request does not fit its budget of ids, the decoder's positions, or the
                memory for KV slots; or the engine is closed.
        """
        self._check_open()
        active, lengths = self._activate(next(self._numbers), request, sampling)
        handle = Handle(active.number, request=active, on_event=on_event, lengths=lengths)
        with self._mutex:
            self._check_open()
            self._queue.append(handle)
        return handle

    def check(self, request: Request, sampling: Sampling | None = None) -> None:
        """Raises ValueError where `add` would, for a request that is added later."""
        self._check_open()
        self._activate(0, request, sampling)

    def cancel(self, handle: Handle) -> None:
        """Drop a request before the next pass; it is told `Cancelled` by then. One that has ended
        stays as it is."""
        with self._mutex:
            self._leaving.append(handle)

    def pause(self, handle: Handle) -> None:
        """Leave a request out of passes from the next one on. It keeps its KV slots, until others
        that wait want their memory or its row; then what it had read may be read once more."""
        handle.paused = True

    def resume(self, handle: Handle) -> None:
        """Let a paused request go on."""
        handle.paused = False

    @property
    def counters(self) -> EngineCounters:
        """What has been done so far. Between steps the numbers fit each other."""
        scheduler = self._scheduler
        with self._mutex:
            queue = list(self._queue)
        active, totals, pool = list(scheduler.active), scheduler.totals, scheduler.pool
        usage = totals.with_usage(handle.request.usage_so_far() for handle in (*active, *queue))
        return EngineCounters(
            queued=len(queue),
            active=len(active),
            paused=sum(handle.paused for handle in (*active, *queue)),
            finished=totals.finished,
            cancelled=totals.cancelled,
            failed=totals.failed,
            prompt_ids=usage.get("prompt_ids", 0),
            sampled_ids=usage.get("sampled_ids", 0),
            forced_ids=usage.get("forced_ids", 0),
            by_modality=by_modality(usage),
            passes=totals.passes,
            ids_read=totals.ids_read,
            prefix_ids=totals.prefix_ids + pool.taken_over_ids,
            kv_bytes=pool.used_bytes,
            prefix_bytes=pool.prefix_bytes,
            kv_limit=pool.limit,
            seconds=totals.seconds,
        )

    # For the thread that steps.

    def step(self) -> bool:
        """Run one pass of the decoder for whoever is admitted, and tell the events of it.

        Waits while another thread is inside a step. Returns False where there was nothing to do:
        no request is left, or none that is not paused.

        Raises what an `on_event` raised, after all others were told theirs; not to be called from
        one.
        """
        with self.stepping:
            if self._inside:
                raise RuntimeError("step was called from on_event, inside a step")
            self._inside = True
            scheduler, began = self._scheduler, perf_counter()
            try:
                progress = self._take_in()
                progress |= scheduler.run_pass()
            finally:
                scheduler.totals.seconds += perf_counter() - began
                self._inside = False
                if self._close_after:
                    self._close()
            if scheduler.errors:
                errors, scheduler.errors = scheduler.errors, []
                raise errors[0]
            return progress

    def close(self) -> None:
        """Cancel all requests that are left, and free all memory. `add` raises from now on.

        Waits for a step of another thread; called from an `on_event`, it takes effect at the end of
        that step.
        """
        with self._mutex:
            self._closed = True
        with self.stepping:
            if self._inside:
                self._close_after = True
            else:
                self._close()

    def run(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Step | Finished | Cancelled]:
        """Fill every slot of every request, in an engine of their own.

        Steps come as ids are chosen, requests interleaved; `row` is the index of the request.

        cancelled: asked before every pass of the decoder; once it says yes, there is no other.

        Raises ValueError, before anything is sampled, where a request does not fit its budget or
        its sequence the decoder's positions or the memory; and what the decoder raises.
        """
        engine = Engine(
            self.decoder, self.grammar, self.text_tokenizer, max_rows=sampling.max_rows,
            cache_bytes=self.cache_bytes, prefill_ids=self.prefill_ids,
        )  # fmt: skip
        events: deque[EngineEvent] = deque()
        try:
            # All at once, so that a request that cannot be met is refused before any work.
            for request in requests:
                engine.add(request, events.append, sampling)
            while True:
                if cancelled is not None and cancelled():
                    engine.close()
                progress = engine.step()
                while events:
                    event = events.popleft()
                    if isinstance(event, Failed):
                        raise event.error
                    yield event
                if not progress:
                    return
        finally:
            engine.close()

    def _activate(
        self, number: int, request: Request, sampling: Sampling | None
    ) -> tuple[ActiveRequest, list[int]]:
        """A request ready to be sampled, and the ids that each of its branches can need."""
        reads = getattr(self.decoder, "input_width", None)
        attends, encodes = (
            getattr(self.decoder, name, False) for name in ("attends_media", "encodes")
        )
        check_given(request, self.grammar, reads, attends, encodes)
        sampling = request.sampling or sampling or Sampling()
        positions, text = self.decoder.max_positions, self.text_tokenizer
        max_ids = sampling.max_ids or min(MAX_IDS, positions) * self.grammar.num_together
        active = ActiveRequest(number, request, self.grammar, sampling, max_ids, text)
        if sampling.max_ids is None or max_ids <= positions:
            # A branch of guidance may be longer than the request itself, by a negative prompt; and
            # not every position may hold several ids.
            fewer = max_ids
            while fewer > 0 and (excess := max(branch_lengths(active, fewer)) - positions) > 0:
                fewer -= excess
            if fewer < max_ids:
                active = ActiveRequest(number, request, self.grammar, sampling, fewer, text)
        lengths = branch_lengths(active)
        longest = max(lengths)
        if longest > positions:
            raise ValueError(
                f"{longest} ids asked for, but the decoder has {positions} positions; lower max_ids"
            )
        pool = self._scheduler.pool
        if pool.bytes_of(lengths) > pool.limit:
            raise ValueError(_never_fits(pool, lengths))
        return active, lengths

    def _take_in(self) -> bool:
        """Drop what is cancelled and admit what there are slots for, the oldest first."""
        scheduler, progress = self._scheduler, False
        if self._leaving:
            with self._mutex:
                leaving, self._leaving = self._leaving, []
                for handle in leaving:
                    if handle in self._queue:
                        self._queue.remove(handle)
            for handle in leaving:
                if not handle.ended:
                    scheduler.cancel(handle)
                    progress = True
        while self._queue:
            with self._mutex:
                next_handle = next((h for h in self._queue if not h.paused), None)
            if next_handle is None or not scheduler.admit(next_handle):
                break
            with self._mutex:
                self._queue.remove(next_handle)
            progress = True
        if scheduler.parked:
            with self._mutex:  # they came before those that wait
                self._queue.extendleft(scheduler.parked)
                scheduler.parked = []
        return progress

    def _close(self) -> None:
        with self._mutex:
            queue, self._queue = self._queue, deque()
        for handle in (*self._scheduler.active, *queue):
            self._scheduler.cancel(handle)
        self._scheduler.pool.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the engine is closed; make another one")


def _never_fits(pool: KVPool, lengths: Sequence[int]) -> str:
    """Why a request is refused, with the number of ids that would fit."""
    low, high = 0, max(lengths)
    while low < high:
        middle = (low + high + 1) // 2
        if pool.bytes_of([middle] * len(lengths)) <= pool.limit:
            low = middle
        else:
            high = middle - 1
    branches = f" in {len(lengths)} branches of guidance" if len(lengths) > 1 else ""
    return (
        f"the request can need {max(lengths):,} ids{branches}, whose KV cache takes "
        f"{pool.bytes_of(lengths):,} bytes of the {pool.limit:,} there are (cache_bytes);"
        f" {low:,} ids fit: lower max_ids, or raise cache_bytes"
    )
