"""Preprocessing of pictures as the published image processors do it: resize, crop and pad.

Each class states the settings of one processor of transformers 5.24 in its defaults and is read
from the preprocessor_config.json beside a checkpoint's weights. What is equalled, pixel for pixel,
are the processors on PIL: `Emu3ImageProcessor`, `ChameleonImageProcessorPil` and
`JanusImageProcessorPil`. Where torchvision is installed transformers picks another variant of the
last two, whose pixels differ by one level of 255 at most. Apertus 1.5 has one on torchvision alone;
`ApertusProcessor` resizes with the function of torch that torchvision calls.

Pictures come as RGB (transparency composed on white by our readers; transformers drops the alpha
channel). Rescaling and normalisation are the adapters': see `adapters_image`.

Legend: H W pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from PIL import Image

from unified_base.config import parse_config
from unified_base.text import quoted

__all__ = [
    "ApertusProcessor",
    "ChameleonProcessor",
    "Emu3Processor",
    "JanusProcessor",
    "PictureProcessor",
    "check_picture",
    "check_sides",
]

_LONGEST = 200
"""Times as long as wide. Emu3's processor refuses what is longer; scaled to 512 pixels on the short
side such a picture would be gigabytes."""
_LARGEST_SIDE = 1 << 14
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclass(frozen=True)
class PictureProcessor(ABC):
    """Resizing of pictures, with settings as data.

    Attributes:
        do_resize: without it pictures stay as they are.
        resample: PIL's number of the filter: 1 Lanczos, 2 bilinear, 3 bicubic.
    """

    do_resize: bool = True
    resample: int = 3

    def __post_init__(self) -> None:
        if self.resample not in _FILTERS:
            raise ValueError(f"resample is {self.resample}, expected one of {sorted(_FILTERS)}")

    @classmethod
    def from_entries(cls, entries: Mapping[str, Any], where: str) -> Self:
        """The processor that a preprocessor_config.json states; entries of others are passed over.

        `where` is that file, for errors. Raises ValueError for settings that cannot be.
        """
        names = {field.name for field in fields(cls)}
        flat = cls._flat(entries, where)
        stated = {name: flat[name] for name in names if flat.get(name) is not None}
        return parse_config(cls, stated, where)

    @classmethod
    def _flat(cls, entries: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """The entries with what lies in `size` and `crop_size` under our names."""
        return entries

    def to_entries(self) -> dict[str, Any]:
        """What `from_entries` reads."""
        return asdict(self)

    @abstractmethod
    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what a picture of this size becomes."""

    @abstractmethod
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """A picture uint8 (H, W, 3) to uint8 of `size`.

        Raises ValueError for a picture that is not uint8 (H, W, 3), is empty, or is more than 200
        times as long as wide.
        """

    def _resized(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        picture = Image.fromarray(pixels)
        return np.asarray(picture.resize((width, height), Image.Resampling(self.resample)))


def check_picture(pixels: np.ndarray) -> None:
    """Raises ValueError for a picture that is not uint8 (H, W, 3), or is empty."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            f"the picture is {pixels.dtype} {pixels.shape}, expected uint8 (H, W, 3), not empty"
        )


def _check_ratio(height: int, width: int) -> None:
    if min(height, width) < 1 or max(height, width) > _LONGEST * min(height, width):
        raise ValueError(
            f"a picture of {width}x{height} pixels is more than {_LONGEST} times as long as wide;"
            " crop it first"
        )


def check_sides(**sides: int) -> None:
    """Raises ValueError, with its name, for a side that no picture has."""
    for name, side in sides.items():
        if not 1 <= side <= _LARGEST_SIDE:
            raise ValueError(f"{name} is {side}, expected 1 to {_LARGEST_SIDE:,}")


def _sides(entries: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """A size of an image processor: a mapping, or one number for both sides."""
    value = entries.get(name)
    if value is None:
        return {}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"height": value, "width": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {name} is {quoted(value)}, expected height and width")
    return value


@dataclass(frozen=True)
class Emu3Processor(PictureProcessor):
    """Both sides to multiples of `spatial_factor`, the area within bounds, the proportions kept.

    `Emu3ImageProcessor` of transformers (and `Apertus1p5ImageProcessor`, with other numbers).
    """

    min_pixels: int = 512 * 512
    max_pixels: int = 1024 * 1024
    spatial_factor: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(spatial_factor=self.spatial_factor)
        if not 0 <= self.min_pixels <= self.max_pixels <= _LARGEST_SIDE**2:
            raise ValueError(
                f"min_pixels is {self.min_pixels} and max_pixels {self.max_pixels}, expected"
                f" 0 <= min_pixels <= max_pixels <= {_LARGEST_SIDE**2:,}"
            )

    @classmethod
    def _flat(cls, entries: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        return {**_sides(entries, "size", where), **entries}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width), multiples of `spatial_factor`: rounded, or scaled into the bounds."""
        _check_ratio(height, width)
        if not self.do_resize:
            return height, width
        factor = self.spatial_factor
        rounded = tuple(round(side / factor) * factor for side in (height, width))
        area = rounded[0] * rounded[1]
        if area > self.max_pixels:
            scale = math.sqrt((height * width) / self.max_pixels)
            rounded = tuple(
                max(factor, math.floor(side / scale / factor) * factor) for side in (height, width)
            )
        elif area < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (height * width))
            rounded = tuple(math.ceil(side * scale / factor) * factor for side in (height, width))
        return rounded[0], rounded[1]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """See `PictureProcessor`."""
        check_picture(pixels)
        size = self.size(pixels.shape[0], pixels.shape[1])
        return self._resized(pixels, *size) if self.do_resize else pixels


