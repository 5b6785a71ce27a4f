"""A request in an engine: what the caller holds, and what the engine knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from unified.engine.active import ActiveRequest
from unified.engine.request import Cancelled, Failed, Finished, Step

__all__ = ["EngineEvent", "Handle"]

EngineEvent = Step | Finished | Cancelled | Failed


@dataclass(eq=False)
class Handle:
    """A request that was added to an engine.

    Attributes:
        number: of the request in its engine, counted from 0: the `row` of its events.
        paused: whether it is left out of passes (`Engine.pause`).
        ended: whether its last event has been told: `Finished`, `Cancelled` or `Failed`.
    """

    number: int
    paused: bool = False
    ended: bool = False
    # For the engine alone.
    request: ActiveRequest = field(kw_only=True, repr=False)
    on_event: Callable[[EngineEvent], None] = field(kw_only=True, repr=False)
    lengths: list[int] = field(kw_only=True, repr=False)
    begun: bool = False  # whether it has had KV slots
