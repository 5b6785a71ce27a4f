"""Train a tokenizer from one configuration file.

    unified tokenizer train configs/pocket/image.yaml [--resume]

The order of training items, and every random number, depends on the seed and the step alone, so a
resumed run goes on as the stopped one would have. A checkpoint is written every so many steps and
minutes, and when SIGTERM or Ctrl-C ask the run to end. TensorBoard gets curves and held-out
reconstructions; the averaged weights (EMA) are what is saved as the tokenizer. Under torchrun every
process takes its part of each batch.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from unified_base.clock import Timer
from unified_base.disk import naming_full_disk, quiet_threads
from unified_base.locks import hold_folder
from unified_base.signals import StopSignals
from unified_base.terminal import console as plain_console
from unified_tokenizers import parallel
from unified_tokenizers.checkpoint import (
    RESUME,
    changed_settings,
    drop_old,
    latest_checkpoint,
    load_checkpoint,
    remove_torn,
    save_checkpoint,
)
from unified_tokenizers.diffusion import DiffusionDecoder
from unified_tokenizers.discriminators import Adversary, AdversarySettings
from unified_tokenizers.training_config import TokenizerTraining, load_config
from unified_tokenizers.training_diffusion import Diffused
from unified_tokenizers.training_media import Pictures, Recordings
from unified_tokenizers.training_parts import Usage, follow, make_optimizer, prepare, rate_at
from unified_tokenizers.training_pictures import Say

__all__ = ["TokenizerTraining", "load_config", "main", "train"]


def _media(config: TokenizerTraining, say: Say) -> Pictures | Recordings | Diffused:
    if config.diffusion is not None:
        return Diffused(config, say)
    return Pictures(config, say) if config.modality == "image" else Recordings(config, say)


def train(config: TokenizerTraining, resume: bool = False) -> Path:
    """Run a training to its end; returns the folder of the finished tokenizer.

    SIGTERM and SIGINT end it after the step at hand, with a checkpoint and SystemExit.

    Raises:
        ValueError: bad data, a run that exists already (without `resume`), another process that
            trains in the folder, a checkpoint that has changed, a full disk, or a loss that is not
            finite.
    """
    together = parallel.join()
    try:
        first, output = parallel.rank() == 0, Path(config.output)
        with (
            hold_folder(output) if first else nullcontext(),
            naming_full_disk(output, RESUME),
            quiet_threads(),
        ):
            return _begin(config, resume)
    finally:
        if together:
            parallel.leave()


def _begin(config: TokenizerTraining, resume: bool) -> Path:
    first = parallel.rank() == 0
    console = plain_console(stderr=True)
    console.quiet = not first
    output = Path(config.output)
    if first:
        for name in remove_torn(output / "checkpoints"):
            _say(console, f"{name} was not complete and has been removed")
    parallel.wait()
    found = latest_checkpoint(output / "checkpoints")
    if found and not resume:
        raise ValueError(f"{output} holds a run already; go on with --resume or remove it")
    if first:  # one may have been killed before it did this
        drop_old(output / "checkpoints")
    if config.batch_size % parallel.world_size():
        raise ValueError(
            f"batch_size {config.batch_size} cannot be shared by {parallel.world_size()} processes"
        )
    run = _Run(config, console)
    if found:
        run.restore(found)
    log = SummaryWriter(str(output / "tensorboard"), purge_step=run.step) if first else None
    try:
        with StopSignals() as signals:
            _loop(run, log, signals)
    except BaseException:
        if log is not None:
            with suppress(OSError):  # a full disk is what has been raised already
                log.close()
        raise
    if log is not None:
        log.close()
    return output / "tokenizer"


def _say(console: Console, text: str) -> None:
    """One line on the terminal, as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Run:
    """A tokenizer on its way through a training: what a checkpoint holds, and what a step does."""

    def __init__(self, config: TokenizerTraining, console: Console) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.console, self.step = config, console, 0
        self.data = _media(config, self.say)
        self.model = self.data.model
        if not isinstance(self.model, DiffusionDecoder):
            prepare(config, self.model)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(config, self.trained)
        self.usage = Usage(self.model.codebook_sizes)
        self.modules: dict[str, nn.Module] = {"model": self.model, "average": self.average}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"adamw": self.optimizer}
        self.adversary = None
        if config.adversary is not None:
            settings = AdversarySettings.parse(config.adversary)
            self.adversary = Adversary(settings, config.modality)
            self.modules["discriminator"] = self.adversary.discriminator
            self.optimizers["adversary"] = self.adversary.optimizer
        self.saved: int | None = None  # the step of the last save of this process

    def say(self, text: str) -> None:
        _say(self.console, text)

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        self.step, settings = load_checkpoint(folder, self.modules, self.optimizers, self.say)
        if changed := changed_settings(settings, asdict(self.config)):
            self.say(f"going on from step {self.step} with other settings: {changed}")

    def save(self) -> None:
        """Write a checkpoint, and the tokenizer as it is now. All processes call it."""
        config, output = self.config, Path(self.config.output)
        parallel.check_in_step(self.model, self.step)
        if parallel.rank() == 0:
            settings = asdict(config)
            save_checkpoint(
                output / "checkpoints", self.step, self.modules, self.optimizers, settings
            )
            self.data.save(self.average, output / "tokenizer", getattr(torch, config.store))
        self.saved = self.step

    def take_step(self) -> dict[str, float]:
        """One step of the optimizers; returns what is worth logging.

        Raises ValueError for a loss or gradient that is not finite; nothing has changed then.
        """
        config, step, adversary = self.config, self.step, self.adversary
        # Quantizers draw: where codebooks begin, and where unused codes are put.
        torch.manual_seed(config.seed * 1_000_003 + step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(config, step)
        batch = self.data.batch(self.model, step, parallel.rank(), parallel.world_size())
        loss, figures = batch.loss, {"loss": float(batch.loss.detach())}
        if adversary is not None and adversary.active(step):
            assert not isinstance(self.model, DiffusionDecoder)
            with torch.autocast("cpu", torch.bfloat16):
                added = adversary.loss(batch.real, batch.made, loss, self.model.last_weight, step)
            loss, figures["adversarial"] = loss + added, float(added.detach())
        loss.backward()
        parallel.average_gradients(self.trained)
        norm = float(nn.utils.clip_grad_norm_(self.trained, config.clip).detach())
        if not math.isfinite(float(loss.detach())) or not math.isfinite(norm):
            raise ValueError(f"loss {float(loss.detach())}, gradient norm {norm} at step {step}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if adversary is not None and adversary.active(step):
            with torch.autocast("cpu", torch.bfloat16):
                figures["discriminator"] = float(adversary.learn(batch.real, batch.made))
            parallel.average_gradients(adversary.discriminator.parameters())
            adversary.step()
        follow(self.average, self.model, config.ema, step)
        self.usage.add(batch.codes)
        self.step += 1
        return {**figures, "gradient_norm": norm}


def _loop(run: _Run, log: SummaryWriter | None, signals: StopSignals) -> None:
    config, timer = run.config, Timer(run.config.save_minutes)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))  # fmt: skip
    began, since = time.perf_counter(), run.step
    with Progress(*columns, console=run.console, refresh_per_second=1) as progress:
        task = progress.add_task(
            config.modality, total=config.steps, completed=run.step, figures=""
        )
        while run.step < config.steps:
            figures = run.take_step()
            last = run.step == config.steps
            if log is not None and (run.step % config.log_every == 0 or last):
                speed = (run.step - since) * config.batch_size / (time.perf_counter() - began)
                shown = _log(run, log, {**figures, "items_per_second": speed})
                progress.update(task, completed=run.step, figures=shown)
            asked, due = parallel.greatest([signals.asked, parallel.rank() == 0 and timer.due])
            planned = run.step % config.save_every == 0 or last
            if planned and log is not None:
                for name, value in run.data.evaluate(run.average, log, run.step).items():
                    log.add_scalar(f"heldout/{name}", value, run.step)
                    run.say(f"step {run.step}: held-out {name} {value:.3f}")
            if planned or asked or due:
                run.save()
                timer.restart()
            if asked and not last:
                run.say(f"stopped at step {run.step}; go on with --resume")
                raise SystemExit(128 + asked)
    if run.saved is None:  # it had been killed between its last checkpoint and its tokenizer
        run.save()


