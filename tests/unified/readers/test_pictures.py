"""Readers x pictures: every reader gives the same pixels, or the same reason.

A case is joined by one line in `CASES`: a file's name, its bytes, and what it is: pixels, or what
the refusal says.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

SHARED = Path(__file__).parents[4] / "shared" / "cases" / "images"

H, W = 32, 64
PIXELS = np.random.default_rng(1).integers(0, 256, (H, W, 3), dtype=np.uint8)
GREY16 = np.random.default_rng(2).integers(0, 1 << 16, (H, W), dtype=np.uint16)
WHITE = 255


def coded(kind, pixels=PIXELS, mode=None, **options):
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data):
    """What Pillow makes of a file without transparency or orientation."""
    return np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB"))


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[:, :, None], 3, axis=2)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(rows, depth, colour, *more, end=True):
    """A PNG of rows of bytes; more: (name, body) of chunks before its pixels."""
    header = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [(b"IHDR", header), *more, (b"IDAT", content), *([(b"IEND", b"")] if end else [])]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def with_chunk(data, name, body):
    """A PNG with another chunk before its pixels."""
    return data[:33] + chunk(name, body) + data[33:]


def exif(*entries):
    """EXIF of entries (tag, type, count, four bytes)."""
    rows = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + bytes(4)


def turn(code, *more):
    return exif(*more, (0x112, 3, 1, struct.pack("<HH", code, 0)))


def segment(data, marker, body):
    """A JPEG with another segment at its front."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def scans(data, count):
    """A progressive JPEG with its last scan many times more."""
    at = data.rindex(b"\xff\xda")
    return data[:-2] + data[at:-2] * count + data[-2:]


def bits(values, depth):
    """Rows of samples of less than 8 bits, packed."""
    row = np.unpackbits(values[:, :, None].astype(np.uint8), axis=2)[:, :, 8 - depth :]
    return np.packbits(row.reshape(H, -1), axis=1)


PNG = coded("PNG")
JPEG = coded("JPEG", quality=95)
PROGRESSIVE = coded("JPEG", quality=95, progressive=True)
WEBP = coded("WEBP", lossless=True)
TALL = np.ascontiguousarray(np.rot90(PIXELS, 1))
ALPHA = PIXELS[:, :, 0] // 128 * 255
CLEAR = np.where(ALPHA[:, :, None] == 255, PIXELS, WHITE)
RGB16 = np.random.default_rng(3).integers(0, 1 << 16, (H, W, 3), dtype=np.uint16)
RGB16[3] = (0x1234, 0x5678, 0x9ABC)
RGB16[4] = (0x1234, 0x5678, 0x9ABD)  # the high bytes alone are the same
HIDDEN16 = (RGB16 >> 8).astype(np.uint8)
HIDDEN16[3] = WHITE
GREY_ROWS = GREY16.astype(">u2").view(np.uint8)
FEW = {depth: GREY16 >> 16 - depth for depth in (1, 2, 4)}
MANY = coded("PNG", np.zeros((H, W, 3), np.uint8))

