"""Where a run's figures go: TensorBoard, the terminal, Weights & Biases where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from unified_base.extras import missing_extra
from unified_base.terminal import console

__all__ = ["MetricLogger"]


class MetricLogger:
    """A context manager. In all processes but the main one it does nothing.

    Args:
        output: folder of the run; TensorBoard's files go into OUTPUT/tensorboard.
        title: of the run in the terminal; "" for none.
        step: that the run begins with, or resumes from.
        steps: of the whole run.
        is_main: whether this is the main process.
        wandb_project: to log to as well.
        settings: of the run, for Weights & Biases.

    Raises:
        ValueError: `wandb_project` is given and Weights & Biases is not installed.
    """

    def __init__(
        self,
        output: Path,
        title: str,
        step: int,
        steps: int,
        is_main: bool,
        wandb_project: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.is_main = is_main
        self.console = console(stderr=True)
        self.console.quiet = not is_main
        self._prefix = f"{title} " if title else ""
        self._steps = steps
        self._writer: SummaryWriter | None = None
        self._wandb: Any = None  # wandb.Run, where it is installed
        if not is_main:
            return
        self._writer = SummaryWriter(str(output / "tensorboard"), purge_step=step)
        if wandb_project is not None:
            self._wandb = _wandb(wandb_project, output.name, settings or {})
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[summary]}", markup=False),
        )  # fmt: skip
        self._bar = Progress(*columns, console=self.console, refresh_per_second=1)
        self._task = self._bar.add_task(title or "train", total=steps, completed=step, summary="")

    def __enter__(self) -> MetricLogger:
        if self.is_main:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not self.is_main:
            return
        self._bar.stop()
        assert self._writer is not None
        # Where the disk is full that is what has been raised already.
        with nullcontext() if kind is None else suppress(OSError):
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def info(self, text: str) -> None:
        """One line on the terminal, as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def scalars(self, step: int, values: Mapping[str, float], summary: str = "") -> None:
        """Figures of a step; summary: what of them the terminal shows, if anything."""
        if not self.is_main:
            return
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)
        if not summary:
            return
        self._bar.update(self._task, completed=step, summary=summary)
        if not self.console.is_terminal:
            self.info(f"{self._prefix}{step}/{self._steps}  {summary}")

    def text(self, step: int, name: str, value: str) -> None:
        """A text of a step."""
        if self._writer is not None:
            self._writer.add_text(name, value, step)

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """pixels: uint8 (H, W, 3)."""
        if self._writer is not None:
            self._writer.add_image(name, pixels, step, dataformats="HWC")

    def audio(self, step: int, name: str, waveform: np.ndarray, sample_rate: int) -> None:
        """waveform: float32 (channels, S) in [-1, 1]; the first channel is logged."""
        if self._writer is not None:
            self._writer.add_audio(name, waveform[:1].T, step, sample_rate)


def _wandb(project: str, name: str, settings: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError:
        raise missing_extra(f"the setting wandb: {project!r}", "wandb", "wandb") from None
    return wandb.init(project=project, name=name, id=name, resume="allow", config=dict(settings))
