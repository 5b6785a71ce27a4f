"""Pictures: reading what strangers give, bounded before it is decoded; writing PNG.

Conversions on reading, none of them silent in what they mean: transparent pictures are put on
white, a camera's rotation tag is applied, of an animation the first frame is taken, 16-bit grey
becomes 8-bit.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from unified_base.atomic import atomic_write
from unified_base.files import read_bytes

__all__ = ["MAX_PIXELS", "decode_image", "encode_png", "load_image", "save_png"]

MAX_PIXELS = 64_000_000

# Filters are the whole process's: threads that put them back out of turn change them for good.
_filtering = threading.Lock()
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def load_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture of a PNG, JPEG, WebP, GIF or BMP file: uint8 (H, W, 3), RGB.

    Raises ValueError when it cannot be read, is of another kind, truncated, or has more than
    max_pixels pixels (seen from its header, before anything is decoded).
    """
    return decode_image(read_bytes(path, "picture"), str(path), max_pixels)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `load_image`, from the file's bytes; `name` is for errors."""
    try:
        with _filtering, warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)  # checked below
            picture: PillowImage.Image = PillowImage.open(io.BytesIO(data), formats=_FORMATS)
        width, height = picture.size
        if width * height > max_pixels:
            raise ValueError(
                f"picture {name} has {width}x{height} pixels, expected at most {max_pixels:,} in "
                "all; make it smaller first"
            )
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        return _to_rgb(picture, name)
    except PillowImage.DecompressionBombError as error:
        raise ValueError(
            f"picture {name} is too large, expected at most {max_pixels:,} pixels: {error}"
        ) from None
    except PillowImage.UnidentifiedImageError:
        raise ValueError(
            f"picture {name} is not a readable PNG, JPEG, WebP, GIF or BMP file"
        ) from None
    # Pillow's decoders meet broken data with any of these.
    except (OSError, SyntaxError, EOFError, IndexError, struct.error, MemoryError) as error:
        raise ValueError(f"picture {name} is damaged or cut off: {error}") from None


def _to_rgb(picture: PillowImage.Image, name: str) -> np.ndarray:
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.uint16) // 257
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise ValueError(f"picture {name} has 32-bit pixels, expected 8 bits a channel")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = PillowImage.new("RGBA", picture.size, "white")
        picture = PillowImage.alpha_composite(ground, picture)
    return np.array(picture.convert("RGB"))


def encode_png(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG file. pixels: uint8 (H, W, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (H, W, 3)")
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write a PNG file. pixels: uint8 (H, W, 3). Raises ValueError as `atomic_path` does."""
    atomic_write(path, encode_png(pixels))