CASES = {
    "plain.png": (PNG, PIXELS),
    "plain.jpg": (JPEG, decoded(JPEG)),
    "plain.webp": (WEBP, PIXELS),
    "plain.gif": (coded("GIF", mode="P"), decoded(coded("GIF", mode="P"))),
    "plain.bmp": (coded("BMP"), PIXELS),
    "animated.webp": (
        coded("WEBP", lossless=True, save_all=True,
              append_images=[PillowImage.fromarray(255 - PIXELS)]), PIXELS),
    "animated.png": (
        coded("PNG", save_all=True, append_images=[PillowImage.fromarray(255 - PIXELS)]), PIXELS),
    "progressive.jpg": (PROGRESSIVE, decoded(PROGRESSIVE)),
    "cmyk.jpg": (coded("JPEG", mode="CMYK"), decoded(coded("JPEG", mode="CMYK"))),
    "alpha.png": (coded("PNG", np.dstack([PIXELS, ALPHA])), CLEAR),
    "alpha.webp": (coded("WEBP", np.dstack([PIXELS, ALPHA]), lossless=True, exact=True), CLEAR),
    "grey_alpha.png": (
        coded("PNG", np.dstack([PIXELS[:, :, 0], ALPHA]), "LA"),
        np.where(ALPHA[:, :, None] == 255, grey(PIXELS[:, :, 0]), WHITE)),
    "grey16.png": (png(GREY_ROWS, 16, 0), grey(GREY16 // 257)),
    "grey16_clear.png": (
        png(GREY_ROWS, 16, 0, (b"tRNS", struct.pack(">H", GREY16[5, 6]))),
        grey(np.where(GREY16[5, 6] == GREY16, WHITE, GREY16 // 257))),
    "rgb16.png": (png(RGB16.astype(">u2").reshape(H, -1).view(np.uint8), 16, 2),
                  (RGB16 >> 8).astype(np.uint8)),
    "rgb16_clear.png": (
        png(RGB16.astype(">u2").reshape(H, -1).view(np.uint8), 16, 2,
            (b"tRNS", struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))), HIDDEN16),
    "rgb_clear.png": (
        png(PIXELS.reshape(H, -1), 8, 2, (b"tRNS", struct.pack(">HHH", *PIXELS[2, 3]))),
        np.where((PIXELS[2, 3] == PIXELS).all(2)[:, :, None], WHITE, PIXELS)),
    **{
        f"grey{depth}_clear.png": (
            png(bits(values, depth), depth, 0, (b"tRNS", b"\0\1")),
            grey(np.where(values == 1, WHITE, values * (255 // ((1 << depth) - 1)))))
        for depth, values in FEW.items()
    },
    "turned.jpg": (segment(JPEG, 0xE1, turn(8)), np.rot90(decoded(JPEG), 1)),
    "turned.png": (coded("PNG", exif=turn(8)[6:]), TALL),
    "turned.webp": (coded("WEBP", lossless=True, exif=turn(8)), TALL),
    "make_is_a_number.jpg": (
        segment(JPEG, 0xE1, turn(3, (0x10F, 12, 1, bytes(4)))), np.rot90(decoded(JPEG), 2)),
    "resolution_is_a_text.jpg": (
        segment(JPEG, 0xE1, turn(2, (0x11A, 2, 9, b"abcd"))), decoded(JPEG)[:, ::-1]),
    "orientation_9.jpg": (segment(JPEG, 0xE1, turn(9)), decoded(JPEG)),
    "orientation_is_a_text.jpg": (
        segment(JPEG, 0xE1, exif((0x112, 2, 1, b"8\0\0\0"))), decoded(JPEG)),
    "exif_is_rubbish.jpg": (segment(JPEG, 0xE1, b"Exif\0\0" + b"\xff" * 99), decoded(JPEG)),
    "exif_ends_early.png": (with_chunk(PNG, b"eXIf", turn(8)[6:20]), PIXELS),
    "text_of_3MB.png": (
        with_chunk(PNG, b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000))), PIXELS),
    "text_of_9MB.png": (with_chunk(PNG, b"tEXt", b"a\0" + b"x" * 9_000_000), PIXELS),
    "profile_of_8MB.png": (
        with_chunk(PNG, b"iCCP", b"a\0\0" + zlib.compress(bytes(8_000_000))), PIXELS),
    "profile_of_rubbish.jpg": (segment(JPEG, 0xE2, b"ICC_PROFILE\0\x09\x01xyz"), decoded(JPEG)),
    "wrong_checksum.png": (PNG[:-20] + bytes([PNG[-20] ^ 1]) + PNG[-19:], "checksum"),
    "wrong_checksum_of_text.png": (
        with_chunk(PNG, b"tEXt", b"a\0b").replace(b"a\0b", b"a\0c"), "checksum"),
    "without_end.png": (png(PIXELS.reshape(H, -1), 8, 2, end=False), "cut off"),
    "half.png": (PNG[: len(PNG) // 2], "cut off"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "cut off"),
    "half_progressive.jpg": (PROGRESSIVE[: len(PROGRESSIVE) // 2], "cut off"),
    "half.webp": (WEBP[: len(WEBP) // 2], "cut off"),
    "half.gif": (coded("GIF", mode="P")[:900], "cut off"),
    "half.bmp": (coded("BMP")[:900], "cut off"),
    "scans.jpg": (scans(PROGRESSIVE, 5_000), "scans"),
    "huge.png": (PNG[:16] + struct.pack(">II", 60_000, 60_000) + PNG[24:29]
                 + struct.pack(">I", zlib.crc32(PNG[12:16] + struct.pack(">II", 60_000, 60_000)
                                                + PNG[24:29])) + PNG[33:], "60000x60000 pixels"),
    "huge.gif": (coded("GIF", mode="P")[:6] + b"\xff" * 4 + coded("GIF", mode="P")[10:],
                 "65535x65535 pixels"),
    "huge.bmp": (coded("BMP")[:18] + struct.pack("<ii", 1 << 30, -(1 << 31)) + coded("BMP")[26:],
                 "damaged|pixels"),
    "empty.png": (b"", "not a readable PNG"),
    "text.jpg": (b"hello", "not a readable PNG"),
    "sound.webp": (b"RIFF\x04\0\0\0WAVE", "not a readable PNG"),
}  # fmt: skip


RIGHT = {
    "badcrc.png": "checksum",
    "exif-Make.jpg": (8, 8, 0.0),
    "exif-XResolution.jpg": (8, 8, 0.0),
    "exif8.jpg": (96, 64, 88.672),
    "grey16_trns.png": (48, 64, 255.0),
    "png_ztxt_3MB.png": (64, 96, 88.562),
    "rgba16.png": (48, 64, 255.0),
}
"""Of the shared cases, where they lie beside this checkout: height, width and mean, or what the
refusal says."""
CASES |= {path.name: (path.read_bytes(), RIGHT[path.name]) for path in sorted(SHARED.glob("*"))}


@pytest.mark.parametrize("name", CASES)
def test_every_reader_of_pictures(name, picture_readers, check_reading):
    check_reading(picture_readers, name, *CASES[name])
