"""GIF, WebP and animated PNG through Pillow: frames with their durations.

`T` frames, `H W` pixels.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from unified_base.frame_times import FrameChoice
from unified_base.video_limits import MAX_FRAMES, MAX_VIDEO_SIDE, check_memory

__all__ = ["decode_animation", "encode_animation"]

_KINDS = ("GIF", "WEBP", "PNG")
_NO_DURATION = 100.0  # milliseconds, as browsers take a frame that says none


def decode_animation(
    data: bytes, choice: FrameChoice, max_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(frames uint8 (T, H, W, 3), times float64 seconds (T,)) of a GIF, WebP or PNG file; one
    frame of a still picture. Transparency is put on white.

    Raises ValueError, to be put behind the video's name, as `videos.load_video` says.
    """
    if not (data[:3] == b"GIF" or data[:4] == b"RIFF" or data[:4] == b"\x89PNG"):
        raise ValueError("is not a readable MP4, QuickTime, WebM, Matroska, GIF, WebP or APNG file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own limits: ours are compared
            return _decode(data, choice, max_bytes)
    except ValueError:
        raise
    except PillowImage.DecompressionBombError:
        raise ValueError(
            f"has too many pixels, expected sides of {MAX_VIDEO_SIDE:,} at most"
        ) from None
    except UnidentifiedImageError:
        raise ValueError("is damaged or cut off: its header cannot be read") from None
    # As in `images`: Pillow meets broken data with whatever goes wrong first.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"is damaged or cut off: {reason or type(error).__name__}") from None


def _decode(data: bytes, choice: FrameChoice, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    with PillowImage.open(io.BytesIO(data), formats=_KINDS) as picture:
        width, height = picture.size
        check_memory(0, width, height, max_bytes)
        number = getattr(picture, "n_frames", 1)
        if number > MAX_FRAMES:
            raise ValueError(f"says it has {number:,} frames, expected {MAX_FRAMES:,} at most")
        if number > len(data):  # a frame takes a byte at least
            raise ValueError(
                f"is damaged: it says it has {number:,} frames, and has {len(data):,} bytes"
            )
        # Where all are wanted no times are needed first: durations of WebP cost a decoding.
        times = None if choice == FrameChoice() else _times(picture, number)
        chosen = np.arange(number) if times is None else choice.of(times)
        check_memory(len(chosen), width, height, max_bytes)
        frames = np.empty((len(chosen), height, width, 3), np.uint8)
        durations = np.empty(len(chosen))
        for at, index in enumerate(chosen.tolist()):
            picture.seek(index)
            frames[at] = _to_rgb(picture)
            durations[at] = _duration(picture)
    return frames, _begins(durations) if times is None else times[chosen]


def _times(picture: PillowImage.Image, number: int) -> np.ndarray:
    durations = np.empty(number)
    for index in range(number):
        picture.seek(index)
        picture.load()  # WebP knows a frame's duration once it is decoded
        durations[index] = _duration(picture)
    picture.seek(0)
    return _begins(durations)


def _begins(durations: np.ndarray) -> np.ndarray:
    """When each frame begins, in seconds. durations: milliseconds."""
    return np.concatenate([[0.0], np.cumsum(durations)[:-1]]) / 1000


def _duration(picture: PillowImage.Image) -> float:
    duration = float(picture.info.get("duration", 0) or 0)
    return duration if duration > 0 else _NO_DURATION


def _to_rgb(picture: PillowImage.Image) -> np.ndarray:
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB"))
    ground = PillowImage.new("RGBA", picture.size, "white")
    return np.asarray(PillowImage.alpha_composite(ground, picture.convert("RGBA")).convert("RGB"))


def encode_animation(
    target: io.BytesIO, kind: str, frames: np.ndarray, durations: np.ndarray
) -> None:
    """Write a GIF or WebP that plays for ever. kind: "gif" or "webp". durations: seconds (T,).

    Times are rounded to what the kind has: hundredths of a second in a GIF, thousandths in WebP.
    Frames that are alike follow one another as one.
    """
    unit = 10 if kind == "gif" else 1
    # Rounded where frames begin, so that errors do not add up.
    begins = np.round(np.concatenate([[0.0], np.cumsum(durations)]) * 1000 / unit).astype(int)
    thousandths = np.diff(begins) * unit
    if thousandths.min() < unit:
        raise ValueError(
            f"frames follow one another faster than {1000 // unit:,} times a second, which"
            f" {kind.upper()} cannot hold; write .mp4"
        )
    pictures = [PillowImage.fromarray(frame) for frame in frames]
    options = {"quality": 90, "method": 4} if kind == "webp" else {"optimize": False}
    pictures[0].save(
        target, format=kind.upper(), save_all=True, append_images=pictures[1:],
        duration=thousandths.tolist(), loop=0, **options,
    )  # fmt: skip
