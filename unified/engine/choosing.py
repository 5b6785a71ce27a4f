"""Choosing ids from the hidden states of a pass, for all requests that are ready.

Requests that choose among the same ids with the same parameters choose together; each draws with
noise of its own, so that its ids do not depend on the others. Nothing here knows of slots,
queues or threads: `draft_ids` says what to run ahead of a choice, `choose_ids` what was chosen.

Shape legend: `N` requests that choose together, `V'` ids that the grammar allows now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import Array, HiddenStates, id_at
from unified.engine.backends.device_choice import DeviceChoice, DeviceSampler
from unified.engine.choice_logits import (
    ChoicePosition,
    HasLogits,
    PositionGroup,
    PositionGroups,
    RequiredSpans,
    all_logits,
    penalized_ids,
)
from unified.engine.draft_policy import DraftPolicy
from unified.engine.prefix_cache import common_prefix
from unified.engine.repetition import Redraw, columns_of
from unified.engine.sampler import ChoiceGroup, choose_groups, ended, penalize
from unified.engine.speculative import Drafting, Pick, ScoredId
from unified.engine.text_scores import TextScore, score_of

__all__ = ["Choice", "Outcome", "accept", "choose_ids", "draft_ids"]


class Choice(NamedTuple):
    """What was chosen for a request: an id, and those that follow it, where drafts were read or the
    backend wrote several levels of a position. scores: of text ids by their offsets, where they are
    wanted."""

    request: ActiveRequest
    picks: list[Pick]
    scores: Mapping[int, TextScore] = MappingProxyType({})


Outcome = Choice | tuple[list[ActiveRequest], Exception]
"""What a request chooses; or the requests whose choice failed, and the error."""


def draft_ids(request: ActiveRequest, drafting: Drafting) -> list[int]:
    """Ids to run behind a request's own in this pass, drafted for the positions that follow."""
    sampling, drafter = request.current_sampling, request.drafter
    wanted, kind = sampling.draft_tokens, request.state.kind
    # Drafts are of one id a position; text has that in every format.
    several = kind in (spans := request.grammar.span_grammars) and spans[kind].num_together > 1
    if wanted == 0 or several or sampling.repetition_window:
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
    groups = PositionGroups()
    on_device: list[ActiveRequest] = []
    samples = hasattr(decoder, "sample")
    for request in requests:
        sampling, state = request.current_sampling, request.state
        required = state.required_begin
        plain = sampling.guidance.top_k is None and not sampling.ends_likeliest  # as devices do it
        plain &= sampling.repetition_window is None and request.sampling.top_logprobs is None
        if samples and required is None and plain and sampling.draft_tokens in (0, "auto"):
            on_device.append(request)
            continue
        groups.add(request, 0, state.allowed(), _required(request, required))
        if request.drafter.tokens:
            for index, ranges in request.drafter.choices:
                if index:
                    groups.add(request, index, ranges, None)
    if on_device:
        yield from _choose_on_device(cast("DeviceSampler", decoder), on_device, hidden_states, rows)
    chosen: dict[int, dict[int, ScoredId]] = {}
    failed: set[int] = set()
    for position, result in _choose(decoder, groups.all, hidden_states, rows):
        request = position.request
        if not isinstance(result, Exception):
            chosen.setdefault(id(request), {})[position.offset] = result
        elif id(request) not in failed:
            failed.add(id(request))
            yield [request], result
    for request in requests:
        results = chosen.get(id(request))
        if results is not None and id(request) not in failed:
            # Before the picks: what does not stand of them may be chosen anew in the next pass.
            scores = {offset: result.score for offset, result in results.items() if result.score}
            yield Choice(request, _picks(request, results, policy), scores)


def accept(choice: Choice) -> tuple[int, list[int]]:
    """Append what was chosen to a request, as far as nothing else has come between.

    Returns how many ids were chosen, and for each of the branches how many of the drafts that it
    has read are its next ids now.
    """
    request = choice.request
    if len(choice.picks) == 1 and not request.drafter.tokens:
        request.accept(choice.picks[0].id, choice.scores.get(choice.picks[0].offset))
        return 1, []
    branches, slot, length = request.current_branches, request.slot, len(request.ids)
    lengths = [len(branch.positions) for branch in branches]
    number = 0
    for index, id_, ranges in choice.picks:
        # A text that has ended at a stop string or by its budget, or a loop: the drafts behind it
        # were for a text that goes on.
        goes_on = request.slot is slot and len(request.ids) == length + index
        if number and not (goes_on and request.state.allowed() == ranges):
            break
        request.accept(id_, choice.scores.get(index))
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
                tuple(penalized_ids(ChoicePosition(request, 0))) if penalized else (),
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


