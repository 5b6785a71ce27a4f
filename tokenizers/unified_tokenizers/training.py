"""Train a tokenizer from one configuration file.

    unified tokenizer train configs/pocket/image.yaml [--resume]

The order of training items, and every random number, depends on the seed and the step alone, so a
resumed run goes on as the stopped one would have. TensorBoard gets curves and held-out
reconstructions; the averaged weights (EMA) are what is saved as the tokenizer. Under torchrun every
process takes its part of each batch.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from unified_base.terminal import console as plain_console
from unified_tokenizers import parallel
from unified_tokenizers.audio import AudioTokenizer
from unified_tokenizers.checkpoint import (
    changed_settings,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from unified_tokenizers.diffusion import DiffusionDecoder
from unified_tokenizers.discriminators import Adversary, AdversarySettings
from unified_tokenizers.image import ImageTokenizer
from unified_tokenizers.training_config import TokenizerTraining, load_config
from unified_tokenizers.training_diffusion import Diffused
from unified_tokenizers.training_media import Pictures, Recordings

__all__ = ["TokenizerTraining", "load_config", "main", "train"]


def _order(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
    """Indices of a step's items: consecutive slices of a permutation drawn for each epoch."""
    first = step * batch_size
    positions = np.arange(first, first + batch_size)
    result = np.empty(batch_size, np.int64)
    for epoch in np.unique(positions // size):
        mine = positions // size == epoch
        permutation = np.random.default_rng((seed, int(epoch))).permutation(size)
        result[mine] = permutation[positions[mine] % size]
    return result


def _rate(config: TokenizerTraining, step: int) -> float:
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _prepare(config: TokenizerTraining, model: ImageTokenizer | AudioTokenizer) -> None:
    """Begin with another tokenizer's weights, and leave what encodes as it is, where asked to.

    Raises ValueError where the tokenizer in `start` has another configuration.
    """
    if config.start is not None:
        start = type(model).from_pretrained(config.start)
        if start.config != model.config:
            raise ValueError(
                f"the tokenizer in {config.start} has the settings {start.config}, the run"
                f" {model.config}"
            )
        model.load_state_dict(start.state_dict())
    if config.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(model.encoding))
        model.quantizer.eval()  # its codebooks stay, too


def _media(config: TokenizerTraining) -> Pictures | Recordings | Diffused:
    if config.diffusion is not None:
        return Diffused(config)
    return Pictures(config) if config.modality == "image" else Recordings(config)


def _optimizer(config: TokenizerTraining, trained: list[nn.Parameter]) -> torch.optim.AdamW:
    decay = [p for p in trained if p.ndim >= 2]
    plain = [p for p in trained if p.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
    )


class _Usage:
    """Which codes were used since the log last told, and an alarm when they get fewer."""

    def __init__(self, codebook_sizes: tuple[int, ...]) -> None:
        self.used = [torch.zeros(size, dtype=torch.bool) for size in codebook_sizes]
        self.best = [0.0] * len(codebook_sizes)

    def add(self, codes: Tensor) -> None:
        for level, used in enumerate(self.used):
            used[codes[:, level].reshape(-1)] = True

    def take(self) -> tuple[list[float], list[int]]:
        """The share of each codebook's codes that were used; the levels where it fell by half."""
        shares = [float(used.float().mean()) for used in self.used]
        fallen = [i for i, share in enumerate(shares) if share < self.best[i] / 2]
        self.best = [max(pair) for pair in zip(self.best, shares)]
        for used in self.used:
            used.zero_()
        return shares, fallen


def train(config: TokenizerTraining, resume: bool = False) -> Path:
    """Run a training to its end; returns the folder of the finished tokenizer.

    Raises:
        ValueError: bad data, a run that exists already (without `resume`), or a loss that is
            not finite.
    """
    together = parallel.join()
    try:
        return _train(config, resume)
    finally:
        if together:
            parallel.leave()


