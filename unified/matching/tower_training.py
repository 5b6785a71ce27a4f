"""Train a tower from one configuration file.

    unified tower train configs/world/tower.yaml [--resume]

The loop, checkpoints and logging are those of `unified_base.training`. Every random number depends
on the seed and the step alone, so a resumed run goes on as the stopped one would have. Under
torchrun every process takes its part of a batch and tells its pairs from those of all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from unified.matching.tower import Tower
from unified.matching.tower_config import TowerTraining, load_config
from unified.matching.tower_data import TowerData, TowerPairs
from unified.matching.tower_distortion import distorted
from unified.matching.tower_files import TowerParts, make_parts, read_parts
from unified.matching.tower_pictures import TowerPictures
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.terminal import tell
from unified_base.training.checkpoint import Checkpoint
from unified_base.training.dist import DistContext
from unified_base.training.loop import LoopConfig, Trainer, run_training
from unified_base.training.metric_logger import MetricLogger
from unified_base.training.optimizer_state import load_optimizer_state, optimizer_tensors, set_lr
from unified_base.training.precision import autocast, check_same_precision, resolve_precision
from unified_base.training.schedule import lr_ratio
from unified_tokenizers.contrastive import contrastive_loss, unit
from unified_tokenizers.training_parts import make_optimizers

__all__ = ["TowerTrainer", "main", "train"]

# Where the bias of `sigmoid` begins: nearly all pairs do not belong together (arXiv:2303.15343).
_BIAS = -10.0


def train(config: TowerTraining, resume: bool = False) -> Path:
    """Run a training to its end.

    SIGTERM and SIGINT end it after the step at hand, with a checkpoint and SystemExit.

    Returns:
        The folder of the finished tower.

    Raises:
        ValueError: bad data, a run that exists already (without `resume`), another process that
            trains in the folder, a checkpoint that has changed, a full disk, or a loss that is not
            finite.
    """
    config, lines = resolve_precision(config, resume)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch_size % world:
        raise ValueError(f"batch_size {config.batch_size} does not divide among {world} processes")
    loop = LoopConfig(
        output=Path(config.output),
        settings=asdict(config),
        steps=config.steps,
        log_every=config.log_every,
        validate_every=config.validate_every,
        save_every=config.save_every,
        save_minutes=config.save_minutes,
        keep_checkpoints=config.keep_checkpoints,
        title="tower",
    )

    def make(dist: DistContext, logger: MetricLogger) -> TowerTrainer:
        check_same_precision(config.precision, dist)
        for line in lines:
            logger.info(line)
        return TowerTrainer(config, dist, logger)

    def finish(trainer: TowerTrainer) -> Path:
        return trainer.folder

    return run_training(loop, make, finish, resume, cpu=config.device == "cpu")


class TowerTrainer(Trainer):
    """A tower in training: what a checkpoint holds, and what a step does."""

    def __init__(self, config: TowerTraining, dist: DistContext, logger: MetricLogger) -> None:
        super().__init__(dist, logger)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = Path(config.output) / "tower"
        started = None if config.init_from is None else read_parts(config.init_from)
        seen = TowerPictures.square(config.size) if started is None else started.pictures
        self.data = TowerData(config, seen, logger.info)
        self.tower = Tower(started or _new_parts(config, self.data.train.texts))
        self.model = self.tower.model.to(dist.device).train()
        self.ids = self._ids(self.data.train)
        parameters = dict(self.model.named_parameters())
        self.bias = parameters.get("logit_bias")  # SigLIP's own
        self.added_bias = config.loss == "sigmoid" and self.bias is None
        if self.added_bias:  # of the training alone: it changes no order
            self.bias = nn.Parameter(torch.tensor([_BIAS], device=dist.device))
            parameters["logit_bias"] = self.bias
        self.trained = parameters
        self.optimizers = make_optimizers(
            config.optimizer, self.model, parameters.values(), kernels=True
        )
        self._figures: dict[str, float] = {}
        self._num_steps = 0  # since the last log

    def _ids(self, pairs: TowerPairs) -> list[list[int]]:
        """The ids of all texts, and what the log says of those that are cut."""
        ids = self.tower.text_ids(pairs.texts, cut=True)
        longer = sum(len(row) == self.tower.max_text_ids for row in ids)
        if longer:
            self.logger.info(
                f"{longer:,} of {len(ids):,} texts have {self.tower.max_text_ids} ids or more and"
                " are cut there; allow more with max_text_ids"
            )
        return ids

    def _lr(self) -> float:
        config = self.config
        return config.optimizer.lr * lr_ratio(config.schedule, self.step, config.steps)

    def train_step(self) -> bool:
        """Raises ValueError for a loss or gradient that is not finite; nothing has changed then."""
        config, dist = self.config, self.dist
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # dropout, where a model has it
        set_lr(self.optimizers, self._lr())
        rows = self.data.rows(self.step, dist.rank, dist.world)
        pixels = self.tower.pictures.normalised(self.data.train.pictures(rows)).to(dist.device)
        seed = (config.seed * 1_000_003 + self.step) * dist.world + dist.rank
        pixels = distorted(pixels, config.distortion, seed)
        texts = [self.data.train.texts[row] for row in rows]
        with autocast(dist.device.type, config.precision):
            pictures_BD = unit(self.tower.picture_features(pixels))
            texts_BD = unit(self.tower.text_features([self.ids[row] for row in rows]))
        loss = contrastive_loss(
            _of_all(pictures_BD, dist), _of_all(texts_BD, dist),
            [text for some in dist.gather(texts) for text in some],
            self.model.logit_scale, self.bias, config.loss,
        )  # fmt: skip
        loss.backward()
        dist.average_gradients(self.trained.values())
        norm = float(
            nn.utils.clip_grad_norm_(self.trained.values(), config.optimizer.max_grad_norm).detach()
        )
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            raise ValueError(f"loss {value}, gradient norm {norm} at step {self.step}")
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._average_buffers()
        self.step += 1
        self._figures = {"loss": value, "gradient_norm": norm, "scale": self.tower.scale}
        self._num_steps += 1
        return True

    def _average_buffers(self) -> None:
        """Running means and variances become those of all processes' parts of the batch."""
        if self.dist.world == 1:
            return
        for buffer in self.model.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.dist.world

    # What is logged.

    def metrics(self, seconds: float) -> tuple[dict[str, float], str]:
        pairs = self._num_steps * self.config.batch_size
        self._num_steps = 0
        figures = {
            **self._figures,
            "pairs_per_second": pairs / seconds,
            "learning_rate": self._lr(),
        }
        summary = f"loss {figures['loss']:.4f}  scale {figures['scale']:.1f}"
        summary += f"  {figures['pairs_per_second']:.0f}/s"
        return {f"train/{name}": value for name, value in figures.items()}, summary

    def validate(self) -> dict[str, float]:
        """How often the nearest text of a validation picture is its own, and the other way."""
        if not self.dist.is_main:
            return {}
        held, rows = self.data.held, range(self.data.num_held)
        self.model.eval()
        pictures = torch.from_numpy(self.tower.embed_pictures(list(held.pictures(rows))))
        texts = [held.texts[row] for row in rows]
        with torch.inference_mode():
            parts = [self.tower.text_ids(texts[i : i + 64], cut=True) for i in rows[::64]]
            vectors = torch.cat([unit(self.tower.text_features(ids)).cpu() for ids in parts])
        self.model.train()
        likeness_NN = pictures @ vectors.T
        nearest = {"text": likeness_NN.argmax(1), "picture": likeness_NN.argmax(0)}
        return {
            f"{name}_recall_at_1": sum(texts[at] == text for at, text in zip(numbers, texts))
            / len(texts)
            for name, numbers in nearest.items()
        }

    # Checkpoints.

    def tensors(self) -> dict[str, Tensor]:
        self.dist.check_in_step(self.model, self.step)
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        if self.added_bias and self.bias is not None:
            tensors["bias"] = self.bias.detach()
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        state = optimizer_tensors(self.optimizers, self.trained)
        return {**tensors, **{f"optimizer/{name}": value for name, value in state.items()}}

    def restore(self, checkpoint: Checkpoint) -> None:
        names = checkpoint.names("model/")
        try:
            self.model.load_state_dict({name: checkpoint.read(f"model/{name}") for name in names})
            if self.added_bias and self.bias is not None:
                self.bias.data.copy_(checkpoint.read("bias"))
        except (RuntimeError, KeyError) as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the checkpoint {checkpoint.folder} is of another tower than the configuration's:"
                f" {summary}"
            ) from None
        load_optimizer_state(self.optimizers, self.trained, checkpoint, "optimizer/")

    def after_save(self) -> None:
        """Write the tower as it is now."""
        if self.dist.is_main:
            self.tower.save_pretrained(self.folder)