def _choose(
    decoder: HasLogits,
    groups: Sequence[PositionGroup],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Iterator[tuple[ChoicePosition, ScoredId | Exception]]:
    """What is chosen at every position of some groups, or why nothing is."""
    prepared: list[tuple[PositionGroup, Array, ChoiceGroup, NDArray[np.bool_] | None]] = []
    for group, logits, end in all_logits(decoder, groups, hidden_states, rows):
        if isinstance(logits, Exception):
            yield from ((position, logits) for position in group.positions)
        else:
            prepared.append((group, logits, *_prepare(group, logits, end)))
    outcomes = choose_groups([choices for _, _, choices, _ in prepared])
    for (group, logits, choices, wants_end), outcome in zip(prepared, outcomes):
        if not isinstance(outcome, ValueError):
            yield from zip(group.positions, _scored(group, logits, outcome, wants_end))
            continue
        # Of some of them: logits that are not numbers, seen before anything was drawn.
        for at, position in enumerate(group.positions):
            row = slice(at, at + 1)
            again = None if choices.redraw is None else choices.redraw.of_row(at)
            alone = choices._replace(
                logits=choices.logits[row], noise=choices.noise[row], redraw=again
            )
            (own,) = choose_groups([alone])
            if isinstance(own, ValueError):
                yield position, own
            else:
                end_alone = None if wants_end is None else wants_end[row]
                only = group._replace(positions=[position])
                yield position, _scored(only, logits[row], own, end_alone)[0]


def _prepare(
    group: PositionGroup, logits: Array, end: Array | None
) -> tuple[ChoiceGroup, NDArray[np.bool_] | None]:
    """The choices of a group, and which of them want to end the document where it may not end.

    logits: (N, V') guided. end: (N, 1) of the id that ends the document, where spans are required.
    """
    ranges, sampling, _, positions = group
    again = None
    if (window := sampling.repetition_window) is not None:
        requests = [request for request, _ in positions]
        again = Redraw.of(logits, window, sampling.window_repeats, ranges, requests)
    if sampling.repetition_penalty != 1:
        penalty = sampling.repetition_penalty
        logits = np.stack(
            [
                penalize(row, columns_of(penalized_ids(position), ranges), penalty)
                for row, position in zip(logits, positions)
            ]
        )
    if sampling.ends_likeliest and positions[0].request.state.level == 0:
        logits = ended(logits, ~positions[0].request.state.are_codes(ranges))
    noise = [partial(request.noise.exponential, len(request.ids) + i) for request, i in positions]
    # Text is drafted by look-up alone, which needs no margins.
    margins = any(each.drafter.tokens and each.state.mode != "text" for each, _ in positions)
    wants_end = None if end is None else end[:, 0] > logits.max(axis=1)
    return ChoiceGroup(logits, sampling, noise, margins, again), wants_end


def _scored(
    group: PositionGroup,
    logits: Array,
    outcome: tuple[list[int], Array],
    wants_end: NDArray[np.bool_] | None,
) -> list[ScoredId]:
    """logits: (N, V') guided, before all that only sampling does."""
    columns, margins = outcome
    ids = [id_at(column, group.ranges) for column in columns]
    if group.required is not None and wants_end is not None:
        # Spans are still required. A request whose likeliest id ends the document may not end yet;
        # anything else it wrote would be padding, so the next span begins.
        begin = group.required.begin
        ids = [begin if end else id for id, end in zip(ids, wants_end)]
    scored = [ScoredId(id, margin) for id, margin in zip(ids, margins.tolist())]
    for at, (request, _) in enumerate(group.positions):
        number = request.sampling.top_logprobs
        if number is not None and request.grammar.is_text(ids[at]):
            score = score_of(logits[at], columns[at], group.ranges, number)
            scored[at] = scored[at]._replace(score=score)
    return scored


def _required(request: ActiveRequest, begin: int | None) -> RequiredSpans | None:
    if begin is None:
        return None
    return RequiredSpans(begin, request.grammar.eos(request.state.role)[0])
