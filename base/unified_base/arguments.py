"""Numbers, texts and choices that a caller gives: taken as they are, or refused by name.

Every check returns the plain Python value (numpy's numbers become Python's) or raises ValueError
with the parameter, the value and what was expected. True and False are no numbers here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from unified_base.text import quoted

__all__ = [
    "MAX_PROMPT",
    "MOST",
    "MOST_BYTES",
    "flag",
    "item",
    "prompt",
    "real",
    "seed_of",
    "seeds_from",
    "seeds_of",
    "several",
    "text",
    "texts",
    "whole",
    "whole_or_none",
    "whole_pair",
    "whole_sides",
]

# Of whatever is counted: ids, rows, pictures. Far above any use, and products of two still fit.
MOST = 10**9
MOST_BYTES = 2**63 - 1
"""Of memory: caches of large models take more than `MOST`."""
MAX_PROMPT = 16_000
"""Most characters of a prompt, a caption, a question or a sentence to be spoken."""
_MOST_SEED = 2**63 - 1


def real(
    name: str, value: Any, least: float, most: float, *also: float, expected: str | None = None
) -> float:
    """A number from `least` to `most`, or one of `also`. expected: that in other words."""
    if expected is None:
        expected = (
            "".join(f"{extra:g} or " for extra in also) + f"a number from {least:g} to {most:g}"
        )
    number = _plain(value)
    # NaN compares with nothing, and an integer of any size does without an overflow.
    if type(number) in (int, float) and (number in also or least <= number <= most):
        return float(number)
    raise ValueError(f"{name} is {quoted(value)}, expected {expected}")


def whole(name: str, value: Any, least: int, most: int = MOST, expected: str | None = None) -> int:
    """A whole number from `least` to `most`. expected: that in other words."""
    expected = expected or f"a whole number from {least} to {most}"
    number = _plain(value)
    if type(number) is int and least <= number <= most:
        return number
    raise ValueError(f"{name} is {quoted(value)}, expected {expected}")


def whole_or_none(name: str, value: Any, least: int, most: int = MOST) -> int | None:
    """A whole number from `least` to `most`, or None."""
    if value is None:
        return None
    number = _plain(value)
    if type(number) is int and least <= number <= most:
        return number
    raise ValueError(
        f"{name} is {quoted(value)}, expected None or a whole number from {least} to {most}"
    )


def whole_pair(name: str, value: Any) -> tuple[int, int]:
    """Two whole numbers of at least 1."""
    parts = _plain(value)
    if isinstance(parts, tuple | list) and len(parts) == 2:
        first, second = (whole(f"{name}[{at}]", part, 1) for at, part in enumerate(parts))
        return first, second
    raise ValueError(f"{name} is {quoted(value)}, expected two whole numbers of at least 1")


def whole_sides(name: str, value: Any) -> tuple[int, ...]:
    """Whole numbers of at least 1, one for each side of a grid."""
    parts = _plain(value)
    if isinstance(parts, tuple | list) and parts:
        return tuple(whole(f"{name}[{at}]", part, 1) for at, part in enumerate(parts))
    raise ValueError(f"{name} is {quoted(value)}, expected whole numbers of at least 1")


def seed_of(value: Any, name: str = "seed") -> int:
    """A seed of random numbers: a whole number from 0 to 2^63 - 1."""
    number = _plain(value)
    if type(number) is int and 0 <= number <= _MOST_SEED:
        return number
    raise ValueError(f"{name} is {quoted(value)}, expected a whole number from 0 to 2^63 - 1")


def seeds_of(values: Any, number: int) -> list[int]:
    """`number` seeds; None: 0, 1, 2, ..."""
    if values is None:
        return list(range(number))
    listed = _plain(values)
    if not isinstance(listed, Sequence) or isinstance(listed, str | bytes):
        raise ValueError(f"seeds is {quoted(values)}, expected a list of {number} whole numbers")
    if len(listed) != number:
        raise ValueError(f"{number} documents but {len(listed)} seeds; expected one for each")
    return [seed_of(value, f"seeds[{at}]") for at, value in enumerate(listed)]


def seeds_from(first: Any, number: int) -> list[int]:
    """The seeds first, first + 1, ... of so many samples."""
    start = seed_of(first)
    seed_of(start + number - 1, f"seed + {number - 1}, the last of {number} samples,")
    return list(range(start, start + number))


def flag(name: str, value: Any) -> bool:
    """True or False."""
    plain = _plain(value)
    if isinstance(plain, bool):
        return plain
    raise ValueError(f"{name} is {quoted(value)}, expected True or False")


def item(name: str, value: Any, kind: type, expected: str) -> Any:
    """A value of a class."""
    if isinstance(value, kind):
        return value
    raise ValueError(f"{name} is {quoted(value)}, expected {expected}")


def several(name: str, values: Any, kind: type) -> list[Any]:
    """A list of objects of a class."""
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return [
            item(f"{name}[{at}]", value, kind, f"a {kind.__name__}")
            for at, value in enumerate(values)
        ]
    raise ValueError(f"{name} is {quoted(values)}, expected a list of {kind.__name__}")


def text(name: str, value: Any) -> str:
    """A text, empty or not."""
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} is {quoted(value)}, expected a text")


def prompt(name: str, value: Any, example: str = "say what is wanted") -> str:
    """A text of 1 to 16,000 characters that someone asks with, not of spaces alone."""
    wanted = text(name, value)
    if len(wanted) > MAX_PROMPT:
        raise ValueError(
            f"the {name} has {len(wanted):,} characters, expected at most {MAX_PROMPT:,}; "
            "shorten it"
        )
    if not wanted.strip():
        raise ValueError(f"the {name} is empty; {example}")
    return wanted


def texts(name: str, values: Any) -> tuple[str, ...]:
    """Several texts, none of them empty."""
    several = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    if several and all(isinstance(value, str) and value for value in values):
        return tuple(values)
    raise ValueError(
        f"{name} is {quoted(values)}, expected a list of texts of at least a character"
    )


def _plain(value: Any) -> Any:
    """What Python has for a scalar or an array of numpy; anything else as it is.

    Numpy is not imported for it: nobody can have one of its numbers where it is not loaded.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return value
    if isinstance(value, numpy.generic):
        return value.item()
    return value.tolist() if isinstance(value, numpy.ndarray) and value.ndim else value
