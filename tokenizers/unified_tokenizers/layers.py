"""Blocks that the image and audio tokenizers share, and how far convolutions see.

Legend: B batch, D width, H W grid, T frames.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvNeXt1d", "ConvNeXt2d", "PixelMLP", "receptive_field"]


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
    """ConvNeXt block on (B, T, D), after Vocos (arXiv:2306.00814).

    Frame t comes of half a kernel on either side of it; if causal, of frames t - kernel + 1 to t.
    """

    def __init__(
        self, width: int, kernel: int = 7, expansion: int = 2, causal: bool = False
    ) -> None:
        super().__init__()
        padding = kernel - 1 if causal else kernel // 2
        self.spatial = nn.Conv1d(width, width, kernel, padding=padding, groups=width)
        self.mlp = PixelMLP(width, expansion)

    def forward(self, x: Tensor) -> Tensor:
        # Padding to the left alone: torch pads both sides, and the right one is cut off.
        mixed = self.spatial(rearrange(x, "b t d -> b d t"))[:, :, : x.shape[1]]
        return self.mlp(x + rearrange(mixed, "b d t -> b t d"))


def receptive_field(network: nn.Module, first: int, last: int) -> tuple[int, int]:
    """The first and the last input that outputs `first` to `last` depend on.

    For a network that applies its convolutions in the order of `network.modules()`; a residual
    connection passes by a convolution that reaches further.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
    for layer in reversed(layers):
        stride, padding = layer.stride[0], int(layer.padding[0])
        reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
        if isinstance(layer, nn.ConvTranspose1d):
            # Output o comes of the inputs i with 0 <= o + padding - i * stride <= reach.
            first, last = -((reach - padding - first) // stride), (last + padding) // stride
        else:
            first, last = first * stride - padding, last * stride - padding + reach
    return first, last
