"""`VQImageTokenizer` computed with numpy: pictures <-> codes without torch.

Of convolutional decoders, and of encoders that are convolutional or look at patches alone; parts
with attention need torch.

Legend: B batch, H W pixels, K codebooks, h w code grid, D width.
"""

from __future__ import annotations

import math

import numpy as np

from unified_tokenizers.checks import check_codes, check_grid, check_picture_array
from unified_tokenizers.numpy_layers import (
    Floats,
    NumpyConvNeXt,
    NumpyLinear,
    NumpyMLP,
    NumpyNorm,
    TensorTable,
)
from unified_tokenizers.numpy_quantizer import NumpyCodeRows, NumpyQuantizer
from unified_tokenizers.numpy_tokenizer import NumpyTokenizer
from unified_tokenizers.presets import IMAGE_PRESETS
from unified_tokenizers.tokenizer_configs import ImageTokenizerConfig

__all__ = ["NumpyImageTokenizer"]


class NumpyImageTokenizer(NumpyTokenizer):
    """Satisfies `base.ImageTokenizer` and `arrays.ArrayTokenizer`."""

    modality = "image"
    config_class = ImageTokenizerConfig
    presets = IMAGE_PRESETS
    module_class = ("image", "VQImageTokenizer")
    config: ImageTokenizerConfig

    def _build(self, table: TensorTable) -> None:
        config = self.config
        width, dims = config.encoder_width, config.quantizer.width
        self.encoder: _PatchEncoder | _ConvEncoder
        if config.encoder == "patch":
            self.encoder = _PatchEncoder(table, width, config.stride, *config.encoder_depths)
        elif config.encoder == "conv":
            self.encoder = _ConvEncoder(table, width, config.stride, *config.encoder_depths)
        else:
            raise ValueError(f"an encoder of kind {config.encoder!r} needs torch")
        if config.decoder != "conv":
            raise ValueError(f"a decoder of kind {config.decoder!r} needs torch")
        self.before_quantizer = NumpyNorm(table, "to_quantizer.0", width)
        self.to_quantizer = NumpyLinear(table, "to_quantizer.1", width, dims)
        self.quantizer = NumpyQuantizer(config.quantizer, table, "quantizer")
        width = config.decoder_width
        self.from_quantizer = NumpyLinear(table, "from_quantizer", dims, width)
        self.code_rows = NumpyCodeRows(table, config.quantizer.codebook_sizes, width)
        self.decoder = _ConvDecoder(table, width, config.stride, *config.decoder_depths)

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return self.config.stride

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over pixels, before entropy coding."""
        return sum(math.log2(size) for size in self.codebook_sizes) / self.stride**2

    @property
    def encode_context(self) -> int | None:
        """Rows and columns on each side of a code, in codes, that it depends on; None: all."""
        return self.config.encode_context

    @property
    def decode_context(self) -> int | None:
        """Rows and columns of codes on each side of one that its pixels depend on; None: all."""
        return self.config.decode_context

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """The picture, uint8 (H, W, 3), as it is: no processor was published for this tokenizer."""
        return pixels

    def preprocessed_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what `preprocess` returns."""
        return height, width

    def _encode(self, media: np.ndarray) -> np.ndarray:
        pixels_BCHW, side = check_picture_array(media), self.stride
        height, width = pixels_BCHW.shape[2:]
        around = ((0, 0), (0, 0), (0, -height % side), (0, -width % side))
        padded = np.pad(pixels_BCHW, around, mode="edge") * np.float32(2) - np.float32(1)
        rows, columns = padded.shape[2] // side, padded.shape[3] // side
        bands = []
        for start, stop, above, below in self.config.bands(rows, columns, self.encode_context):
            x = self.encoder(padded[:, :, above * side : below * side])
            features = self.to_quantizer(self.before_quantizer(x[:, start - above : stop - above]))
            bands.append(self.quantizer.codes_of(features))
        return np.ascontiguousarray(np.concatenate(bands, 1).transpose(0, 3, 1, 2))

    def _decode(self, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        check_codes(codes, self.codebook_sizes, 2, "image")
        check_grid(codes.shape[2:], size, self.stride)
        codes_BHWK, bands = codes.transpose(0, 2, 3, 1), []
        rows, columns = codes_BHWK.shape[1:3]
        for start, stop, above, below in self.config.bands(rows, columns, self.decode_context):
            part = codes_BHWK[:, above:below]
            x = self.from_quantizer(self.quantizer.values_of(part)) + self.code_rows(part)
            band = slice((start - above) * self.stride, (stop - above) * self.stride)
            pixels = self.decoder(x)[:, :, band] * np.float32(0.5) + np.float32(0.5)
            bands.append(np.clip(pixels, 0, 1))
        return np.ascontiguousarray(np.concatenate(bands, 2)[:, :, : size[0], : size[1]])


class _PatchEncoder:
    """`image_parts.PatchEncoder`: pictures (B, 3, H, W) to (B, h, w, D)."""

    def __init__(self, table: TensorTable, width: int, stride: int, depth: int) -> None:
        self.stem = _Stem(table, width, stride)
        self.blocks = [NumpyMLP(table, f"encoder.blocks.{at}", width) for at in range(depth)]

    def __call__(self, pixels_BCHW: Floats) -> Floats:
        x = self.stem(pixels_BCHW)
        for block in self.blocks:
            x = block(x)
        return x


class _Stem:
    """A convolution of squares beside each other: (B, 3, H, W) to (B, h, w, D)."""

    def __init__(self, table: TensorTable, width: int, side: int) -> None:
        weight = table.get("encoder.stem.weight", width, 3, side, side)
        self.weight_ID = weight.reshape(width, 3 * side * side).T
        self.bias_D = table.get("encoder.stem.bias", width)
        self.side = side

    def __call__(self, pixels_BCHW: Floats) -> Floats:
        B, C, H, W = pixels_BCHW.shape
        h, w, side = H // self.side, W // self.side, self.side
        squares = pixels_BCHW.reshape(B, C, h, side, w, side).transpose(0, 2, 4, 1, 3, 5)
        x = squares.reshape(B * h * w, C * side * side) @ self.weight_ID + self.bias_D
        return x.reshape(B, h, w, -1)


def _blocks(
    table: TensorTable, name: str, width: int, depth: int, fine: bool
) -> list[NumpyConvNeXt]:
    """Of an encoder or decoder: on codes, or on halves and quarters of them (`fine`)."""
    kernel, expansion = (3, 3) if fine else (5, 2)
    return [NumpyConvNeXt(table, f"{name}.{at}", width, kernel, expansion) for at in range(depth)]


class _ConvEncoder:
    """`image_parts.ConvEncoder`: pictures (B, 3, H, W) to (B, h, w, D)."""

    def __init__(
        self, table: TensorTable, width: int, stride: int,
        on_codes: int, on_halves: int, on_quarters: int,
    ) -> None:  # fmt: skip
        half, quarter = width // 2, width // 4
        self.stem = _Stem(table, quarter, stride // 4)
        self.blocks_4 = _blocks(table, "encoder.blocks_4", quarter, on_quarters, True)
        self.shrink_2 = NumpyLinear(table, "encoder.shrink_2", 4 * quarter, half)
        self.blocks_2 = _blocks(table, "encoder.blocks_2", half, on_halves, True)
        self.shrink_1 = NumpyLinear(table, "encoder.shrink_1", 4 * half, width)
        self.blocks_1 = _blocks(table, "encoder.blocks_1", width, on_codes, False)

    def __call__(self, pixels_BCHW: Floats) -> Floats:
        x = self.stem(pixels_BCHW)
        for block in self.blocks_4:
            x = block(x)
        x = self.shrink_2(_gathered(x))
        for block in self.blocks_2:
            x = block(x)
        x = self.shrink_1(_gathered(x))
        for block in self.blocks_1:
            x = block(x)
        return x


class _ConvDecoder:
    """`image_parts.ConvDecoder`: (B, h, w, D) to pictures (B, 3, H, W)."""

    def __init__(
        self, table: TensorTable, width: int, stride: int,
        on_codes: int, on_halves: int, on_quarters: int,
    ) -> None:  # fmt: skip
        half, quarter = width // 2, width // 4
        self.side = stride // 4
        self.blocks_1 = _blocks(table, "decoder.blocks_1", width, on_codes, False)
        self.grow_2 = NumpyLinear(table, "decoder.grow_2", width, 4 * half)
        self.blocks_2 = _blocks(table, "decoder.blocks_2", half, on_halves, True)
        self.grow_4 = NumpyLinear(table, "decoder.grow_4", half, 4 * quarter)
        self.blocks_4 = _blocks(table, "decoder.blocks_4", quarter, on_quarters, True)
        self.norm = NumpyNorm(table, "decoder.norm", quarter)
        self.to_pixels = NumpyLinear(table, "decoder.to_pixels", quarter, 3 * self.side**2)

    def __call__(self, x_BHWD: Floats) -> Floats:
        x = x_BHWD
        for block in self.blocks_1:
            x = block(x)
        x = _unfolded(self.grow_2(x), 2)
        for block in self.blocks_2:
            x = block(x)
        x = _unfolded(self.grow_4(x), 2)
        for block in self.blocks_4:
            x = block(x)
        return _unfolded(self.to_pixels(self.norm(x)), self.side).transpose(0, 3, 1, 2)


def _gathered(x_BHWD: Floats) -> Floats:
    """Squares of two by two into channels: (B, H, W, D) to (B, H / 2, W / 2, 4 D)."""
    B, H, W, D = x_BHWD.shape
    squares = x_BHWD.reshape(B, H // 2, 2, W // 2, 2, D).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(B, H // 2, W // 2, 4 * D)


def _unfolded(x_BHWD: Floats, side: int) -> Floats:
    """Channels into squares: (B, H, W, side side D) to (B, H side, W side, D)."""
    B, H, W, _ = x_BHWD.shape
    squares = x_BHWD.reshape(B, H, W, side, side, -1).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(B, H * side, W * side, -1)
