"""The videos of a tokenizer's training: crops in time and space, their loss, what the log shows.

Legend: B batch, T frames, H W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from unified_base.frame_times import at_rate
from unified_base.media_source import Medium
from unified_base.training.metric_logger import MetricLogger
from unified_tokenizers.losses import IMAGE_LOSSES, ImageLoss
from unified_tokenizers.media import read_samples
from unified_tokenizers.picture_fit import PictureFit
from unified_tokenizers.training_media import CPU, Batch, TrainingMedia, mean_psnr, show_pairs
from unified_tokenizers.training_order import uniform
from unified_tokenizers.training_pictures import Say, Skips, picture_fit
from unified_tokenizers.video import VQVideoTokenizer

if TYPE_CHECKING:
    from unified_tokenizers.training_config import TokenizerTraining

__all__ = ["VideoLoss", "Videos"]

_NUM_HELD = 32


class VideoLoss(nn.Module):
    """An `ImageLoss` of all frames, and of how they change: the mean absolute error of the
    differences between neighbouring frames, which still things cannot hide.

    Videos (B, 3, T, H, W) near [0, 1], to a scalar.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.frames = ImageLoss(weights)

    def forward(self, predicted_BCTHW: Tensor, target_BCTHW: Tensor) -> Tensor:
        loss = self.frames(_pictures(predicted_BCTHW), _pictures(target_BCTHW))
        difference = (predicted_BCTHW - target_BCTHW).float()
        if difference.shape[2] > 1:
            loss = loss + (difference[:, :, 1:] - difference[:, :, :-1]).abs().mean()
        return loss


class Videos(TrainingMedia):
    """Videos for a video tokenizer, in memory at its frame rate."""

    def __init__(self, config: TokenizerTraining, say: Say, device: torch.device = CPU) -> None:
        assert config.tokenizer is not None
        self._config, self.cycle, self.device = config, config.cycle, device
        self.precision = config.precision
        if config.alignment is not None or config.adversary is not None:
            raise ValueError(
                "alignment and adversary are of pictures and sound; a video tokenizer is trained"
                " without"
            )
        self.model = VQVideoTokenizer(VQVideoTokenizer.parse_config(config.tokenizer, "tokenizer"))
        losses = IMAGE_LOSSES if config.losses is None else config.losses
        self.measure = VideoLoss(losses).to(device)
        self._length = 1 + (config.crop - 1) * self.model.group
        if config.fit == "bucket":
            raise ValueError("fit is 'bucket', expected 'crop' or 'resize' for videos")
        fit = None
        if config.size is not None:
            fit = picture_fit(config.fit, config.size, self.model.stride)
        self.videos, self.fit = _load(config, config.data, config.limit, self.model, fit, say)
        self.held: list[np.ndarray] = []
        if config.validation:
            self.held, _ = _load(config, config.validation, _NUM_HELD, self.model, self.fit, say)
        if short := sum(len(video) < self._length for video in self.videos):
            say(
                f"{short} of {len(self.videos)} videos are shorter than a crop of {self._length}"
                f" frames at {self.model.frame_rate:g} a second; their last frame stays"
            )

    def batch(self, model: nn.Module, step: int, rank: int = 0, world: int = 1) -> Batch:
        """A process's items of a step through a model."""
        assert isinstance(model, VQVideoTokenizer)
        config = self._config
        numbers = uniform(config.seed, step, config.batch_size, len(self.videos))
        crops = [
            self._crop(self.videos[numbers[row]], np.random.default_rng((config.seed, step, row)))
            for row in range(rank, config.batch_size, world)
        ]
        target = _tensor(np.stack(crops)).to(self.device)
        return self._step(model, target, [None] * len(target), step, model.videos)

    def _crop(self, video: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Frames in a row of a video, uint8 (T, h, w, 3): anywhere, or without rng the first, and
        their middle."""
        start = 0 if rng is None else int(rng.integers(max(1, len(video) - self._length + 1)))
        frames = video[np.minimum(np.arange(start, start + self._length), len(video) - 1)]
        seed = None if rng is None else int(rng.integers(2**32))
        shape = self.fit.height, self.fit.width
        return np.stack(
            [
                # Every frame in the same window.
                self.fit.window(frame, shape, None if seed is None else np.random.default_rng(seed))
                for frame in frames
            ]
        )

    def evaluate(self, model: nn.Module, logger: MetricLogger, step: int) -> dict[str, float]:
        """Measures on validation videos, some frames of which are shown in the log."""
        assert isinstance(model, VQVideoTokenizer)
        psnr, motion = [], []
        for index, video in enumerate(self.held):
            frames = self._crop(video, None)
            target = _tensor(frames[None])
            decoded = model.decode(model.encode(target))
            psnr.append(mean_psnr(_pictures(decoded), _pictures(target)))
            if self._length > 1:
                changes = [(x[:, :, 1:] - x[:, :, :-1]) for x in (decoded, target)]
                motion.append(float((changes[0] - changes[1]).abs().mean()))
            if index == 0:
                show_pairs(
                    logger, "validation/original_above_reconstruction", _pictures(target),
                    _pictures(decoded), step,
                )  # fmt: skip
        figures = {"psnr_db": float(np.mean(psnr))} if psnr else {}
        return figures | ({"motion_error": float(np.mean(motion))} if motion else {})


def _pictures(videos_BCTHW: Tensor) -> Tensor:
    return videos_BCTHW.transpose(1, 2).flatten(0, 1)


def _tensor(videos: np.ndarray) -> Tensor:
    """uint8 (B, T, H, W, 3) to float32 (B, 3, T, H, W) in [0, 1]."""
    return torch.from_numpy(videos).movedim(4, 1).float() / 255


def _load(
    config: TokenizerTraining,
    paths: tuple[str, ...],
    limit: int,
    model: VQVideoTokenizer,
    fit: PictureFit | None,
    say: Say,
) -> tuple[list[np.ndarray], PictureFit]:
    """Up to `limit` videos, uint8 (T, H, W, 3) at the model's rate, and how frames are made to fit.

    fit: None: all have the size of the first, which is taken whole.

    Raises ValueError for nothing that can be read, videos of several sizes without a fit, and more
    than fits into the memory that is allowed.
    """
    skips, videos = Skips("videos", say), list[np.ndarray]()
    left = int(config.memory_gb * 1e9)
    for sample in read_samples(paths, "video", config.max_corrupt, skips.tell):
        height, width = sample.array.shape[1:3]
        if fit is None:
            fit = picture_fit("crop", (height, width), model.stride)
        if config.size is None and (height, width) != (fit.height, fit.width):
            raise ValueError(
                f"the video {sample.where} is {width}x{height} pixels, the first"
                f" {fit.width}x{fit.height}; say what all are made to fit (size)"
            )
        videos.append(_reduced(sample, model.frame_rate, fit))
        left -= videos[-1].nbytes
        if left < 0:
            raise ValueError(
                f"the first {len(videos):,} videos take more than memory_gb {config.memory_gb:g}"
                " at this size and rate; allow more, or take fewer (limit) or smaller ones (size)"
            )
        if len(videos) == limit:
            break
    skips.finish(len(videos), paths)
    assert fit is not None
    return videos, fit


def _reduced(sample: Medium, rate: float, fit: PictureFit) -> np.ndarray:
    assert sample.times is not None
    chosen = at_rate(sample.times, rate)
    return np.stack([fit.reduce(frame) for frame in sample.array[chosen]])
