"""The scheduler of an engine: who is admitted, what a pass reads, and what becomes of an error.

Nothing here is locked: `engine` lets one thread in at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import cast

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import CodesDecoder, Decoder, HiddenStates
from unified.engine.backends.level_choices import PositionWriter
from unified.engine.choosing import Choice, Outcome, accept, choose_ids
from unified.engine.counters import Totals
from unified.engine.draft_memory import DraftMemory
from unified.engine.draft_policy import DraftPolicy
from unified.engine.handle import Handle
from unified.engine.kv_pool import KVPool
from unified.engine.layered_prefill import LayeredPrefill
from unified.engine.level_writing import write_ahead
from unified.engine.passes import Pass, plan_pass
from unified.engine.position_filling import PositionFilling
from unified.engine.prefill import PrefillBudget
from unified.engine.request import Cancelled, Failed, Finished
from unified.engine.speculative import Drafting
from unified_base.text import quoted

__all__ = ["Scheduler"]

_REASON = 300  # characters of an error


class Scheduler:
    """Requests with their KV slots, pass by pass.

    Attributes:
        active: requests that have slots, in the order of their arrival.
        parked: requests that lost their slots while they were paused, for the queue.
        totals: of requests that have ended, and of passes.
        errors: that functions told of events have raised.
    """

    def __init__(
        self,
        decoder: Decoder,
        pool: KVPool,
        max_rows: int,
        prefill_ids: int,
        together: bool = False,
    ) -> None:
        """together: whether positions hold several ids; see `Engine` for the others."""
        self.decoder = decoder
        self.together = together
        self.pool = pool
        self.max_rows = max_rows
        self.active: list[Handle] = []
        self.parked: list[Handle] = []
        self.totals = Totals()
        self.errors: list[BaseException] = []
        self._budget = PrefillBudget(prefill_ids)
        self._layered = LayeredPrefill(pool, self._budget)
        self._writes_positions = getattr(decoder, "writes_positions", False)
        self._drafting = Drafting(DraftPolicy(decoder.batch_invariant), DraftMemory())

    def cancel(self, handle: Handle) -> None:
        """End a request, active or not."""
        self._end(handle, Cancelled(handle.number, handle.request.usage["sampled_ids"]))

    def admit(self, handle: Handle) -> bool:
        """Give a request slots. False where it has to wait; one that cannot have them ends."""
        while len(self.active) >= self.max_rows or not self._reserve(handle):
            if not self._park():
                return False
        if handle.ended:
            return True
        if not handle.begun:
            handle.begun = True
            handle.request.started_at = perf_counter()
        self.active.append(handle)
        self._tell(handle)
        return True

    def _reserve(self, handle: Handle) -> bool:
        """KV slots for a request. False where others use the memory; it ends where none do."""
        request = handle.request
        if request.state.finished:
            return True
        try:
            return self.pool.reserve(list(request.branches.values()), handle.lengths)
        except MemoryError as error:  # the machine has less than the limit says
            if self.active:
                return False
            self._fail(handle, error)
            return True

    def _park(self) -> bool:
        """Take the slots of the paused request that came last; False where none is paused.

        It waits in the queue again. What it has read stays as prefix cache until that memory is
        wanted, too, and is read once more then: who pauses for long holds up nobody.
        """
        handle = next((h for h in reversed(self.active) if h.paused), None)
        if handle is None:
            return False
        self.active.remove(handle)
        self._layered.drop(handle)
        branches = handle.request.branches.values()
        self.pool.release(branches)
        for branch in branches:
            branch.attached, branch.num_cached = False, 0
        self.parked.append(handle)
        return True

    def run_pass(self) -> bool:
        """One pass of the decoder; False where nobody takes part in it."""
        handles = [handle for handle in self.active if not handle.paused]
        if not handles:
            return False
        planned_at = perf_counter()
        layered = self._layered
        if layered.handle is not None:
            if layered.handle.paused:
                layered.drop(layered.handle)
            else:
                handles.remove(layered.handle)
        being_read = layered.slot if layered.supported else None
        plan = plan_pass(handles, self.pool, self._budget, self._drafting, being_read=being_read)
        self.totals.prefix_ids += plan.prefix_ids
        for handle, error in plan.failed:
            self._fail(handle, error)
        ran = self._run(plan, planned_at)
        return self._read_layers(plan) or ran

    def _read_layers(self, plan: Pass) -> bool:
        """Let a prompt go through some layers after a pass; False where none does."""
        layered = self._layered
        if layered.handle is None and plan.unread:
            layered.begin([p for p in plan.unread if not p.handle.ended], plan.stops)
        handle = layered.handle
        if handle is None:
            return False
        if plan.ready and self._budget.measuring():
            return True
        try:
            self.totals.ids_read += layered.advance(plan.num_decoding > 0)
        except Exception as error:
            self._fail(handle, error)
        return True

    def _run(self, plan: Pass, planned_at: float) -> bool:
        """Run a pass; False where nobody takes part in it."""
        if not plan.branches:
            return bool(plan.failed or plan.prefix_ids)
        began = perf_counter()
        try:
            hidden_states = plan.run(self.pool)
        except Exception as pass_error:
            self._run_singly(plan, pass_error)
        else:
            chosen = self._choose(plan, hidden_states)
            seconds = perf_counter() - began
            self._budget.observe(seconds, plan.num_decoding, plan.prompt_ids)
            if chosen and not plan.prompt_ids and not plan.prefix_ids:
                seconds = perf_counter() - planned_at
                self._drafting.policy.observe(seconds, plan.num_decoding, chosen)
        return True

    def _run_singly(self, plan: Pass, error: Exception) -> None:
        """A pass failed: run each request of it alone, so that only those end that are to blame."""
        if len(plan.handles) == 1:
            self._fail(plan.handles[0], error)
            return
        for handle in plan.handles:
            alone = plan_pass([handle], self.pool, self._budget, self._drafting, plan.drafts)
            try:
                hidden_states = alone.run(self.pool)
            except Exception as own_error:
                self._fail(handle, own_error)
            else:
                self._choose(alone, hidden_states)

    def _choose(self, plan: Pass, hidden_states: HiddenStates) -> int:
        """Choose ids for all that are ready after a pass. Returns how many."""
        self.totals.passes += 1
        self.totals.ids_read += plan.num_ids
        handle_of = {id(handle.request): handle for handle in plan.handles}
        policy, number = self._drafting.policy, 0
        ready = plan.ready
        if self.together:
            if self._writes_positions:
                number, ready = self._write_positions(plan, hidden_states, handle_of)
            # The first id of a position may be forced.
            ready = [request for request in ready if not request.state.depth]
        for outcome in choose_ids(self.decoder, ready, hidden_states, plan.rows, policy):
            number += self._settle(handle_of, outcome)
        if self.together:
            number += self._fill_positions(plan, hidden_states, handle_of)
        return number

    def _write_positions(
        self, plan: Pass, hidden_states: HiddenStates, handle_of: Mapping[int, Handle]
    ) -> tuple[int, list[ActiveRequest]]:
        """Choose all levels of positions in one call of the backend, as far as it is sure.

        Returns how many ids, and the requests that have none of them.
        """
        writer, number = cast("PositionWriter", self.decoder), 0
        left = {id(request): request for request in plan.ready}
        try:
            choices = write_ahead(writer, plan.ready, hidden_states, plan.rows)
        except Exception:  # each alone, as of a pass
            choices = []
            for request in plan.ready:
                try:
                    choices += write_ahead(writer, [request], hidden_states, plan.rows)
                except Exception as error:
                    self._fail(handle_of[id(request)], error)
                    del left[id(request)]
        for choice in choices:
            del left[id(choice.request)]
            number += self._accept(handle_of[id(choice.request)], choice)
        return number, list(left.values())

    def _fill_positions(
        self, plan: Pass, hidden_states: HiddenStates, handle_of: Mapping[int, Handle]
    ) -> int:
        """Choose what else stands in positions that have begun. Returns how many ids."""
        decoder, policy = cast("CodesDecoder", self.decoder), self._drafting.policy

        def unfinished(requests: Iterable[ActiveRequest]) -> list[ActiveRequest]:
            return [r for r in requests if not handle_of[id(r)].ended and r.in_position]

        number, open_requests = 0, unfinished(plan.ready)
        if not open_requests:
            return 0
        try:
            filling = PositionFilling(decoder, open_requests, hidden_states, plan.rows, policy)
            while open_requests:
                for choice in filling.choose(open_requests):
                    number += self._accept(handle_of[id(choice.request)], choice)
                open_requests = unfinished(open_requests)
        except Exception as error:
            # As of a pass: each alone, so that only those end that are to blame. A position goes on
            # from the ids that it has.
            open_requests = unfinished(open_requests)
            for request in open_requests:
                if len(plan.ready) == 1:
                    self._fail(handle_of[id(request)], error)
                else:
                    rows = {id(b): plan.rows[id(b)] for b in request.current_branches}
                    alone = replace(plan, ready=[request], rows=rows)
                    number += self._fill_positions(alone, hidden_states, handle_of)
        return number

    def _settle(self, handle_of: Mapping[int, Handle], outcome: Outcome) -> int:
        """Accept a choice, or end the requests of one that failed. Returns how many ids."""
        if isinstance(outcome, Choice):
            return self._accept(handle_of[id(outcome.request)], outcome)
        requests, error = outcome
        for request in requests:
            self._fail(handle_of[id(request)], error)
        return 0

    def _accept(self, handle: Handle, choice: Choice) -> int:
        """Append what was chosen, and tell the events of it. Returns how many ids were chosen."""
        request, branches = handle.request, handle.request.current_branches
        drafts = bool(request.drafter.tokens)
        lengths = [len(branch.positions) for branch in branches] if drafts else []
        try:
            number, standing = accept(choice)
        except Exception as error:
            self._fail(handle, error)
            return 0
        if drafts:
            for branch, length, stand in zip(branches, lengths, standing):
                # Where all drafts stand the last id runs again: its logits are needed anew.
                self.pool.truncate(branch, min(length + stand, len(branch.positions) - 1))
        self._tell(handle)
        return number

    def _tell(self, handle: Handle) -> None:
        request = handle.request
        if request.steps:
            steps, request.steps = request.steps, []
            try:
                for step in steps:
                    handle.on_event(step)
            except Exception as error:
                self.errors.append(error)
                self._leave(handle, _failed(handle, error))
                return
        if request.state.finished:
            self._end(handle, request.finished())

    def _fail(self, handle: Handle, error: BaseException) -> None:
        self._end(handle, _failed(handle, error))

    def _end(self, handle: Handle, event: Finished | Cancelled | Failed) -> None:
        """Tell a request's last event; its slots go to others."""
        self._leave(handle, event)
        try:
            handle.on_event(event)
        except Exception as error:
            self.errors.append(error)

    def _leave(self, handle: Handle, event: Finished | Cancelled | Failed) -> None:
        handle.ended = True
        self._layered.drop(handle)
        if handle in self.active:
            self.active.remove(handle)
        failed = isinstance(event, Failed)
        self.pool.release(handle.request.branches.values(), failed)
        if isinstance(event, Finished):
            self.totals.finished += 1
            self.totals.add(event.usage)
            return
        if isinstance(event, Cancelled):
            self.totals.cancelled += 1
        else:
            self.totals.failed += 1
        self.totals.add(handle.request.usage_so_far())


def _failed(handle: Handle, error: BaseException) -> Failed:
    if isinstance(error, MemoryError):
        reason = "memory ran out; lower max_ids, or the number of requests at once"
    else:
        reason = quoted(str(error), _REASON)[1:-1]
        if not isinstance(error, ValueError):  # not one of ours, which say all
            reason = f"{type(error).__name__}: {reason}"
    return Failed(handle.number, reason, error)
