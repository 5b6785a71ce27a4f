"""The loss monitor: losses that are no numbers or that leap, an output norm that grows.

A growing norm of what enters the last norm came before divergence in Chameleon's training, when the
loss still looked well (arXiv:2405.09818, section 2.3).
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from unified.training.config import Alarms
from unified_base.atomic import atomic_path
from unified_base.files import open_regular
from unified_base.structured import parse_json

__all__ = ["Alarm", "LossMonitor"]

WINDOW = 50
# Fewer steps have no median that means something.
FEWEST = 10
# Keys written with an alarm; all of a step may be thousands.
MAX_KEYS = 64
NAME = "alarms.jsonl"
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class Alarm:
    """A figure of a step that crossed its limit.

    Attributes:
        step: from 1.
        kind: `nan`, `spike` or `output_norm`.
        what: the figure in words.
        value, limit: the figure, and what it crossed.
        keys: of the step's samples, "source/key".
        stop: whether it ends the run.
    """

    step: int
    kind: str
    what: str
    value: float
    limit: float
    keys: tuple[str, ...]
    stop: bool

    def __str__(self) -> str:
        what = {
            "nan": f"{self.what} is {self.value}; this step changed nothing",
            "spike": f"{self.what} is {self.value:.3f}, above {self.limit:.3f}",
            "output_norm": f"the output norm is {self.value:.3f}, above {self.limit:.3f}",
        }[self.kind]
        return f"alarm at step {self.step}: {what}; samples {', '.join(self.keys[:3])}, ..."


class LossMonitor:
    """Checks every step's figures; FOLDER/alarms.jsonl gets a line for each alarm."""

    def __init__(self, settings: Alarms, folder: Path, process: int = 0) -> None:
        """process: which of a run's this is; each writes the keys of its own samples."""
        self.settings = settings
        self.folder = folder
        self.process = process
        self._losses: dict[str, deque[float]] = {}
        self._first_norms: list[float] = []

    def check(
        self,
        step: int,
        losses: dict[str, float],
        gradient_norm: float,
        output_norm: float,
        keys: Sequence[str],
        warm: bool,
    ) -> list[Alarm]:
        """The alarms of a step (before its update).

        losses: means by modality. warm: whether warm-up is over.
        """
        alarms: list[Alarm] = []

        def alarm(kind: str, what: str, value: float, limit: float) -> None:
            stop = kind in self.settings.stop
            alarms.append(Alarm(step, kind, what, value, limit, tuple(keys[:MAX_KEYS]), stop))

        figures = {f"the {name} loss": v for name, v in losses.items()}
        figures |= {"the gradient norm": gradient_norm, "the output norm": output_norm}
        for what, value in figures.items():
            if not math.isfinite(value):
                alarm("nan", what, value, math.inf)
        if not alarms:
            for name, value in losses.items():
                if name == "marker":  # few and nearly certain: twice of next to nothing
                    continue
                past = self._losses.setdefault(name, deque(maxlen=WINDOW))
                if len(past) >= FEWEST and value > self.settings.spike * median(past):
                    limit = self.settings.spike * median(past)
                    alarm("spike", f"the {name} loss", value, limit)
                past.append(value)
            if len(self._first_norms) >= FEWEST:
                limit = self.settings.output_norm * median(self._first_norms)
                if output_norm > limit:
                    alarm("output_norm", "the output norm", output_norm, limit)
            if warm and len(self._first_norms) < WINDOW:
                self._first_norms.append(output_norm)
        if alarms:
            self._append(alarms)
        return alarms

    def _append(self, alarms: list[Alarm]) -> None:
        lines = ""
        for alarm in alarms:
            row = {**asdict(alarm), "process": self.process}
            if alarm.kind == "nan":  # which JSON has no word for
                row |= {"value": str(alarm.value), "limit": None}
            lines += json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        data = lines.encode()
        # In one write: other processes append to the same file.
        with (self.folder / NAME).open("ab", buffering=len(data) + 1) as file:
            file.write(data)

    def truncate_log(self, step: int) -> int:
        """Remove from the file the alarms of steps after `step`, which a resumed run does again.

        An incomplete line, as a killed run may leave one, is removed too. For one process of a run,
        before any does a step.

        Returns:
            How many lines were removed.

        Raises:
            ValueError: the file cannot be read or written.
        """
        path = self.folder / NAME
        if not os.path.lexists(path):
            return 0
        removed = 0
        with open_regular(path) as file, atomic_path(path) as partial, partial.open("wb") as copy:
            while line := file.readline(_MAX_LINE):
                if line.endswith(b"\n") and _before(line, step):
                    copy.write(line)
                else:
                    removed += 1
        return removed

    def state(self) -> dict[str, Any]:
        return {
            "losses": {name: list(past) for name, past in self._losses.items()},
            "first_norms": list(self._first_norms),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._losses = {n: deque(past, maxlen=WINDOW) for n, past in state["losses"].items()}
        self._first_norms = list(state["first_norms"])


def _before(line: bytes, step: int) -> bool:
    """Whether a line is the row of an alarm of one of the steps up to `step`."""
    try:
        row = parse_json(line, NAME)
    except ValueError:
        return False
    number = row.get("step") if isinstance(row, dict) else None
    return type(number) is int and number <= step
