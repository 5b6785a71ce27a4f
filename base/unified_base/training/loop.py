"""The trainer core: a run from its lock and its last checkpoint to its last step.

What a step computes is a `Trainer`'s to say. Here stand the order of things, what is written when,
and how a run stops and resumes. A run killed and resumed ends with the weights, bit for bit, of one
never stopped, as long as everything a step depends on is in `Trainer.tensors`, `state` and
`local_state`.
"""

from __future__ import annotations

import gc
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from unified_base.clock import Timer
from unified_base.disk import naming_full_disk, quiet_threads
from unified_base.locks import hold_folder
from unified_base.signals import StopSignals
from unified_base.training.checkpoint import Checkpoint, read_latest, save_checkpoint
from unified_base.training.checkpoint_files import (
    RESUME,
    changed_settings,
    drop_old,
    remove_incomplete,
)
from unified_base.training.dist import DistContext
from unified_base.training.metric_logger import MetricLogger

T = TypeVar("T", bound="Trainer")

__all__ = ["AlarmError", "LoopConfig", "Trainer", "run_training"]


class AlarmError(ValueError):
    """Stops a run after a checkpoint of the last good step."""


@dataclass(frozen=True)
class LoopConfig:
    """What the loop needs of a run's configuration.

    Attributes:
        output: folder of the run.
        settings: the whole resolved configuration, which every checkpoint holds.
        steps: optimizer steps of the run.
        log_every, validate_every, save_every: steps.
        save_minutes: a checkpoint after so many minutes without one; 0: by steps alone.
        keep_checkpoints: the last that stay.
        title: of the run in the terminal.
        wandb: project, or None.
    """

    output: Path
    settings: Mapping[str, Any]
    steps: int
    log_every: int
    validate_every: int
    save_every: int
    save_minutes: float
    keep_checkpoints: int
    title: str = ""
    wandb: str | None = None


class Trainer(ABC):
    """What is trained, and what a step does. Every process of a run has one.

    Attributes:
        dist: the processes.
        logger: where its figures and lines go.
        step: optimizer steps done.
        measured: the last validation figures by name.
    """

    sharded = False
    """Whether the processes hold parts of the tensors (FSDP2)."""

    def __init__(self, dist: DistContext, logger: MetricLogger) -> None:
        self.dist = dist
        self.logger = logger
        self.step = 0
        self.measured: dict[str, float] = {}

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything of a checkpoint that is a tensor, by name."""

    def state(self) -> dict[str, Any]:
        """What else the run depends on, as JSON; of the main process."""
        return {}

    def local_state(self) -> dict[str, Any]:
        """What else this process depends on, as JSON."""
        return {}

    @abstractmethod
    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over tensors and state of a checkpoint; `step` is the loop's to set."""

    def open(self, checkpoint: Checkpoint | None) -> None:  # noqa: B027  a hook
        """Open the data, at the position of a checkpoint if there is one."""

    def close(self) -> None:  # noqa: B027  a hook
        """Close the data."""

    @abstractmethod
    def train_step(self) -> bool:
        """One optimizer step; False, in all processes, where the data has ended.

        Raises:
            AlarmError: the run is to end with a checkpoint of the step before; then `tensors`,
                `state` and `local_state` give what they did before this call.
        """

    @abstractmethod
    def metrics(self, seconds: float) -> tuple[dict[str, float], str]:
        """Figures since the last call, and what the terminal shows of them.

        seconds: that the steps since the last call took.
        """

    def validate(self) -> dict[str, float]:
        """Validation figures by name."""
        return {}

    def log_samples(self, last: bool) -> None:  # noqa: B027  a hook
        """What else is logged after a step; last: of the run's last one."""

    def after_save(self) -> None:  # noqa: B027  a hook
        """What is written beside each checkpoint."""


@dataclass
class _Progress:
    """saved: the last step saved by this process. seconds: of the steps since the last log."""

    saved: int | None = None
    seconds: float = 0.0
    timer: Timer = field(default_factory=lambda: Timer(0))


def run_training(
    config: LoopConfig,
    make: Callable[[DistContext, MetricLogger], T],
    finish: Callable[[T], Path],
    resume: bool = False,
    cpu: bool = False,
) -> Path:
    """Run a training to its end.

    SIGTERM and SIGINT end it after the step at hand, with a checkpoint and SystemExit.

    Args:
        config: of the loop.
        make: the trainer of a process.
        finish: called with it, in every process, after the last step; returns the run's result.
        resume: go on from the last checkpoint, if there is one.
        cpu: leave accelerators alone.

    Raises:
        ValueError: bad data, a run that exists already (without `resume`), another process that
            trains in the folder, a checkpoint that is damaged or of another run, a full disk, or an
            alarm that is to stop the run.
    """
    dist = DistContext(cpu)
    try:
        with (
            hold_folder(config.output) if dist.is_main else nullcontext(),
            naming_full_disk(config.output, RESUME),
            quiet_threads(),
        ):
            return _run(config, dist, make, finish, resume)
    finally:
        # What FSDP2 holds of the process group must be gone before it is left: its threads would
        # else end with the interpreter, which aborts.
        if dist.world > 1:  # it takes a second where much is loaded
            gc.collect()
        dist.close()


