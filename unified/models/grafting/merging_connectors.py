"""Connectors that make fewer vectors of many features: pooled by neighbours, or merged by likeness.

Legend: B media, F features, E their width, G groups, K neighbours, n vectors, D the decoder's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unified.models.grafting.connectors import Connector, Grid, MlpConnector, divided

__all__ = ["MergeConnector", "PoolConnector", "density_peaks"]


class PoolConnector(Connector):
    """Two products with GELU between, and the mean of each block of their vectors, as
    LLaVA-NeXT-Video has of the patches of each frame (stride 2).

    pool: side of the blocks, of rows and columns: frames are never joined.
    """

    name = "pool"
    defaults: ClassVar[Mapping[str, Any]] = {"pool": 2}

    def __init__(self, input_width: int, output_width: int, **options: Any) -> None:
        super().__init__(input_width, output_width, **options)
        self.mlp = MlpConnector(input_width, output_width)

    def grid(self, grid: Grid) -> Grid:
        return divided(grid, int(self.options["pool"]), "pool")

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        vectors = self.mlp(features, grid)
        reduced, blocks = self.grid(grid), vectors.unflatten(1, grid)  # (B, *grid, D)
        for axis in range(max(1, len(grid) - 1), len(grid) + 1):
            blocks = blocks.unflatten(axis, (reduced[axis - 1], -1)).mean(axis + 1)
        return blocks.flatten(1, -2)


class MergeConnector(Connector):
    """Like features of a medium merged into `vectors` ones, and two products behind, as Chat-UniVi
    merges the patches of pictures and videos (arXiv:2311.08046, section 3.1).

    Groups are those of density peaks (`density_peaks`); each becomes the mean of its features. They
    stand in the order of their first feature, so that what is above stays before what is below.

    vectors: n, at most as many as there are features. neighbours: K of the density.
    """

    name = "merge"
    defaults: ClassVar[Mapping[str, Any]] = {"vectors": 112, "neighbours": 5}

    def __init__(self, input_width: int, output_width: int, **options: Any) -> None:
        super().__init__(input_width, output_width, **options)
        self.mlp = MlpConnector(input_width, output_width)

    def grid(self, grid: Grid) -> Grid:
        return (min(int(self.options["vectors"]), int(torch.tensor(grid).prod())),)

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        self.check(features)
        (number,) = self.grid(grid)
        groups = density_peaks(features.detach().float(), number, int(self.options["neighbours"]))
        members = nn.functional.one_hot(groups, number).to(features.dtype)  # (B, F, n)
        sums = torch.einsum("bfn,bfe->bne", members, features)
        merged = sums / members.sum(1)[..., None]
        vectors: Tensor = self.mlp(merged, (number,))
        return vectors


def density_peaks(features: Tensor, number: int, neighbours: int) -> Tensor:
    """The group of each feature: int64 (B, F) in [0, number), by density peaks with nearest
    neighbours (DPC-KNN, Du et al. 2016, doi:10.1016/j.knosys.2016.02.001).

    A feature's density is exp(-mean of its squared distances to its K nearest); a centre is dense
    and far from whatever is denser. Each feature belongs to the nearest centre. Groups are numbered
    by their first member; none is empty, for a centre is its own.

    Args:
        features: float32 (B, F, E).
        number: of groups, 1 to F.
        neighbours: K; where there are fewer others, all.
    """
    distances = torch.cdist(features, features) / features.shape[-1] ** 0.5  # (B, F, F)
    count = features.shape[1]
    nearest = distances.topk(min(neighbours + 1, count), largest=False).values
    density = (-(nearest**2).mean(-1)).exp()
    # Of equals the first is the denser: else none of them would be a centre, or all.
    order = torch.argsort(density, dim=1, descending=True, stable=True)
    rank = torch.argsort(order, dim=1)
    denser = rank[:, None, :] < rank[:, :, None]  # (B, F, F), [b, i, j]: j is denser than i
    farthest = distances.flatten(1).max(1).values[:, None, None]
    gap = torch.where(denser, distances, farthest + 1).min(-1).values
    centres = (density * gap).topk(number, dim=1).indices.sort(1).values  # (B, n)
    to_centres = torch.gather(distances, 2, centres[:, None, :].expand(-1, count, -1))
    groups = to_centres.argmin(-1)
    own = torch.arange(number, device=features.device).expand_as(centres)
    groups = groups.scatter(1, centres, own)  # equals of a centre may be nearer to another
    first = torch.full((len(groups), number), count, device=features.device)
    at = torch.arange(count, device=features.device).expand_as(groups)
    first = first.scatter_reduce(1, groups, at, "amin")
    return torch.gather(torch.argsort(torch.argsort(first, 1), 1), 1, groups)
