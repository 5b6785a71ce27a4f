"""Train a tokenizer from one configuration file.

    unified tokenizer train configs/pocket/image.yaml [--resume]

The order of training items depends on the seed and the step alone, so a resumed run goes on as
the stopped one would have. TensorBoard gets curves and held-out reconstructions; the averaged
weights (EMA) are what is saved as the tokenizer.
"""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from unified_tokenizers.audio import AudioTokenizer
from unified_tokenizers.checkpoint import (
    changed_settings,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from unified_tokenizers.image import ImageTokenizer
from unified_tokenizers.media import load_pictures, load_recordings
from unified_tokenizers.run_file import read_run
from unified_tokenizers.spectral import MultiScaleMelLoss

__all__ = ["TokenizerTraining", "load_config", "main", "train"]


@dataclass(frozen=True)
class TokenizerTraining:
    """One training run, as its YAML file states it.

    Attributes:
        modality: `image` or `audio`.
        output: folder for checkpoints, curves and the finished tokenizer.
        data, heldout: shards or folders; a `*` in the last part of a path is expanded.
        tokenizer: settings of the tokenizer's shape.
        steps, batch_size: optimizer steps; pictures, or crops of sound, in each.
        learning_rate: AdamW's peak; warmed up over `warmup` steps, then a cosine to a fiftieth.
        ema: decay of the average of weights.
        limit: how many pictures, or seconds of sound, are held in memory.
        crop: length in code frames of the crops of sound.
        store: dtype of the saved weights, `float32` or `bfloat16`.
        start: folder of a tokenizer of the same shape whose weights to begin with.
        freeze_encoder: train what decodes alone: codes stay what they were, and so does all that
            a language model has learnt about them.
        cycle: weight of the difference between the encoder's features of what is decoded and of
            the original: a tokenizer should hear its own output as it heard the original.
    """

    modality: str
    output: str
    data: tuple[str, ...]
    heldout: tuple[str, ...]
    tokenizer: dict[str, Any]
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0
    seed: int = 0
    limit: int = 40_000
    crop: int = 32
    log_every: int = 50
    save_every: int = 500
    store: str = "bfloat16"
    threads: int = 1
    start: str | None = None
    freeze_encoder: bool = False
    cycle: float = 0.0


def load_config(path: Path) -> TokenizerTraining:
    """Read a run's file. Raises ValueError for unknown, missing or misspelt entries."""
    entries = read_run(path, TokenizerTraining)
    for name in ("data", "heldout"):
        value = entries[name] or []
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise ValueError(f"{path}: {name} is {value!r}, expected a list of paths")
        entries[name] = tuple(value)
    if not isinstance(entries["tokenizer"], dict):
        raise ValueError(
            f"{path}: tokenizer is {entries['tokenizer']!r}, expected a mapping of its settings"
        )
    config = TokenizerTraining(**entries)
    if config.modality not in ("image", "audio"):
        raise ValueError(f"{path}: modality {config.modality!r}, expected 'image' or 'audio'")
    if config.store not in ("float32", "bfloat16"):
        raise ValueError(f"{path}: store {config.store!r}, expected 'float32' or 'bfloat16'")
    return config


def image_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """L1, squared error, and L1 of the differences between neighbours (which keeps edges)."""
    difference = predicted - target
    slopes = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    slopes = slopes + (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return difference.abs().mean() + 5 * difference.square().mean() + 0.5 * slopes


def _cycle(model: ImageTokenizer | AudioTokenizer, made: Tensor, features: Tensor) -> Tensor:
    """Mean absolute difference of the encoder's features of what was made and of the original."""
    return (model.features(made).float() - features.detach().float()).abs().mean()


class _Images:
    """Pictures in memory: batches for a step, the loss, and what the log shows."""

    def __init__(self, config: TokenizerTraining) -> None:
        self.pictures = load_pictures(config.data, config.limit)
        held = load_pictures(config.heldout, 256) if config.heldout else self.pictures[:64]
        self.held = torch.from_numpy(held).movedim(3, 1)
        self.config = config
        self.tokenizer = ImageTokenizer(ImageTokenizer.parse_config(config.tokenizer))
        self.size = len(self.pictures)

    def loss(self, model: nn.Module, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        assert isinstance(model, ImageTokenizer)
        target = torch.from_numpy(self.pictures[indices]).movedim(3, 1).float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            features = model.features(target)
            values, codes, loss = model.quantize(features)
            predicted = model.pictures(values, codes)
            loss = loss + image_loss(predicted.float(), target)
            if self.config.cycle:
                loss = loss + self.config.cycle * _cycle(model, predicted, features)
        return loss, codes

    def evaluate(self, model: nn.Module, log: SummaryWriter, step: int) -> dict[str, float]:
        assert isinstance(model, ImageTokenizer)
        target = self.held.float() / 255
        made = torch.cat([model.decode(model.encode(part)) for part in self.held.split(32)])
        mse = (made - target).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
        shown = min(16, len(target))
        width = min(8, shown)
        shown -= shown % width
        pairs = torch.cat([target[:shown], made[:shown]])
        rows = [torch.cat(list(row), dim=2) for row in pairs.split(width)]
        log.add_image("heldout/original_above_reconstruction", torch.cat(rows, dim=1), step)
        return {"psnr_db": float((-10 * mse.log10()).mean())}


class _Recordings:
    """Speech in memory: random crops for a step, the loss, and what the log plays."""

    def __init__(self, config: TokenizerTraining) -> None:
        self.config = config
        self.tokenizer = AudioTokenizer(AudioTokenizer.parse_config(config.tokenizer))
        self.tokenizer.front.fill()
        rate = self.tokenizer.sample_rate
        if config.crop * self.tokenizer.hop % 512:
            raise ValueError(
                f"crop {config.crop} frames of {self.tokenizer.hop} samples are not a multiple of"
                " the mel loss's 512 samples; choose another crop"
            )
        self.recordings = load_recordings(config.data, rate, config.limit)
        self.held = load_recordings(config.heldout, rate, 60) if config.heldout else []
        self.mel = MultiScaleMelLoss(rate)
        # A draw per second of sound, so that long recordings are heard as often as short ones.
        lengths = np.array([len(recording) for recording in self.recordings])
        self.starts = np.repeat(np.arange(len(lengths)), np.maximum(1, lengths // rate))
        self.size = len(self.starts)

    def loss(self, model: nn.Module, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        assert isinstance(model, AudioTokenizer)
        length = self.config.crop * model.hop
        rng = np.random.default_rng((self.config.seed, *indices[:2].tolist(), int(indices.sum())))
        batch = np.zeros((len(indices), length), np.float32)
        for row, index in enumerate(indices):
            sound = self.recordings[self.starts[index]]
            start = int(rng.integers(max(1, len(sound) - length + 1)))
            part = sound[start : start + length]
            batch[row, : len(part)] = part / np.float32(32768)
        target = torch.from_numpy(batch)
        with torch.autocast("cpu", torch.bfloat16):
            features = model.features(target)
            values, codes, loss = model.quantize(features)
            predicted = model.waveform(values, codes)
            loss = loss + self.mel(predicted, target)
            if self.config.cycle:
                loss = loss + self.config.cycle * _cycle(model, predicted, features)
        return loss, codes

    def evaluate(self, model: nn.Module, log: SummaryWriter, step: int) -> dict[str, float]:
        assert isinstance(model, AudioTokenizer)
        distances = []
        for index, sound in enumerate(self.held):
            target = torch.from_numpy(sound / np.float32(32768))[None, None]
            made = model.decode(model.encode(target))
            length = target.shape[2] // 512 * 512
            distances.append(float(self.mel(made[:, 0, :length], target[:, 0, :length])))
            if index < 3:
                log.add_audio(f"heldout/{index}/made", made[0], step, model.sample_rate)
                log.add_audio(f"heldout/{index}/original", target[0], step, model.sample_rate)
        return {"mel_distance": float(np.mean(distances))} if distances else {}


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


def _begin_with(model: ImageTokenizer | AudioTokenizer, folder: str) -> None:
    """Raises ValueError where the tokenizer in `folder` has another configuration."""
    start = type(model).from_pretrained(folder)
    if start.config != model.config:
        raise ValueError(
            f"the tokenizer in {folder} has the settings {start.config}, the run {model.config}"
        )
    model.load_state_dict(start.state_dict())


def train(config: TokenizerTraining, resume: bool = False) -> Path:
    """Run a training to its end; returns the folder of the finished tokenizer.

    Raises:
        ValueError: bad data, a run that exists already (without `resume`), or a loss that is
            not finite.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    output = Path(config.output)
    found = latest_checkpoint(output / "checkpoints")
    if found and not resume:
        raise ValueError(f"{output} holds a run already; go on with --resume or remove it")
    data: _Images | _Recordings = (
        _Images(config) if config.modality == "image" else _Recordings(config)
    )
    model = data.tokenizer
    if config.start is not None:
        _begin_with(model, config.start)
    if config.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(model.encoding))
        model.quantizer.eval()  # its codebooks stay, too
    average = copy.deepcopy(model).eval().requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in trained if p.ndim >= 2]
    plain = [p for p in trained if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
    )
    modules, optimizers = {"model": model, "average": average}, {"adamw": optimizer}
    step, console = 0, Console(stderr=True)
    if found:
        step, settings = load_checkpoint(found, modules, optimizers)
        if changed := changed_settings(settings, asdict(config)):
            console.print(f"going on from step {step} with other settings: {changed}")
    log = SummaryWriter(str(output / "tensorboard"), purge_step=step)
    used = torch.zeros(len(model.codebook_sizes), max(model.codebook_sizes), dtype=torch.bool)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))  # fmt: skip
    began, since = time.perf_counter(), step
    with Progress(*columns, console=console, refresh_per_second=1) as progress:
        task = progress.add_task(config.modality, total=config.steps, completed=step, figures="")
        while step < config.steps:
            for group in optimizer.param_groups:
                group["lr"] = _rate(config, step)
            indices = _order(config.seed, step, config.batch_size, data.size)
            loss, codes = data.loss(model, indices)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(trained, config.clip).detach()
            loss = loss.detach()
            if not math.isfinite(float(loss)) or not math.isfinite(float(norm)):
                raise ValueError(f"loss {float(loss)}, gradient norm {float(norm)} at step {step}")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            # A short average at first: the first steps' weights are worth forgetting.
            weight = 1 - min(config.ema, (step + 1) / (step + 10))
            with torch.no_grad():
                for mean, parameter in zip(average.parameters(), model.parameters()):
                    mean.lerp_(parameter, weight)
                # Codebooks that follow by moving averages are averages already.
                for kept, buffer in zip(average.buffers(), model.buffers()):
                    kept.copy_(buffer)
            for level in range(codes.shape[1]):
                used[level, codes[:, level].reshape(-1)] = True
            step += 1
            if step % config.log_every == 0 or step == config.steps:
                share = used.float().mean().item()
                used.zero_()
                speed = (step - since) * config.batch_size / (time.perf_counter() - began)
                for name, value in (("loss", float(loss)), ("gradient_norm", float(norm)),
                                    ("codes_used", share), ("items_per_second", speed),
                                    ("learning_rate", _rate(config, step))):  # fmt: skip
                    log.add_scalar(f"train/{name}", value, step)
                figures = f"loss {float(loss):.4f}  codes {share:.0%}  {speed:.0f}/s"
                progress.update(task, completed=step, figures=figures)
                if not console.is_terminal:
                    console.print(f"{config.modality} {step}/{config.steps} {figures}")
            if step % config.save_every == 0 or step == config.steps:
                for name, value in data.evaluate(average, log, step).items():
                    log.add_scalar(f"heldout/{name}", value, step)
                    progress.console.print(f"step {step}: held-out {name} {value:.3f}")
                save_checkpoint(output / "checkpoints", step, modules, optimizers, asdict(config))
                average.save_pretrained(output / "tokenizer", getattr(torch, config.store))
    log.close()
    return output / "tokenizer"


def main(config_path: Path, resume: bool = False) -> None:
    """The command `unified tokenizer train`."""
    folder = train(load_config(config_path), resume)
    Console(stderr=True).print(f"tokenizer saved in {os.fspath(folder)}")
