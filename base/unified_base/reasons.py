"""Reasons for skipping samples, counted by kind, to report the commonest."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["Reasons"]

_KINDS = 1000
_NUMBER = re.compile(r"\d[\d,.]*")
_QUOTED = re.compile(r"'[^']*'")


class Reasons:
    """Reasons that differ in numbers and quoted names alone are of one kind.

    Attributes:
        count: of all reasons.
        first: the first `keep` of them, each "NAME: REASON".
    """

    def __init__(self, keep: int = 20) -> None:
        self.count = 0
        self.first: list[str] = []
        self._keep = keep
        self._kinds: Counter[str] = Counter()
        self._of_kind: dict[str, str] = {}

    def add(self, name: str, reason: str) -> None:
        """Count what is called `name`, which was left out for that reason."""
        self.count += 1
        text = f"{name}: {reason}"
        if len(self.first) < self._keep:
            self.first.append(text)
        kind = _NUMBER.sub("#", _QUOTED.sub("''", reason.replace(name, "")))[:500]
        if kind in self._of_kind or len(self._of_kind) < _KINDS:
            self._kinds[kind] += 1
            self._of_kind.setdefault(kind, text)

    @property
    def commonest(self) -> tuple[int, str] | None:
        """How many are of the commonest kind, and the first of them; None where there are none."""
        for kind, count in self._kinds.most_common(1):
            return count, self._of_kind[kind]
        return None
