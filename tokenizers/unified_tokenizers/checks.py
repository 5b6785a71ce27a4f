"""What every tokenizer refuses: codes no encoder could have made, and media that are none.

Legend: B batch, K codebooks, T frames, H W pixels or grid, S samples, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes 1.3 s to import, and codes may be arrays
    import numpy as np
    from torch import Tensor

    from unified_tokenizers.base import Codes

__all__ = [
    "check_audio_codes",
    "check_codes",
    "check_grid",
    "check_image_codes",
    "check_picture_array",
    "check_pixels",
    "check_samples",
    "check_sound_array",
    "check_video_codes",
    "check_videos",
    "check_waveform",
]


def check_codes(
    codes: Tensor | np.ndarray, codebook_sizes: tuple[int, ...], grid_dims: int, what: str
) -> None:
    """Refuse codes that no encoder could have made.

    Raises:
        ValueError: the shape is not (B, K, *grid), the dtype is not int64, or a code is out of
            the range of its codebook.
    """
    shape = tuple(codes.shape)
    if codes.ndim != 2 + grid_dims or codes.shape[1] != len(codebook_sizes) or 0 in shape:
        grid = {1: "T", 2: "H, W", 3: "T, H, W", 4: "R, C, H, W"}[grid_dims]
        raise ValueError(
            f"{what} codes have shape {shape}, expected (B, {len(codebook_sizes)}, {grid})"
            " with no empty axis"
        )
    if str(codes.dtype).removeprefix("torch.") != "int64":
        expected = "int64" if str(codes.dtype).isalnum() else "torch.int64"
        raise ValueError(f"{what} codes have dtype {codes.dtype}, expected {expected}")
    for level, size in enumerate(codebook_sizes):
        low, high = int(codes[:, level].min()), int(codes[:, level].max())
        if low < 0 or high >= size:
            bad = low if low < 0 else high
            raise ValueError(
                f"{what} code {bad} at level {level} is out of range, expected 0 to {size - 1}"
            )


def check_waveform(media: Tensor, channels: int) -> Tensor:
    """Waveforms (B, channels, S) as float32.

    Raises:
        ValueError: another shape or dtype, empty, or values that are not finite.
    """
    if media.ndim != 3 or media.shape[1] != channels or media.numel() == 0:
        advice = "; mix stereo down first" if channels == 1 else ""
        shape = "B, 1, S" if channels == 1 else f"B, {channels}, S"
        raise ValueError(
            f"waveforms have shape {tuple(media.shape)}, expected ({shape}) and not empty{advice}"
        )
    import torch

    if not media.is_floating_point():
        raise ValueError(f"waveforms have dtype {media.dtype}, expected floating point")
    if not torch.isfinite(media).all():
        raise ValueError("the waveform holds values that are not finite (NaN or infinity)")
    return media.float()


def check_pixels(media: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), uint8 or floating point in [0, 1], as float32 in [0, 1].

    Raises:
        ValueError: another shape or dtype, an empty picture, values outside [0, 1], or values
            that are not finite.
    """
    if media.ndim != 4 or media.shape[1] != 3 or media.numel() == 0:
        raise ValueError(
            f"pictures have shape {tuple(media.shape)}, expected (B, 3, H, W) and not empty"
        )
    import torch

    if media.dtype == torch.uint8:
        return media.float() / 255
    if not media.is_floating_point():
        raise ValueError(f"pictures have dtype {media.dtype}, expected uint8 or floating point")
    pixels = media.float()
    if not torch.isfinite(pixels).all():
        raise ValueError("the picture holds values that are not finite (NaN or infinity)")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise ValueError(f"pixels range from {low:g} to {high:g}, expected [0, 1]")
    return pixels


def check_videos(media: Tensor) -> Tensor:
    """Videos (B, 3, T, H, W), uint8 or floating point in [0, 1], as float32 in [0, 1].

    Raises:
        ValueError: another shape, and as `check_pixels`.
    """
    if media.ndim != 5 or media.shape[1] != 3 or media.numel() == 0:
        raise ValueError(
            f"videos have shape {tuple(media.shape)}, expected (B, 3, T, H, W) and not empty"
        )
    return check_pixels(media.flatten(2, 3)).reshape(media.shape)


def check_picture_array(media: np.ndarray) -> np.ndarray:
    """`check_pixels` for arrays: float32 (B, 3, H, W) in [0, 1]."""
    import numpy as np

    if media.ndim != 4 or media.shape[1] != 3 or media.size == 0:
        raise ValueError(f"pictures have shape {media.shape}, expected (B, 3, H, W) and not empty")
    if media.dtype == np.uint8:
        return media.astype(np.float32) / np.float32(255)
    if media.dtype.kind != "f":
        raise ValueError(f"pictures have dtype {media.dtype}, expected uint8 or floating point")
    if not np.isfinite(media).all():
        raise ValueError("the picture holds values that are not finite (NaN or infinity)")
    low, high = float(media.min()), float(media.max())
    if low < 0 or high > 1:
        raise ValueError(f"pixels range from {low:g} to {high:g}, expected [0, 1]")
    return media.astype(np.float32)


def check_sound_array(media: np.ndarray) -> np.ndarray:
    """`check_waveform` for arrays of one channel: float32 (B, 1, S)."""
    import numpy as np

    if media.ndim != 3 or media.shape[1] != 1 or media.size == 0:
        raise ValueError(
            f"waveforms have shape {media.shape}, expected (B, 1, S) and not empty;"
            " mix stereo down first"
        )
    if media.dtype.kind != "f":
        raise ValueError(f"waveforms have dtype {media.dtype}, expected floating point")
    if not np.isfinite(media).all():
        raise ValueError("the waveform holds values that are not finite (NaN or infinity)")
    return media.astype(np.float32)


def check_audio_codes(codes: Codes, codebook_sizes: tuple[int, ...], hop: int) -> None:
    """`check_codes`, and that the number of samples belongs to the number of frames."""
    check_codes(codes.codes, codebook_sizes, 1, "audio")
    check_samples(codes.codes.shape[2], codes.size[0], hop)


def check_samples(frames: int, num_samples: int, hop: int) -> None:
    """Raises ValueError for a number of samples that does not belong to the number of frames."""
    if -(-num_samples // hop) != frames:
        raise ValueError(f"{num_samples} samples do not have {frames} frames at {hop} samples each")


def check_image_codes(codes: Codes, codebook_sizes: tuple[int, ...], stride: int) -> None:
    """`check_codes`, and that the size in pixels belongs to the grid."""
    check_codes(codes.codes, codebook_sizes, 2, "image")
    check_grid(tuple(codes.codes.shape[2:]), codes.size, stride)


def check_grid(grid: tuple[int, ...], size: tuple[int, ...], stride: int) -> None:
    """Raises ValueError for a size in pixels that does not belong to the grid of codes."""
    if tuple(-(-side // stride) for side in size) != grid:
        raise ValueError(
            f"a picture of {size} pixels does not have a grid of {grid} codes at stride {stride}"
        )


def check_video_codes(
    codes: Codes, codebook_sizes: tuple[int, ...], stride: int, group: int
) -> None:
    """`check_codes`, and that frames and pixels belong to the grid."""
    check_codes(codes.codes, codebook_sizes, 3, "video")
    frames, *sides = codes.size
    if frames < 1 or 1 + -(-(frames - 1) // group) != codes.codes.shape[2]:
        raise ValueError(
            f"a video of {frames} frames does not have {codes.codes.shape[2]} frames of codes: the"
            f" first is of one, each other of {group}"
        )
    check_grid(tuple(codes.codes.shape[3:]), tuple(sides), stride)
