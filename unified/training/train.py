"""Train a decoder from one configuration file.

    unified train configs/pocket/decoder.yaml [--resume]
    torchrun --nproc-per-node 8 -m unified train CONFIG

The order of the data and every random number depend on the seed and the step alone, so that a run
killed and resumed ends with the weights, bit for bit, of one never stopped. A step's loss is
divided by what all its positions count together, over all micro-batches and processes: the gradient
is that of one large batch.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from unified.dataloading.source import leaves
from unified.dataloading.source_samples import find_shards
from unified.training.config import TrainConfig
from unified.training.decoder_trainer import DecoderTrainer
from unified.training.export import export
from unified.training.trainable import check_trainable
from unified_base.training.dist import DistContext
from unified_base.training.loop import LoopConfig, run_training
from unified_base.training.metric_logger import MetricLogger
from unified_base.training.precision import check_same_precision, resolve_precision

__all__ = ["train"]


def train(config: TrainConfig, resume: bool = False) -> Path:
    """Run a training to its end.

    Args:
        config: of the run.
        resume: go on from the last checkpoint, if there is one.

    Returns:
        The folder of the finished model.

    Raises:
        ValueError: bad or missing data, a run that exists already (without `resume`), a checkpoint
            of another run, or an alarm that `alarms.stop` names.
    """
    check_trainable(config.init_from)
    for sources in (config.sources, config.validation):
        for _, source in leaves(sources):
            find_shards(source.shards)  # a wrong name is told before anything is loaded or written
    _check_processes(config, int(os.environ.get("WORLD_SIZE", "1")))
    resolved, lines = resolve_precision(config, resume)
    return run_training(
        _loop_config(resolved),
        lambda *parts: _make(resolved, lines, *parts),
        _finish,
        resume,
        cpu=config.device == "cpu",
    )


def _check_processes(config: TrainConfig, world: int) -> None:
    if world > 1 and config.global_batch_size // config.micro_batch_size % world:
        raise ValueError(
            f"global_batch_size {config.global_batch_size} in micro-batches of"
            f" {config.micro_batch_size} does not divide among {world} processes; change one of"
            " them"
        )


def _loop_config(config: TrainConfig) -> LoopConfig:
    return LoopConfig(
        output=Path(config.output),
        settings=asdict(config),
        steps=config.steps,
        log_every=config.log_every,
        validate_every=config.validate_every,
        save_every=config.save_every,
        save_minutes=config.save_minutes,
        keep_checkpoints=config.keep_checkpoints,
        wandb=config.wandb,
    )


def _make(
    config: TrainConfig, lines: list[str], dist: DistContext, logger: MetricLogger
) -> DecoderTrainer:
    check_same_precision(config.precision, dist)
    for line in lines:
        logger.info(line)
    if config.preferences is None:
        return DecoderTrainer(config, dist, logger)
    from unified.training.preference import PreferenceTrainer

    return PreferenceTrainer(config, dist, logger)


def _finish(trainer: DecoderTrainer) -> Path:
    weights = trainer.averaged_weights()
    return export(
        trainer.config,
        trainer.dist,
        weights,
        trainer.step,
        trainer.trained_on.ids,
        trainer.measured,
        trainer.logger.info,
    )
