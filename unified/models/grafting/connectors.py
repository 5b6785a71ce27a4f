"""Connectors: from an encoder's features to vectors of a language model's width. By name.

Legend: B media, F features of a grid h x w or of T frames, E their width, n vectors, D theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

__all__ = [
    "Connector", "Grid", "LinearConnector", "MlpConnector", "divided", "pixel_shuffle",
]  # fmt: skip

Grid = tuple[int, ...]


class Connector(nn.Module, ABC):
    """From features (B, F, E) of a grid to vectors (B, n, D) of another.

    A grid is of frames (T,), of rows and columns (h, w), or of pictures of these (N, h, w): the
    frames of a video, the tiles of a picture.

    Attributes:
        name: by which it is asked for and saved.
        options: what it was made with beside the widths, and their defaults.
        input_width, output_width: E and D.
    """

    name: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, input_width: int, output_width: int, **options: Any) -> None:
        super().__init__()
        self.input_width, self.output_width = input_width, output_width
        self.options = {**self.defaults, **options}

    def grid(self, grid: Grid) -> Grid:
        """The grid of vectors for a grid of features. Raises ValueError where it has none."""
        return grid

    @abstractmethod
    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        """Vectors (B, n, D) of features (B, F, E)."""

    def check(self, features: Tensor) -> None:
        """Raises ValueError for features of another width."""
        if features.shape[-1] != self.input_width:
            raise ValueError(
                f"the encoder gives features of width {features.shape[-1]}, connector {self.name}"
                f" was made for {self.input_width}; take the encoder that it was trained with"
            )

    def describe(self) -> dict[str, Any]:
        """What `connector_table.make_connector` makes it of."""
        widths = {"input_width": self.input_width, "output_width": self.output_width}
        return {"name": self.name, **widths, "options": dict(self.options)}


def pixel_shuffle(features: Tensor, grid: Grid, side: int) -> Tensor:
    """Neighbours side by side in one vector: (B, h * w, E) -> (B, h/side * w/side, side^2 * E).

    The order of numbers is that of InternVL (arXiv:2404.16821) and nanoVLM: rows of a block outer.
    Frames of sound (B, T, E) are joined side^2 at a time, those of several pictures each by itself.
    """
    B, _, E = features.shape
    if len(grid) == 1:
        return features.reshape(B, grid[0] // side**2, side**2 * E)
    if len(grid) == 3:
        each = pixel_shuffle(features.reshape(B * grid[0], -1, E), grid[1:], side)
        return each.reshape(B, -1, each.shape[-1])
    h, w = grid
    blocks = features.view(B, h // side, side, w // side, side, E)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(B, h * w // side**2, side**2 * E)


def divided(grid: Grid, side: int, option: str) -> Grid:
    """The grid of blocks of a side; pictures of a grid (N, h, w) stay as many, and frames of sound
    (T,) are joined side^2 at a time.

    Raises ValueError where it does not divide.
    """
    several, inner = grid[:-2], grid[-2:]
    side = side**2 if len(grid) == 1 else side
    if any(length % side for length in inner):
        size = "x".join(map(str, inner))
        raise ValueError(
            f"a grid of {size} features does not divide into blocks of side {side}; take another"
            f" {option}, or an encoder of another size"
        )
    return (*several, *(length // side for length in inner))


class LinearConnector(Connector):
    """One product, as LLaVA's first version (arXiv:2304.08485) and MiniGPT-4 have."""

    name = "linear"

    def __init__(self, input_width: int, output_width: int, **options: Any) -> None:
        super().__init__(input_width, output_width, **options)
        self.linear = nn.Linear(input_width, output_width)

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        self.check(features)
        projected: Tensor = self.linear(features)
        return projected


class MlpConnector(Connector):
    """Two products with GELU between, as LLaVA-1.5 has (arXiv:2310.03744).

    shuffle: sides of the blocks of neighbours that become one vector first, behind a LayerNorm, as
    InternVL has (arXiv:2404.16821): with 2 a fourth of the positions.
    """

    name = "mlp"
    defaults: ClassVar[Mapping[str, Any]] = {"shuffle": 1}

    def __init__(self, input_width: int, output_width: int, **options: Any) -> None:
        super().__init__(input_width, output_width, **options)
        self.side = int(self.options["shuffle"])
        width = input_width * self.side**2
        self.norm = nn.LayerNorm(width) if self.side > 1 else nn.Identity()
        self.linear_1 = nn.Linear(width, output_width)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(output_width, output_width)

    def grid(self, grid: Grid) -> Grid:
        return divided(grid, self.side, "shuffle")

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        self.check(features)
        self.grid(grid)
        if self.side > 1:
            features = pixel_shuffle(features, grid, self.side)
        projected: Tensor = self.linear_2(self.act(self.linear_1(self.norm(features))))
        return projected
