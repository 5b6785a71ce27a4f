"""Which KV slots hold the beginning of a sequence: a radix tree over its positions.

An edge is a run of ids, a path from the root is a sequence. A slot is registered with the ids that
it holds or is about to; several slots may be registered with the same ones (Zheng et al., SGLang's
RadixAttention, arXiv:2312.07104; here a slot is memory of its own, and a prefix is copied from it).
What is called an id here is a position, which may hold several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from unified.engine.backends.base import Position

__all__ = ["RadixTree", "common_prefix"]


def common_prefix(first: Sequence[Position], second: Sequence[Position]) -> int:
    """The number of ids that two sequences have in common before they differ."""
    upto = min(len(first), len(second))
    if first[:upto] == second[:upto]:
        return upto
    common = 0
    while upto - common > 1:  # halved, since slices compare many times faster than a loop does
        middle = (common + upto) // 2
        if first[common:middle] == second[common:middle]:
            common = middle
        else:
            upto = middle
    return common


@dataclass(eq=False)
class _Node:
    """ids: of the edge that leads here. depth: ids from the root to here. slots: registered with
    exactly these."""

    ids: list[Position]
    depth: int
    parent: _Node | None
    children: dict[Position, _Node] = field(default_factory=dict)
    slots: set[int] = field(default_factory=set)


class RadixTree:
    """Slots by the ids that they are registered with."""

    def __init__(self) -> None:
        self._root = _Node([], 0, None)
        self._nodes: dict[int, _Node] = {}

    def __len__(self) -> int:
        """Slots that are registered."""
        return len(self._nodes)

    def insert(self, slot: int, ids: Sequence[Position]) -> None:
        """Register a slot; it must not be registered already."""
        assert slot not in self._nodes
        node, rest = self._root, list(ids)
        while rest:
            child = node.children.get(rest[0])
            if child is None:
                child = _Node(rest, node.depth + len(rest), node)
                node.children[rest[0]] = child
                rest = []
            else:
                common = common_prefix(child.ids, rest)
                if common < len(child.ids):
                    child = self._split(child, common)
                rest = rest[common:]
            node = child
        node.slots.add(slot)
        self._nodes[slot] = node

    def remove(self, slot: int) -> None:
        """Forget a slot."""
        node: _Node | None = self._nodes.pop(slot)
        assert node is not None
        node.slots.remove(slot)
        # Nothing leads to no slot, and nothing is split without need.
        while node is not None and node.parent is not None and not node.slots:
            parent = node.parent
            if not node.children:
                del parent.children[node.ids[0]]
            elif len(node.children) == 1:
                (child,) = node.children.values()
                child.ids, child.parent = node.ids + child.ids, parent
                parent.children[child.ids[0]] = child
            else:
                break
            node = parent

    def matches(self, ids: Sequence[Position]) -> Iterator[tuple[int, int]]:
        """(slot, common): every slot with the number of its ids that `ids` begin with.

        The longest first; slots registered with exactly these ids before such that go on.
        """
        node, at = self._root, 0
        below: _Node | None = None  # the edge towards it is shared as far as `at`
        rest = list(ids)
        while at < len(rest):
            child = node.children.get(rest[at])
            if child is None:
                break
            common = common_prefix(child.ids, rest[at : at + len(child.ids)])
            at += common
            if common < len(child.ids):
                below = child
                break
            node = child
        if below is not None:
            for slot in _slots_under(below):
                yield slot, at
        above: _Node | None = node
        seen = below
        while above is not None:
            for slot in above.slots:
                yield slot, above.depth
            for child in above.children.values():
                if child is not seen:
                    for slot in _slots_under(child):
                        yield slot, above.depth
            seen, above = above, above.parent

    def _split(self, node: _Node, at: int) -> _Node:
        """Cut the edge towards a node after its first `at` ids; the node between."""
        assert node.parent is not None
        middle = _Node(node.ids[:at], node.depth - len(node.ids) + at, node.parent)
        node.parent.children[node.ids[0]] = middle
        node.ids, node.parent = node.ids[at:], middle
        middle.children[node.ids[0]] = node
        return middle


def _slots_under(node: _Node) -> Iterator[int]:
    ahead = [node]
    while ahead:
        node = ahead.pop()
        yield from node.slots
        ahead += node.children.values()
