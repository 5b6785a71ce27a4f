"""Train a tokenizer from one configuration file.

    unified tokenizer train configs/pocket/image.yaml [--resume]

The order of training items, and every random number, depends on the seed and the step alone, so a
resumed run goes on as the stopped one would have. A checkpoint is written every so many steps and
minutes, and when SIGTERM or Ctrl-C ask the run to end. TensorBoard gets curves and reconstructions
of validation media; the averaged weights (EMA) are what is saved as the tokenizer. Under torchrun
every process takes its part of each batch. The loop, checkpoints and logging are those of
`unified_base.training`.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unified_base.terminal import tell
from unified_base.training.checkpoint import Checkpoint
from unified_base.training.dist import DistContext
from unified_base.training.ema import EMA
from unified_base.training.loop import LoopConfig, Trainer, run_training
from unified_base.training.metric_logger import MetricLogger
from unified_base.training.optimizer_state import load_optimizer_state, optimizer_tensors, set_lr
from unified_base.training.precision import autocast, check_same_precision, resolve_precision
from unified_base.training.schedule import lr_ratio
from unified_tokenizers.diffusion import DiffusionDecoder
from unified_tokenizers.discriminators import Adversary, AdversarySettings
from unified_tokenizers.training_config import TokenizerTraining, load_config
from unified_tokenizers.training_diffusion import DiffusionData
from unified_tokenizers.training_media import Pictures
from unified_tokenizers.training_parts import CodeUsage, make_optimizers, prepare
from unified_tokenizers.training_recordings import Recordings
from unified_tokenizers.training_videos import Videos

__all__ = ["TokenizerTrainer", "TokenizerTraining", "load_config", "main", "train"]


def train(config: TokenizerTraining, resume: bool = False) -> Path:
    """Run a training to its end.

    SIGTERM and SIGINT end it after the step at hand, with a checkpoint and SystemExit.

    Returns:
        The folder of the finished tokenizer.

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
        title=config.modality,
    )

    def make(dist: DistContext, logger: MetricLogger) -> TokenizerTrainer:
        check_same_precision(config.precision, dist)
        for line in lines:
            logger.info(line)
        return TokenizerTrainer(config, dist, logger)

    def finish(trainer: TokenizerTrainer) -> Path:
        return trainer.folder

    return run_training(loop, make, finish, resume, cpu=config.device == "cpu")