def _run(
    config: LoopConfig,
    dist: DistContext,
    make: Callable[[DistContext, MetricLogger], T],
    finish: Callable[[T], Path],
    resume: bool,
) -> Path:
    folder = config.output / "checkpoints"
    incomplete = remove_incomplete(folder) if dist.is_main else []
    dist.barrier()
    checkpoint = read_latest(folder, dist.rank, dist.world)
    if checkpoint is not None and not resume:
        raise ValueError(f"{config.output} holds a run already; go on with --resume or remove it")
    if dist.is_main:  # the run may have been killed before it did this
        drop_old(folder, config.keep_checkpoints)
    with ExitStack() as stack:
        logger = MetricLogger(
            config.output, config.title, checkpoint.step if checkpoint else 0, config.steps,
            dist.is_main, config.wandb, config.settings,
        )  # fmt: skip
        stack.enter_context(logger)
        for name in incomplete:
            logger.info(f"{name} was not complete and has been removed")
        trainer = make(dist, logger)
        if checkpoint is not None:
            trainer.restore(checkpoint)
            trainer.step = checkpoint.step
            trainer.measured = dict(checkpoint.state.get("measured", {}))
            for line in _changes(checkpoint, config, dist):
                logger.info(line)
        trainer.open(checkpoint)
        stack.callback(trainer.close)
        _loop(trainer, config, logger, stack.enter_context(StopSignals()))
        return finish(trainer)


def _changes(checkpoint: Checkpoint, config: LoopConfig, dist: DistContext) -> list[str]:
    """What is not as it was when the checkpoint was made."""
    lines = [f"going on from step {checkpoint.step}"]
    name = checkpoint.folder.name
    if not checkpoint.compared:
        lines.append(f"{name} was saved without checksums and has not been compared")
    if changed := changed_settings(checkpoint.state["settings"], config.settings):
        lines.append(f"with other settings: {changed}")
    if (before := len(checkpoint.ranks)) != dist.world:
        lines.append(
            f"{dist.world} instead of {before} processes: model, optimizer and the order of the"
            " data go on as they were; sums are rounded in another order"
        )
    return lines


def _save(trainer: Trainer, config: LoopConfig, progress: _Progress) -> None:
    state = {**trainer.state(), "settings": dict(config.settings), "measured": trainer.measured}
    save_checkpoint(
        config.output / "checkpoints", trainer.step, trainer.dist, trainer.tensors(), state,
        trainer.local_state(), trainer.sharded, config.keep_checkpoints,
    )  # fmt: skip
    trainer.after_save()
    progress.saved = trainer.step
    progress.timer.restart()


def _validation_lines(figures: Mapping[str, float]) -> list[str]:
    """A line for each figure; those of levels ("audio.0", "audio.1", ...) in one line."""
    lines: dict[str, str] = {}
    for name, value in figures.items():
        stem, dot, level = name.rpartition(".")
        if dot and level.isdigit():
            lines[stem + dot] = f"{lines.get(stem + dot, f'{stem} by level')} {value:.3f}"
        else:
            lines[name] = f"{name} {value:.3f}"
    return list(lines.values())


def _validate(trainer: Trainer, logger: MetricLogger) -> None:
    figures = trainer.validate()
    trainer.measured |= figures
    for line in _validation_lines(figures):
        logger.info(f"step {trainer.step}: validation {line}")
    if figures:
        logger.scalars(trainer.step, {f"validation/{n}": v for n, v in figures.items()})


def _loop(trainer: Trainer, config: LoopConfig, logger: MetricLogger, signals: StopSignals) -> None:
    dist, progress = trainer.dist, _Progress(timer=Timer(config.save_minutes))
    while trainer.step < config.steps:
        began = time.perf_counter()
        try:
            more = trainer.train_step()
        except AlarmError:
            _save(trainer, config, progress)
            raise
        progress.seconds += time.perf_counter() - began
        last = trainer.step == config.steps or not more
        if more and (trainer.step % config.log_every == 0 or last):
            logger.scalars(trainer.step, *trainer.metrics(progress.seconds))
            progress.seconds = 0.0
        if trainer.step % config.validate_every == 0 or last:
            _validate(trainer, logger)
        trainer.log_samples(last)
        asked, due = dist.max([signals.asked, dist.is_main and progress.timer.due])
        if trainer.step % config.save_every == 0 or last or asked or due:
            _save(trainer, config, progress)
        if asked and not last:
            logger.info(f"stopped at step {trainer.step}; go on with --resume")
            raise SystemExit(128 + asked)
        if not more:
            return
    if progress.saved is None:  # it was killed between its last checkpoint and what follows it
        trainer.after_save()
