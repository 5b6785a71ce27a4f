"""Encoders and decoders that an image tokenizer is put together from.

Legend: B batch, H W pixels, h w code grid, D width, N places, G heads.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from unified_tokenizers.layers import ConvNeXt2d, PixelMLP

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "PatchEncoder",
    "Transformer",
    "VitDecoder",
    "VitEncoder",
]


class PatchEncoder(nn.Module):
    """Residual MLPs on each code's square of pixels alone: what lies beside it changes nothing."""

    def __init__(self, width: int, stride: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, stride, stride=stride)
        self.blocks = nn.Sequential(*(PixelMLP(width) for _ in range(depth)))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to (B, h, w, D)."""
        return self.blocks(rearrange(self.stem(pixels_BCHW), "b d h w -> b h w d"))


class ConvEncoder(nn.Module):
    """ConvNeXt blocks on quarters of a code's square, on halves, on whole ones.

    Pictures (B, 3, H, W) to (B, h, w, D).

    Args:
        width: channels D at codes; half as many at halves, a quarter at quarters.
        stride: side in pixels of a code's square, a multiple of 4.
        depths: blocks on codes, on halves and on quarters.
    """

    def __init__(self, width: int, stride: int, depths: tuple[int, ...]) -> None:
        super().__init__()
        on_codes, on_halves, on_quarters = _three(depths, stride)
        side = stride // 4
        self.stem = nn.Conv2d(3, width // 4, side, stride=side)
        self.blocks_4 = nn.Sequential(
            *(ConvNeXt2d(width // 4, kernel=3, expansion=3) for _ in range(on_quarters))
        )
        self.shrink_2 = nn.Linear(4 * (width // 4), width // 2)
        self.blocks_2 = nn.Sequential(
            *(ConvNeXt2d(width // 2, kernel=3, expansion=3) for _ in range(on_halves))
        )
        self.shrink_1 = nn.Linear(4 * (width // 2), width)
        self.blocks_1 = nn.Sequential(*(ConvNeXt2d(width) for _ in range(on_codes)))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        x = rearrange(self.stem(pixels_BCHW), "b d h w -> b h w d")
        x = rearrange(self.blocks_4(x), "b (h p) (w q) d -> b h w (p q d)", p=2, q=2)
        x = rearrange(self.blocks_2(self.shrink_2(x)), "b (h p) (w q) d -> b h w (p q d)", p=2, q=2)
        return self.blocks_1(self.shrink_1(x))


class Transformer(nn.Module):
    """Pre-norm transformer blocks on a grid (B, h, w, D): every place attends to every place.

    Places are told apart by rotary embeddings, of rows in one half of each head and of columns in
    the other (arXiv:2403.13298), so grids of all sizes are taken; queries and keys are normalised
    (arXiv:2302.05442).
    """

    def __init__(self, width: int, depth: int, head: int = 32) -> None:
        super().__init__()
        if width % head or head % 4:
            raise ValueError(f"a transformer of width {width} is not made of heads of {head}")
        self.head = head
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.mixes = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(depth))
        self.query_norms = nn.ModuleList(nn.RMSNorm(head) for _ in range(depth))
        self.key_norms = nn.ModuleList(nn.RMSNorm(head) for _ in range(depth))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.mlps = nn.ModuleList(PixelMLP(width, 4) for _ in range(depth))

    def forward(self, x_BHWD: Tensor) -> Tensor:
        height, width = x_BHWD.shape[1:3]
        turn_ND = _rotations(height, width, self.head, x_BHWD.device)
        x = rearrange(x_BHWD, "b h w d -> b (h w) d")
        layers = zip(self.norms, self.mixes, self.query_norms, self.key_norms, self.outs, self.mlps)
        for norm, mix, query_norm, key_norm, out, mlp in layers:
            query, key, value = rearrange(
                mix(norm(x)), "b n (three g d) -> three b g n d", three=3, d=self.head
            )
            query, key = _turned(query_norm(query), turn_ND), _turned(key_norm(key), turn_ND)
            mixed = F.scaled_dot_product_attention(query.to(value), key.to(value), value)
            x = mlp(x + out(rearrange(mixed, "b g n d -> b n (g d)")))
        return rearrange(x, "b (h w) d -> b h w d", h=height)


def _rotations(height: int, width: int, head: int, device: torch.device) -> Tensor:
    """Of every place (N, head / 2), complex: by its row, then by its column."""
    quarter = head // 4
    speeds = 100.0 ** (-torch.arange(quarter, device=device) / quarter)
    rows = torch.arange(height, device=device)[:, None] * speeds
    columns = torch.arange(width, device=device)[:, None] * speeds
    angles = torch.cat(
        [
            rows[:, None].expand(height, width, quarter),
            columns[None].expand(height, width, quarter),
        ],
        dim=-1,
    ).flatten(0, 1)
    return torch.polar(torch.ones_like(angles), angles)


def _turned(x_BGND: Tensor, turn_ND: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x_BGND.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn_ND).flatten(-2)


class VitEncoder(nn.Module):
    """A transformer on patches of `stride` pixels (ViT-VQGAN, arXiv:2110.04627)."""

    def __init__(self, width: int, stride: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, stride, stride=stride)
        self.blocks = Transformer(width, depth)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to (B, h, w, D)."""
        return self.blocks(rearrange(self.stem(pixels_BCHW), "b d h w -> b h w d"))