class TokenizerTrainer(Trainer):
    """A tokenizer in training: what a checkpoint holds, and what a step does."""

    def __init__(self, config: TokenizerTraining, dist: DistContext, logger: MetricLogger) -> None:
        super().__init__(dist, logger)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = Path(config.output) / "tokenizer"
        self.data = _media(config, logger, dist.device)
        self.model = self.data.model.to(dist.device)
        if not isinstance(self.model, DiffusionDecoder):
            prepare(config, self.model)
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.ema = EMA(dict(self.averaged.named_parameters()), config.ema_decay)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.alignment = self.data.alignment
        if self.alignment is not None:
            heads = self.alignment.named_parameters(prefix="alignment")
            self.trained |= dict(heads)
        modules = nn.ModuleList([self.model, *([self.alignment] if self.alignment else [])])
        self.optimizers = make_optimizers(config.optimizer, modules, self.trained.values())
        self.usage = CodeUsage(self.model.codebook_sizes)
        self.adversary = None
        if config.adversary is not None:
            settings = AdversarySettings.parse(config.adversary)
            self.adversary = Adversary(settings, config.modality)
            self.adversary.discriminator.to(dist.device)
        self._figures: dict[str, float] = {}
        self._num_steps = 0  # since the last log

    def _lr(self) -> float:
        config = self.config
        return config.optimizer.lr * lr_ratio(config.schedule, self.step, config.steps)

    def train_step(self) -> bool:
        """Raises ValueError for a loss or gradient that is not finite; nothing has changed then."""
        config, step, adversary = self.config, self.step, self.adversary
        # Quantizers draw: where codebooks begin, and where unused codes are put.
        torch.manual_seed(config.seed * 1_000_003 + step)
        set_lr(self.optimizers, self._lr())
        batch = self.data.batch(self.model, step, self.dist.rank, self.dist.world)
        loss, figures = batch.loss, {"loss": float(batch.loss.detach())}
        if batch.alignment is not None:
            figures["alignment"] = batch.alignment
        active = adversary is not None and adversary.active(step) and batch.decoded is not None
        if adversary is not None and active:
            assert batch.decoded is not None
            assert not isinstance(self.model, DiffusionDecoder)
            last_weight = self.model.last_weight
            with autocast(self.dist.device.type, config.precision):
                added = adversary.loss(batch.real, batch.decoded, loss, last_weight, step)
            loss, figures["adversarial"] = loss + added, float(added.detach())
        loss.backward()
        self.dist.average_gradients(self.trained.values())
        norm = float(
            nn.utils.clip_grad_norm_(self.trained.values(), config.optimizer.max_grad_norm).detach()
        )
        if not math.isfinite(float(loss.detach())) or not math.isfinite(norm):
            raise ValueError(f"loss {float(loss.detach())}, gradient norm {norm} at step {step}")
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if adversary is not None and active and batch.decoded is not None:
            with autocast(self.dist.device.type, config.precision):
                figures["discriminator"] = float(adversary.learn(batch.real, batch.decoded))
            self.dist.average_gradients(adversary.discriminator.parameters())
            adversary.step()
        self.step += 1
        self._update_average()
        self.usage.add(batch.codes.cpu())
        self._figures = {**figures, "gradient_norm": norm}
        self._num_steps += 1
        return True

    @torch.no_grad()
    def _update_average(self) -> None:
        self.ema.update(dict(self.model.named_parameters()), self.step)
        # Codebooks that follow by moving averages are averages already.
        for averaged, buffer in zip(self.averaged.buffers(), self.model.buffers()):
            averaged.copy_(buffer)

    # What is logged.

    def metrics(self, seconds: float) -> tuple[dict[str, float], str]:
        items = self._num_steps * self.config.batch_size
        self._num_steps = 0
        shares, fallen = self.usage.flush()
        for level in fallen:
            self.logger.info(
                f"alarm: codebook {level} uses {shares[level]:.0%} of its codes, less than half of"
                " what it did; see 'revive' and the learning rate"
            )
        figures = {**self._figures, "items_per_second": items / seconds}
        figures |= {"codes_used": sum(shares) / len(shares), "learning_rate": self._lr()}
        figures |= {f"codes_used/{level}": share for level, share in enumerate(shares)}
        summary = f"loss {figures['loss']:.4f}  codes {figures['codes_used']:.0%}"
        if "alignment" in figures:
            summary += f"  alignment {figures['alignment']:.3f}"
        summary += f"  {figures['items_per_second']:.0f}/s"
        return {f"train/{name}": value for name, value in figures.items()}, summary

    def validate(self) -> dict[str, float]:
        if not self.dist.is_main:
            return {}
        return self.data.evaluate(self.averaged, self.logger, self.step)

    # Checkpoints.

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"model": self.model, "ema": self.averaged}
        if self.alignment is not None:
            modules["alignment"] = self.alignment
        if self.adversary is not None:
            modules["discriminator"] = self.adversary.discriminator
        return modules

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizers = dict(self.optimizers)
        if self.adversary is not None:
            optimizers["adversary"] = self.adversary.optimizer
        return optimizers

    def _parameters(self) -> dict[str, nn.Parameter]:
        """Those that the optimizers train, by the names they have in a checkpoint."""
        own = "alignment."
        parameters = {
            f"alignment/{name.removeprefix(own)}" if name.startswith(own) else f"model/{name}": p
            for name, p in self.trained.items()
        }
        if self.adversary is not None:
            for name, parameter in self.adversary.discriminator.named_parameters():
                parameters[f"discriminator/{name}"] = parameter
        return parameters

    def tensors(self) -> dict[str, Tensor]:
        self.dist.check_in_step(self.model, self.step)
        tensors = {
            f"{prefix}/{name}": value
            for prefix, module in self._modules().items()
            for name, value in module.state_dict().items()
        }
        state = optimizer_tensors(self._optimizers(), self._parameters())
        return {**tensors, **{f"optimizer/{name}": value for name, value in state.items()}}

    def local_state(self) -> dict[str, Any]:
        """Nothing: the order and what is drawn follow from seed and step."""
        return {}

    def restore(self, checkpoint: Checkpoint) -> None:
        for prefix, module in self._modules().items():
            _load(module, checkpoint, prefix)
        load_optimizer_state(self._optimizers(), self._parameters(), checkpoint, "optimizer/")

    def after_save(self) -> None:
        """Write the tokenizer as it is now."""
        if self.dist.is_main:
            self.data.save(self.averaged, self.folder, getattr(torch, self.config.save_dtype))


def _media(
    config: TokenizerTraining, logger: MetricLogger, device: torch.device
) -> Pictures | Recordings | Videos | DiffusionData:
    if config.diffusion is not None:
        return DiffusionData(config, logger.info, device)
    if config.modality == "video":
        return Videos(config, logger.info, device)
    kind = Pictures if config.modality == "image" else Recordings
    return kind(config, logger.info, device)


def _load(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Take over a module's state. Raises ValueError where the checkpoint is of another module."""
    names = checkpoint.names(f"{prefix}/")
    try:
        module.load_state_dict({name: checkpoint.read(f"{prefix}/{name}") for name in names})
    except RuntimeError as error:
        summary = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the checkpoint {checkpoint.folder} is of another {prefix} than the configuration's:"
            f" {summary}"
        ) from None


def main(config_path: Path, resume: bool = False, changes: Iterable[str] = ()) -> None:
    """The command `unified tokenizer train`; `changes` as of `load_config`."""
    folder = train(load_config(config_path, changes), resume)
    if os.environ.get("RANK", "0") == "0":  # of several processes one says it
        tell(f"tokenizer saved in {os.fspath(folder)}")
