"""How a tower sees pictures: resized, cropped and normalised, as preprocessor_config.json says.

The entries are those of CLIP's and SigLIP's image processors of transformers (on PIL), whose pixels
are equalled; what we write is read by them.

Legend: N pictures, H W pixels, h w of what the tower sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unified_base.text import quoted
from unified_tokenizers.picture_fit import PictureFit
from unified_tokenizers.processors import check_picture, check_sides

__all__ = ["TowerFit", "TowerPictures"]

_LONGEST = 200
_FILTERS = (0, 1, 2, 3, 4, 5)
_LANCZOS = 1
_Mean = tuple[float, float, float]


@dataclass(frozen=True)
class TowerPictures:
    """Pictures as a tower sees them.

    Attributes:
        height, width: of what it sees, in pixels.
        shortest: the shorter side is scaled to this, and the middle cut out; None: the picture is
            scaled to height and width whatever its shape is.
        resample: PIL's number of the filter: 1 Lanczos, 2 bilinear, 3 bicubic.
        mean, std: of the channels, of values in [0, 1].
    """

    height: int
    width: int
    shortest: int | None
    resample: int = _LANCZOS
    mean: _Mean = (0.5, 0.5, 0.5)
    std: _Mean = (0.5, 0.5, 0.5)

    @classmethod
    def square(cls, side: int) -> TowerPictures:
        """The middle square of a picture, of `side` pixels."""
        return cls(side, side, side)

    @classmethod
    def from_entries(cls, entries: Mapping[str, Any], where: str) -> TowerPictures:
        """Of a preprocessor_config.json; `where` is that file, for errors.

        Raises ValueError for what this does not do, such as padding, and for sizes that cannot be.
        """
        for name in ("do_resize", "do_rescale", "do_normalize"):
            if entries.get(name, True) is not True:
                raise ValueError(f"{where}: {name} is {quoted(entries[name])}, expected true")
        if entries.get("do_pad"):
            raise ValueError(f"{where}: do_pad is true, expected false: pictures are not padded")
        size, crops = _sides(entries, "size", where), entries.get("do_center_crop", False)
        shortest = size.get("shortest_edge")
        seen = _sides(entries, "crop_size", where) if crops else size
        if shortest is not None and not crops:
            raise ValueError(f"{where}: size has shortest_edge and nothing is cropped: pictures"
                             " would have many sizes")  # fmt: skip
        try:
            height, width = seen["height"], seen["width"]
        except KeyError:
            raise ValueError(f"{where}: expected height and width, found {quoted(seen)}") from None
        check_sides(height=height, width=width, shortest_edge=shortest or height)
        if crops and (shortest is None or shortest < max(height, width)):
            raise ValueError(
                f"{where}: {height}x{width} pixels are cut out of pictures of size {quoted(size)},"
                " which may be smaller"
            )
        resample = entries.get("resample", 3)
        if resample not in _FILTERS:
            raise ValueError(f"{where}: resample is {quoted(resample)}, expected 0 to 5")
        mean, std = (_channels(entries, f"image_{name}", where) for name in ("mean", "std"))
        return cls(height, width, shortest, resample, mean, std)

    def to_entries(self) -> dict[str, Any]:
        """What `from_entries` and transformers read."""
        sides = {"height": self.height, "width": self.width}
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True, "do_center_crop": self.shortest is not None, "do_rescale": True,
            "do_normalize": True, "do_convert_rgb": True, "resample": self.resample,
            "size": sides if self.shortest is None else {"shortest_edge": self.shortest},
            "crop_size": sides, "rescale_factor": 1 / 255, "image_mean": list(self.mean),
            "image_std": list(self.std),
        }  # fmt: skip

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """A picture uint8 (H, W, 3) to uint8 (h, w, 3).

        Raises ValueError for another shape or type, and for one that is more than 200 times as long
        as wide.
        """
        check_picture(pixels)
        height, width = pixels.shape[:2]
        if max(height, width) > _LONGEST * min(height, width):
            raise ValueError(
                f"a picture of {width}x{height} pixels is more than {_LONGEST} times as long as"
                " wide; crop it first"
            )
        if self.shortest is None:
            return self._resized(pixels, self.height, self.width)
        short = min(height, width)
        # The longer side rounded down, as transformers has it.
        scaled = [side * self.shortest // short for side in (height, width)]
        resized = self._resized(pixels, *scaled)
        top, left = (resized.shape[0] - self.height) // 2, (resized.shape[1] - self.width) // 2
        return resized[top : top + self.height, left : left + self.width]

    def normalised(self, pixels_NHW3: np.ndarray) -> Tensor:
        """What `__call__` gave, uint8 (N, h, w, 3), as the model takes it: float32 (N, 3, h, w)."""
        values = torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).movedim(3, 1).float() / 255
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (self.mean, self.std))
        return (values - mean) / std

    def batch(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Pictures uint8 (H, W, 3) of any sizes as the model takes them."""
        return self.normalised(np.stack([self(pixels) for pixels in pictures]))

    def _resized(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        if pixels.shape[:2] == (height, width):
            return pixels
        picture = Image.fromarray(pixels)
        return np.asarray(picture.resize((width, height), Image.Resampling(self.resample)))


@dataclass(frozen=True)
class TowerFit(PictureFit):
    """Pictures of a training made to fit as a tower sees them: what is trained on is what is asked.

    processor: of the tower.
    """

    processor: TowerPictures

    @classmethod
    def of(cls, processor: TowerPictures) -> TowerFit:
        return cls("resize", processor.height, processor.width, 1, processor)

    def reduce(self, pixels_HW3: np.ndarray) -> np.ndarray:
        """What the tower sees of a picture."""
        return self.processor(pixels_HW3)

    def window(
        self, reduced_HW3: np.ndarray, shape: tuple[int, int], rng: np.random.Generator | None
    ) -> np.ndarray:
        """What `reduce` gave, whole."""
        return reduced_HW3


def _sides(entries: Mapping[str, Any], name: str, where: str) -> dict[str, int]:
    """The sides under `size` or `crop_size`; a number alone is the shorter side, or both."""
    sides = entries.get(name)
    if isinstance(sides, int) and not isinstance(sides, bool):
        return {"shortest_edge": sides} if name == "size" else {"height": sides, "width": sides}
    if not isinstance(sides, dict) or not sides or not all(
        isinstance(side, int) and not isinstance(side, bool) for side in sides.values()
    ):  # fmt: skip
        raise ValueError(f"{where}: {name} is {quoted(sides)}, expected sides in pixels")
    return sides


def _channels(entries: Mapping[str, Any], name: str, where: str) -> _Mean:
    values = entries.get(name)
    numbers = isinstance(values, list) and len(values) == 3
    if not numbers or not all(isinstance(v, int | float) and 0 < v < 1e6 for v in values or ()):
        raise ValueError(f"{where}: {name} is {quoted(values)}, expected three numbers above 0")
    return tuple(float(v) for v in values)  # type: ignore[return-value, union-attr]