@dataclass(frozen=True)
class ApertusProcessor(Emu3Processor):
    """Emu3's rule with areas of 128x128 to 1400x1400 and multiples of 16.

    `Apertus1p5ImageProcessor` of transformers, which resizes bytes by torch's antialiased bicubic
    filter.
    """

    min_pixels: int = 128 * 128
    max_pixels: int = 1400 * 1400
    spatial_factor: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resample != 3:
            raise ValueError(f"resample is {self.resample}, expected 3 (bicubic) for Apertus 1.5")

    def _resized(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        import torch

        if pixels.shape[:2] == (height, width):
            return pixels
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        resized = torch.nn.functional.interpolate(
            image, (height, width), mode="bicubic", align_corners=False, antialias=True
        )
        return np.ascontiguousarray(resized[0].numpy().transpose(1, 2, 0))


@dataclass(frozen=True)
class ChameleonProcessor(PictureProcessor):
    """The shorter side scaled to `shortest_edge`, then a crop from the middle.

    `ChameleonImageProcessorPil` of transformers.
    """

    resample: int = 1
    shortest_edge: int = 512
    do_center_crop: bool = True
    crop_height: int = 512
    crop_width: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(
            shortest_edge=self.shortest_edge, crop_height=self.crop_height,
            crop_width=self.crop_width,
        )  # fmt: skip
        # transformers would fill up with black.
        if self.do_center_crop and max(self.crop_height, self.crop_width) > self.shortest_edge:
            raise ValueError(
                f"crop_size is {self.crop_width}x{self.crop_height}, larger than shortest_edge"
                f" {self.shortest_edge}: pictures would get black margins"
            )

    @classmethod
    def _flat(cls, entries: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        size, crop = _sides(entries, "size", where), _sides(entries, "crop_size", where)
        if size and "shortest_edge" not in size and size.get("height") == size.get("width"):
            size = {"shortest_edge": size["height"]}  # one number, as older files have it
        sides = {f"crop_{name}": crop[name] for name in ("height", "width") if name in crop}
        return {**size, **sides, **entries}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(crop_height, crop_width), or without cropping what scaling gives."""
        _check_ratio(height, width)
        if self.do_resize:
            height, width = self._scaled(height, width)
        if not self.do_center_crop:
            return height, width
        if height < self.crop_height or width < self.crop_width:
            raise ValueError(
                f"a picture of {width}x{height} pixels is too small to crop"
                f" {self.crop_width}x{self.crop_height} from it"
            )
        return self.crop_height, self.crop_width

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        edge = self.shortest_edge
        if width <= height:
            return int(edge * height / width), edge
        return edge, int(edge * width / height)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """See `PictureProcessor`."""
        check_picture(pixels)
        self.size(pixels.shape[0], pixels.shape[1])
        if self.do_resize:
            pixels = self._resized(pixels, *self._scaled(pixels.shape[0], pixels.shape[1]))
        if not self.do_center_crop:
            return pixels
        top = (pixels.shape[0] - self.crop_height) // 2
        left = (pixels.shape[1] - self.crop_width) // 2
        return pixels[top : top + self.crop_height, left : left + self.crop_width]


@dataclass(frozen=True)
class JanusProcessor(PictureProcessor):
    """The longer side scaled to `side`, the shorter one to at least `min_size`, on a square.

    `JanusImageProcessorPil` of transformers. The square is of the mean colour, which
    normalisation turns into zeros.
    """

    side: int = 384
    min_size: int = 14
    do_pad: bool = True
    background: tuple[int, int, int] = (127, 127, 127)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(side=self.side, min_size=self.min_size)
        if not all(0 <= level <= 255 for level in self.background):
            raise ValueError(f"background is {self.background}, expected three of 0 to 255")

    @classmethod
    def _flat(cls, entries: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        size = _sides(entries, "size", where)
        if size and size.get("height") != size.get("width"):
            raise ValueError(
                f"{where}: size is {quoted(dict(size))}, expected height and width alike"
            )
        sides = {"side": size["height"]} if size.get("height") is not None else {}
        mean = entries.get("image_mean")
        if isinstance(mean, list | tuple) and len(mean) == 3:
            # Always of the mean, whatever background_color says: so does transformers.
            sides["background"] = [min(255, max(0, int(value * 255))) for value in mean]
        return {**sides, **entries}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """A square of `side`, where pictures are scaled and padded."""
        _check_ratio(height, width)
        if self.do_resize:
            height, width = self._scaled(height, width)
        longest = max(height, width)
        return (longest, longest) if self.do_pad else (height, width)

    def _scaled(self, height: int, width: int) -> tuple[int, int]:
        scale = self.side / max(height, width)
        return max(round(height * scale), self.min_size), max(round(width * scale), self.min_size)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """See `PictureProcessor`."""
        check_picture(pixels)
        height, width = self.size(pixels.shape[0], pixels.shape[1])
        if self.do_resize:
            pixels = self._resized(pixels, *self._scaled(pixels.shape[0], pixels.shape[1]))
        if pixels.shape[:2] == (height, width):
            return pixels
        square = np.empty((height, width, 3), np.uint8)
        square[:] = np.array(self.background, np.uint8)
        top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
        square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return square
