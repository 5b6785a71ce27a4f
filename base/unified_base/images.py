"""Pictures: reading what strangers give, bounded before it is decoded; writing PNG.

Conversions on reading, none of them silent in what they mean: transparent pictures are put on
white, the orientation in EXIF is applied, of an animation the first frame is taken, 16 bits a
channel become 8, CMYK becomes RGB. Colour profiles and texts are passed over.
"""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from unified_base.atomic import atomic_write
from unified_base.exif import orientation, turned
from unified_base.files import read_bytes
from unified_base.image_jpeg import Jpeg, walk_jpeg
from unified_base.image_others import Still, walk_bmp, walk_gif, walk_webp
from unified_base.image_png import PNG, Png, clear_pixels, walk_png
from unified_base.image_size import MAX_PIXELS, check_pixels

__all__ = ["MAX_PIXELS", "decode_image", "encode_png", "load_image", "save_png"]

MAX_FILE = 256 << 20
"""Bytes of a picture's file."""
_BAND = 1 << 20
"""Pixels that are converted at a time."""
# Warnings' filters are the whole process's: threads that put them back out of turn would change them
# for good.
_filtering = threading.Lock()


def load_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture of a PNG, JPEG, WebP, GIF or BMP file: uint8 (H, W, 3), RGB.

    Raises ValueError when it cannot be read, is of another kind, cut off, does not match its
    checksums, has 32 bits a channel, or has more than max_pixels pixels (seen from its header,
    before anything is decoded).
    """
    return decode_image(read_bytes(path, "picture", MAX_FILE), str(path), max_pixels)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `load_image`, from the file's bytes; `name` is for errors."""
    try:
        return _decode(data, max_pixels)
    except (ValueError, MemoryError) as error:
        raise ValueError(f"picture {name} {error or 'needs more memory than there is'}") from None


def _decode(data: bytes, max_pixels: int) -> np.ndarray:
    """By the content; errors are to be put behind the picture's name."""
    still: Still | Jpeg | Png
    if data[:8] == PNG:
        still, kind = walk_png(data, max_pixels), "PNG"
    elif data[:3] == b"\xff\xd8\xff":
        still, kind = walk_jpeg(data, max_pixels), "JPEG"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        still, kind = walk_webp(data), "WEBP"
    elif data[:6] in (b"GIF87a", b"GIF89a"):
        still, kind = walk_gif(data), "GIF"
    elif data[:2] == b"BM":
        still, kind = walk_bmp(data), "BMP"
    else:
        raise ValueError("is not a readable PNG, JPEG, WebP, GIF or BMP file")
    check_pixels(still.width, still.height, max_pixels)
    picture, clear = _decoded(still, kind)
    if picture.size != (still.width, still.height):
        raise ValueError(
            f"is damaged: its header has {still.width}x{still.height} pixels, its content "
            f"{picture.size[0]}x{picture.size[1]}"
        )
    pixels = _to_rgb(picture)
    if clear is not None:
        pixels[clear] = 255
    return np.ascontiguousarray(turned(pixels, orientation(still.exif)))


def _decoded(still: Still | Jpeg | Png, kind: str) -> tuple[PillowImage.Image, np.ndarray | None]:
    """What Pillow decodes, and which pixels have a colour that stands for transparency."""
    try:
        with _filtering, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own limits: ours have been checked
            picture = PillowImage.open(io.BytesIO(still.plain), formats=(kind,))
            picture.load()
            return picture, clear_pixels(still, picture) if isinstance(still, Png) else None
    # Pillow and its plug-ins meet broken data with whatever goes wrong first: a dozen types of
    # errors by now, each of which would end a run over strangers' files.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"is damaged or cut off: {reason or type(error).__name__}") from None


def _to_rgb(picture: PillowImage.Image) -> np.ndarray:
    """uint8 (H, W, 3), transparency put on white; a band of rows at a time, to bound memory."""
    width, height = picture.size
    if picture.mode in ("I", "F"):
        raise ValueError("has 32-bit pixels, expected 8 bits a channel")
    clear = picture.has_transparency_data
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        below = min(height, top + rows)
        band = picture.crop((0, top, width, below))
        if band.mode.startswith("I;16"):
            grey = np.asarray(band).astype(np.uint16) // 257
            pixels[top:below] = grey.astype(np.uint8)[:, :, None]
            continue
        if clear:
            band.info = picture.info
            band = band.convert("RGBA")
            ground = PillowImage.new("RGBA", band.size, "white")
            band = PillowImage.alpha_composite(ground, band)
        pixels[top:below] = np.asarray(band.convert("RGB"))
    return pixels


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
