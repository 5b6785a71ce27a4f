"""Videos, large pictures and regions through an encoder of pictures.

Legend: B media, N frames or tiles, H W pixels of one, h w patches, E width of features.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from unified.models.grafting.encoder_base import FeatureEncoder
from unified.models.grafting.encoders import ENCODER_FILE, PictureEncoder
from unified_base.frame_times import uniform_frames
from unified_data.document import Image, Media, Region, Video
from unified_tokenizers.tiling import best_tile_grid, tile_boxes

__all__ = ["FrameEncoder", "PartsEncoder", "RegionEncoder", "TiledEncoder"]


class PartsEncoder(FeatureEncoder):
    """What reads a medium through an encoder of pictures.

    Attributes:
        inner: the encoder of pictures.
        reads: its name in encoder.json.
        options: beside it there.
    """

    prepared = "uint8"
    reads: ClassVar[str]

    def __init__(self, inner: PictureEncoder, width: int, **options: int) -> None:
        super().__init__(width)
        self.inner = inner
        self.options: Mapping[str, int] = options
        for name, value in options.items():
            if type(value) is not int or not 1 <= value <= 1024:
                raise ValueError(f"{name} is {value!r}, expected a whole number, 1 to 1,024")

    @property
    def label(self) -> str:
        return self.inner.label

    @property
    def fingerprint(self) -> str:
        from unified_tokenizers.modules import weights_digest

        entries = {"inner": self.inner.fingerprint, "reads": self.reads, **self.options}
        return weights_digest(json.dumps(entries, sort_keys=True), {})

    def save(self, folder: Path) -> None:
        self.inner.save(folder)
        entries = {"layer": self.inner.layer, "reads": self.reads, **self.options}
        (folder / ENCODER_FILE).write_text(json.dumps(entries) + "\n", "utf-8")


class _Stack(PartsEncoder):
    """Several pictures of one size: prepared media are uint8 (N, 3, H, W)."""

    @abstractmethod
    def pictures(self, segment: Media) -> list[np.ndarray]:
        """What is seen of a medium, one after the other: uint8 (H, W, 3) each."""

    def prepare(self, segment: Media) -> np.ndarray:
        return np.stack([self.inner.prepare(Image(own)) for own in self.pictures(segment)])

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0], *self.inner.grid(shape))

    @property
    def fixed_grid(self) -> tuple[int, ...] | None:
        return None

    @torch.no_grad()
    def forward(self, media: Tensor) -> Tensor:
        features: Tensor = self.inner(media.flatten(0, 1))  # (B * N, h, w, E)
        return features.unflatten(0, media.shape[:2])


class FrameEncoder(_Stack):
    """Videos, by frames spread evenly over them: all of a video that has no more.

    frames: at most so many, such as the 8 of Video-LLaVA (arXiv:2311.10122) and the 16 of
    VideoChat2 (arXiv:2311.17005).
    """

    modality = "video"
    reads = "frames"

    def __init__(self, inner: PictureEncoder, frames: int = 8) -> None:
        super().__init__(inner, inner.width, frames=frames)

    def pictures(self, segment: Media) -> list[np.ndarray]:
        if not isinstance(segment, Video):
            raise ValueError(f"the encoder reads videos, found a {segment.modality}")
        chosen = uniform_frames(len(segment.frames), self.options["frames"])
        return list(segment.frames[chosen])


class TiledEncoder(_Stack):
    """Large pictures, scaled to the grid of tiles that is nearest to their proportions, each read
    by itself; of several tiles the whole picture in one more behind them, as Monkey
    (arXiv:2311.06607), SPHINX (arXiv:2311.07575) and InternVL (arXiv:2404.16821) have it.

    tiles: at most so many, without the whole.
    """

    modality = "image"
    reads = "tiles"

    def __init__(self, inner: PictureEncoder, tiles: int = 6) -> None:
        super().__init__(inner, inner.width, tiles=tiles)
        if inner.fixed_grid is None:
            raise ValueError("tiles need an encoder of pictures of one size; this one takes any")
        h, w = inner.fixed_grid
        self.tile = h * inner.patch, w * inner.patch
        """(height, width) of a tile."""

    def pictures(self, segment: Media) -> list[np.ndarray]:
        if not isinstance(segment, Image):
            raise ValueError(f"the encoder reads pictures, found a {segment.modality}")
        height, width = segment.pixels.shape[:2]
        rows, columns = best_tile_grid((height, width), self.tile, 1, self.options["tiles"])
        scaled = _resized(segment.pixels, rows * self.tile[0], columns * self.tile[1])
        tiles = [
            np.ascontiguousarray(scaled[top:bottom, left:right])
            for top, left, bottom, right in tile_boxes((rows, columns), self.tile)
        ]
        return tiles if len(tiles) == 1 else [*tiles, _resized(segment.pixels, *self.tile)]


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    scaled = PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BICUBIC)
    return np.asarray(scaled)


class RegionEncoder(PartsEncoder):
    """Regions: the features of a picture averaged over a mask, and beside them the mask itself, as
    Osprey's mask-aware extractor gives (arXiv:2312.10032, section 4.1), in one vector.

    A feature counts by the share of its patch that lies in the mask. Prepared media are uint8
    (4, H, W): the picture, and 0 to 255 of the mask.
    """

    modality = "region"
    reads = "region"

    def __init__(self, inner: PictureEncoder) -> None:
        if inner.fixed_grid is None:
            raise ValueError("regions need an encoder of pictures of one size; this one takes any")
        super().__init__(inner, inner.width + math.prod(inner.fixed_grid))

    def prepare(self, segment: Media) -> np.ndarray:
        if not isinstance(segment, Region):
            raise ValueError(f"the encoder reads regions, found a {segment.modality}")
        mask = np.repeat(segment.mask[..., None].astype(np.uint8) * 255, 3, axis=2)
        seen = self.inner.prepare(Image(mask))[:1]
        if not seen.any():
            raise ValueError(
                "nothing of the region's mask is left where the encoder looks: it sees the middle"
                " of a picture, scaled; crop the picture about the region"
            )
        return np.concatenate([self.inner.prepare(Image(segment.pixels)), seen])

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        self.inner.grid(shape)
        return (1,)

    @property
    def fixed_grid(self) -> tuple[int, ...] | None:
        return (1,)

    @torch.no_grad()
    def forward(self, media: Tensor) -> Tensor:
        features: Tensor = self.inner(media[:, :3])  # (B, h, w, E)
        masks = media[:, 3:].float() / 255
        shares = torch.nn.functional.avg_pool2d(masks, self.inner.patch).flatten(1)  # (B, h * w)
        weights = shares / shares.sum(1, keepdim=True)
        pooled = torch.einsum("bf,bfe->be", weights, features.flatten(1, 2))
        return torch.cat([pooled, shares], 1)[:, None]
