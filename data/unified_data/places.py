"""Places in pictures: boxes and points, as segments of documents.

A place lies in a frame of width x height units, which is its picture: the picture's own pixels, or
the cells of a grid laid over it. Which picture that is follows from the document
(`Document.picture_of`): the last one before the place, or else the first one behind it.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from unified_base.cells import note_cell
from unified_base.structured import parse_json
from unified_base.text import quoted
from unified_data.segments import MAX_SIDE, Media, Role, plain_numbers, register_media

__all__ = ["Box", "Location", "Point"]

Number = int | float


class Location(Media):
    """A place in a picture; `Box` and `Point` are its kinds.

    Its JSON form is inline, without a file: {"type": "box", "at": [x0, y0, x1, y1], "of": [width,
    height]}.
    """

    endings: ClassVar[tuple[str, ...]] = ("json",)
    entries: ClassVar[tuple[str, ...]] = ("at", "of")

    width: int
    height: int

    @property
    @abstractmethod
    def at(self) -> tuple[Number, ...]:
        """The coordinates, x before y, from the left and the top of the frame."""

    @abstractmethod
    def on(self, width: int, height: int) -> Self:
        """The same place in a frame of another size, such as a picture's pixels."""

    @classmethod
    @abstractmethod
    def of(cls, at: Any, frame: Any, role: Role | None = None, loss: float = 1.0) -> Self:
        """The place of coordinates in a frame, (width, height).

        Raises ValueError for a wrong number of either, and as the class itself does.
        """

    def __post_init__(self) -> None:
        super().__post_init__()
        plain_numbers(self, *(name for name in ("x0", "y0", "x1", "y1", "x", "y", "width", "height")
                              if hasattr(self, name)))  # fmt: skip
        for name in ("width", "height"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 1 <= value <= MAX_SIDE:
                raise ValueError(
                    f"the {name} of a {self.noun}'s picture is {quoted(value)}, expected a whole"
                    f" number, 1 to {MAX_SIDE:,}"
                )
        for value in self.at:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            # Compared before it becomes a float: an integer may be larger than any.
            if not number or not -MAX_SIDE <= value <= 2 * MAX_SIDE:
                raise ValueError(
                    f"a {self.noun} has the coordinate {quoted(value)}, expected a finite number"
                )

    @property
    def nbytes(self) -> int:
        return 8 * (len(self.at) + 2)

    def to_entries(self) -> dict[str, Any]:
        """The values of `entries`, as JSON holds them."""
        return {"at": list(self.at), "of": [self.width, self.height]}

    def to_file(self) -> tuple[str, bytes]:
        """JSON."""
        return "json", json.dumps(self.to_entries()).encode()

    @classmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Self:
        entries = parse_json(data, name, 4096)
        if not isinstance(entries, dict) or set(entries) != set(cls.entries):
            raise ValueError(f"{name} holds {quoted(entries)}, expected an object of at and of")
        return cls.of(entries["at"], entries["of"], role, loss)

    def _repr_html_(self) -> str:
        at = ", ".join(f"{value:g}" for value in self.at)
        return note_cell(f"[{self.noun} {at} of {self.width}x{self.height}]", self.role or "")


def _numbers(what: str, values: Any, number: int) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) or len(values) != number:
        raise ValueError(f"{what} is {quoted(values)}, expected {number} numbers")
    return tuple(values)


def _scaled(value: Number, before: int, after: int) -> Number:
    """A coordinate in a frame of another side; whole where it comes out whole."""
    if before == after:
        return value
    scaled = value * after / before
    return int(scaled) if scaled == math.floor(scaled) else scaled


@register_media
@dataclass(frozen=True)
class Box(Location):
    """A box in a picture: from x0 to x1 across and y0 to y1 down, edges that pixels lie between.

    A box of the whole picture is (0, 0, width, height); one of the first pixel (0, 0, 1, 1).

    Raises ValueError for a box that is empty or leaves its picture: none is cut or turned round.
    """

    modality: ClassVar[str] = "box"
    noun: ClassVar[str] = "box"
    plural: ClassVar[str] = "boxes"

    x0: Number
    y0: Number
    x1: Number
    y1: Number
    width: int
    height: int
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ValueError(
                f"{self._words()} is empty, expected x0 < x1 and y0 < y1 (left, top, right, bottom)"
            )
        if not (self.x0 >= 0 and self.y0 >= 0 and self.x1 <= self.width and self.y1 <= self.height):
            raise ValueError(
                f"{self._words()} leaves its picture of {self.width}x{self.height}, expected x in 0"
                f" to {self.width} and y in 0 to {self.height}"
            )

    def _words(self) -> str:
        return f"the box ({', '.join(f'{value:g}' for value in self.at)})"

    @property
    def at(self) -> tuple[Number, Number, Number, Number]:
        """(x0, y0, x1, y1)."""
        return self.x0, self.y0, self.x1, self.y1

    @classmethod
    def of(cls, at: Any, frame: Any, role: Role | None = None, loss: float = 1.0) -> Self:
        x0, y0, x1, y1 = _numbers("a box", at, 4)
        width, height = _numbers("a box's picture", frame, 2)
        return cls(x0, y0, x1, y1, width, height, role, loss)

    def on(self, width: int, height: int) -> Self:
        return replace(
            self, x0=_scaled(self.x0, self.width, width), x1=_scaled(self.x1, self.width, width),
            y0=_scaled(self.y0, self.height, height), y1=_scaled(self.y1, self.height, height),
            width=width, height=height,
        )  # fmt: skip

    @property
    def area(self) -> float:
        """As a share of the picture, above 0 and at most 1."""
        return (self.x1 - self.x0) * (self.y1 - self.y0) / (self.width * self.height)

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 to 1, of two boxes in one picture.

        Their frames may differ, such as pixels and cells: shares of the sides are compared.
        """
        across, down = (
            min(ends[0], ends[1]) - max(begins[0], begins[1])
            for begins, ends in (
                ((self.x0 / self.width, other.x0 / other.width),
                 (self.x1 / self.width, other.x1 / other.width)),
                ((self.y0 / self.height, other.y0 / other.height),
                 (self.y1 / self.height, other.y1 / other.height)),
            )
        )  # fmt: skip
        both = max(0.0, across) * max(0.0, down)
        return both / (self.area + other.area - both)


@register_media
@dataclass(frozen=True)
class Point(Location):
    """A point in a picture, at least 0 and below its sides: 0.5 is the middle of the first pixel.

    Raises ValueError for a point outside its picture.
    """

    modality: ClassVar[str] = "point"
    noun: ClassVar[str] = "point"
    plural: ClassVar[str] = "points"

    x: Number
    y: Number
    width: int
    height: int
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.x < self.width and 0 <= self.y < self.height):
            raise ValueError(
                f"the point ({self.x:g}, {self.y:g}) lies outside its picture of"
                f" {self.width}x{self.height}, expected x below {self.width} and y below"
                f" {self.height}, 0 or more"
            )

    @property
    def at(self) -> tuple[Number, Number]:
        """(x, y)."""
        return self.x, self.y

    @classmethod
    def of(cls, at: Any, frame: Any, role: Role | None = None, loss: float = 1.0) -> Self:
        width, height = _numbers("a point's picture", frame, 2)
        x, y = _numbers("a point", at, 2)
        return cls(x, y, width, height, role, loss)

    def on(self, width: int, height: int) -> Self:
        return replace(
            self, x=_scaled(self.x, self.width, width), y=_scaled(self.y, self.height, height),
            width=width, height=height,
        )  # fmt: skip