def _new_parts(config: TowerTraining, texts: list[str]) -> TowerParts:
    assert config.tower is not None
    if config.text_tokenizer is not None:
        text = TextTokenizer.load(config.text_tokenizer)
    else:
        text = TextTokenizer.train(texts, config.vocabulary)
    return make_parts(config.tower, text, config.size, config.max_text_ids, "tower")


def _of_all(mine_BD: Tensor, dist: DistContext) -> Tensor:
    """The vectors of all processes; gradients go back to where they came from."""
    if dist.world == 1:
        return mine_BD
    from torch.distributed.nn.functional import all_gather

    return torch.cat(list(all_gather(mine_BD)))


def main(config_path: Path, resume: bool = False, changes: Iterable[str] = ()) -> None:
    """The command `unified tower train`, of a tower or of a space's branches; `changes` as of
    `load_config`."""
    if _has_branches(config_path):
        from unified.matching.space_config import load_space_config
        from unified.matching.space_training import train_space

        folder = train_space(load_space_config(config_path, changes), resume)
        tell(f"space saved in {os.fspath(folder)}")
        return
    folder = train(load_config(config_path, changes), resume)
    if os.environ.get("RANK", "0") == "0":  # of several processes one says it
        tell(f"tower saved in {os.fspath(folder)}")


def _has_branches(path: Path) -> bool:
    """Whether a run's file is of a space."""
    from unified_base.structured import read_yaml

    entries = read_yaml(path)
    return isinstance(entries, dict) and "branches" in entries
