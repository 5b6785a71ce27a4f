"""Pictures as tiles of an image tokenizer's codes, each tile coded for itself, decoded in place.

So that a tokenizer of one size, or one that sees all of its picture, codes larger ones; the grid of
tiles is chosen as models with tiles choose it (`tiling`).

Legend: B batch, H W pixels, K codebooks, r c rows and columns of tiles, h w code grid of one.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from einops import rearrange
from PIL import Image as PillowImage
from torch import Tensor

from unified_base.text import quoted
from unified_tokenizers.base import Codes, ImageTokenizer
from unified_tokenizers.checks import check_codes, check_pixels
from unified_tokenizers.saved import save_exactly, saved_whole
from unified_tokenizers.saved_config import read_entries
from unified_tokenizers.tiling import best_tile_grid, tile_grids

__all__ = ["TiledTokenizer"]

_INSIDE = "image"
_MOST_SIDE = 8_192


class TiledTokenizer:
    """An image tokenizer of tiles: codes (B, K, r, c, h, w).

    Args:
        image: what codes a tile. It is held, not copied.
        tile: (height, width) of a tile in pixels, multiples of its stride.
        most: tiles of a picture that `preprocess` makes, at most.
    """

    modality = "image"

    def __init__(self, image: ImageTokenizer, tile: tuple[int, int], most: int = 12) -> None:
        height, width = tile
        for side in tile:
            if type(side) is not int or not 0 < side <= _MOST_SIDE or side % image.stride:
                raise ValueError(
                    f"a tile is {quoted(list(tile))} (height, width), expected multiples of"
                    f" {image.stride} pixels, {_MOST_SIDE:,} at most"
                )
        tile_grids(1, most)
        self.image, self.tile, self.most = image, (height, width), most

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return self.image.stride

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return tuple(int(size) for size in self.image.codebook_sizes)

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over pixels, before entropy coding."""
        return self.image.bits_per_pixel

    @property
    def fingerprint(self) -> str:
        """Of the image tokenizer and the tile."""
        text = f"tiles {self.tile} {self.image.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def encode_context(self) -> int | None:
        """None: a code depends on its tile, which is no number of codes around it."""
        return None

    @property
    def decode_context(self) -> int | None:
        """None, as `encode_context`."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image.device

    @property
    def cannot_decode(self) -> str | None:
        """Why codes cannot be decoded; None where they can."""
        return getattr(self.image, "cannot_decode", None)

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """See `base.MediaTokenizer`."""
        self.image.to(device, dtype)
        return self

    def grid(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The grid (r, c, h, w) of a picture of so many pixels.

        Raises ValueError for one that does not divide into tiles.
        """
        tile_height, tile_width = self.tile
        if height < 1 or width < 1 or height % tile_height or width % tile_width:
            raise ValueError(
                f"a picture of {width}x{height} pixels does not divide into tiles of"
                f" {tile_width}x{tile_height}; make it fit first (preprocess)"
            )
        side = self.stride
        return height // tile_height, width // tile_width, tile_height // side, tile_width // side

    def encode(self, media: Tensor) -> Codes:
        """Pictures (B, 3, H, W), uint8 or floating point in [0, 1], whose sides are multiples of
        the tile's, to codes (B, K, r, c, h, w)."""
        check_pixels(media)
        height, width = media.shape[2:]
        rows, columns, _, _ = self.grid(height, width)
        tiles = rearrange(media, "b d (r h) (c w) -> (b r c) d h w", r=rows, c=columns)
        codes = torch.cat([self.image.encode(part).codes for part in tiles.split(64)])
        return Codes(
            rearrange(codes, "(b r c) k h w -> b k r c h w", r=rows, c=columns), (height, width)
        )

    def decode(self, codes: Codes) -> Tensor:
        """Codes to pictures, every tile in its place: float32 (B, 3, *codes.size) in [0, 1]."""
        check_codes(codes.codes, self.codebook_sizes, 4, "tiled image")
        grid = self.grid(*codes.size)
        if tuple(codes.codes.shape[2:]) != grid:
            raise ValueError(
                f"a picture of {codes.size} pixels has a grid of {grid}, found codes of"
                f" {tuple(codes.codes.shape[2:])}"
            )
        flat = rearrange(codes.codes, "b k r c h w -> (b r c) k h w")
        parts = [self.image.decode(Codes(part, self.tile)) for part in flat.split(64)]
        return rearrange(torch.cat(parts), "(b r c) d h w -> b d (r h) (c w)", r=grid[0], c=grid[1])

    def preprocessed_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what `preprocess` returns: of the best grid of tiles."""
        rows, columns = best_tile_grid((height, width), self.tile, 1, self.most)
        return rows * self.tile[0], columns * self.tile[1]

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """A picture, uint8 (H, W, 3), scaled to the grid of tiles whose proportions are nearest, as
        InternVL scales it: without margins."""
        height, width = self.preprocessed_size(*pixels.shape[:2])
        return _scaled(pixels, height, width)

    def thumbnail(self, pixels: np.ndarray) -> np.ndarray:
        """A picture, uint8 (H, W, 3), scaled to one tile, as it stands beside its tiles."""
        return _scaled(pixels, *self.tile)

    def code_vectors(self) -> tuple[Tensor, ...]:
        """Those of the image tokenizer."""
        return self.image.code_vectors()

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json, and the image tokenizer into a folder within."""
        config = {"model_type": "tiles", "modality": "image", "tile": self.tile, "most": self.most}
        with saved_whole(folder) as path:
            save_exactly(self.image, path / _INSIDE)
            (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what `save_pretrained` wrote. Raises ValueError for files missing or torn."""
        from unified_tokenizers.loading import load_tokenizer

        path = Path(folder)
        entries: dict[str, Any] = read_entries(path / "config.json", "tokenizer")
        tile, most = entries.get("tile"), entries.get("most")
        if not isinstance(tile, list) or len(tile) != 2 or type(most) is not int:
            raise ValueError(
                f"{path / 'config.json'} has tile {quoted(tile)} and most {quoted(most)}, expected"
                " [height, width] and a number of tiles"
            )
        return cls(load_tokenizer(path / _INSIDE, "image"), (tile[0], tile[1]), most)


def _scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    picture = PillowImage.fromarray(pixels)
    return np.asarray(picture.resize((width, height), PillowImage.Resampling.BICUBIC))