def _log(run: _Run, log: SummaryWriter, figures: dict[str, float]) -> str:
    """Curves of a step and an alarm about codes; returns what the terminal shows of them."""
    config, step = run.config, run.step
    shares, fallen = run.usage.take()
    for level in fallen:
        run.say(
            f"alarm: codebook {level} uses {shares[level]:.0%} of its codes, less than half of what"
            " it did; see 'revive' and the learning rate"
        )
    figures |= {"codes_used": sum(shares) / len(shares), "learning_rate": rate_at(config, step)}
    figures |= {f"codes_used/{level}": share for level, share in enumerate(shares)}
    for name, value in figures.items():
        log.add_scalar(f"train/{name}", value, step)
    shown = f"loss {figures['loss']:.4f}  codes {figures['codes_used']:.0%}"
    shown += f"  {figures['items_per_second']:.0f}/s"
    if not run.console.is_terminal:
        run.say(f"{config.modality} {step}/{config.steps} {shown}")
    return shown


def main(config_path: Path, resume: bool = False, changes: Iterable[str] = ()) -> None:
    """The command `unified tokenizer train`; `changes` as of `load_config`."""
    folder = train(load_config(config_path, changes), resume)
    if parallel.rank() == 0:
        _say(plain_console(stderr=True), f"tokenizer saved in {os.fspath(folder)}")
