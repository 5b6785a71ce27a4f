"""Blocks that the image and audio tokenizers share.

Legend: B batch, D width, H W grid, T frames.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvNeXt1d", "ConvNeXt2d", "PixelMLP"]


class PixelMLP(nn.Module):
    """A residual MLP on the last axis: mixes channels, never positions. (..., D) -> same."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class ConvNeXt2d(nn.Module):
    """ConvNeXt block (arXiv:2201.03545) on (B, H, W, D): depthwise convolution, then an MLP."""

    def __init__(self, width: int, kernel: int = 5, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.mlp = PixelMLP(width, expansion)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.spatial(rearrange(x, "b h w d -> b d h w"))
        x = x + rearrange(mixed, "b d h w -> b h w d")
        return self.mlp(x)


class ConvNeXt1d(nn.Module):
    """ConvNeXt block on (B, T, D), after Vocos (arXiv:2306.00814)."""

    def __init__(self, width: int, kernel: int = 7, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.mlp = PixelMLP(width, expansion)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.spatial(rearrange(x, "b t d -> b d t"))
        return self.mlp(x + rearrange(mixed, "b d t -> b t d"))
