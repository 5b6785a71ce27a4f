"""What an engine has done so far, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from unified.formats.modality_ids import MODALITIES, USUAL

__all__ = ["EngineCounters", "Totals"]


@dataclass(frozen=True)
class EngineCounters:
    """A moment of an engine. Ids are of all requests, those under way included.

    Attributes:
        queued: requests that wait for memory or for one of `max_rows`.
        active: requests that have KV slots, paused ones included.
        paused: requests that are left out of passes, queued or active.
        finished, cancelled, failed: requests that have ended so.
        prompt_ids: before the first slots of requests.
        sampled_ids: chosen among several.
        forced_ids: without an alternative, behind the prompt.
        by_modality: of the sampled and forced ones: "text", each modality, "marker".
        passes: of the decoder.
        ids_read: that went through the decoder, those of guidance and drafts included; a position
            of several ids counts once.
        prefix_ids: that did not, since another sequence had been read as far.
        kv_bytes: of the slots of active requests.
        prefix_bytes: of slots that sequences which have ended left as prefix cache.
        kv_limit: bytes that both together may reach.
        seconds: inside `Engine.step`.
    """

    queued: int
    active: int
    paused: int
    finished: int
    cancelled: int
    failed: int
    prompt_ids: int
    sampled_ids: int
    forced_ids: int
    by_modality: dict[str, int]
    passes: int
    ids_read: int
    prefix_ids: int
    kv_bytes: int
    prefix_bytes: int
    kv_limit: int
    seconds: float


@dataclass
class Totals:
    """Sums over requests that have ended, and over passes; see `EngineCounters`."""

    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    passes: int = 0
    ids_read: int = 0
    prefix_ids: int = 0
    seconds: float = 0.0
    usage: dict[str, int] = field(default_factory=dict)

    def add(self, usage: Mapping[str, int]) -> None:
        """Add what a request has used."""
        for name, number in usage.items():
            self.usage[name] = self.usage.get(name, 0) + number

    def with_usage(self, usages: Iterable[Mapping[str, int]]) -> dict[str, int]:
        """The sums with those of requests under way."""
        total = dict(self.usage)
        for usage in usages:
            for name, number in usage.items():
                total[name] = total.get(name, 0) + number
        return total


def by_modality(usage: Mapping[str, int]) -> dict[str, int]:
    """{"text": ..., "image": ...} of a usage."""
    return {
        name: usage.get(f"{name}_ids", 0)
        for name in MODALITIES
        if name in USUAL or f"{name}_ids" in usage
    }
