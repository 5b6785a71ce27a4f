"""Pictures of a tower's training, distorted at random: what they show stays what it is.

Turned, stretched, moved, bent by a smooth field, and their channels mixed a little. A picture that
is seen many times is never seen twice alike, and a shape counts for more than its pixels: after
elastic distortion (Simard et al. 2003) and PCA colour jitter (Krizhevsky et al. 2012).

Legend: N pictures, H W pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["distorted"]

_TURN = math.radians(15)
_STRETCH, _MOVE, _BEND = 0.12, 0.1, 0.03
_KNOTS = 5
_MIX, _SHIFT = 0.09, 0.06


def distorted(pixels_N3HW: Tensor, strength: float, seed: int) -> Tensor:
    """Pictures, each distorted by itself.

    Args:
        pixels_N3HW: float32, in about [-1, 1].
        strength: 0: as they are; 1: turns to 15 degrees, stretches to 12%, moves to a tenth of half
            a side, bends of about 3% of it; channels mixed by about 9%.
        seed: of all that is drawn.
    """
    if strength == 0:
        return pixels_N3HW
    rng = torch.Generator().manual_seed(seed)
    number, channels = pixels_N3HW.shape[:2]
    device = pixels_N3HW.device

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(*shape, generator=rng) - 1) * strength

    angle, (wide, high) = _TURN * uniform(number), 1 + _STRETCH * uniform(2, number)
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([cosine * wide, -sine * high, _MOVE * uniform(number)], 1),
        torch.stack([sine * wide, cosine * high, _MOVE * uniform(number)], 1),
    ]
    matrix_N23 = torch.stack(rows, 1).to(device)
    grid_NHW2 = F.affine_grid(matrix_N23, list(pixels_N3HW.shape), align_corners=False)
    knots = _BEND * strength * torch.randn(number, 2, _KNOTS, _KNOTS, generator=rng)
    bent = F.interpolate(knots.to(device), pixels_N3HW.shape[2:], mode="bicubic")
    grid_NHW2 = grid_NHW2 + bent.movedim(1, 3)
    moved = F.grid_sample(pixels_N3HW, grid_NHW2, padding_mode="border", align_corners=False)
    mix = torch.randn(number, channels, channels, generator=rng) * _MIX * strength
    shift = torch.randn(number, channels, 1, 1, generator=rng) * _SHIFT * strength
    mixed = torch.einsum("nij,njhw->nihw", (torch.eye(channels) + mix).to(device), moved)
    return (mixed + shift.to(device)).contiguous(memory_format=torch.channels_last)
