"""All levels of a position in one call of the backend, for requests whose settings it knows.

What it writes are the ids that `choose_ids` would choose level by level: of the same logits, with
the same noise. Where it is not sure, or settings ask for more, they are chosen there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from unified.engine.active import ActiveRequest
from unified.engine.backends.base import HiddenStates, Ranges
from unified.engine.backends.level_choices import (
    LevelChoices,
    PositionWriter,
    level_settings,
    noise_ends,
)
from unified.engine.choosing import Choice
from unified.engine.race import clip_noise
from unified.engine.sampler import SpanSampling
from unified.engine.speculative import Pick

__all__ = ["write_ahead"]

_Settings = tuple[tuple[float, ...], ...]


class _Member(NamedTuple):
    """A request, the row of its position, the settings of its levels; first: see `PositionRest`."""

    row: int
    request: ActiveRequest
    settings: _Settings
    first: Ranges


def write_ahead(
    decoder: PositionWriter,
    requests: Sequence[ActiveRequest],
    hidden_states: HiddenStates,
    rows: Mapping[int, int],
) -> list[Choice]:
    """What is chosen for the next positions of requests, or for the rest of those that have begun,
    as far as it is sure.

    requests, hidden_states, rows: see `choosing.choose_ids`.
    """
    groups: dict[tuple[int, tuple[Ranges, ...]], list[_Member]] = {}
    for request in requests:
        levels, ranges, first = request.state.rest_of_position()
        if levels and not _is_given(request, levels):
            settings = _settings_of(request.span_sampling, levels)
            if settings is not None:
                row = rows[id(request.current_branches[0])]
                members = groups.setdefault((len(request.begun), ranges), [])
                members.append(_Member(row, request, settings, first))
    choices: list[Choice] = []
    every = list(range(len(hidden_states)))
    for (_, ranges), members in groups.items():
        own = [member.row for member in members]
        states = hidden_states if own == every else hidden_states[own]
        for member, ids in zip(members, decoder.write_positions(states, _choices(ranges, members))):
            if ids:
                goes_on = any(start <= ids[0] < stop for start, stop in member.first)
                number = len(ids) if goes_on else 1
                picks = [Pick(at, id, ranges[at]) for at, id in enumerate(ids[:number])]
                choices.append(Choice(member.request, picks))
    return choices


def _is_given(request: ActiveRequest, levels: Sequence[int]) -> bool:
    """Whether the slot begins with codes of its own on one of some levels."""
    begins = request.slot.begins if request.slot is not None else ()
    return bool(begins) and any(
        request.state.num_codes(level) < len(begins[level]) for level in levels
    )


@lru_cache(maxsize=256)
def _settings_of(sampling: SpanSampling, levels: tuple[int, ...]) -> _Settings | None:
    """The settings of each level; None where the backend does not know one of them."""
    if sampling.ends_likeliest and 0 in levels:
        return None
    every = [level_settings(sampling.of_level(level)) for level in levels]
    known = tuple(own for own in every if own is not None)
    return known if len(known) == len(every) else None


def _choices(ranges: tuple[Ranges, ...], members: Sequence[_Member]) -> LevelChoices:
    ends = noise_ends(ranges)
    noise = np.ones((len(members), ends[-1]))
    for own, (_, request, settings, _) in zip(noise, members):
        first = len(request.ids)
        for level, (temperature, *_) in enumerate(settings):
            if temperature:
                request.noise.fill(first + level, own[ends[level] : ends[level + 1]])
    clip_noise(noise)
    return LevelChoices(
        np.array([member.request.begun for member in members], np.int64),  # (N, K)
        ranges,
        np.array([member.settings for member in members], np.float64),
        noise,
    )
