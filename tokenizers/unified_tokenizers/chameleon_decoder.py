"""The decoder of Chameleon's VQGAN, which transformers leaves out.

The VQGAN of taming-transformers (arXiv:2012.09841) as Make-A-Scene and Chameleon (arXiv:2405.09818)
trained it: the mirror image of transformers' ChameleonVQVAEEncoder. Parameters have the names of
the original, so that its weights load as they are: `conv_in`, `mid.block_1`, `mid.attn_1`,
`up.N.block.M`, `up.N.attn.M`, `up.N.upsample.conv`, `norm_out`, `conv_out`; `up.0` is the last
level, at full size.

Legend: B batch, D width, H W pixels, h w code grid.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import ChameleonVQVAEConfig

__all__ = ["ChameleonDecoder"]


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=1e-6)


class _ResnetBlock(nn.Module):
    """Two convolutions beside a shortcut; dropout, which training had, is nothing here."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(width_in), nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2, self.conv2 = _norm(width_out), nn.Conv2d(width_out, width_out, 3, padding=1)
        if width_in != width_out:
            self.nin_shortcut = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(x_BDHW)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        return inner + (self.nin_shortcut(x_BDHW) if hasattr(self, "nin_shortcut") else x_BDHW)


class _Attention(nn.Module):
    """One head over all places, its projections convolutions of 1x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x_BDHW: Tensor) -> Tensor:
        normed = self.norm(x_BDHW)
        query, key, value = (
            rearrange(part(normed), "b d h w -> b 1 (h w) d") for part in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        attended = rearrange(attended, "b 1 (h w) d -> b d h w", h=x_BDHW.shape[2])
        return x_BDHW + self.proj_out(attended)


class _Middle(nn.Module):
    def __init__(self, width: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = _ResnetBlock(width, width)
        self.attn_1 = _Attention(width) if attention else nn.Identity()
        self.block_2 = _ResnetBlock(width, width)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x_BDHW)))


class _Upsample(nn.Module):
    """Every pixel four times, and a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BDHW, scale_factor=2.0, mode="nearest"))


class _Level(nn.Module):
    """The blocks of one size of picture, with attention or without, and twice that size after."""

    def __init__(self, widths: list[int], attention: bool, upsample: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(_ResnetBlock(*pair) for pair in pairwise(widths))
        self.attn = nn.ModuleList(_Attention(width) for width in widths[1:] if attention)
        self.upsample = _Upsample(widths[-1]) if upsample else nn.Identity()

    def forward(self, x_BDHW: Tensor) -> Tensor:
        for number, block in enumerate(self.block):
            x_BDHW = block(x_BDHW)
            if self.attn:
                x_BDHW = self.attn[number](x_BDHW)
        return self.upsample(x_BDHW)


class ChameleonDecoder(nn.Module):
    """Latents (B, latent_channels, h, w) to normalised pictures (B, in_channels, H, W).

    H = h * 2 ** (levels - 1), and W likewise; any grid will do.

    Args:
        config: a ChameleonVQVAEConfig of transformers. Attention is where the encoder has it: in
            the middle, and at the levels whose side, were the picture `resolution` pixels wide, is
            among `attn_resolutions`; with an `attn_type` other than "vanilla" nowhere.
    """

    def __init__(self, config: ChameleonVQVAEConfig | SimpleNamespace) -> None:
        super().__init__()
        widths = [config.base_channels * factor for factor in config.channel_multiplier]
        attends = config.attn_type == "vanilla"
        sides = (config.attn_resolutions or ()) if attends else ()
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = _Middle(widths[-1], attends)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[min(level + 1, len(widths) - 1)]
            # One block more than the encoder has.
            inner = [before] + [width] * (config.num_res_blocks + 1)
            attention = config.resolution // 2**level in sides
            self.up.append(_Level(inner, attention, upsample=level > 0))
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.in_channels, 3, padding=1)

    def forward(self, latents_BDHW: Tensor) -> Tensor:
        x = self.mid(self.conv_in(latents_BDHW))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))
