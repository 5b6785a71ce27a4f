"""`unified serve` that also writes down what its engine computed for each row.

    python benchmarks/_serving_traced.py FILE serve --port N ...

The command as it is, but that `Engine` notes when a step begins, and that each row notes the steps
in which ids were chosen for it. When a row ends, FILE gets a line of JSON: its `seed`; `end`
(Finished, Cancelled or Failed); `steps`, when those steps began; `cancelled`, when the server
cancelled it, or null; `ended`; and `ids`, a digest of the whole sequence, or null. Times are of the
clock that all processes of a machine share (`time.monotonic`).
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import IO, Any

import _path  # noqa: F401

from unified.engine.engine import Engine
from unified.engine.handle import EngineEvent, Handle
from unified.engine.request import Finished, Request, Sampling, Step


class _Row:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.steps: list[float] = []
        self.cancelled: float | None = None


def _traced(file: IO[str]) -> None:
    """Let all engines of this process write into a file."""
    began = 0.0
    rows: dict[int, _Row] = {}  # by the handle's number, of the one engine that a server has
    step, add, cancel = Engine.step, Engine.add, Engine.cancel

    def traced_step(self: Engine) -> bool:
        nonlocal began
        began = time.monotonic()
        return step(self)

    def traced_add(
        self: Engine,
        request: Request,
        on_event: Callable[[EngineEvent], None],
        sampling: Sampling | None = None,
    ) -> Handle:
        row = _Row(request.seed)

        def told(event: EngineEvent) -> None:
            if isinstance(event, Step):
                if not row.steps or row.steps[-1] != began:
                    row.steps.append(began)
            else:
                _write(file, row, event)
            on_event(event)

        handle = add(self, request, told, sampling)
        rows[handle.number] = row
        return handle

    def traced_cancel(self: Engine, handle: Handle) -> None:
        row = rows[handle.number]
        if row.cancelled is None and not handle.ended:
            row.cancelled = time.monotonic()
        cancel(self, handle)

    Engine.step, Engine.add, Engine.cancel = traced_step, traced_add, traced_cancel  # type: ignore[method-assign]


def _write(file: IO[str], row: _Row, event: Any) -> None:
    ids = hashlib.sha256(event.ids.tobytes()).hexdigest() if isinstance(event, Finished) else None
    line = {
        "seed": row.seed, "end": type(event).__name__, "steps": row.steps,
        "cancelled": row.cancelled, "ended": time.monotonic(), "ids": ids,
    }  # fmt: skip
    file.write(json.dumps(line) + "\n")
    file.flush()


def main() -> None:
    from unified.__main__ import run

    with open(sys.argv[1], "a", encoding="utf-8") as file:
        _traced(file)
        sys.exit(run(sys.argv[2:]))


if __name__ == "__main__":
    main()
