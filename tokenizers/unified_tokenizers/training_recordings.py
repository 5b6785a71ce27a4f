"""The recordings of a tokenizer's training: crops in memory, their loss, and what the log shows.

Legend: B batch, S samples.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unified_base.level import level_gain
from unified_base.training.metric_logger import MetricLogger
from unified_tokenizers.alignment_texts import AlignedTexts
from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.losses import AUDIO_LOSSES, AudioLoss
from unified_tokenizers.media import recordings_at
from unified_tokenizers.training_media import CPU, Batch, TrainingMedia, aligned_texts
from unified_tokenizers.training_order import uniform
from unified_tokenizers.training_pictures import Say, Skips

if TYPE_CHECKING:
    from unified_tokenizers.training_config import TokenizerTraining

__all__ = ["Recordings"]


class Recordings(TrainingMedia):
    """Speech and other sound, in memory: random crops."""

    def __init__(self, config: TokenizerTraining, say: Say, device: torch.device = CPU) -> None:
        assert config.tokenizer is not None
        self._config, self.cycle, self.device = config, config.cycle, device
        self.precision = config.precision
        self.model = VQAudioTokenizer(VQAudioTokenizer.parse_config(config.tokenizer, "tokenizer"))
        self.model.fill()
        rate = self.model.sample_rate
        self._length = config.crop * self.model.hop
        if self._length % 512:
            raise ValueError(
                f"crop {config.crop} frames of {self.model.hop} samples are not a multiple of"
                " the mel loss's 512 samples; choose another crop"
            )
        self.texts = aligned_texts(config)
        self.recordings = _load(config, config.data, rate, config.limit, say, self.texts)
        self.held, self.held_texts = list[np.ndarray](), aligned_texts(config)
        if config.validation:
            self.held = _load(config, config.validation, rate, 60, say, self.held_texts)
        self._align(config, self.texts)
        # As `encode` does it: by the level of the whole recording, not of a crop.
        self.gains = [_gain(recording, self.model) for recording in self.recordings]
        losses = AUDIO_LOSSES if config.losses is None else config.losses
        self.measure = self.loss = AudioLoss(losses, rate).to(device)
        # A draw per second of sound, so that long recordings are heard as often as short ones.
        lengths = np.array([len(recording) for recording in self.recordings])
        self.starts = np.repeat(np.arange(len(lengths)), np.maximum(1, lengths // rate))
        if short := int((lengths < self._length).sum()):
            say(
                f"{short} of {len(lengths)} recordings are shorter than a crop of"
                f" {self._length / rate:.2f} s and are followed by silence"
            )

    def _crops(self, step: int, rank: int, world: int) -> tuple[Tensor, list[str | None]]:
        """A process's crops of a step, float32 (B / world, S), and the texts of those that are
        whole recordings: they lie anywhere in their crop where there are texts."""
        config = self._config
        numbers = uniform(config.seed, step, config.batch_size, len(self.starts))
        rows = range(rank, config.batch_size, world)
        crops = np.zeros((len(rows), self._length), np.float32)
        texts: list[str | None] = []
        for crop, row in zip(crops, rows):
            number = self.starts[numbers[row]]
            sound = self.recordings[number]
            rng = np.random.default_rng((config.seed, step, row))
            start = int(rng.integers(max(1, len(sound) - self._length + 1)))
            part = sound[start : start + self._length]
            at = 0
            if self.texts is not None:
                whole = len(part) == len(sound)
                at = int(rng.integers(self._length - len(part) + 1)) if whole else 0
                texts.append(self.texts.texts[number] if whole else None)
            crop[at : at + len(part)] = part * self.gains[number]
        return torch.from_numpy(crops), texts

    def batch(self, model: nn.Module, step: int, rank: int = 0, world: int = 1) -> Batch:
        """A process's items of a step through a model."""
        assert isinstance(model, VQAudioTokenizer)
        crops, texts = self._crops(step, rank, world)
        return self._step(model, crops.to(self.device), texts, step, model.waveform)

    def evaluate(self, model: nn.Module, logger: MetricLogger, step: int) -> dict[str, float]:
        """Measures on validation media, some of which are shown in the log."""
        assert isinstance(model, VQAudioTokenizer)
        distances, errors = [], list[float]()
        for index, sound in enumerate(self.held):
            target = torch.from_numpy(sound * _gain(sound, model))[None, None]
            codes = model.encode(target)
            decoded = model.decode(codes)
            if self.held_texts is not None:
                whole = F.pad(target[:, 0], (0, -target.shape[2] % model.hop))
                texts = [self.held_texts.texts[index]]
                errors += self._errors(model, whole, codes.codes, texts, step)
            length = target.shape[2] // 512 * 512
            if length:
                pair = decoded[:, 0, :length], target[:, 0, :length]
                mels = [waveform.to(self.device) for waveform in pair]
                distances.append(float(self.loss.mel(*mels)))
            if index < 3:
                logger.audio(
                    step, f"validation/{index}/decoded", decoded[0].numpy(), model.sample_rate
                )
                logger.audio(
                    step, f"validation/{index}/original", target[0].numpy(), model.sample_rate
                )
        figures = {"mel_distance": float(np.mean(distances))} if distances else {}
        if errors and self.alignment is not None:
            figures[self.alignment.figure] = float(np.mean(errors))
        return figures


def _gain(recording: np.ndarray, model: VQAudioTokenizer) -> Any:
    """What makes a waveform at the tokenizer's level of a recording, int16 (S,): one float32."""
    if model.config.level is None:
        return np.float32(1 / 32768)
    waveform = recording / np.float32(32768)
    return np.float32(level_gain(waveform, model.sample_rate, model.config.level) / 32768)


def _load(
    config: TokenizerTraining,
    paths: tuple[str, ...],
    rate: int,
    seconds: float,
    say: Say,
    texts: AlignedTexts | None,
) -> list[np.ndarray]:
    """Recordings, mono int16 at a rate, until they last so many seconds together; `texts` takes
    what stands beside them."""
    skips, recordings, left = Skips("recordings", say), list[np.ndarray](), seconds * rate
    with closing(recordings_at(paths, rate, config.max_corrupt, skips.tell)) as sounds:
        for where, sound in sounds:
            recordings.append(sound)
            if texts is not None:
                texts.add(where)
            left -= len(sound)
            if left <= 0:
                break
    skips.finish(len(recordings), paths)
    return recordings
