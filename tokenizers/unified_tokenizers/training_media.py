"""What a step of a tokenizer's training sees: batches, their loss, and what the log shows.

Legend: B batch, K codebooks, S samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from unified_tokenizers.audio import AudioTokenizer
from unified_tokenizers.image import ImageTokenizer
from unified_tokenizers.losses import AUDIO_LOSSES, IMAGE_LOSSES, AudioLoss, ImageLoss
from unified_tokenizers.media import load_pictures, load_recordings

if TYPE_CHECKING:
    from unified_tokenizers.training_config import TokenizerTraining

__all__ = ["Batch", "Pictures", "Recordings"]


class Batch(NamedTuple):
    """Of a step: the loss, a scalar; codes (B, K, *grid); the media and what was made of them."""

    loss: Tensor
    codes: Tensor
    real: Tensor
    made: Tensor


def _cycle(model: ImageTokenizer | AudioTokenizer, made: Tensor, features: Tensor) -> Tensor:
    """Mean absolute difference of the encoder's features of what was made and of the original."""
    return (model.features(made).float() - features.detach().float()).abs().mean()


def mean_psnr(made_BCHW: Tensor, target_BCHW: Tensor) -> float:
    """Mean of the pictures' PSNR in dB, of pictures in [0, 1]; 100 dB where one is exact."""
    mse = (made_BCHW - target_BCHW).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    return float((-10 * mse.log10()).mean())


def show_pairs(log: SummaryWriter, name: str, above: Tensor, below: Tensor, step: int) -> None:
    """Up to 16 pictures (B, 3, H, W) in [0, 1] in the log, eight a row, with another below each."""
    shown = min(16, len(above))
    width = min(8, shown)
    shown -= shown % width
    pairs = torch.cat([above[:shown], below[:shown]])
    rows = [torch.cat(list(row), dim=2) for row in pairs.split(width)]
    log.add_image(name, torch.cat(rows, dim=1), step)


class _Media:
    """What pictures and recordings do alike."""

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
        """Write the trained tokenizer."""
        assert isinstance(model, ImageTokenizer | AudioTokenizer)
        model.save_pretrained(folder, dtype)


class Pictures(_Media):
    """Pictures of one size, in memory."""

    def __init__(self, config: TokenizerTraining) -> None:
        self.pictures = load_pictures(config.data, config.limit)
        held = load_pictures(config.heldout, 256) if config.heldout else self.pictures[:64]
        self.held = torch.from_numpy(held).movedim(3, 1)
        self.cycle = config.cycle
        assert config.tokenizer is not None
        self.model = ImageTokenizer(ImageTokenizer.parse_config(config.tokenizer, "tokenizer"))
        self.measure = ImageLoss(IMAGE_LOSSES if config.losses is None else config.losses)
        self.size = len(self.pictures)

    def batch(self, model: nn.Module, indices: np.ndarray) -> Batch:
        """The items of some indices through a model; indices: in [0, `size`)."""
        assert isinstance(model, ImageTokenizer)
        target = torch.from_numpy(self.pictures[indices]).movedim(3, 1).float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            features = model.features(target)
            values, codes, loss = model.quantize(features)
            made = model.pictures(values, codes).float()
            loss = loss + self.measure(made, target)
            if self.cycle:
                loss = loss + self.cycle * _cycle(model, made, features)
        return Batch(loss, codes, target, made)

    def evaluate(self, model: nn.Module, log: SummaryWriter, step: int) -> dict[str, float]:
        """Measures on held-out media, some of which are shown in the log."""
        assert isinstance(model, ImageTokenizer)
        target = self.held.float() / 255
        made = torch.cat([model.decode(model.encode(part)) for part in self.held.split(32)])
        show_pairs(log, "heldout/original_above_reconstruction", target, made, step)
        return {"psnr_db": mean_psnr(made, target)}


class Recordings(_Media):
    """Speech and other sound, in memory: random crops."""

    def __init__(self, config: TokenizerTraining) -> None:
        self.crop, self.seed, self.cycle = config.crop, config.seed, config.cycle
        assert config.tokenizer is not None
        self.model = AudioTokenizer(AudioTokenizer.parse_config(config.tokenizer, "tokenizer"))
        self.model.fill()
        rate = self.model.sample_rate
        if config.crop * self.model.hop % 512:
            raise ValueError(
                f"crop {config.crop} frames of {self.model.hop} samples are not a multiple of"
                " the mel loss's 512 samples; choose another crop"
            )
        self.recordings = load_recordings(config.data, rate, config.limit)
        self.held = load_recordings(config.heldout, rate, 60) if config.heldout else []
        self.measure = AudioLoss(AUDIO_LOSSES if config.losses is None else config.losses, rate)
        # A draw per second of sound, so that long recordings are heard as often as short ones.
        lengths = np.array([len(recording) for recording in self.recordings])
        self.starts = np.repeat(np.arange(len(lengths)), np.maximum(1, lengths // rate))
        self.size = len(self.starts)

    def batch(self, model: nn.Module, indices: np.ndarray) -> Batch:
        """The items of some indices through a model; indices: in [0, `size`)."""
        assert isinstance(model, AudioTokenizer)
        length = self.crop * model.hop
        rng = np.random.default_rng((self.seed, *indices[:2].tolist(), int(indices.sum())))
        crops = np.zeros((len(indices), length), np.float32)
        for row, index in enumerate(indices):
            sound = self.recordings[self.starts[index]]
            start = int(rng.integers(max(1, len(sound) - length + 1)))
            part = sound[start : start + length]
            crops[row, : len(part)] = part / np.float32(32768)
        target = torch.from_numpy(crops)
        with torch.autocast("cpu", torch.bfloat16):
            features = model.features(target)
            values, codes, loss = model.quantize(features)
            made = model.waveform(values, codes)
            loss = loss + self.measure(made, target)
            if self.cycle:
                loss = loss + self.cycle * _cycle(model, made, features)
        return Batch(loss, codes, target, made)

    def evaluate(self, model: nn.Module, log: SummaryWriter, step: int) -> dict[str, float]:
        """Measures on held-out media, some of which are shown in the log."""
        assert isinstance(model, AudioTokenizer)
        distances = []
        for index, sound in enumerate(self.held):
            target = torch.from_numpy(sound / np.float32(32768))[None, None]
            made = model.decode(model.encode(target))
            length = target.shape[2] // 512 * 512
            distances.append(float(self.measure.mel(made[:, 0, :length], target[:, 0, :length])))
            if index < 3:
                log.add_audio(f"heldout/{index}/made", made[0], step, model.sample_rate)
                log.add_audio(f"heldout/{index}/original", target[0], step, model.sample_rate)
        return {"mel_distance": float(np.mean(distances))} if distances else {}
