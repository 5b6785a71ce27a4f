"""The image tokenizer: pictures <-> a grid of FSQ codes.

The encoder looks at one code's patch and nothing else, so that the same thing gives the same
codes at another place of the grid and beside other things; the decoder sees the whole picture. A
language model that must learn which codes make a cat then learns it once, not once per place and
neighbour.

Legend: B batch, H W pixels, h w code grid, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ

from unified_tokenizers.base import Codes, SavedTokenizer, check_image_codes, check_pixels
from unified_tokenizers.layers import ConvNeXt2d, PixelMLP

__all__ = ["ImageTokenizer", "ImageTokenizerConfig"]


@dataclass(frozen=True)
class ImageTokenizerConfig:
    """Shape of an image tokenizer.

    Attributes:
        stem: half the side in pixels of the square that a code covers.
        levels: FSQ levels (arXiv:2309.15505); the codebook has their product of codes.
        encoder_width: channels of the encoder.
        decoder_width: channels at codes; halved at each of two doublings of the grid.
        encoder_depth: residual MLPs of the encoder.
        decoder_depths: ConvNeXt blocks on the code grid, on the doubled, and on the doubled
            twice.
    """

    stem: int = 6
    levels: tuple[int, ...] = (8, 8, 6, 5)
    encoder_width: int = 320
    decoder_width: int = 320
    encoder_depth: int = 3
    decoder_depths: tuple[int, int, int] = (4, 3, 1)


class ImageTokenizer(SavedTokenizer):
    """Pictures of any size to (B, 1, h, w) codes, one for every `stride` x `stride` pixels."""

    modality = "image"
    # What encodes: how the names of its parameters begin.
    encoding = ("stem.", "encoder.", "to_quantizer.")

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__()
        if config.stem % 2:
            raise ValueError(f"stem {config.stem} is odd; the decoder ends in patches of stem / 2")
        self.config = config
        width = config.encoder_width
        self.stem = nn.Conv2d(3, width, 2 * config.stem, stride=2 * config.stem)
        self.encoder = nn.Sequential(*(PixelMLP(width) for _ in range(config.encoder_depth)))
        self.to_quantizer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(config.levels)))
        self.quantizer = FSQ(list(config.levels))

        width = config.decoder_width
        one, two, four = config.decoder_depths
        self.from_quantizer = nn.Linear(len(config.levels), width)
        # FSQ's few dimensions say where a code lies; a row per code says what it means. The row
        # passes no gradient to the encoder, the projection beside it does.
        self.code_rows = nn.Embedding(math.prod(config.levels), width)
        # Rows of torch's unit variance drown the projection: 3% of the codes used after 100 steps.
        nn.init.normal_(self.code_rows.weight, std=0.02)
        self.blocks_1 = nn.Sequential(*(ConvNeXt2d(width) for _ in range(one)))
        self.grow_2 = nn.Linear(width, 4 * (width // 2))
        self.blocks_2 = nn.Sequential(
            *(ConvNeXt2d(width // 2, kernel=3, expansion=3) for _ in range(two))
        )
        self.grow_4 = nn.Linear(width // 2, 4 * (width // 4))
        self.blocks_4 = nn.Sequential(
            *(ConvNeXt2d(width // 4, kernel=3, expansion=3) for _ in range(four))
        )
        self.norm = nn.LayerNorm(width // 4)
        self.to_pixels = nn.Linear(width // 4, 3 * (config.stem // 2) ** 2)

    @classmethod
    def parse_config(cls, entries: dict[str, Any]) -> ImageTokenizerConfig:
        """A configuration from plain entries; lists become tuples, unknown keys are refused."""
        known = {field.name for field in fields(ImageTokenizerConfig)}
        if unknown := set(entries) - known:
            raise ValueError(
                f"unknown image tokenizer settings {sorted(unknown)}, expected {sorted(known)}"
            )
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()
        }
        return ImageTokenizerConfig(**values)

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return 2 * self.config.stem

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in the only codebook."""
        return (math.prod(self.config.levels),)

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over pixels, before entropy coding."""
        return math.log2(self.codebook_sizes[0]) / self.stride**2

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """Pictures in [0, 1] (B, 3, H, W), sides multiples of `stride`, to (B, h, w, dims)."""
        x = rearrange(self.stem(pixels_BCHW * 2 - 1), "b d h w -> b h w d")
        return self.to_quantizer(self.encoder(x))

    def quantize(self, features_BHWD: Tensor) -> tuple[Tensor, Tensor]:
        """Features to (quantized features with straight-through gradient, codes (B, h, w))."""
        with torch.autocast(features_BHWD.device.type, enabled=False):
            # Flattened: with four axes the library takes the second for channels.
            flat, codes = self.quantizer(rearrange(features_BHWD.float(), "b h w d -> b (h w) d"))
        height = features_BHWD.shape[1]
        quantized = rearrange(flat, "b (h w) d -> b h w d", h=height)
        return quantized, rearrange(codes, "b (h w) -> b h w", h=height).long()

    def pictures(self, quantized_BHWD: Tensor, codes_BHW: Tensor) -> Tensor:
        """Quantized features and their codes to (B, 3, H, W), near [0, 1] but not clipped."""
        x = self.from_quantizer(quantized_BHWD) + self.code_rows(codes_BHW)
        x = self.blocks_1(x)
        x = rearrange(self.grow_2(x), "b h w (p q d) -> b (h p) (w q) d", p=2, q=2)
        x = self.blocks_2(x)
        x = rearrange(self.grow_4(x), "b h w (p q d) -> b (h p) (w q) d", p=2, q=2)
        x = self.norm(self.blocks_4(x))
        side = self.config.stem // 2
        x = rearrange(self.to_pixels(x), "b h w (p q c) -> b c (h p) (w q)", p=side, q=side)
        return x * 0.5 + 0.5

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Codes:
        """Pictures to codes.

        Args:
            pixels: (B, 3, H, W), uint8, or floating point in [0, 1]. Sides need not be
                multiples of `stride`: the last row and column are repeated for encoding, and
                `decode` cuts them off again.

        Returns:
            Codes with int64 codes (B, 1, ceil(H / stride), ceil(W / stride)).

        Raises:
            ValueError: another shape or dtype, an empty picture, values outside [0, 1], or
                values that are not finite.
        """
        pixels = check_pixels(pixels)
        height, width = pixels.shape[2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        # Quantization decides between neighbouring codes: in float32 whatever the caller's mode.
        with torch.autocast(pixels.device.type, enabled=False):
            codes = self.quantize(self.features(F.pad(pixels, pad, mode="replicate")))[1]
        return Codes(codes[:, None], (height, width))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to pictures: float32 (B, 3, *codes.size) in [0, 1].

        Raises:
            ValueError: codes out of range or of a wrong shape, or a size that does not belong
                to the grid.
        """
        check_image_codes(codes, self.codebook_sizes, self.stride)
        grid_codes = codes.codes[:, 0]
        quantized = self.quantizer.implicit_codebook[grid_codes]
        pixels = self.pictures(quantized, grid_codes).float().clamp(0, 1)
        return pixels[:, :, : codes.size[0], : codes.size[1]].contiguous()
