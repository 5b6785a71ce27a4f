"""Positions at which requests choose: grouped by what is allowed at them, and their logits.

Shape legend: `N` positions that choose together, `V'` ids that the grammar allows there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, cast

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import Array, HiddenStates, PartLogits, Ranges
from unified.engine.sampler import SpanSampling, guide

__all__ = [
    "ChoicePosition",
    "HasLogits",
    "PositionGroup",
    "PositionGroups",
    "RequiredSpans",
    "all_logits",
    "penalized_ids",
]


class HasLogits(Protocol):
    """What ids are chosen by: a `Decoder`, or what stands in its place."""

    def logits(self, hidden_states: HiddenStates, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""


class RequiredSpans(NamedTuple):
    """Spans are still required. begin: the id that begins one; end: that ends the document."""

    begin: int
    end: int


class ChoicePosition(NamedTuple):
    """A position at which a request chooses, `offset` behind its last id."""

    request: ActiveRequest
    offset: int


class PositionGroup(NamedTuple):
    """Positions with the same allowed ids and the same parameters, in the order of requests."""

    ranges: Ranges
    sampling: SpanSampling
    required: RequiredSpans | None
    positions: list[ChoicePosition]


class PositionGroups:
    """Positions, grouped by what is allowed at them and by parameters.

    all: the groups, in the order of their first positions.
    """

    def __init__(self) -> None:
        self.all: list[PositionGroup] = []
        self._by_value: dict[tuple[Ranges, SpanSampling, RequiredSpans | None], PositionGroup] = {}
        # Most requests share their parameters with others: comparing these takes longer than all
        # else here.
        self._by_identity: dict[tuple[Ranges, int, RequiredSpans | None], PositionGroup] = {}

    def add(
        self, request: ActiveRequest, offset: int, ranges: Ranges, required: RequiredSpans | None
    ) -> None:
        sampling = request.current_sampling
        identity = ranges, id(sampling), required
        group = self._by_identity.get(identity)
        if group is None:
            value = ranges, sampling, required
            group = self._by_value.get(value)
            if group is None:
                group = self._by_value[value] = PositionGroup(ranges, sampling, required, [])
                self.all.append(group)
            self._by_identity[identity] = group
        group.positions.append(ChoicePosition(request, offset))


_LogitsOfGroup = tuple[PositionGroup, Array | Exception, Array | None]


def all_logits(
    decoder: HasLogits,
    groups: Sequence[PositionGroup],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> Iterator[_LogitsOfGroup]:
    """For each group its guided logits (N, V'), and those (N, 1) of the end where it is weighed.

    A group that fails is told as groups of one position, with the errors of those to blame.
    """
    parts: list[tuple[list[int], Ranges]] = []
    for group in groups:
        own_rows = _rows_of(group, rows)
        parts.append((own_rows, group.ranges))
        if group.required is not None:
            parts.append((own_rows, ((group.required.end, group.required.end + 1),)))
    try:
        logits = iter(_logits(decoder, parts, hidden_states))
    except Exception as error:
        if len(groups) > 1:
            for group in groups:
                yield from all_logits(decoder, [group], hidden_states, rows)
            return
        (group,) = groups
        if len(group.positions) == 1 or not isinstance(error, ValueError):
            yield group, error, None
            return
        alone = [group._replace(positions=[position]) for position in group.positions]
        yield from all_logits(decoder, alone, hidden_states, rows)
        return
    for group in groups:
        own = _guided(group, next(logits))
        yield group, own, None if group.required is None else _guided(group, next(logits))


def _rows_of(group: PositionGroup, rows: Mapping[int, int]) -> list[int]:
    """Rows of the hidden states of a group, branch by branch."""
    if not group.sampling.guidance.conditions:
        return [rows[id(request.current_branches[0])] + index for request, index in group.positions]
    own_rows = [
        [rows[id(branch)] + index for branch in request.current_branches]
        for request, index in group.positions
    ]
    return [row for branch_rows in zip(*own_rows) for row in branch_rows]


def _logits(
    decoder: HasLogits, parts: Sequence[tuple[list[int], Ranges]], hidden_states: HiddenStates
) -> Sequence[Array]:
    """Logits of some rows each, over some ranges each."""
    if len(parts) > 1 and hasattr(decoder, "logits_of_parts"):
        return cast("PartLogits", decoder).logits_of_parts(hidden_states, parts)
    every = list(range(len(hidden_states)))
    return [
        decoder.logits(hidden_states if rows == every else hidden_states[rows], ranges)
        for rows, ranges in parts
    ]


def _guided(group: PositionGroup, logits: Array) -> Array:
    """Guided logits (N, V') of logits (branches * N, V'), branch by branch."""
    conditions = group.sampling.guidance.conditions
    if not conditions:
        return logits
    full, *others = logits.reshape(len(conditions) + 1, len(group.positions), -1)
    return guide(group.sampling.guidance, full, dict(zip(conditions, others)))


def penalized_ids(position: ChoicePosition) -> Collection[int]:
    """The ids that a repetition penalty is of: of a text those of text, of media all before. Drafts
    that stand before the position are among them."""
    request, index = position
    in_text = request.state.mode in ("text", "marker")
    ids: Collection[int] = request.text_ids if in_text else request.ids
    if not index:
        return ids
    drafts = [token.id for token in request.drafter.tokens[:index]]
    return {*ids, *drafts}
