"""Choosing ids from the hidden states of a pass, for all requests that are ready.

Requests that choose among the same ids with the same parameters choose together; each draws with a
generator of its own, so that its ids do not depend on the others. Nothing here knows of slots,
queues or threads: `draft_ids` says what to run ahead of a choice, `choose_ids` what was chosen.

Shape legend: `N` requests that choose together, `V'` ids that the grammar allows now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import Array, Decoder, HiddenStates, Ranges
from unified.engine.backends.device_choice import DeviceChoice, DeviceSampler
from unified.engine.sampler import SpanSampling, choose, distribution, guide, penalize
from unified.engine.speculative import id_at

__all__ = ["Choice", "choose_ids", "columns_of", "draft_ids"]


class Choice(NamedTuple):
    """What was chosen for a request. ids: with an alternative, in order. accepted: how many of its
    drafts, ids without an alternative included, stand in the cache; None where none were drafted.
    """

    request: ActiveRequest
    ids: list[int]
    accepted: int | None = None


class _Required(NamedTuple):
    """Spans are still required. begin: the id that begins one; end: that ends the document."""

    begin: int
    end: int


_Group = tuple[Ranges, SpanSampling, _Required | None]


def draft_ids(request: ActiveRequest) -> list[int]:
    """Ids to run behind a request's own in this pass, drafted for the positions that follow."""
    sampling = request.current_sampling
    if not sampling.draft_tokens or request.state.mode in ("text", "marker"):
        return []
    return request.drafter.draft(request.state, sampling.draft_tokens, request.generator)


def choose_ids(
    decoder: Decoder,
    requests: Sequence[ActiveRequest],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Iterator[Choice | tuple[list[ActiveRequest], Exception]]:
    """What every request chooses; of those whose choice failed, the requests and the error.

    Args:
        decoder: for logits.
        requests: each ran all its ids in this pass, and then what `draft_ids` gave.
        hidden_states: (T, D) of the pass.
        rows: by id(branch), the row of the last of its own ids; those of its drafts follow.
    """
    groups: dict[_Group, list[ActiveRequest]] = {}
    on_device: list[ActiveRequest] = []
    samples = hasattr(decoder, "sample")
    for request in requests:
        sampling = request.current_sampling
        if sampling.draft_tokens and request.state.mode not in ("text", "marker"):
            try:
                yield _verify(decoder, request, hidden_states, rows)
            except Exception as error:
                yield [request], error
        elif samples and request.state.required_begin is None:
            on_device.append(request)
        else:
            key = (request.state.allowed(), sampling, _required(request))
            groups.setdefault(key, []).append(request)
    if on_device:
        yield from _choose_on_device(cast("DeviceSampler", decoder), on_device, hidden_states, rows)
    for key, group in groups.items():
        yield from _choose_together(decoder, key, group, hidden_states, rows)


def _choose_on_device(
    decoder: DeviceSampler,
    requests: list[ActiveRequest],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Iterator[Choice | tuple[list[ActiveRequest], Exception]]:
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
                tuple(_penalized(request)) if penalized else (),
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
            yield Choice(request, [id_])


def _choose_together(
    decoder: Decoder,
    key: _Group,
    requests: list[ActiveRequest],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Iterator[Choice | tuple[list[ActiveRequest], Exception]]:
    try:
        ids = _choose(decoder, key, requests, hidden_states, rows)
    except Exception as error:
        if len(requests) == 1 or not isinstance(error, ValueError):
            yield requests, error
            return
        # Of some of them: logits that are not numbers, seen before anything was drawn.
        for request in requests:
            yield from _choose_together(decoder, key, [request], hidden_states, rows)
    else:
        for request, id_ in zip(requests, ids):
            yield Choice(request, [id_])


def _choose(
    decoder: Decoder,
    key: _Group,
    requests: Sequence[ActiveRequest],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> list[int]:
    """One id for each of some requests that choose among the same ids with the same parameters."""
    ranges, sampling, required = key
    own_rows = [[rows[id(branch)] for branch in request.current_branches] for request in requests]
    logits = _logits(decoder, own_rows, sampling, ranges, hidden_states)
    if sampling.repetition_penalty != 1:
        penalty = sampling.repetition_penalty
        logits = np.stack(
            [
                penalize(row, columns_of(_penalized(request), ranges), penalty)
                for row, request in zip(logits, requests)
            ]
        )
    wants_end = None
    if required is not None:
        end_range = ((required.end, required.end + 1),)
        end = _logits(decoder, own_rows, sampling, end_range, hidden_states)
        wants_end = end[:, 0] > logits.max(axis=1)
    columns = choose(logits, sampling, [request.generator for request in requests])
    ids = [id_at(column, ranges) for column in columns]
    if required is None or wants_end is None:
        return ids
    # Spans are still required. A request whose likeliest id ends the document may not end yet;
    # anything else it wrote would be padding, so the next span begins.
    return [required.begin if end else id for id, end in zip(ids, wants_end)]


def _verify(
    decoder: Decoder,
    request: ActiveRequest,
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Choice:
    """Those drafts of a request that stand, and an id more."""
    sampling, drafter = request.current_sampling, request.drafter
    branches = request.current_branches
    by_ranges: dict[Ranges, list[int]] = {}
    for index, ranges in drafter.choices:
        by_ranges.setdefault(ranges, []).append(index)
    probabilities: dict[int, Array] = {}
    for ranges, indices in by_ranges.items():
        own_rows = [[rows[id(branch)] + index for branch in branches] for index in indices]
        logits = _logits(decoder, own_rows, sampling, ranges, hidden_states)
        probabilities.update(zip(indices, distribution(logits, sampling)))
    chosen, accepted = drafter.verify(probabilities, request.generator)
    return Choice(request, chosen, len(accepted))


def _logits(
    decoder: Decoder,
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


def _penalized(request: ActiveRequest) -> Collection[int]:
    """The ids that a repetition penalty is of: of a text those of text, of media all before."""
    in_text = request.state.mode in ("text", "marker")
    return request.text_ids if in_text else request.ids


def columns_of(ids: Collection[int], ranges: Ranges) -> NDArray[np.int64]:
    """Columns of logits over `ranges` of those ids that are in them, int64 (n,)."""
    every = np.fromiter(ids, np.int64, len(ids))
    columns, before = [], 0
    for start, stop in ranges:
        columns.append(every[(every >= start) & (every < stop)] + (before - start))
        before += stop - start
    return np.concatenate(columns)
