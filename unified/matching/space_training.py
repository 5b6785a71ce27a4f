"""Train the branches of a space from one configuration file.

    unified tower train configs/systems/imagebind.yaml [--resume]

The tower stays what it is: its vectors are what sounds and point clouds are held to (ImageBind,
arXiv:2305.05665; ULIP, arXiv:2212.05171). The loop, checkpoints and logging are those of
`unified_base.training`; every random number depends on the seed and the step alone.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unified.matching.space import Space
from unified.matching.space_branches import make_branch
from unified.matching.space_config import SpaceTraining
from unified.matching.space_pairs import read_pairs
from unified.matching.tower import Tower
from unified_base.training.checkpoint import Checkpoint
from unified_base.training.dist import DistContext
from unified_base.training.loop import LoopConfig, Trainer, run_training
from unified_base.training.metric_logger import MetricLogger
from unified_base.training.optimizer_state import load_optimizer_state, optimizer_tensors, set_lr
from unified_base.training.precision import autocast, check_same_precision, resolve_precision
from unified_base.training.schedule import lr_ratio
from unified_tokenizers.contrastive import contrastive_loss, unit
from unified_tokenizers.training_order import uniform
from unified_tokenizers.training_parts import make_optimizers

__all__ = ["SpaceTrainer", "train_space"]

_SCALE = math.log(1 / 0.07)  # as CLIP begins (arXiv:2103.00020, section 2.4)
_BIAS = -10.0  # as SigLIP begins (arXiv:2303.15343)
_HELD = 512  # media that are measured, at most


def train_space(config: SpaceTraining, resume: bool = False) -> Path:
    """Run a training to its end; returns the folder of the finished space.

    Raises:
        ValueError: as `tower_training.train`, and where several processes are started: branches
            train in one.
    """
    config, lines = resolve_precision(config, resume)
    loop = LoopConfig(
        output=Path(config.output), settings=asdict(config), steps=config.steps,
        log_every=config.log_every, validate_every=config.validate_every,
        save_every=config.save_every, save_minutes=config.save_minutes,
        keep_checkpoints=config.keep_checkpoints, title="space",
    )  # fmt: skip

    def make(dist: DistContext, logger: MetricLogger) -> SpaceTrainer:
        check_same_precision(config.precision, dist)
        if dist.world > 1:
            raise ValueError(f"branches train in one process, found {dist.world}")
        for line in lines:
            logger.info(line)
        return SpaceTrainer(config, dist, logger)

    return run_training(
        loop, make, lambda trainer: trainer.folder, resume, cpu=config.device == "cpu"
    )


class _Trained(nn.Module):
    """Branches, and for each what its cosines are multiplied by and, of `sigmoid`, added to."""

    def __init__(self, branches: nn.ModuleDict, biased: bool) -> None:
        super().__init__()
        self.branches = branches
        self.scale = nn.ParameterDict({m: nn.Parameter(torch.tensor(_SCALE)) for m in branches})
        biases = {m: nn.Parameter(torch.tensor(_BIAS)) for m in branches if biased}
        self.bias = nn.ParameterDict(biases)


class SpaceTrainer(Trainer):
    """Branches in training: what a checkpoint holds, and what a step does."""

    def __init__(self, config: SpaceTraining, dist: DistContext, logger: MetricLogger) -> None:
        super().__init__(dist, logger)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = Path(config.output) / "space"
        tower = Tower.from_pretrained(config.init_from, str(dist.device))
        branches = {m: make_branch(m, own, tower.width) for m, own in config.branches.items()}
        self.space = Space(tower, branches)
        common = tower, config.anchors
        self.data = read_pairs(config.data, branches, *common, config.limit)
        self.held = self.data
        if config.validation:
            self.held = read_pairs(config.validation, branches, *common, _HELD)
        for modality, pairs in self.data.items():
            if len(pairs.media) < config.batch_size:
                raise ValueError(
                    f"batch_size is {config.batch_size}, expected at most the"
                    f" {len(pairs.media):,} media of {modality}: each is told from the others"
                )
        self.model = _Trained(self.space.branches, config.loss == "sigmoid")
        self.model.to(dist.device).train()
        self.trained = dict(self.model.named_parameters())
        self.optimizers = make_optimizers(config.optimizer, self.model, self.trained.values())
        self._figures: dict[str, float] = {}
        self._num_steps = 0  # since the last log

    def _lr(self) -> float:
        config = self.config
        return config.optimizer.lr * lr_ratio(config.schedule, self.step, config.steps)

    def train_step(self) -> bool:
        """Raises ValueError for a loss or gradient that is not finite; nothing has changed then."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # dropout, where a branch has it
        set_lr(self.optimizers, self._lr())
        losses = {modality: self._loss(modality) for modality in self.data}
        loss = torch.stack(list(losses.values())).mean()
        loss.backward()
        most = config.optimizer.max_grad_norm
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), most).detach())
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            raise ValueError(f"loss {value}, gradient norm {norm} at step {self.step}")
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._num_steps += 1
        each = {f"loss_{modality}": float(own.detach()) for modality, own in losses.items()}
        self._figures = {"loss": value, "gradient_norm": norm, **each}
        return True

    def _loss(self, modality: str) -> Tensor:
        """Of a batch of one branch: the mean over what it is held to."""
        config, pairs = self.config, self.data[modality]
        rows = uniform(config.seed, self.step, config.batch_size, len(pairs.media))
        media = torch.from_numpy(pairs.media[rows]).to(self.dist.device)
        with autocast(self.dist.device.type, config.precision):
            vectors = unit(self.space.branches[modality](media))
        parts = []
        for anchors in pairs.anchors.values():
            held = np.isfinite(anchors[rows, 0])
            if held.sum() < 2:  # nobody to be told from
                continue
            own = torch.from_numpy(anchors[rows[held]]).to(vectors)
            names = [pairs.names[row] for row in rows[held]]
            bias = self.model.bias[modality] if config.loss == "sigmoid" else None
            parts.append(
                contrastive_loss(
                    vectors[torch.from_numpy(held).to(vectors.device)], own, names,
                    self.model.scale[modality], bias, config.loss,
                )
            )  # fmt: skip
        return torch.stack(parts).mean() if parts else vectors.sum() * 0.0

    # What is logged.

    def metrics(self, seconds: float) -> tuple[dict[str, float], str]:
        rate = self._num_steps * self.config.batch_size * len(self.data) / seconds
        self._num_steps = 0
        figures = {**self._figures, "media_per_second": rate, "learning_rate": self._lr()}
        summary = f"loss {figures['loss']:.4f}  {rate:.0f}/s"
        return {f"train/{name}": value for name, value in figures.items()}, summary

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """How often the nearest anchor of a validation medium is its own."""
        figures = {}
        self.model.eval()
        for modality, pairs in self.held.items():
            rows = np.arange(min(_HELD, len(pairs.media)))
            for name, anchors in pairs.anchors.items():
                held = pairs.held_to(name, rows)
                if len(held) < 2:
                    continue
                media = torch.from_numpy(pairs.media[held]).to(self.dist.device)
                vectors = torch.cat([unit(self.space.branches[modality](part)).cpu()
                                     for part in media.split(64)])  # fmt: skip
                nearest = (vectors @ torch.from_numpy(anchors[held]).T).argmax(1).tolist()
                right = [pairs.names[held[at]] == pairs.names[row]
                         for at, row in zip(nearest, held)]  # fmt: skip
                figures[f"{modality}_{name}_recall_at_1"] = sum(right) / len(right)
        self.model.train()
        return figures

    # Checkpoints.

    def tensors(self) -> dict[str, Tensor]:
        state = {f"model/{n}": v.contiguous() for n, v in self.model.state_dict().items()}
        own = optimizer_tensors(self.optimizers, self.trained)
        return {**state, **{f"optimizer/{name}": value for name, value in own.items()}}

    def restore(self, checkpoint: Checkpoint) -> None:
        names = checkpoint.names("model/")
        try:
            self.model.load_state_dict({name: checkpoint.read(f"model/{name}") for name in names})
        except (RuntimeError, KeyError) as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the checkpoint {checkpoint.folder} is of other branches than the"
                f" configuration's: {summary}"
            ) from None
        load_optimizer_state(self.optimizers, self.trained, checkpoint, "optimizer/")

    def after_save(self) -> None:
        """Write the space as it is now."""
        self.space.save_pretrained(self.folder)
