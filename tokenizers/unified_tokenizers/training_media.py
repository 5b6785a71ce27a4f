"""What a step of a tokenizer's training sees: batches, their loss, and what the log shows.

Legend: B batch, K codebooks, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unified_base.training.metric_logger import MetricLogger
from unified_base.training.precision import autocast
from unified_tokenizers.alignment import Alignment, AlignmentSettings
from unified_tokenizers.alignment_texts import AlignedTexts
from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.image import VQImageTokenizer
from unified_tokenizers.losses import IMAGE_LOSSES, ImageLoss
from unified_tokenizers.training_order import Buckets, uniform
from unified_tokenizers.training_pictures import (
    Say,
    load_store,
    middles,
    picture_fit,
    windows,
)
from unified_tokenizers.video import VQVideoTokenizer

if TYPE_CHECKING:
    from unified_tokenizers.training_config import TokenizerTraining

CPU = torch.device("cpu")
Trained = VQImageTokenizer | VQAudioTokenizer | VQVideoTokenizer

__all__ = [
    "Batch",
    "PictureData",
    "Pictures",
    "TrainingMedia",
    "aligned_texts",
    "mean_psnr",
    "show_pairs",
    "values_of",
]


class Batch(NamedTuple):
    """Of a step: the loss, a scalar; codes (B, K, *grid); the media, and as they were decoded, None
    in steps in which nothing is; alignment: that part of the loss, before its weight."""

    loss: Tensor
    codes: Tensor
    real: Tensor
    decoded: Tensor | None
    alignment: float | None = None


def _cycle(model: Trained, decoded: Tensor, features: Tensor) -> Tensor:
    """Mean absolute difference of the encoder's features of what was decoded and the original."""
    return (model.features(decoded).float() - features.detach().float()).abs().mean()


def mean_psnr(decoded_BCHW: Tensor, target_BCHW: Tensor) -> float:
    """Mean of the pictures' PSNR in dB, of pictures in [0, 1]; 100 dB where one is exact."""
    mse = (decoded_BCHW - target_BCHW).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    return float((-10 * mse.log10()).mean())


def show_pairs(logger: MetricLogger, name: str, above: Tensor, below: Tensor, step: int) -> None:
    """Up to 16 pictures (B, 3, H, W) in [0, 1] in the log, eight a row, with another below each."""
    number = min(16, len(above))
    width = min(8, number)
    number -= number % width
    pairs = torch.cat([above[:number], below[:number]])
    rows = [torch.cat(list(row), dim=2) for row in pairs.split(width)]
    grid_CHW = torch.cat(rows, dim=1)
    logger.image(step, name, (grid_CHW * 255).round().byte().movedim(0, 2).cpu().numpy())


class PictureData:
    """The pictures of a run, and which a step sees.

    Args:
        multiple: that both sides must be, in pixels.
        num_held: validation pictures that are measured at most.
    """

    def __init__(self, config: TokenizerTraining, multiple: int, num_held: int, say: Say) -> None:
        self._config = config
        fit = picture_fit(config.fit, config.size, multiple)
        budget = int(config.memory_gb * 1e9)
        texts = [aligned_texts(config), aligned_texts(config)]
        self.store = load_store(
            config.data, config.limit, fit, budget, config.max_corrupt, say, config.size is None,
            texts[0],
        )  # fmt: skip
        held = self.store
        if config.validation:
            held = load_store(config.validation, num_held, self.store.fit, budget,
                              config.max_corrupt, say, texts=texts[1])  # fmt: skip
        self.held = middles(held, num_held if config.validation else min(64, num_held))
        self._buckets: Buckets | None = None
        if len(self.store.fit.shapes) > 1:
            items: dict[tuple[int, int], list[int]] = {}
            for number, shape in enumerate(self.store.shapes):
                items.setdefault(shape, []).append(number)
            self._buckets = Buckets(items, config.batch_size)
            counts = ", ".join(f"{w}x{h} {len(items[h, w]):,}" for h, w in sorted(items))
            say(f"pictures by the shape they are decoded to fit: {counts}")

    def batch(self, step: int, rank: int, world: int) -> tuple[np.ndarray, list[str | None]]:
        """What a process sees in a step: uint8 (B / world, h, w, 3), and the texts beside."""
        config = self._config
        if self._buckets is not None:
            numbers = self._buckets.indices(config.seed, step)
        else:
            numbers = uniform(config.seed, step, config.batch_size, len(self.store))
        seeds = [(config.seed, step, row) for row in range(config.batch_size)]
        mine = numbers[rank::world]
        return windows(self.store, mine, seeds[rank::world]), self.store.texts_of(mine)


def _tensor(pictures: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pictures).movedim(3, 1).float() / 255