class VitDecoder(nn.Module):
    """A transformer on codes, then the pixels of each code's square."""

    def __init__(self, width: int, stride: int, depth: int) -> None:
        super().__init__()
        self.stride = stride
        self.blocks = Transformer(width, depth)
        self.norm = nn.LayerNorm(width)
        self.to_pixels = nn.Linear(width, 3 * stride**2)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        """(B, h, w, D) to pictures (B, 3, H, W)."""
        x = self.to_pixels(self.norm(self.blocks(x_BHWD)))
        side = self.stride
        return rearrange(x, "b h w (p q c) -> b c (h p) (w q)", p=side, q=side)


class ConvDecoder(nn.Module):
    """`ConvEncoder` backwards: (B, h, w, D) to pictures (B, 3, H, W).

    The grid is doubled by unfolding channels and the pixels come of a linear map: no transposed
    convolutions, which leave patterns.
    """

    def __init__(self, width: int, stride: int, depths: tuple[int, ...]) -> None:
        super().__init__()
        on_codes, on_halves, on_quarters = _three(depths, stride)
        self.side = stride // 4
        self.blocks_1 = nn.Sequential(*(ConvNeXt2d(width) for _ in range(on_codes)))
        self.grow_2 = nn.Linear(width, 4 * (width // 2))
        self.blocks_2 = nn.Sequential(
            *(ConvNeXt2d(width // 2, kernel=3, expansion=3) for _ in range(on_halves))
        )
        self.grow_4 = nn.Linear(width // 2, 4 * (width // 4))
        self.blocks_4 = nn.Sequential(
            *(ConvNeXt2d(width // 4, kernel=3, expansion=3) for _ in range(on_quarters))
        )
        self.norm = nn.LayerNorm(width // 4)
        self.to_pixels = nn.Linear(width // 4, 3 * self.side**2)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        x = self.blocks_1(x_BHWD)
        x = rearrange(self.grow_2(x), "b h w (p q d) -> b (h p) (w q) d", p=2, q=2)
        x = self.blocks_2(x)
        x = rearrange(self.grow_4(x), "b h w (p q d) -> b (h p) (w q) d", p=2, q=2)
        x = self.to_pixels(self.norm(self.blocks_4(x)))
        return rearrange(x, "b h w (p q c) -> b c (h p) (w q)", p=self.side, q=self.side)


def _three(depths: tuple[int, ...], stride: int) -> tuple[int, int, int]:
    if len(depths) != 3 or stride % 4:
        raise ValueError(
            f"depths {depths} at stride {stride}: a convolutional part has three depths (on codes,"
            " halves and quarters of them) and a stride that is a multiple of 4"
        )
    return depths
