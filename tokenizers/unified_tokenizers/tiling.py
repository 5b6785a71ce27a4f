"""Sizes of pictures as models with tiles choose them: pure functions, sizes in, tiles out.

Each is the published one, and tested for equality with transformers' own. Sizes are (height, width)
in pixels, grids (rows, columns) of tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

__all__ = [
    "anyres_resolution", "best_tile_grid", "interpolated_positions", "smart_resize", "tile_boxes",
    "tile_grids", "unpadded_size",
]  # fmt: skip

_MOST_SIDE = 1 << 20
_MOST_TILES = 4_096


def anyres_resolution(
    size: tuple[int, int], resolutions: Iterable[Sequence[int]]
) -> tuple[int, int]:
    """The resolution that a picture is scaled into: of those in which most of its own pixels are
    left, the one that wastes least; the first of equals.

    LLaVA-NeXT's AnyRes (`select_best_resolution`). resolutions: (height, width) each.

    Raises ValueError for an empty size, and no resolutions.
    """
    height, width = _checked(size)
    best: tuple[int, int] | None = None
    most_pixels, least_waste = 0, math.inf
    for wanted_height, wanted_width in resolutions:
        scale = min(wanted_width / width, wanted_height / height)
        inner_width, inner_height = int(width * scale), int(height * scale)
        pixels = min(inner_width * inner_height, width * height)
        waste = wanted_width * wanted_height - pixels
        if pixels > most_pixels or (pixels == most_pixels and waste < least_waste):
            most_pixels, least_waste = pixels, waste
            best = (int(wanted_height), int(wanted_width))
    if best is None:
        raise ValueError("there are no resolutions to choose among; expected one at least")
    return best


def unpadded_size(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """How much of a grid (rows, columns) of features a picture fills that was scaled into it with
    its proportions kept, in the middle (LLaVA-NeXT's `unpad_image`)."""
    height, width = _checked(size)
    rows, columns = _checked(grid)
    if width / height > columns / rows:
        inner = int(round(height * (columns / width), 7))
        margin = (rows - inner) // 2
        return rows - 2 * margin, columns
    inner = int(round(width * (rows / height), 7))
    margin = (columns - inner) // 2
    return rows, columns - 2 * margin


@cache
def tile_grids(least: int, most: int) -> tuple[tuple[int, int], ...]:
    """All grids (rows, columns) of `least` to `most` tiles in all, those of fewest tiles first.

    Raises ValueError where no grid has so many.
    """
    if not 1 <= least <= most <= _MOST_TILES:
        raise ValueError(
            f"tiles from {least} to {most}, expected 1 to {_MOST_TILES:,} and no more at least than"
            " at most"
        )
    grids = [
        (rows, columns)
        for columns in range(1, most + 1)
        for rows in range(1, most // columns + 1)
        if rows * columns >= least
    ]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def best_tile_grid(
    size: tuple[int, int], tile: tuple[int, int], least: int = 1, most: int = 12
) -> tuple[int, int]:
    """The grid (rows, columns) of tiles that a picture is scaled into, whatever its proportions.

    Of InternVL 1.5 (arXiv:2404.16821; GOT-OCR 2 and others): the one whose proportions are nearest;
    of equals the larger, where the picture has more than half of its pixels. `Monkey` and `SPHINX`
    cut by such grids, too. tile: (height, width) of one.

    Raises ValueError for an empty size, and as `tile_grids`.
    """
    height, width = _checked(size)
    tile_height, tile_width = _checked(tile)
    proportion = width / height
    best, nearest = (1, 1), math.inf
    for rows, columns in tile_grids(least, most):
        apart = abs(proportion - columns / rows)
        if apart < nearest:
            best, nearest = (rows, columns), apart
        elif apart == nearest and height * width > 0.5 * tile_height * tile_width * rows * columns:
            best = (rows, columns)
    return best


def tile_boxes(grid: tuple[int, int], tile: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of each tile, row by row, in the picture that they make up."""
    height, width = _checked(tile)
    rows, columns = _checked(grid)
    return [
        (row * height, column * width, (row + 1) * height, (column + 1) * width)
        for row in range(rows)
        for column in range(columns)
    ]


def smart_resize(
    size: tuple[int, int], factor: int = 28, min_pixels: int = 3_136, max_pixels: int = 1_003_520
) -> tuple[int, int]:
    """The size (height, width), both multiples of `factor`, that Qwen2-VL scales a picture to: the
    nearest, or one of `min_pixels` to `max_pixels` in all with nearly its proportions.

    `smart_resize` of Qwen2-VL (arXiv:2409.12191).

    Raises ValueError for an empty size, and sides of which one is more than 200 times the other.
    """
    height, width = _checked(size)
    if max(height, width) / min(height, width) > 200:
        raise ValueError(
            f"a picture of {width}x{height} pixels is {max(height, width) / min(height, width):.0f}"
            " times as long as wide, expected 200 at most"
        )
    rows, columns = (round(side / factor) * factor for side in (height, width))
    if rows * columns > max_pixels:
        beta = math.sqrt((height * width) / max_pixels)
        rows = max(factor, math.floor(height / beta / factor) * factor)
        columns = max(factor, math.floor(width / beta / factor) * factor)
    elif rows * columns < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * beta / factor) * factor
        columns = math.ceil(width * beta / factor) * factor
    return rows, columns


def interpolated_positions(positions_ND: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Learnt embeddings of a square grid of patches, float32 (N, D), for another grid: (rows *
    columns, D), by bicubic interpolation, as ViTs take larger pictures (Qwen-VL, arXiv:2308.12966;
    transformers' `interpolate_pos_encoding`).

    Raises ValueError where N is no square.
    """
    import torch

    rows, columns = _checked(grid)
    number, width = positions_ND.shape
    side = math.isqrt(number)
    if side * side != number:
        raise ValueError(f"there are {number} position embeddings, expected those of a square grid")
    if (rows, columns) == (side, side):
        return positions_ND
    square = torch.from_numpy(np.ascontiguousarray(positions_ND)).reshape(1, side, side, width)
    scaled = torch.nn.functional.interpolate(
        square.permute(0, 3, 1, 2).float(), size=(rows, columns), mode="bicubic",
        align_corners=False,
    )  # fmt: skip
    result: np.ndarray = scaled[0].permute(1, 2, 0).reshape(rows * columns, width).numpy()
    return result


def _checked(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    if not (1 <= height <= _MOST_SIDE and 1 <= width <= _MOST_SIDE):
        raise ValueError(f"size is {height}x{width}, expected sides from 1 to {_MOST_SIDE:,}")
    return height, width
