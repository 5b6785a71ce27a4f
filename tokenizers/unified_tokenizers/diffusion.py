"""A diffusion decoder: the codes of any image tokenizer to pictures, of its size or twice that.

Flow matching (arXiv:2210.02747): along x_s = (1 - s) x + s noise a U-Net of diffusers sees the
noisy picture and what the codes say, and estimates the clean picture x (arXiv:2511.13720 tells why
that and not the noise: patches of many numbers, a narrow network). diffusers' Euler scheduler then
walks from noise to a picture in as many steps as asked for. One step gives the mean of the pictures
that the codes may stand for, more steps give one of them: sharper, and further from the original.

Legend: B batch, K codebooks, h w code grid, H W pixels, P side of a patch, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from unified_tokenizers.base import Codes
from unified_tokenizers.checks import check_image_codes
from unified_tokenizers.quantizers import CodeRows
from unified_tokenizers.saved import SavedTokenizer

__all__ = ["MOST_STEPS", "DiffusionConfig", "DiffusionDecoder"]

MOST_STEPS = 50
"""Of the scheduler: beyond these nothing is gained."""
# Near the clean end the estimate is divided by how little noise is left: with 0.05 as the least, a
# few pictures in a batch were most of its loss, which went up and down tenfold.
_LEAST_NOISE = 0.2


@dataclass(frozen=True)
class DiffusionConfig:
    """Shape of a diffusion decoder.

    Attributes:
        codebook_sizes, stride: of the tokenizer whose codes it decodes.
        scales: sizes it decodes to, as multiples of the tokenizer's: 1, 2 or both.
        patch: side in pixels of the squares that the network sees as one place, at the tokenizer's
            size; at twice the size they are twice as large.
        widths: channels of the U-Net, from the finest resolution on; multiples of 32. It halves the
            resolution from each to the next.
        code_width: channels of a code's row beside the noisy picture.
        see_decoded: whether the network sees what the tokenizer's own decoder makes of the codes,
            and adds to it: much less to learn; not for a tokenizer that cannot decode.
    """

    codebook_sizes: tuple[int, ...]
    stride: int
    scales: tuple[int, ...] = (1,)
    patch: int = 4
    widths: tuple[int, ...] = (64, 96)
    code_width: int = 32
    see_decoded: bool = True

    def __post_init__(self) -> None:
        if not self.scales or not set(self.scales) <= {1, 2}:
            raise ValueError(f"scales are {list(self.scales)}, expected 1, 2 or both")
        if self.stride % self.patch:
            raise ValueError(f"patch {self.patch} does not divide the stride {self.stride}")
        if len(self.widths) < 2 or any(width % 32 or width < 32 for width in self.widths):
            raise ValueError(
                f"widths are {list(self.widths)}, expected two or more multiples of 32"
            )


class DiffusionDecoder(SavedTokenizer):
    """Codes (B, K, h, w) to pictures (B, 3, h * stride * scale, w * stride * scale)."""

    modality = "diffusion"
    config_class = DiffusionConfig
    presets: dict[str, dict[str, Any]] = {}  # noqa: RUF012

    def __init__(self, config: DiffusionConfig) -> None:
        # diffusers is slow to import: only those who need it wait.
        from diffusers import UNet2DModel

        super().__init__()
        self.config = config
        self.code_rows = CodeRows(config.codebook_sizes, config.code_width)
        width, depth = config.widths[0], len(config.widths)
        # A place is `patch` pixels wide at the tokenizer's size and twice that at twice the size:
        # the network sees as many places, and takes as long, at both.
        pixels = {scale: 3 * (config.patch * scale) ** 2 for scale in config.scales}
        seen = 2 if config.see_decoded else 1
        self.enter = nn.ModuleDict(
            {
                str(scale): nn.Conv2d(seen * number + config.code_width, width, 1)
                for scale, number in pixels.items()
            }
        )
        self.network: Any = UNet2DModel(
            in_channels=width,
            out_channels=width,
            down_block_types=("DownBlock2D",) * depth,
            up_block_types=("UpBlock2D",) * depth,
            block_out_channels=config.widths,
            layers_per_block=1,
            attention_head_dim=32,
            num_class_embeds=2,
        )
        self.leave = nn.ModuleDict(
            {str(scale): nn.Conv2d(width, number, 1) for scale, number in pixels.items()}
        )
        for layer in self.leave.values():  # begins with what the tokenizer decodes
            nn.init.zeros_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks of the tokenizer."""
        return self.config.codebook_sizes

    def clean(
        self, noisy_BCHW: Tensor, noise_B: Tensor, codes_BKHW: Tensor, decoded: Tensor | None
    ) -> Tensor:
        """The estimate of the clean pictures, float32 (B, 3, H, W) near [-1, 1].

        Args:
            noisy_BCHW: (1 - s) * picture + s * noise, pictures in [-1, 1].
            noise_B: s of each, in (0, 1].
            codes_BKHW: int64 (B, K, h, w).
            decoded: what the tokenizer made of the codes, (B, 3, h * stride, w * stride) in [0, 1];
                None where the configuration does without.
        """
        config = self.config
        scale = noisy_BCHW.shape[2] // (codes_BKHW.shape[2] * config.stride)
        side, places = config.patch * scale, config.stride // config.patch
        rows = self.code_rows(rearrange(codes_BKHW, "b k h w -> b h w k"))
        spread = repeat(rows, "b h w c -> b c (h p) (w q)", p=places, q=places)
        seen = [_fold(noisy_BCHW, side), spread]
        if config.see_decoded:
            assert decoded is not None
            decoded = decoded * 2 - 1
            if scale > 1:
                decoded = F.interpolate(decoded, scale_factor=scale, mode="bicubic").clamp(-1, 1)
            seen.append(_fold(decoded, side))
        x = self.enter[str(scale)](torch.cat(seen, 1))
        # Every halving needs an even number of places, and the normalisation more than one.
        height, width = x.shape[2:]
        multiple = 2 ** (len(config.widths) - 1)
        full = (max(2, -(-now // multiple)) * multiple for now in (width, height))
        right, below = (to - now for to, now in zip(full, (width, height)))
        x = F.pad(x, (0, right, 0, below), mode="replicate")
        sizes = torch.full((len(x),), scale - 1, device=x.device)
        hidden = self.network(x, noise_B * 1000, class_labels=sizes).sample[:, :, :height, :width]
        hidden = self.leave[str(scale)](F.silu(hidden)).float()
        hidden = rearrange(hidden, "b (c p q) h w -> b c (h p) (w q)", p=side, q=side)
        return hidden if decoded is None else hidden + decoded

    def loss(self, pictures_BCHW: Tensor, codes_BKHW: Tensor, decoded: Tensor | None) -> Tensor:
        """The mean squared error of the velocity (noise - picture) that the estimates imply.

        pictures_BCHW: in [0, 1], of one of the `scales`; draws from torch's global generator.
        """
        target = pictures_BCHW * 2 - 1
        noise = torch.randn_like(target)
        # Logit-normal (arXiv:2403.03206), but one in four is pure noise: few steps depend on it.
        level = torch.sigmoid(torch.randn(len(target), device=target.device))
        level[: len(target) // 4] = 1.0
        share = level[:, None, None, None]
        estimate = self.clean((1 - share) * target + share * noise, level, codes_BKHW, decoded)
        return ((estimate - target) / share.clamp_min(_LEAST_NOISE)).square().mean()

    @torch.no_grad()
    def decode(
        self,
        codes: Codes,
        decoded: Tensor | None,
        scale: int = 1,
        steps: int = 8,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Codes to pictures, float32 (B, 3, H * scale, W * scale) in [0, 1], (H, W) = `codes.size`.

        Args:
            codes: of the tokenizer.
            decoded: what the tokenizer's own decoder makes of them, whole grids: (B, 3, h * stride,
                w * stride) in [0, 1]; None where the configuration does without.
            scale: one of the configuration's `scales`.
            steps: of the scheduler, 1 to 50.
            seed: of the noise, the same for every picture of a batch, so that a picture does not
                depend on those beside it.
            dtype: in which the network computes.

        Raises:
            ValueError: codes that cannot be, a scale that was not trained, or a number of steps out
                of range.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler

        config = self.config
        check_image_codes(codes, config.codebook_sizes, config.stride)
        if scale not in config.scales:
            raise ValueError(
                f"scale {scale}: this diffusion decoder was trained for {list(config.scales)}"
            )
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"{steps} steps, expected 1 to {MOST_STEPS}")
        number, _, rows, columns = codes.codes.shape
        side = config.stride * scale
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(3, rows * side, columns * side, generator=generator)
        x = repeat(noise, "c h w -> b c h w", b=number).to(codes.codes.device)
        scheduler: Any = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
        exact = dtype == torch.float32
        with torch.autocast(x.device.type, None if exact else dtype, enabled=not exact):
            for time, level in zip(scheduler.timesteps, scheduler.sigmas):
                clean = self.clean(x, level.expand(number).to(x.device), codes.codes, decoded)
                x = scheduler.step((x - clean) / level, time, x).prev_sample
        x = (x * 0.5 + 0.5).clamp(0, 1)
        return x[:, :, : codes.size[0] * scale, : codes.size[1] * scale].contiguous()


def _fold(pixels_BCHW: Tensor, side: int) -> Tensor:
    """Squares of `side` pixels as one place: (B, 3 * side^2, H / side, W / side)."""
    return rearrange(pixels_BCHW, "b c (h p) (w q) -> b (c p q) h w", p=side, q=side)
