"""A branch of a request: its own ids, or those of a condition of guidance; and its KV slot."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Branch"]


@dataclass(eq=False)
class Branch:
    """Input ids of the decoder for one condition of a request.

    Attributes:
        condition: "full", "unconditional" or "media" (see `Guidance`).
        ids: the input ids so far.
        num_cached: how many of them are in the cache.
        cache_slot: where; -1 while it has none.
        capacity: ids that its slot has room for.
        attached: whether it has what the cache held of its beginning, and reads on from there.
        waits_for: until then, the slot that is reading its beginning, and how much of it.
        kind, role: of the last segment.
    """

    condition: str
    ids: list[int] = field(default_factory=list)
    num_cached: int = 0
    cache_slot: int = -1
    capacity: int = 0
    attached: bool = False
    waits_for: tuple[int, int] = (-1, 0)
    kind: str | None = None
    role: str | None = None
