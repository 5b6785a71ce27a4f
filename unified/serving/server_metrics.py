"""What the server tells a Prometheus: counters, gauges and histograms in its text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from unified.engine.counters import EngineCounters
from unified.serving.fair_queue import FairQueue

__all__ = ["ServerMetrics"]

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
FIRST = ("text", "picture", "sound")


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * len(_BUCKETS)  # of each bucket and all below it
        self.sum = 0.0
        self.number = 0

    def add(self, seconds: float) -> None:
        self.number += 1
        self.sum += seconds
        for index, bound in enumerate(_BUCKETS):
            self.counts[index] += seconds <= bound

    def lines(self, name: str, labels: str) -> Iterator[str]:
        for bound, count in zip(_BUCKETS, self.counts):
            yield f'{name}_bucket{{{labels},le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{{labels},le="+Inf"}} {self.number}'
        yield f"{name}_sum{{{labels}}} {self.sum:.6f}"
        yield f"{name}_count{{{labels}}} {self.number}"


class ServerMetrics:
    """Counts of one server. All methods belong to the thread of the event loop."""

    def __init__(self, replica: str | None = None) -> None:
        """replica: a label of every sample, where several servers answer under one address."""
        self._replica = replica
        self._answers: Counter[tuple[str, int]] = Counter()
        self._first = {kind: _Histogram() for kind in FIRST}
        self._left = 0

    def answered(self, path: str, status: int) -> None:
        """An endpoint has answered. path: of those that there are, or "other"."""
        self._answers[path, status] += 1

    def first(self, kind: str, seconds: float) -> None:
        """The first of a kind (`FIRST`) came so long after its request."""
        self._first[kind].add(seconds)

    def client_left(self) -> None:
        """A client went away before its answer was complete."""
        self._left += 1

    def text(self, queue: FairQueue, engine: EngineCounters) -> str:
        """All of it, in Prometheus' text format."""
        lines = self._lines(queue, engine)
        if self._replica is not None:
            lines = (_labelled(line, f'replica="{self._replica}"') for line in lines)
        return "\n".join([*lines, ""])

    def _lines(self, queue: FairQueue, engine: EngineCounters) -> Iterator[str]:
        yield from _family("unified_requests_total", "counter", "Answers by endpoint and status.")
        for (path, status), number in sorted(self._answers.items()):
            yield f'unified_requests_total{{path="{path}",status="{status}"}} {number}'
        gauges = {
            "unified_rows_waiting": ("Documents that wait for a row.", queue.waiting),
            "unified_rows_running": ("Documents being sampled.", queue.running),
            "unified_kv_bytes": ("Bytes of KV slots in use.", engine.kv_bytes),
            "unified_kv_prefix_bytes": ("Bytes of KV slots left as cache.", engine.prefix_bytes),
            "unified_kv_limit_bytes": ("Bytes that KV slots may reach.", engine.kv_limit),
        }
        for name, (help, value) in gauges.items():
            yield from _family(name, "gauge", help)
            yield f"{name} {value}"
        yield from _family(
            "unified_ids_total", "counter", "Ids written, by modality; rate() is ids a second."
        )
        for modality, number in sorted(engine.by_modality.items()):
            yield f'unified_ids_total{{modality="{modality}"}} {number}'
        counters = {
            "unified_prompt_ids_total": ("Ids of prompts.", engine.prompt_ids),
            "unified_prefix_ids_total": ("Ids that were not read again.", engine.prefix_ids),
            "unified_passes_total": ("Passes of the decoder.", engine.passes),
            "unified_clients_left_total": ("Clients gone before their answer.", self._left),
        }
        for name, (help, value) in counters.items():
            yield from _family(name, "counter", help)
            yield f"{name} {value}"
        yield from _family("unified_documents_total", "counter", "Documents by how they ended.")
        for end in ("finished", "cancelled", "failed"):
            yield f'unified_documents_total{{end="{end}"}} {getattr(engine, end)}'
        yield from _family("unified_engine_seconds_total", "counter", "Seconds inside steps.")
        yield f"unified_engine_seconds_total {engine.seconds:.6f}"
        name = "unified_first_seconds"
        yield from _family(
            name, "histogram", "From the request to the first text, picture row or sound."
        )
        for kind, histogram in self._first.items():
            yield from histogram.lines(name, f'kind="{kind}"')


def _labelled(line: str, label: str) -> str:
    """A line with one more label, if it is a sample."""
    if line.startswith("#"):
        return line
    sample, _, value = line.rpartition(" ")
    name, brace, rest = sample.partition("{")
    return f"{name}{{{label}{',' + rest if brace else '}'} {value}"


def _family(name: str, kind: str, help: str) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
