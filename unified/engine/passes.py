"""What goes into a pass of the decoder: the next id of every stream, and some of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import HiddenStates, Position
from unified.engine.branch import Branch
from unified.engine.choosing import draft_ids
from unified.engine.handle import Handle
from unified.engine.kv_pool import KVPool, Waiting
from unified.engine.prefill import PrefillBudget
from unified.engine.speculative import Drafting

__all__ = ["Pass", "WaitingPrompt", "plan_pass"]

# A branch with no more new ids than this is decoding: markers that the grammar forces are read at
# once with the id before them.
_FEW = 8
# A prefix that others wait for is read exactly as far in one pass, if it is this long: caches that
# cannot be truncated can be copied only as they are.
_LONG = 16


@dataclass(eq=False)
class Pass:
    """Attributes:
    drafting: what drafts are made by.
    handles: whose branches take part.
    branches, slots, input_ids: and what each of them reads.
    ready: requests all of whose new ids are read, which choose an id.
    rows: by id(branch), the row of its last id among the hidden states, drafts left out.
    num_ids: ids of all branches.
    num_decoding: requests that are not reading a prompt.
    prompt_ids: ids of those that are.
    prefix_ids: ids that branches copied from others before it.
    drafts: by id(request), once they have been drawn: a pass that is repeated has the same.
    failed: requests without memory for their ids.
    unread: prompts, in the order of their arrival, that go a few layers at a time instead.
    stops: how far the beginning of a slot is read that others wait for.
    """

    drafting: Drafting
    handles: list[Handle] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    input_ids: list[list[Position]] = field(default_factory=list)
    ready: list[ActiveRequest] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)
    num_ids: int = 0
    num_decoding: int = 0
    prompt_ids: int = 0
    prefix_ids: int = 0
    drafts: dict[int, list[int]] = field(default_factory=dict)
    failed: list[tuple[Handle, MemoryError]] = field(default_factory=list)
    unread: list[WaitingPrompt] = field(default_factory=list)
    stops: dict[int, int] = field(default_factory=dict)

    def add(self, branch: Branch, count: int, drafts: Sequence[int] = ()) -> None:
        """Let a branch read its next `count` ids, and drafts behind them."""
        start = branch.num_cached
        ids = branch.positions[start : start + count]
        self.num_ids += count
        self.rows[id(branch)] = self.num_ids - 1
        if drafts:
            ids.extend(drafts)
            self.num_ids += len(drafts)
        self.branches.append(branch)
        self.slots.append(branch.cache_slot)
        self.input_ids.append(ids)

    def choose(self, handle: Handle, counts: Sequence[int], pool: KVPool) -> None:
        """Let a request read all its new ids, and choose."""
        request = handle.request
        drafts = self.drafts.get(id(request))
        if drafts is None:
            drafts = self.drafts[id(request)] = draft_ids(request, self.drafting)
        for branch in request.current_branches:
            if len(branch.positions) + len(drafts) > branch.capacity:
                try:
                    pool.grow(branch, len(branch.positions) + len(drafts))
                except MemoryError as error:
                    if len(branch.positions) > branch.capacity:
                        self.failed.append((handle, error))
                        return
                    # The memory is another's: this pass does without what was guessed.
                    request.drafter.tokens = []
                    drafts = self.drafts[id(request)] = []
        for branch, count in zip(request.current_branches, counts):
            self.add(branch, count, drafts)
        self.handles.append(handle)
        self.ready.append(request)

    def run(self, pool: KVPool) -> HiddenStates:
        """Run the decoder: hidden states (T, D) of all ids."""
        try:
            hidden_states = pool.decoder.forward(pool.cache, self.slots, self.input_ids)
        except BaseException:
            pool.restore(self.branches)
            raise
        lengths = pool.cache.lengths
        for branch, slot in zip(self.branches, self.slots):
            branch.num_cached = lengths[slot]
        return hidden_states


@dataclass(eq=False)
class WaitingPrompt:
    """A request that is reading a prompt: its branches that can be read now, how many ids they
    still have to read, and whether others of its branches wait."""

    handle: Handle
    branches: list[Branch]
    num_new: int
    waits: bool


def plan_pass(
    handles: Sequence[Handle],
    pool: KVPool,
    budget: PrefillBudget,
    drafting: Drafting,
    drafts: dict[int, list[int]] | None = None,
    being_read: int | None = None,
) -> Pass:
    """The next pass of some active requests, in the order of their arrival.

    Every request that is decoding takes part. Prompts share the budget: the oldest gets half of it
    at least, so that none waits for ever, and of the others those come first that have least to
    read, so that a short prompt does not wait for a long one.

    drafting, drafts: see `Pass`; the drafts of a pass that failed. being_read: the slot of a prompt
    that goes a few layers at a time, by the same request that is not among `handles`; -1 where none
    does but could, None where the decoder cannot.
    """
    plan = Pass(drafting, drafts={} if drafts is None else drafts)
    drafting.policy.begin_pass(len(handles))
    prompts: list[WaitingPrompt] = []
    reading = {being_read} if being_read is not None and being_read >= 0 else set()
    stops = plan.stops
    for handle in handles:
        request = handle.request
        counts, readable, few = [], [], True
        for branch in request.current_branches:
            if branch.attached or _attach(branch, pool, reading, stops, plan, budget):
                readable.append(branch)
                count = len(branch.positions) - branch.num_cached
                counts.append(count if count else _again(branch, pool))
                few &= count <= _FEW
                if count > 1:
                    reading.add(branch.cache_slot)
        waits = len(readable) < len(request.current_branches)
        if few and not waits:
            plan.choose(handle, counts, pool)
        else:
            prompts.append(WaitingPrompt(handle, readable, sum(counts), waits))
    plan.num_decoding = len(plan.ready)
    if prompts:
        if plan.ready and being_read is not None and (being_read >= 0 or budget.wants_layers()):
            plan.unread = prompts
        else:
            _share(plan, prompts, budget.ids(bool(plan.ready)), stops, pool)
    return plan


def _attach(
    branch: Branch,
    pool: KVPool,
    reading: set[int],
    stops: dict[int, int],
    plan: Pass,
    budget: PrefillBudget,
) -> bool:
    """Take over what the cache holds of a branch.

    False where it waits for what another reads, or is not copied as a whole yet.
    """
    slot, length = branch.waits_for
    if slot not in reading or pool.cache.lengths[slot] >= length:
        outcome = pool.attach(branch, reading, max(0, budget.copies() - plan.prefix_ids))
        if not isinstance(outcome, Waiting):
            plan.prefix_ids += outcome
            return branch.attached
        slot, length = branch.waits_for = outcome
    if length >= _LONG:
        stops[slot] = min(stops.get(slot, length), length)
    return False


def _again(branch: Branch, pool: KVPool) -> int:
    """Read the last id again: the choice after the last pass was interrupted, and its hidden
    states are gone. Returns how many new ids there are."""
    pool.truncate(branch, len(branch.positions) - 1)
    return len(branch.positions) - branch.num_cached


def _share(
    plan: Pass, prompts: list[WaitingPrompt], budget: int, stops: dict[int, int], pool: KVPool
) -> None:
    """Share a budget of ids among prompts, which are in the order of their arrival."""
    oldest, *others = prompts
    others.sort(key=lambda prompt: prompt.num_new)
    left = budget - min(budget // 2, sum(prompt.num_new for prompt in others))
    unused = left - _read(plan, oldest, left, stops, pool)
    left = budget - left + unused
    for prompt in others:
        if left < 1:
            break
        left -= _read(plan, prompt, left, stops, pool)


def _read(plan: Pass, prompt: WaitingPrompt, most: int, stops: dict[int, int], pool: KVPool) -> int:
    """Let a request read at most so many ids of its prompt; how many they are."""
    used = 0
    new = [len(branch.positions) - branch.num_cached for branch in prompt.branches]
    if not prompt.waits and sum(new) <= most:
        used = sum(new)
        plan.choose(prompt.handle, new, pool)
    else:
        for branch, count in zip(prompt.branches, new):
            # The last ids of all branches run in one pass: their hidden states are needed.
            count = min(count - 1, most - used)
            stop = stops.get(branch.cache_slot, 0) - branch.num_cached
            count = min(count, stop) if stop > 0 else count
            if count > 0:
                count = branch.whole_spans(count)
                plan.add(branch, count)
                used += count
        if used:
            plan.handles.append(prompt.handle)
    plan.prompt_ids += used
    return used