class TrainingMedia:
    """What pictures and recordings do alike.

    A subclass sets `model`, `measure` (the loss of decoded and real media), `cycle`, `device` and
    `precision`.
    """

    model: Trained
    measure: nn.Module
    cycle: float
    precision: str
    device: torch.device
    alignment: Alignment | None = None

    def _align(self, config: TokenizerTraining, texts: AlignedTexts | None) -> None:
        """Make the heads that align codes with the training media's texts, if the run says so."""
        if texts is None:
            return
        settings, quantizer = _settings(config), self.model.config.quantizer
        if settings.groups > quantizer.groups:
            raise ValueError(
                f"alignment.groups is {settings.groups}, expected at most the quantizer's"
                f" {quantizer.groups}"
            )
        width = self.model.config.encoder_width
        group_width = quantizer.width // quantizer.groups
        alignment = Alignment(settings, texts.texts, width, group_width)
        self.alignment = alignment.to(self.device)

    @torch.no_grad()
    def _errors(
        self,
        model: Trained,
        media: Tensor,
        codes: Tensor,
        texts: list[str | None],
        step: int,
    ) -> list[float]:
        """See `Alignment.errors`: of codes, or of the encoder's output as long as it learns alone.

        media: whole places of codes or frames.
        """
        if self.alignment is None:
            return []
        if step <= self.alignment.settings.alone:
            return self.alignment.errors(model.hidden(media.to(self.device)), texts, encoded=True)
        return self.alignment.errors(values_of(model, codes), texts)

    def _step(
        self,
        model: Trained,
        target: Tensor,
        texts: list[str | None],
        step: int,
        decode: Callable[[Tensor, Tensor], Tensor],
    ) -> Batch:
        """Media through a model, and their loss. decode: values and codes to media."""
        alignment = self.alignment
        with autocast(self.device.type, self.precision):
            hidden = model.hidden(target)
            features = model.to_quantizer(hidden)
            if alignment is not None and step < alignment.settings.alone:
                with torch.no_grad():
                    codes = model.quantize(features).codes
                aligned = alignment(hidden, None, texts)
                return Batch(alignment.settings.weight * aligned, codes, target, None,
                             float(aligned.detach()))  # fmt: skip
            values, codes, loss = model.quantize(features)
            share = 1.0 if alignment is None else alignment.settings.decoded
            first = slice(math.ceil(share * len(target)))
            real = target[first]
            decoded = decode(values[first], codes[first]).float()
            loss = loss + self.measure(decoded, real)
            if self.cycle:
                loss = loss + self.cycle * _cycle(model, decoded, features[first])
            if alignment is None:
                return Batch(loss, codes, real, decoded)
            aligned = alignment(hidden, values, texts)
            loss = loss + alignment.settings.weight * aligned
        return Batch(loss, codes, real, decoded, float(aligned.detach()))

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
        """Write the trained tokenizer."""
        assert isinstance(model, Trained)
        model.save_pretrained(folder, dtype)


class Pictures(TrainingMedia):
    """Pictures for an image tokenizer."""

    def __init__(self, config: TokenizerTraining, say: Say, device: torch.device = CPU) -> None:
        assert config.tokenizer is not None
        self.cycle, self.precision, self.device = config.cycle, config.precision, device
        self.model = VQImageTokenizer(VQImageTokenizer.parse_config(config.tokenizer, "tokenizer"))
        self.measure = ImageLoss(IMAGE_LOSSES if config.losses is None else config.losses).to(
            device
        )
        self.data = PictureData(config, self.model.stride, 256, say)
        self._align(config, self.data.store.texts)

    def batch(self, model: nn.Module, step: int, rank: int = 0, world: int = 1) -> Batch:
        """A process's items of a step through a model."""
        assert isinstance(model, VQImageTokenizer)
        pictures, texts = self.data.batch(step, rank, world)
        target = _tensor(pictures).to(self.device)
        return self._step(model, target, texts, step, model.pictures)

    def evaluate(self, model: nn.Module, logger: MetricLogger, step: int) -> dict[str, float]:
        """Measures on validation media, some of which are shown in the log."""
        assert isinstance(model, VQImageTokenizer)
        total, number, errors = 0.0, 0, list[float]()
        for index, (pictures, texts) in enumerate(self.data.held):
            target = _tensor(pictures)
            parts = torch.from_numpy(pictures).movedim(3, 1).split(32)
            coded = [model.encode(part) for part in parts]
            decoded = torch.cat([model.decode(codes) for codes in coded])
            codes = torch.cat([codes.codes for codes in coded])
            errors += self._errors(model, target, codes, texts, step)
            if index == 0:
                show_pairs(
                    logger, "validation/original_above_reconstruction", target, decoded, step
                )
            total, number = total + mean_psnr(decoded, target) * len(target), number + len(target)
        figures = {"psnr_db": total / number}
        if errors and self.alignment is not None:
            figures[self.alignment.figure] = float(np.mean(errors))
        return figures


def aligned_texts(config: TokenizerTraining) -> AlignedTexts | None:
    """What takes the texts beside media, if the run aligns codes with them."""
    return None if config.alignment is None else AlignedTexts(_settings(config).pattern)


def _settings(config: TokenizerTraining) -> AlignmentSettings:
    return AlignmentSettings.parse(config.alignment)


def values_of(model: Trained, codes: Tensor) -> Tensor:
    """Values (B, N, dims) of codes (B, K, *grid)."""
    return model.quantizer.values_of(codes.flatten(2).transpose(1, 2))
