"""Layers in time: causal convolutions that stream, after MAGVIT-v2 (arXiv:2310.05737).

Before the first frame stands a copy of it. Frames are halved and doubled so that the first stays
alone: 1 + 2n frames become 1 + n, and again 1 + 2n. A `TimeState` holds what a layer has to know of
the frames before, so that a video coded in pieces is coded as if it were whole.

Legend: B batch, T frames, h w code grid, D width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from unified_tokenizers.layers import PixelMLP

__all__ = ["CausalBlock", "TimeGrow", "TimeShrink", "TimeStack", "TimeState"]

_KERNEL = 3


class TimeState:
    """What the layers of one video remember from piece to piece; empty at its begin."""

    def __init__(self) -> None:
        self._last: dict[int, Tensor] = {}

    def begins(self, layer: nn.Module) -> bool:
        """Whether no piece has come to a layer before."""
        return id(layer) not in self._last

    def with_past(self, layer: nn.Module, x_BTHWD: Tensor, number: int) -> Tensor:
        """A piece behind the `number` frames before it that a layer sees; at the begin, behind
        copies of its first."""
        past = self._last.get(id(layer))
        if past is None:
            past = x_BTHWD[:, :1].expand(-1, _KERNEL - 1, -1, -1, -1)
        x = torch.cat([past, x_BTHWD], dim=1)
        self._last[id(layer)] = x[:, x.shape[1] - number :].detach()
        return x


class CausalBlock(nn.Module):
    """A residual block on (B, T, h, w, D): a depthwise convolution over three frames, the last of
    which is the frame itself, and three rows and columns; then an MLP."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        side = _KERNEL // 2
        self.spatial = nn.Conv3d(width, width, _KERNEL, padding=(0, side, side), groups=width)
        self.mlp = PixelMLP(width, expansion)

    def forward(self, x_BTHWD: Tensor, state: TimeState) -> Tensor:
        past = state.with_past(self, x_BTHWD, _KERNEL - 1)
        mixed = self.spatial(rearrange(past, "b t h w d -> b d t h w"))
        return self.mlp(x_BTHWD + rearrange(mixed, "b d t h w -> b t h w d"))


class TimeShrink(nn.Module):
    """Every two frames, but the first, become one: 1 + 2n frames to 1 + n, later pieces 2n to n."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.join = nn.Conv3d(width, width, (_KERNEL, 1, 1), stride=(2, 1, 1))

    def forward(self, x_BTHWD: Tensor, state: TimeState) -> Tensor:
        past = state.with_past(self, x_BTHWD, _KERNEL - 2)
        joined = self.join(rearrange(past, "b t h w d -> b d t h w"))
        return rearrange(joined, "b d t h w -> b t h w d")


class TimeGrow(nn.Module):
    """Every frame, but the first, becomes two: 1 + n frames to 1 + 2n, later pieces n to 2n."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.split = nn.Linear(width, 2 * width)

    def forward(self, x_BTHWD: Tensor, state: TimeState) -> Tensor:
        begins = state.begins(self)
        if begins:
            state.with_past(self, x_BTHWD[..., :1], 1)  # remembers that it has begun
        grown = rearrange(self.split(x_BTHWD), "b t h w (n d) -> b (t n) h w d", n=2)
        return grown[:, 1:] if begins else grown


class TimeStack(nn.Module):
    """Blocks with halvings, or doublings, between them: `depth` blocks at each of log2(group) + 1
    numbers of frames.

    Args:
        width: channels D.
        group: frames that become one, a power of two; 1 leaves their number.
        depth: blocks at each number of frames.
        grows: frames become more, not fewer.
    """

    def __init__(self, width: int, group: int, depth: int, grows: bool) -> None:
        super().__init__()
        halvings = group.bit_length() - 1
        layers: list[nn.Module] = [CausalBlock(width) for _ in range(depth)]
        for _ in range(halvings):
            layers.append((TimeGrow if grows else TimeShrink)(width))
            layers += [CausalBlock(width) for _ in range(depth)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x_BTHWD: Tensor, state: TimeState) -> Tensor:
        x = x_BTHWD
        for layer in self.layers:
            x = layer(x, state)
        return x
