"""The image tokenizer: pictures <-> a grid of codes.

The default encoder looks at one code's patch and nothing else, so that the same thing gives the
same codes at another place of the grid and beside other things; the decoder looks far around. A
language model that must learn which codes make a cat then learns it once, not once per place and
neighbour. An encoder that looks around, convolutional or a transformer, says more in as many codes.

Legend: B batch, H W pixels, K codebooks, h w code grid, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from unified_tokenizers.base import Codes
from unified_tokenizers.checks import check_image_codes, check_pixels
from unified_tokenizers.image_parts import (
    ConvDecoder,
    ConvEncoder,
    PatchEncoder,
    VitDecoder,
    VitEncoder,
)
from unified_tokenizers.modules import BaseImageTokenizer
from unified_tokenizers.presets import IMAGE_PRESETS
from unified_tokenizers.quantizers import CodeRows, Quantized, Quantizer
from unified_tokenizers.saved import SavedTokenizer
from unified_tokenizers.tokenizer_configs import ImageTokenizerConfig

__all__ = ["ImageTokenizerConfig", "VQImageTokenizer"]


def _encoder(config: ImageTokenizerConfig) -> nn.Module:
    width, stride, depths = config.encoder_width, config.stride, config.encoder_depths
    if config.encoder == "conv":
        return ConvEncoder(width, stride, depths)
    if config.encoder not in ("patch", "vit"):
        raise ValueError(f"encoder {config.encoder!r}, expected 'patch', 'conv' or 'vit'")
    kind = PatchEncoder if config.encoder == "patch" else VitEncoder
    return kind(width, stride, _single_depth(depths, config.encoder))


def _decoder(config: ImageTokenizerConfig) -> ConvDecoder | VitDecoder:
    width, stride, depths = config.decoder_width, config.stride, config.decoder_depths
    if config.decoder == "conv":
        return ConvDecoder(width, stride, depths)
    if config.decoder == "vit":
        return VitDecoder(width, stride, _single_depth(depths, "vit"))
    raise ValueError(f"decoder {config.decoder!r}, expected 'conv' or 'vit'")


def _single_depth(depths: tuple[int, ...], kind: str) -> int:
    if len(depths) != 1:
        raise ValueError(f"depths {depths}: a part of kind {kind!r} has one")
    return depths[0]


class VQImageTokenizer(SavedTokenizer, BaseImageTokenizer):
    """Pictures of any size to (B, K, h, w) codes, K for every `stride` x `stride` pixels."""

    modality: Literal["image"] = "image"
    config_class = ImageTokenizerConfig
    presets = IMAGE_PRESETS
    numpy_class = ("numpy_image", "NumpyImageTokenizer")
    # What encodes: how the names of its parameters begin.
    encoding = ("encoder.", "to_quantizer.")

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        width, dims = config.encoder_width, config.quantizer.width
        self.encoder = _encoder(config)
        self.to_quantizer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dims))
        self.quantizer = Quantizer(config.quantizer)
        self.from_quantizer = nn.Linear(dims, config.decoder_width)
        self.code_rows = CodeRows(config.quantizer.codebook_sizes, config.decoder_width)
        self.decoder = _decoder(config)

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return self.config.stride

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return self.config.quantizer.codebook_sizes

    @property
    def encode_context(self) -> int | None:
        """Rows and columns on each side of a code, in codes, that it depends on; None: all."""
        return self.config.encode_context

    @property
    def decode_context(self) -> int | None:
        """Rows and columns of codes on each side of one that its pixels depend on; None: all."""
        return self.config.decode_context

    @property
    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer, where losses are balanced."""
        return self.decoder.to_pixels.weight

    def hidden(self, pixels_BCHW: Tensor) -> Tensor:
        """Pictures in [0, 1] (B, 3, H, W), sides multiples of `stride`, to the encoder's output
        (B, h, w, D)."""
        return self.encoder(pixels_BCHW * 2 - 1)

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """Pictures in [0, 1] (B, 3, H, W), sides multiples of `stride`, to (B, h, w, dims)."""
        return self.to_quantizer(self.hidden(pixels_BCHW))

    def quantize(self, features_BHWD: Tensor) -> Quantized:
        """Features to values (B, h, w, D), codes (B, K, h, w) and the quantizer's loss."""
        height = features_BHWD.shape[1]
        values, codes, loss = self.quantizer(rearrange(features_BHWD, "b h w d -> b (h w) d"))
        values = rearrange(values, "b (h w) d -> b h w d", h=height)
        return Quantized(values, rearrange(codes, "b (h w) k -> b k h w", h=height), loss)

    def pictures(self, values_BHWD: Tensor, codes_BKHW: Tensor) -> Tensor:
        """Codes and their values to pictures (B, 3, H, W), near [0, 1] but not clipped."""
        rows = self.code_rows(rearrange(codes_BKHW, "b k h w -> b h w k"))
        return self.decoder(self.from_quantizer(values_BHWD) + rows) * 0.5 + 0.5

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (T, K), to their values (T, dims)."""
        return self.quantizer.values_of(codes_TK[None])[0]

    @torch.no_grad()
    def encode(self, media: Tensor) -> Codes:
        """Pictures to codes.

        Args:
            media: (B, 3, H, W), uint8, or floating point in [0, 1]. Sides need not be
                multiples of `stride`: the last row and column are repeated for encoding, and
                `decode` cuts them off again.

        Returns:
            Codes with int64 codes (B, K, ceil(H / stride), ceil(W / stride)).

        Raises:
            ValueError: another shape or dtype, an empty picture, values outside [0, 1], or
                values that are not finite.
        """
        pixels = check_pixels(media).to(self.device)
        height, width = pixels.shape[2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        padded, side = F.pad(pixels, pad, mode="replicate"), self.stride
        rows, columns = padded.shape[2] // side, padded.shape[3] // side
        bands = []
        with self.encode_precision():
            for start, stop, above, below in self.config.bands(rows, columns, self.encode_context):
                features = self.features(padded[:, :, above * side : below * side])
                bands.append(self.quantize(features[:, start - above : stop - above]).codes)
        return Codes(torch.cat(bands, 2).to(media.device), (height, width))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to pictures: float32 (B, 3, *codes.size) in [0, 1].

        Raises:
            ValueError: codes out of range or of a wrong shape, or a size that does not belong
                to the grid.
        """
        check_image_codes(codes, self.codebook_sizes, self.stride)
        rows, columns = codes.codes.shape[2:]
        bands = []
        with self.decode_precision():
            for start, stop, above, below in self.config.bands(rows, columns, self.decode_context):
                part = codes.codes[:, :, above:below].to(self.device)
                flat = self.quantizer.values_of(rearrange(part, "b k h w -> b (h w) k"))
                values = rearrange(flat, "b (h w) d -> b h w d", w=columns)
                band = slice((start - above) * self.stride, (stop - above) * self.stride)
                bands.append(self.pictures(values, part)[:, :, band].float().clamp(0, 1))
        pixels = torch.cat(bands, 2).to(codes.codes.device)
        return pixels[:, :, : codes.size[0], : codes.size[1]].contiguous()
