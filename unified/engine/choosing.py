"""Choosing ids from the hidden states of a pass, for all requests that are ready.

Requests that choose among the same ids with the same parameters choose together; each draws with
noise of its own, so that its ids do not depend on the others. Nothing here knows of slots,
queues or threads: `draft_ids` says what to run ahead of a choice, `choose_ids` what was chosen.

Shape legend: `N` requests that choose together, `V'` ids that the grammar allows now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import Array, HiddenStates, Ranges
from unified.engine.backends.device_choice import DeviceChoice, DeviceSampler
from unified.engine.draft_policy import DraftPolicy
from unified.engine.prefix_cache import common_prefix
from unified.engine.sampler import SpanSampling, choose, choose_with_margins, guide, penalize
from unified.engine.speculative import Drafting, Pick, ScoredId, id_at

__all__ = ["Choice", "Outcome", "accept", "choose_ids", "columns_of", "draft_ids"]


class HasLogits(Protocol):
    """What ids are chosen by: a `Decoder`, or what stands in its place."""

    def logits(self, hidden_states: HiddenStates, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""


class Choice(NamedTuple):
    """What was chosen for a request: an id, and where drafts were read those that follow it."""

    request: ActiveRequest
    picks: list[Pick]


Outcome = Choice | tuple[list[ActiveRequest], Exception]
"""What a request chooses; or the requests whose choice failed, and the error."""


class _Required(NamedTuple):
    """Spans are still required. begin: the id that begins one; end: that ends the document."""

    begin: int
    end: int


class _Position(NamedTuple):
    """A position at which a request chooses, `offset` behind its last id."""

    request: ActiveRequest
    offset: int


_Group = tuple[Ranges, SpanSampling, _Required | None]


def draft_ids(request: ActiveRequest, drafting: Drafting) -> list[int]:
    """Ids to run behind a request's own in this pass, drafted for the positions that follow."""
    sampling, drafter = request.current_sampling, request.drafter
    wanted, kind = sampling.draft_tokens, request.state.kind
    # Drafts are of one id a position; text has that in every format.
    several = kind in (spans := request.grammar.span_grammars) and spans[kind].num_together > 1
    if wanted == 0 or several:
        drafter.tokens = []
        return []
    number = None if isinstance(wanted, str) else wanted
    likeness = request.state.kind, sampling.temperature
    return drafter.draft(request.state, request.ids, number, drafting, likeness, request.stop)


def choose_ids(
    decoder: HasLogits,
    requests: Sequence[ActiveRequest],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
    policy: DraftPolicy,
) -> Iterator[Outcome]:
    """What every request chooses; of those whose choice failed, the requests and the error.

    Args:
        decoder: for logits.
        requests: each ran all its ids in this pass, and then what `draft_ids` gave.
        hidden_states: (T, D) of the pass.
        rows: by id(branch), the row of the last of its own ids; those of its drafts follow.
        policy: of drafts; is told how they were.
    """
    groups: dict[_Group, list[_Position]] = {}
    on_device: list[ActiveRequest] = []
    samples = hasattr(decoder, "sample")
    for request in requests:
        sampling = request.current_sampling
        drafts = sampling.draft_tokens not in (0, "auto")
        if samples and not drafts and request.state.required_begin is None:
            on_device.append(request)
            continue
        key = (request.state.allowed(), sampling, _required(request))
        groups.setdefault(key, []).append(_Position(request, 0))
        if request.drafter.tokens:
            for index, ranges in request.drafter.choices:
                if index:
                    position = _Position(request, index)
                    groups.setdefault((ranges, sampling, None), []).append(position)
    if on_device:
        yield from _choose_on_device(cast("DeviceSampler", decoder), on_device, hidden_states, rows)
    chosen: defaultdict[int, dict[int, ScoredId]] = defaultdict(dict)
    failed: set[int] = set()
    for key, positions in groups.items():
        for outcome in _choose_together(decoder, key, positions, hidden_states, rows):
            position, result = outcome
            if not isinstance(result, Exception):
                chosen[id(position.request)][position.offset] = result
            elif id(position.request) not in failed:
                failed.add(id(position.request))
                yield [position.request], result
    for request in requests:
        if id(request) in chosen and id(request) not in failed:
            yield Choice(request, _picks(request, chosen[id(request)], policy))


def accept(choice: Choice) -> tuple[int, list[int]]:
    """Append what was chosen to a request, as far as nothing else has come between.

    Returns how many ids were chosen, and for each of the branches how many of the drafts that it
    has read are its next ids now.
    """
    request = choice.request
    branches, slot, length = request.current_branches, request.slot, len(request.ids)
    lengths = [len(branch.positions) for branch in branches]
    number = 0
    for index, id_, ranges in choice.picks:
        # A text that has ended at a stop string or by its budget, or a loop: the drafts behind it
        # were for a text that goes on.
        goes_on = request.slot is slot and len(request.ids) == length + index
        if number and not (goes_on and request.state.allowed() == ranges):
            break
        request.accept(id_)
        number += 1
    drafts = [token.id for token in request.drafter.tokens]
    standing = [
        common_prefix(branch.positions[before : before + len(drafts)], drafts)
        for branch, before in zip(branches, lengths)
    ]
    return number, standing


