"""The image tokenizer: pictures <-> a grid of codes.

The encoder looks at one code's patch and nothing else, so that the same thing gives the same
codes at another place of the grid and beside other things; the decoder sees the whole picture. A
language model that must learn which codes make a cat then learns it once, not once per place and
neighbour.

Legend: B batch, H W pixels, K codebooks, h w code grid, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from unified_tokenizers.base import Codes, SavedTokenizer, check_image_codes, check_pixels
from unified_tokenizers.layers import ConvNeXt2d, PixelMLP
from unified_tokenizers.quantizers import CodeRows, Quantized, Quantizer, QuantizerConfig

__all__ = ["ImageTokenizer", "ImageTokenizerConfig"]

# A larger picture is coded in bands. Whole, one of 4096x4096 pixels at stride 12 would have
# 1,368 x 1,368 x 240 numbers in a single layer of the decoder: 1.8 GB.
_BAND_PIXELS = 2**20


@dataclass(frozen=True)
class ImageTokenizerConfig:
    """Shape of an image tokenizer.

    Attributes:
        stem: half the side in pixels of the square that a code covers.
        quantizer: which one, and its shape.
        encoder_width: channels of the encoder.
        decoder_width: channels at codes; halved at each of two doublings of the grid.
        encoder_depth: residual MLPs of the encoder.
        decoder_depths: ConvNeXt blocks on the code grid, on the doubled, and on the doubled
            twice.
    """

    stem: int = 6
    quantizer: QuantizerConfig = field(default=QuantizerConfig("fsq", levels=(8, 8, 6, 5)))
    encoder_width: int = 320
    decoder_width: int = 320
    encoder_depth: int = 3
    decoder_depths: tuple[int, int, int] = (4, 3, 1)


class ImageTokenizer(SavedTokenizer):
    """Pictures of any size to (B, K, h, w) codes, K for every `stride` x `stride` pixels."""

    modality = "image"
    config_class = ImageTokenizerConfig
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
        dims = config.quantizer.width
        self.to_quantizer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dims))
        self.quantizer = Quantizer(config.quantizer)

        width = config.decoder_width
        one, two, four = config.decoder_depths
        self.from_quantizer = nn.Linear(dims, width)
        self.code_rows = CodeRows(config.quantizer.codebook_sizes, width)
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

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return 2 * self.config.stem

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return self.config.quantizer.codebook_sizes

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over pixels, before entropy coding."""
        return sum(math.log2(size) for size in self.codebook_sizes) / self.stride**2

    @property
    def decode_context(self) -> int:
        """Rows and columns of codes on each side of a code that its pixels depend on."""
        one, two, four = self.config.decoder_depths
        # Half a kernel of 5 for each block on codes, of 3 on halves and quarters of them.
        return 2 * one + -(-(2 * two + four) // 4)

    def _band_rows(self, columns: int) -> int:
        """Rows of codes that are worked on at once."""
        return max(1, _BAND_PIXELS // (columns * self.stride**2))

    @property
    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer, where losses are balanced."""
        return self.to_pixels.weight

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """Pictures in [0, 1] (B, 3, H, W), sides multiples of `stride`, to (B, h, w, dims)."""
        x = rearrange(self.stem(pixels_BCHW * 2 - 1), "b d h w -> b h w d")
        return self.to_quantizer(self.encoder(x))

    def quantize(self, features_BHWD: Tensor) -> Quantized:
        """Features to values (B, h, w, D), codes (B, K, h, w) and the quantizer's loss."""
        height = features_BHWD.shape[1]
        values, codes, loss = self.quantizer(rearrange(features_BHWD, "b h w d -> b (h w) d"))
        values = rearrange(values, "b (h w) d -> b h w d", h=height)
        return Quantized(values, rearrange(codes, "b (h w) k -> b k h w", h=height), loss)

    def pictures(self, values_BHWD: Tensor, codes_BKHW: Tensor) -> Tensor:
        """Codes and their values to pictures (B, 3, H, W), near [0, 1] but not clipped."""
        rows = self.code_rows(rearrange(codes_BKHW, "b k h w -> b h w k"))
        x = self.from_quantizer(values_BHWD) + rows
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
            Codes with int64 codes (B, K, ceil(H / stride), ceil(W / stride)).

        Raises:
            ValueError: another shape or dtype, an empty picture, values outside [0, 1], or
                values that are not finite.
        """
        pixels = check_pixels(pixels)
        height, width = pixels.shape[2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        padded = F.pad(pixels, pad, mode="replicate")
        band = self.stride * self._band_rows(padded.shape[3] // self.stride)
        # Quantization decides between neighbouring codes: in float32 whatever the caller's mode.
        with torch.autocast(pixels.device.type, enabled=False):
            bands = [self.quantize(self.features(part)).codes for part in padded.split(band, 2)]
        return Codes(torch.cat(bands, 2), (height, width))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to pictures: float32 (B, 3, *codes.size) in [0, 1].

        Raises:
            ValueError: codes out of range or of a wrong shape, or a size that does not belong
                to the grid.
        """
        check_image_codes(codes, self.codebook_sizes, self.stride)
        rows, columns = codes.codes.shape[2:]
        band, context = self._band_rows(columns), self.decode_context
        bands = []
        for start in range(0, rows, band):
            above = max(0, start - context)
            part = codes.codes[:, :, above : start + band + context]
            flat = self.quantizer.values_of(rearrange(part, "b k h w -> b (h w) k"))
            values = rearrange(flat, "b (h w) d -> b h w d", w=columns)
            first, last = (start - above) * self.stride, (start + band - above) * self.stride
            bands.append(self.pictures(values, part)[:, :, first:last].float().clamp(0, 1))
        pixels = torch.cat(bands, 2)
        return pixels[:, :, : codes.size[0], : codes.size[1]].contiguous()
