"""What a step of a tokenizer's training sees: batches, their loss, and what the log shows.

Legend: B batch, K codebooks, S samples.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unified_base.training.metric_logger import MetricLogger
from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.image import VQImageTokenizer
from unified_tokenizers.losses import AUDIO_LOSSES, IMAGE_LOSSES, AudioLoss, ImageLoss
from unified_tokenizers.media import read_recordings
from unified_tokenizers.training_order import Buckets, uniform
from unified_tokenizers.training_pictures import (
    Say,
    Skips,
    load_store,
    middles,
    picture_fit,
    windows,
)

if TYPE_CHECKING:
    from unified_tokenizers.training_config import TokenizerTraining

CPU = torch.device("cpu")

__all__ = ["Batch", "PictureData", "Pictures", "Recordings", "mean_psnr", "show_pairs"]


class Batch(NamedTuple):
    """Of a step: the loss, a scalar; codes (B, K, *grid); the media, and as they were decoded."""

    loss: Tensor
    codes: Tensor
    real: Tensor
    decoded: Tensor


def _cycle(model: VQImageTokenizer | VQAudioTokenizer, decoded: Tensor, features: Tensor) -> Tensor:
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
        self.store = load_store(
            config.data, config.limit, fit, budget, config.max_corrupt, say, config.size is None
        )
        held = self.store
        if config.validation:
            held = load_store(config.validation, num_held, self.store.fit, budget,
                              config.max_corrupt, say)  # fmt: skip
        self.held = middles(held, num_held if config.validation else min(64, num_held))
        self._buckets: Buckets | None = None
        if len(self.store.fit.shapes) > 1:
            items: dict[tuple[int, int], list[int]] = {}
            for number, shape in enumerate(self.store.shapes):
                items.setdefault(shape, []).append(number)
            self._buckets = Buckets(items, config.batch_size)
            counts = ", ".join(f"{w}x{h} {len(items[h, w]):,}" for h, w in sorted(items))
            say(f"pictures by the shape they are decoded to fit: {counts}")

    def batch(self, step: int, rank: int, world: int) -> np.ndarray:
        """What a process sees in a step: uint8 (B / world, h, w, 3)."""
        config = self._config
        if self._buckets is not None:
            numbers = self._buckets.indices(config.seed, step)
        else:
            numbers = uniform(config.seed, step, config.batch_size, len(self.store))
        seeds = [(config.seed, step, row) for row in range(config.batch_size)]
        return windows(self.store, numbers[rank::world], seeds[rank::world])


def _tensor(pictures: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pictures).movedim(3, 1).float() / 255


class _Media:
    """What pictures and recordings do alike."""

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
        """Write the trained tokenizer."""
        assert isinstance(model, VQImageTokenizer | VQAudioTokenizer)
        model.save_pretrained(folder, dtype)


class Pictures(_Media):
    """Pictures for an image tokenizer."""

    def __init__(self, config: TokenizerTraining, say: Say, device: torch.device = CPU) -> None:
        assert config.tokenizer is not None
        self.cycle, self.device = config.cycle, device
        self.model = VQImageTokenizer(VQImageTokenizer.parse_config(config.tokenizer, "tokenizer"))
        self.measure = ImageLoss(IMAGE_LOSSES if config.losses is None else config.losses).to(
            device
        )
        self.data = PictureData(config, self.model.stride, 256, say)

    def batch(self, model: nn.Module, step: int, rank: int = 0, world: int = 1) -> Batch:
        """A process's items of a step through a model."""
        assert isinstance(model, VQImageTokenizer)
        target = _tensor(self.data.batch(step, rank, world)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            features = model.features(target)
            values, codes, loss = model.quantize(features)
            decoded = model.pictures(values, codes).float()
            loss = loss + self.measure(decoded, target)
            if self.cycle:
                loss = loss + self.cycle * _cycle(model, decoded, features)
        return Batch(loss, codes, target, decoded)

    def evaluate(self, model: nn.Module, logger: MetricLogger, step: int) -> dict[str, float]:
        """Measures on validation media, some of which are shown in the log."""
        assert isinstance(model, VQImageTokenizer)
        total = number = 0.0
        for index, pictures in enumerate(self.data.held):
            target = _tensor(pictures)
            parts = torch.from_numpy(pictures).movedim(3, 1).split(32)
            decoded = torch.cat([model.decode(model.encode(part)) for part in parts])
            if index == 0:
                show_pairs(
                    logger, "validation/original_above_reconstruction", target, decoded, step
                )
            total, number = total + mean_psnr(decoded, target) * len(target), number + len(target)
        return {"psnr_db": total / number}


class Recordings(_Media):
    """Speech and other sound, in memory: random crops."""

    def __init__(self, config: TokenizerTraining, say: Say, device: torch.device = CPU) -> None:
        assert config.tokenizer is not None
        self._config, self.cycle, self.device = config, config.cycle, device
        self.model = VQAudioTokenizer(VQAudioTokenizer.parse_config(config.tokenizer, "tokenizer"))
        self.model.fill()
        rate = self.model.sample_rate
        self._length = config.crop * self.model.hop
        if self._length % 512:
            raise ValueError(
                f"crop {config.crop} frames of {self.model.hop} samples are not a multiple of"
                " the mel loss's 512 samples; choose another crop"
            )
        self.recordings = _load(config.data, rate, config.limit, config.max_corrupt, say)
        self.held = []
        if config.validation:
            self.held = _load(config.validation, rate, 60, config.max_corrupt, say)
        self.measure = AudioLoss(AUDIO_LOSSES if config.losses is None else config.losses, rate).to(
            device
        )
        # A draw per second of sound, so that long recordings are heard as often as short ones.
        lengths = np.array([len(recording) for recording in self.recordings])
        self.starts = np.repeat(np.arange(len(lengths)), np.maximum(1, lengths // rate))
        if short := int((lengths < self._length).sum()):
            say(
                f"{short} of {len(lengths)} recordings are shorter than a crop of"
                f" {self._length / rate:.2f} s and are followed by silence"
            )

    def _crops(self, step: int, rank: int, world: int) -> Tensor:
        """A process's crops of a step, float32 (B / world, S)."""
        config = self._config
        numbers = uniform(config.seed, step, config.batch_size, len(self.starts))
        rows = range(rank, config.batch_size, world)
        crops = np.zeros((len(rows), self._length), np.float32)
        for crop, row in zip(crops, rows):
            sound = self.recordings[self.starts[numbers[row]]]
            rng = np.random.default_rng((config.seed, step, row))
            start = int(rng.integers(max(1, len(sound) - self._length + 1)))
            part = sound[start : start + self._length]
            crop[: len(part)] = part / np.float32(32768)
        return torch.from_numpy(crops)

    def batch(self, model: nn.Module, step: int, rank: int = 0, world: int = 1) -> Batch:
        """A process's items of a step through a model."""
        assert isinstance(model, VQAudioTokenizer)
        target = self._crops(step, rank, world).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            features = model.features(target)
            values, codes, loss = model.quantize(features)
            decoded = model.waveform(values, codes)
            loss = loss + self.measure(decoded, target)
            if self.cycle:
                loss = loss + self.cycle * _cycle(model, decoded, features)
        return Batch(loss, codes, target, decoded)

    def evaluate(self, model: nn.Module, logger: MetricLogger, step: int) -> dict[str, float]:
        """Measures on validation media, some of which are shown in the log."""
        assert isinstance(model, VQAudioTokenizer)
        distances = []
        for index, sound in enumerate(self.held):
            target = torch.from_numpy(sound / np.float32(32768))[None, None]
            decoded = model.decode(model.encode(target))
            length = target.shape[2] // 512 * 512
            if length:
                pair = decoded[:, 0, :length], target[:, 0, :length]
                mels = [waveform.to(self.device) for waveform in pair]
                distances.append(float(self.measure.mel(*mels)))
            if index < 3:
                logger.audio(
                    step, f"validation/{index}/decoded", decoded[0].numpy(), model.sample_rate
                )
                logger.audio(
                    step, f"validation/{index}/original", target[0].numpy(), model.sample_rate
                )
        return {"mel_distance": float(np.mean(distances))} if distances else {}


def _load(
    paths: tuple[str, ...], rate: int, seconds: float, max_corrupt: int, say: Say
) -> list[np.ndarray]:
    """Recordings, mono int16 at a rate, until they last so many seconds together."""
    skips, recordings, left = Skips("recordings", say), list[np.ndarray](), seconds * rate
    with closing(read_recordings(paths, rate, max_corrupt, skips.tell)) as sounds:
        for _, sound in sounds:
            recordings.append(sound)
            left -= len(sound)
            if left <= 0:
                break
    skips.finish(len(recordings), paths)
    return recordings