def _train(config: TokenizerTraining, resume: bool) -> Path:
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    output = Path(config.output)
    found = latest_checkpoint(output / "checkpoints")
    if found and not resume:
        raise ValueError(f"{output} holds a run already; go on with --resume or remove it")
    if config.batch_size % parallel.world_size():
        raise ValueError(
            f"batch_size {config.batch_size} cannot be shared by {parallel.world_size()} processes"
        )
    first = parallel.rank() == 0
    data = _media(config)
    model = data.model
    if not isinstance(model, DiffusionDecoder):
        _prepare(config, model)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = _optimizer(config, trained)
    modules: dict[str, nn.Module] = {"model": model, "average": average}
    optimizers: dict[str, torch.optim.Optimizer] = {"adamw": optimizer}
    adversary = None
    if config.adversary is not None:
        adversary = Adversary(AdversarySettings.parse(config.adversary), config.modality)
        modules["discriminator"] = adversary.discriminator
        optimizers["adversary"] = adversary.optimizer
    step, console = 0, plain_console(stderr=True)
    console.quiet = not first
    if found:
        step, settings = load_checkpoint(found, modules, optimizers)
        if changed := changed_settings(settings, asdict(config)):
            console.print(f"going on from step {step} with other settings: {changed}")
    log = SummaryWriter(str(output / "tensorboard"), purge_step=step) if first else None
    usage = _Usage(model.codebook_sizes)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))  # fmt: skip
    began, since = time.perf_counter(), step
    with Progress(*columns, console=console, refresh_per_second=1) as progress:
        task = progress.add_task(config.modality, total=config.steps, completed=step, figures="")
        while step < config.steps:
            # Quantizers draw: where codebooks begin, and where unused codes are put.
            torch.manual_seed(config.seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = _rate(config, step)
            indices = _order(config.seed, step, config.batch_size, data.size)
            batch = data.batch(model, indices[parallel.rank() :: parallel.world_size()])
            loss, figures = batch.loss, {"loss": float(batch.loss.detach())}
            if adversary is not None and adversary.active(step):
                assert not isinstance(model, DiffusionDecoder)
                with torch.autocast("cpu", torch.bfloat16):
                    added = adversary.loss(batch.real, batch.made, loss, model.last_weight, step)
                loss, figures["adversarial"] = loss + added, float(added.detach())
            loss.backward()
            parallel.average_gradients(trained)
            norm = nn.utils.clip_grad_norm_(trained, config.clip).detach()
            if not math.isfinite(float(loss.detach())) or not math.isfinite(float(norm)):
                raise ValueError(
                    f"loss {float(loss.detach())}, gradient norm {float(norm)} at step {step}"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if adversary is not None and adversary.active(step):
                with torch.autocast("cpu", torch.bfloat16):
                    figures["discriminator"] = float(adversary.learn(batch.real, batch.made))
                parallel.average_gradients(adversary.discriminator.parameters())
                adversary.step()
            _follow(average, model, config.ema, step)
            usage.add(batch.codes)
            step += 1
            if log is not None and (step % config.log_every == 0 or step == config.steps):
                shares, fallen = usage.take()
                for level in fallen:
                    console.print(
                        f"alarm: codebook {level} uses {shares[level]:.0%} of its codes, less than"
                        f" half of what it did; see 'revive' and the learning rate"
                    )
                speed = (step - since) * config.batch_size / (time.perf_counter() - began)
                figures |= {"gradient_norm": float(norm), "items_per_second": speed,
                            "codes_used": sum(shares) / len(shares),
                            "learning_rate": _rate(config, step)}  # fmt: skip
                for level, share in enumerate(shares):
                    figures[f"codes_used/{level}"] = share
                for name, value in figures.items():
                    log.add_scalar(f"train/{name}", value, step)
                shown = f"loss {figures['loss']:.4f}  codes {figures['codes_used']:.0%}"
                shown += f"  {speed:.0f}/s"
                progress.update(task, completed=step, figures=shown)
                if not console.is_terminal:
                    console.print(f"{config.modality} {step}/{config.steps} {shown}")
            if step % config.save_every == 0 or step == config.steps:
                parallel.check_in_step(model, step)
                if log is not None:
                    for name, value in data.evaluate(average, log, step).items():
                        log.add_scalar(f"heldout/{name}", value, step)
                        progress.console.print(f"step {step}: held-out {name} {value:.3f}")
                    save_checkpoint(
                        output / "checkpoints", step, modules, optimizers, asdict(config)
                    )
                    data.save(average, output / "tokenizer", getattr(torch, config.store))
    if log is not None:
        log.close()
    return output / "tokenizer"


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """The average of the weights, a short one at first: the first steps' are worth forgetting."""
    weight = 1 - min(decay, (step + 1) / (step + 10))
    for mean, parameter in zip(average.parameters(), model.parameters()):
        mean.lerp_(parameter, weight)
    # Codebooks that follow by moving averages are averages already.
    for kept, buffer in zip(average.buffers(), model.buffers()):
        kept.copy_(buffer)


def main(config_path: Path, resume: bool = False, changes: Iterable[str] = ()) -> None:
    """The command `unified tokenizer train`; `changes` as of `load_config`."""
    folder = train(load_config(config_path, changes), resume)
    plain_console(stderr=True).print(f"tokenizer saved in {os.fspath(folder)}")
