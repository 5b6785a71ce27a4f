"""Which source is next: every one comes to its share of the ids, at every level of a nesting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from unified.dataloading.order import draw
from unified.dataloading.source import Source

__all__ = ["Mixture"]

# A stream begins as if each source had been served up to so many ids, about a short document:
# streams then begin with different sources, and no source starts behind the others by more.
_HEAD_START = 256


@dataclass(eq=False)
class _Node:
    name: str
    share: float
    head_start: float
    children: list[_Node] = field(default_factory=list)
    parent: _Node | None = None
    served: int = 0
    ended: bool = False

    @property
    def passed(self) -> float:
        return (self.served + self.head_start) / self.share


class Mixture:
    """The sources of one stream. At every level the one furthest behind its share of ids is next.

    This is stride scheduling (Waldspurger and Weihl, 1995) with a document's ids as its strides.
    """

    def __init__(self, sources: Mapping[str, Source], seed: int, stream: int) -> None:
        self._leaves: dict[str, _Node] = {}
        self._root = _Node("", 1.0, 0.0)
        self._grow(self._root, sources, (seed, stream))

    def _grow(self, node: _Node, sources: Mapping[str, Source], key: tuple[int, int]) -> None:
        for name, source in sources.items():
            path = f"{node.name}/{name}" if node.name else name
            start = _HEAD_START * (draw("mixing", *key, path) >> 192) / 2**64
            child = _Node(path, source.share, start, parent=node)
            node.children.append(child)
            if source.sources:
                self._grow(child, source.sources, key)
            else:
                self._leaves[path] = child

    def next(self) -> str | None:
        """The source to draw from, None once all have ended."""
        node = self._root
        while node.children:
            if node.ended:
                return None
            going = [child for child in node.children if not child.ended]
            node = min(going, key=lambda child: child.passed)
        return node.name

    def serve(self, name: str, ids: int) -> None:
        """Count ids drawn from a source."""
        node: _Node | None = self._leaves[name]
        while node is not None:
            node.served += ids
            node = node.parent

    def end(self, name: str) -> None:
        """Leave a source out from now on; so is a group none of whose sources goes on."""
        node: _Node | None = self._leaves[name]
        while node is not None and all(child.ended for child in node.children):
            node.ended = True
            node = node.parent

    @property
    def served(self) -> dict[str, int]:
        """Ids drawn from every source."""
        return {name: node.served for name, node in self._leaves.items()}
