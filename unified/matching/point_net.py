"""An encoder of point clouds: groups of near points, each a token of a transformer.

After Point-BERT (arXiv:2111.14819), which ULIP takes as well: centres by farthest point sampling,
the nearest points of each about it, a small PointNet (arXiv:1612.00593) over every group, and a
transformer over the groups, whose positions are its centres'.

Legend: B clouds, N points, C numbers of a point, G groups, K points of a group, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["PointNet", "farthest_points"]


def farthest_points(points: Tensor, number: int) -> Tensor:
    """Indices int64 (B, G) of `number` points of (B, N, 3), each as far as can be from those before
    it; the first is the one farthest from the middle, so that their order does not matter."""
    middle = points.mean(1, keepdim=True)
    distance = ((points - middle) ** 2).sum(-1)  # (B, N)
    chosen = distance.argmax(1)
    nearest = torch.full_like(distance, torch.inf)
    indices = []
    for _ in range(number):
        indices.append(chosen)
        last = torch.gather(points, 1, chosen[:, None, None].expand(-1, 1, 3))
        nearest = torch.minimum(nearest, ((points - last) ** 2).sum(-1))
        chosen = nearest.argmax(1)
    return torch.stack(indices, 1)


class PointNet(nn.Module):
    """Tokens (B, G, E) of point clouds (B, N, C).

    Args:
        channels: C, 3 or 6 with colours.
        groups, neighbours: G and K.
        width, depth, heads: of the transformer.
    """

    def __init__(
        self, channels: int, groups: int, neighbours: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.groups, self.neighbours = groups, neighbours
        half = max(1, width // 2)
        self.each = nn.Sequential(nn.Linear(channels, half), nn.GELU(), nn.Linear(half, half))
        self.joined = nn.Sequential(nn.Linear(2 * half, width), nn.GELU(), nn.Linear(width, width))
        self.position = nn.Sequential(nn.Linear(3, half), nn.GELU(), nn.Linear(half, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, clouds: Tensor) -> Tensor:
        points = clouds[..., :3]
        at = farthest_points(points, self.groups)
        centres = torch.gather(points, 1, at[..., None].expand(-1, -1, 3))  # (B, G, 3)
        near = torch.cdist(centres, points).topk(self.neighbours, largest=False).indices
        index = near[..., None].expand(-1, -1, -1, clouds.shape[-1])  # (B, G, K, C)
        grouped = torch.gather(clouds[:, None].expand(-1, self.groups, -1, -1), 2, index)
        about = torch.cat([grouped[..., :3] - centres[:, :, None], grouped[..., 3:]], -1)
        own = self.each(about)  # (B, G, K, E/2)
        whole = own.amax(2, keepdim=True).expand_as(own)
        tokens = self.joined(torch.cat([own, whole], -1)).amax(2) + self.position(centres)
        encoded: Tensor = self.norm(self.layers(tokens))
        return encoded
