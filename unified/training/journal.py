"""What a run tells: TensorBoard, the terminal, Weights & Biases where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from unified.training.config import TrainConfig
from unified_base.terminal import console

__all__ = ["Journal"]


class Journal:
    """A context manager. In all processes but the first it tells nothing."""

    def __init__(self, config: TrainConfig, step: int, first: bool) -> None:
        """Raises ValueError where `wandb` is asked for and not installed."""
        self.first = first
        self.console = console(stderr=True)
        self.console.quiet = not first
        self._steps = config.steps
        self._board: SummaryWriter | None = None
        self._wandb: Any = None
        if not first:
            return
        folder = Path(config.output) / "tensorboard"
        self._board = SummaryWriter(str(folder), purge_step=step)
        if config.wandb is not None:
            self._wandb = _wandb(config)
        columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   TextColumn("{task.fields[figures]}", markup=False))  # fmt: skip
        self._bar = Progress(*columns, console=self.console, refresh_per_second=1)
        self._task = self._bar.add_task("train", total=config.steps, completed=step, figures="")

    def __enter__(self) -> Journal:
        if self.first:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not self.first:
            return
        self._bar.stop()
        assert self._board is not None
        # Where the disk is full that is what has been raised already.
        with nullcontext() if kind is None else suppress(OSError):
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, soft_wrap=True)

    def figures(self, step: int, values: Mapping[str, float], shown: str = "") -> None:
        """Scalars of a step, and what of them the terminal shows, if anything."""
        if not self.first:
            return
        assert self._board is not None
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)
        if not shown:
            return
        self._bar.update(self._task, completed=step, figures=shown)
        if not self.console.is_terminal:
            self.say(f"{step}/{self._steps}  {shown}")

    def text(self, step: int, name: str, value: str) -> None:
        if self._board is not None:
            self._board.add_text(name, value, step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """pixels: uint8 (H, W, 3)."""
        if self._board is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def sound(self, step: int, name: str, waveform: np.ndarray, sample_rate: int) -> None:
        """waveform: float32 (channels, S) in [-1, 1]; the first channel is kept."""
        if self._board is not None:
            self._board.add_audio(name, waveform[:1].T, step, sample_rate)


def _wandb(config: TrainConfig) -> Any:
    try:
        import wandb
    except ImportError:
        raise ValueError(
            f"wandb is {config.wandb!r}, but Weights & Biases is not installed: pip install wandb,"
            " or leave it out"
        ) from None
    name = Path(config.output).name
    return wandb.init(
        project=config.wandb, name=name, id=name, resume="allow", config=asdict(config)
    )