def _choose_on_device(
    decoder: DeviceSampler,
    requests: list[ActiveRequest],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Iterator[Outcome]:
    """An id for each of some requests by the backend's own `sample`, in one call."""
    choices = []
    for request in requests:
        sampling = request.current_sampling
        penalized = sampling.repetition_penalty != 1
        own_rows = tuple(rows[id(branch)] for branch in request.current_branches)
        choices.append(
            DeviceChoice(
                own_rows,
                request.state.allowed(),
                sampling,
                request.request.seed,
                request.usage["sampled_ids"],
                tuple(_penalized(_Position(request, 0))) if penalized else (),
            )
        )
    try:
        ids = decoder.sample(hidden_states, choices)
    except Exception as error:
        if len(requests) == 1 or not isinstance(error, ValueError):
            yield requests, error
            return
        # Logits of some are not numbers. An id depends on no other, so the rest is chosen as ever.
        for request in requests:
            yield from _choose_on_device(decoder, [request], hidden_states, rows)
    else:
        for request, id_ in zip(requests, ids):
            yield Choice(request, [Pick(0, id_, ())])


def _picks(
    request: ActiveRequest, chosen: Mapping[int, ScoredId], policy: DraftPolicy
) -> list[Pick]:
    if not request.drafter.tokens:
        return [Pick(0, chosen[0].id, ())]
    return request.drafter.verify(len(request.ids), chosen, policy)


_Result = tuple[_Position, ScoredId | Exception]


def _choose_together(
    decoder: HasLogits,
    key: _Group,
    positions: list[_Position],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Iterator[_Result]:
    try:
        choices = _choose(decoder, key, positions, hidden_states, rows)
    except Exception as error:
        if len(positions) == 1 or not isinstance(error, ValueError):
            yield from ((position, error) for position in positions)
            return
        # Of some of them: logits that are not numbers, seen before anything was drawn.
        for position in positions:
            yield from _choose_together(decoder, key, [position], hidden_states, rows)
    else:
        yield from zip(positions, choices)


def _choose(
    decoder: HasLogits,
    key: _Group,
    positions: Sequence[_Position],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> list[ScoredId]:
    """What is chosen at positions with the same allowed ids and the same parameters."""
    ranges, sampling, required = key
    own_rows = [
        [rows[id(branch)] + index for branch in request.current_branches]
        for request, index in positions
    ]
    logits = _logits(decoder, own_rows, sampling, ranges, hidden_states)
    if sampling.repetition_penalty != 1:
        penalty = sampling.repetition_penalty
        logits = np.stack(
            [
                penalize(row, columns_of(_penalized(position), ranges), penalty)
                for row, position in zip(logits, positions)
            ]
        )
    wants_end = None
    if required is not None:
        end_range = ((required.end, required.end + 1),)
        end = _logits(decoder, own_rows, sampling, end_range, hidden_states)
        wants_end = end[:, 0] > logits.max(axis=1)
    noise = [
        partial(request.noise.exponential, len(request.ids) + index) for request, index in positions
    ]
    # Text is drafted by look-up alone, which needs no margins.
    if any(request.drafter.tokens and request.state.mode != "text" for request, _ in positions):
        columns, margins = choose_with_margins(logits, sampling, noise)
    else:
        columns, margins = choose(logits, sampling, noise), np.zeros(len(positions), np.float32)
    ids = [id_at(column, ranges) for column in columns]
    if required is not None and wants_end is not None:
        # Spans are still required. A request whose likeliest id ends the document may not end yet;
        # anything else it wrote would be padding, so the next span begins.
        ids = [required.begin if end else id for id, end in zip(ids, wants_end)]
    return [ScoredId(id, margin) for id, margin in zip(ids, margins.tolist())]


def _logits(
    decoder: HasLogits,
    rows: list[list[int]],
    sampling: SpanSampling,
    ranges: Ranges,
    hidden_states: HiddenStates,
) -> Array:
    """Guided logits float32 (N, V') of the ids in `ranges`.

    rows: of `hidden_states` (T, D), for each of N choices that of every branch.
    """
    flat = [row for branch_rows in zip(*rows) for row in branch_rows]  # branch by branch
    all_rows = flat == list(range(len(hidden_states)))
    # (branches * N, V'), branch by branch.
    logits = decoder.logits(hidden_states if all_rows else hidden_states[flat], ranges)
    conditions = sampling.guidance.conditions
    if not conditions:
        return logits
    full, *others = logits.reshape(len(conditions) + 1, len(rows), -1)
    return guide(sampling.guidance, full, dict(zip(conditions, others)))


def _required(request: ActiveRequest) -> _Required | None:
    begin = request.state.required_begin
    if begin is None:
        return None
    return _Required(begin, request.grammar.eos(request.state.role)[0])


def _penalized(position: _Position) -> Collection[int]:
    """The ids that a repetition penalty is of: of a text those of text, of media all before. Drafts
    that stand before the position are among them."""
    request, index = position
    in_text = request.state.mode in ("text", "marker")
    ids: Collection[int] = request.text_ids if in_text else request.ids
    if not index:
        return ids
    drafts = [token.id for token in request.drafter.tokens[:index]]
    return {*ids, *drafts}


def columns_of(ids: Collection[int], ranges: Ranges) -> NDArray[np.int64]:
    """Columns of logits over `ranges` of those ids that are in them, int64 (n,)."""
    every = np.fromiter(ids, np.int64, len(ids))
    columns, before = [], 0
    for start, stop in ranges:
        columns.append(every[(every >= start) & (every < stop)] + (before - start))
        before += stop - start
    return np.concatenate(columns)
