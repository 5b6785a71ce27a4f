"""Which sizes the pictures of a task may have. All sizes are (width, height) in pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified_base.arguments import flag, whole, whole_or_none, whole_pair
from unified_base.text import quoted
from unified_data.document import MAX_SIDE

__all__ = ["SizeRule", "read_size", "write_size"]

Size = tuple[int, int]
_WRITTEN = re.compile(r"([0-9]{1,6})\s*[x*\u00d7X]\s*([0-9]{1,6})")


def read_size(value: Any, name: str = "size") -> Size:
    """A size as "640x480" or a pair (width, height). Raises ValueError for anything else."""
    if isinstance(value, str):
        match = _WRITTEN.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{name} is {quoted(value)}, expected WIDTHxHEIGHT such as 512x384")
        value = int(match[1]), int(match[2])
    width, height = whole_pair(name, value)
    return whole(f"{name}'s width", width, 1, MAX_SIDE), whole(
        f"{name}'s height", height, 1, MAX_SIDE
    )


def write_size(size: Size) -> str:
    """(640, 480) as "640x480"."""
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class SizeRule:
    """The sizes that pictures may have.

    default: the size where nobody names one; None: the model chooses among those it may have.
    fixed: no size but the default. multiple_of: both sides are multiples of it.
    min_side, max_side: of each side. None: no bound.
    min_area, max_area: of width * height before the sides are rounded to the nearest multiples, as
        published processors work sizes out: 16:9 of 518,400 pixels is 960x540, and so 960x544 where
        sides are multiples of 8. A size keeps them if some sides within half a multiple of its own
        do; where sides are multiples of 1, its own must. None: no bound.

    Raises ValueError for a rule that no size keeps, such as a default outside its own bounds.
    """

    default: Size | None = None
    fixed: bool = False
    multiple_of: int = 1
    min_side: int | None = None
    max_side: int | None = None
    min_area: int | None = None
    max_area: int | None = None

    def __post_init__(self) -> None:
        flag("fixed", self.fixed)
        object.__setattr__(self, "multiple_of", whole("multiple_of", self.multiple_of, 1, MAX_SIDE))
        for name in ("min_side", "max_side"):
            object.__setattr__(self, name, whole_or_none(name, getattr(self, name), 1, MAX_SIDE))
        for name in ("min_area", "max_area"):
            value = whole_or_none(name, getattr(self, name), 1, MAX_SIDE**2)
            object.__setattr__(self, name, value)
        for least, most in (("min_side", "max_side"), ("min_area", "max_area")):
            low, high = getattr(self, least), getattr(self, most)
            if low is not None and high is not None and low > high:
                raise ValueError(f"{least} is {low}, more than {most}, {high}")
        if self.fixed and self.default is None:
            raise ValueError("fixed needs a default, the only size there is")
        if self.default is not None:
            object.__setattr__(self, "default", read_size(self.default, "default"))
            assert self.default is not None
            if not self._holds(self.default):
                raise ValueError(f"default is {write_size(self.default)}, expected {self.words}")
        elif not self._holds(self.nearest((MAX_SIDE, MAX_SIDE))):
            raise ValueError(f"no size keeps the rule: {self.words}")

    def choose(self, size: Any = None) -> Size | None:
        """The size asked for ("640x480" or a pair), or the default. None: the model chooses.

        Raises ValueError, with the nearest size that there is, for one that the rule leaves out.
        """
        if size is None:
            return self.default
        wanted = read_size(size)
        if (self.fixed and wanted != self.default) or not self._holds(wanted):
            raise ValueError(
                f"pictures of {write_size(wanted)} cannot be had here, expected {self.words}; the"
                f" nearest is {write_size(self.nearest(wanted))}"
            )
        return wanted

    @property
    def words(self) -> str:
        """The rule as it is told: "multiples of 8, sides of at most 2048"."""
        if self.fixed and self.default is not None:
            return f"{write_size(self.default)} alone"
        parts = [f"multiples of {self.multiple_of}" if self.multiple_of > 1 else "any size"]
        if self.min_side is not None:
            parts.append(f"sides of at least {self.min_side}")
        if self.max_side is not None:
            parts.append(f"sides of at most {self.max_side}")
        if self.min_area is not None:
            parts.append(f"at least {self.min_area:,} pixels")
        if self.max_area is not None:
            parts.append(f"at most {self.max_area:,} pixels")
        rounded = self.multiple_of > 1 and (self.min_area or self.max_area) is not None
        return ", ".join(parts) + (" before sides are rounded" if rounded else "")

    def nearest(self, size: Size) -> Size:
        """A size of the rule with nearly these proportions, and as near to it as they allow."""
        if self.fixed and self.default is not None:
            return self.default
        if self._holds(size):
            return size
        area = size[0] * size[1]
        scale = 1.0
        if self.max_area is not None and area > self.max_area:
            scale = math.sqrt(self.max_area / area)
        elif self.min_area is not None and area < self.min_area:
            scale = math.sqrt(self.min_area / area)
        if self.max_side is not None:
            scale = min(scale, self.max_side / max(size))
        if self.min_side is not None:
            scale = max(scale, self.min_side / min(size))
        step, least, most = self._steps()
        sides = [min(max(round(side * scale / step), least), most) for side in size]
        # Bounds of the sides may have led out of those of the area.
        while self._area_is(sides[0] * step, sides[1] * step) > 0 and max(sides) > least:
            sides[sides.index(max(sides))] -= 1
        while self._area_is(sides[0] * step, sides[1] * step) < 0 and min(sides) < most:
            sides[sides.index(min(sides))] += 1
        return sides[0] * step, sides[1] * step

    def to_json(self) -> dict[str, Any]:
        """The entries that differ from their defaults."""
        values = {
            name: getattr(self, name)
            for name, field in self.__dataclass_fields__.items()
            if getattr(self, name) != field.default
        }
        if self.default is not None:
            values["default"] = write_size(self.default)
        return values

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> SizeRule:
        """The inverse of `to_json`. Raises ValueError for an unknown entry."""
        unknown = sorted(set(obj) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"unknown entry {quoted(unknown[0])}, expected some of"
                f" {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**{name: value for name, value in obj.items() if value is not None})

    def _steps(self) -> tuple[int, int, int]:
        """`multiple_of`, and the least and most of it that a side may have."""
        step = self.multiple_of
        least = max(1, math.ceil((self.min_side or 1) / step))
        return step, least, max(least, (self.max_side or MAX_SIDE) // step)

    def _holds(self, size: Size) -> bool:
        return (
            all(side % self.multiple_of == 0 for side in size)
            and (self.min_side is None or min(size) >= self.min_side)
            and (self.max_side is None or max(size) <= self.max_side)
            and self._area_is(*size) == 0
        )

    def _area_is(self, width: int, height: int) -> int:
        """1 for an area above its bound, -1 for one below, 0 for one that keeps both."""
        half = self.multiple_of / 2 if self.multiple_of > 1 else 0.0
        if self.max_area is not None and (width - half) * (height - half) > self.max_area:
            return 1
        if self.min_area is not None and (width + half) * (height + half) < self.min_area:
            return -1
        return 0
