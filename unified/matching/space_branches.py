"""Branches of a space: encoders of sounds and of point clouds into the vectors of a tower.

Legend: B media, D width of the space, S samples, N points, C numbers of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unified.matching.point_net import PointNet
from unified_base.foreign import foreign
from unified_base.model_config import check_model_config
from unified_base.sounds import conform
from unified_base.text import quoted
from unified_data.document import Audio, Media, PointCloud

__all__ = ["BRANCHES", "PointBranch", "SoundBranch", "SpaceBranch", "make_branch"]


class SpaceBranch(nn.Module, ABC):
    """From media of one modality to vectors of the space.

    Attributes:
        modality: of its media.
        entries: what it is made of.
    """

    modality: ClassVar[str]

    def __init__(self, entries: Mapping[str, Any]) -> None:
        super().__init__()
        self.entries = dict(entries)

    @abstractmethod
    def prepare(self, segment: Media) -> np.ndarray:
        """A medium as `forward` takes it, float32, of one shape for all.

        Raises ValueError for one that it cannot take.
        """

    @abstractmethod
    def forward(self, media: Tensor) -> Tensor:
        """Features (B, D) of prepared media."""


class SoundBranch(SpaceBranch):
    """Sounds as spectrograms, through a transformer over their patches (AST, arXiv:2104.01778), as
    ImageBind hears them.

    entries: of the config.json of transformers' `ASTModel`; `max_length` counts frames of 10 ms.
    """

    modality = "audio"
    rate = 16_000

    def __init__(self, entries: Mapping[str, Any], width: int) -> None:
        # A branch is first made where nothing is allocated (`check_size`), and torchaudio, which
        # this imports, keeps a number as a tensor: it would have no value in this process.
        with torch.device("cpu"):
            from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

        super().__init__(entries)
        config = {name: value for name, value in entries.items() if name != "model_type"}
        check_model_config(config, "branches.audio")
        with foreign("branches.audio: transformers makes no encoder of sounds of these entries"):
            self.model = ASTModel(ASTConfig(**config))
        shape = self.model.config
        self.extractor = ASTFeatureExtractor(
            num_mel_bins=shape.num_mel_bins, max_length=shape.max_length
        )
        self.projection = nn.Linear(shape.hidden_size, width, bias=False)

    def prepare(self, segment: Media) -> np.ndarray:
        if not isinstance(segment, Audio):
            raise ValueError(f"the branch hears sounds, found a {segment.modality}")
        waveform = conform(segment.waveform, segment.sample_rate, self.rate, 1)[0]
        longest = self.model.config.max_length / 100
        if len(waveform) > longest * self.rate:
            raise ValueError(
                f"the sound lasts {len(waveform) / self.rate:.1f} s, the branch hears at most"
                f" {longest:g} s; cut it into parts"
            )
        with foreign("the sound cannot be prepared"):
            values = self.extractor(waveform, sampling_rate=self.rate, return_tensors="np")
        spectrum: np.ndarray = values["input_values"][0]
        return spectrum

    def forward(self, media: Tensor) -> Tensor:
        pooled = self.model(input_values=media).pooler_output
        features: Tensor = self.projection(pooled)
        return features


_POINTS: dict[str, int] = {
    "points": 1024, "channels": 3, "groups": 64, "neighbours": 32, "width": 384, "depth": 12,
    "heads": 6,
}  # fmt: skip


class PointBranch(SpaceBranch):
    """Point clouds through `PointNet`, as ULIP sees them (arXiv:2212.05171).

    A cloud is moved to its middle, scaled to radius 1, and read at `points` of its points, spread
    over its list; one of fewer is refused.
    """

    modality = "points"

    def __init__(self, entries: Mapping[str, Any], width: int) -> None:
        super().__init__(entries)
        own = {name: value for name, value in entries.items() if name != "model_type"}
        if unknown := sorted(own.keys() - _POINTS.keys()):
            raise ValueError(
                f"branches.points has {quoted(unknown)}, expected some of {', '.join(_POINTS)}"
            )
        sizes = {**_POINTS, **own}
        if not all(type(size) is int and 1 <= size <= 1 << 20 for size in sizes.values()):
            raise ValueError(f"branches.points is {quoted(own)}, expected whole numbers above 0")
        most = sizes["points"]
        if sizes["width"] % sizes["heads"] or max(sizes["groups"], sizes["neighbours"]) > most:
            raise ValueError(
                f"branches.points is {quoted(own)}, expected width a multiple of heads, groups and"
                " neighbours of at most points"
            )
        self.points = sizes.pop("points")
        self.net = PointNet(**sizes)
        self.channels = sizes["channels"]
        self.projection = nn.Linear(sizes["width"], width, bias=False)

    def prepare(self, segment: Media) -> np.ndarray:
        if not isinstance(segment, PointCloud):
            raise ValueError(f"the branch sees point clouds, found a {segment.modality}")
        number, channels = segment.points.shape
        if number < self.points or channels < self.channels:
            raise ValueError(
                f"the cloud has {number:,} points of {channels} numbers, the branch sees"
                f" {self.points:,} of {self.channels}; give a finer one"
            )
        spread = np.linspace(0, number - 1, self.points).round().astype(np.int64)
        return np.ascontiguousarray(segment.unit[spread, : self.channels])

    def forward(self, media: Tensor) -> Tensor:
        features: Tensor = self.projection(self.net(media).mean(1))
        return features


BRANCHES: dict[str, Callable[[Mapping[str, Any], int], SpaceBranch]] = {
    SoundBranch.modality: SoundBranch,
    PointBranch.modality: PointBranch,
}
"""By modality."""


def make_branch(modality: str, entries: Any, width: int) -> SpaceBranch:
    """A branch with random weights (torch's global generator).

    Args:
        modality: of its media.
        entries: a mapping; see the branch.
        width: D.

    Raises ValueError for a modality without a branch, and entries that it does not take.
    """
    if modality not in BRANCHES:
        raise ValueError(f"branches has {quoted(modality)}, expected {', '.join(BRANCHES)}")
    if not isinstance(entries, dict):
        raise ValueError(f"branches.{modality} is {quoted(entries)}, expected a mapping")
    return BRANCHES[modality](entries, width)
