"""The ids that the items of a span expand to, once its size variables are known."""

from __future__ import annotations

from collections.abc import Iterator

from unified.formats.span_stages import DelayFlush, Env, Leaf, latest_level
from unified.formats.spec import CodesItem, Delayed, Item, Literal, Marker, Repeat
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary

IndexedLeaf = tuple[Leaf, int | None]
"""A leaf, and the row or frame (index on the first axis of the grid) of its code, if it has one."""


class LeafExpander:
    """Expands items of one kind of span to leaves, and counts them without doing so.

    blocks: the codebook blocks of the kind, by level.
    """

    def __init__(self, kind: str, blocks: tuple[Block, ...], vocabulary: Vocabulary):
        self.kind = kind
        self.blocks = blocks
        self.vocabulary = vocabulary

    def levels(self, codes: CodesItem) -> tuple[int, ...]:
        """The levels that an item of codes holds: all of the kind, or the one of its block."""
        if codes.blocks == self.kind:
            return tuple(range(len(self.blocks)))
        for k, block in enumerate(self.blocks):
            if block.name == codes.blocks:
                return (k,)
        raise ValueError(
            f"the format's {self.kind} spans have codes of block '{codes.blocks}'; the vocabulary"
            f" has {', '.join(b.name for b in self.blocks)} for them"
        )

    def expand(
        self,
        items: tuple[Item | DelayFlush, ...],
        env: Env,
        index: int | None = None,
        repeat: int = 0,
    ) -> list[IndexedLeaf]:
        """The leaves of `items` under the size variables `env`.

        index: row or frame of the repeat around the items, None outside one. repeat: which repeat
        of delayed steps this is.
        """
        out: list[IndexedLeaf] = []
        for item in items:
            if isinstance(item, Marker):
                out.append((self._marker(item.name), None))
            elif isinstance(item, Literal):
                out += [(_fixed(id), None) for id in self.vocabulary.literal(item.text)]
            elif isinstance(item, CodesItem):
                for depth, k in enumerate(self.levels(item)):
                    out.append((self._code(k, depth if item.together else 0), index))
            elif isinstance(item, Delayed):
                latest = latest_level(item)
                for k, late in enumerate(item.by):
                    # A frame is complete with its code of the level that is latest.
                    frame = 0 if k == latest and repeat >= late else None
                    out.append((self._delayed(item, k, repeat >= late), frame))
            elif isinstance(item, DelayFlush):
                out += self._flush(item.of, env[item.of.sets])
            elif isinstance(item, Repeat):
                times = _times(item, env)
                for again in range(times):
                    out += self.expand(item.of, env, again if index is None else index)
                    if item.separator and (item.separate == "each" or again < times - 1):
                        out.append((self._marker(item.separator), None))
        return out

    def _flush(self, item: Delayed, frames: int) -> list[IndexedLeaf]:
        """The steps after the last code of level 0, until every level has `frames` codes."""
        latest = latest_level(item)
        out: list[IndexedLeaf] = []
        for step in range(frames, frames + max(item.by)):
            for k, late in enumerate(item.by):
                is_code = late <= step < frames + late
                frame = step - late if is_code and k == latest else None
                out.append((self._delayed(item, k, is_code), frame))
        return out

    def _delayed(self, item: Delayed, level: int, is_code: bool) -> Leaf:
        """A level's place in a step: its code, or what fills it."""
        depth = level if item.together else 0
        return (
            self._code(level, depth) if is_code else self._marker(item.fill)._replace(depth=depth)
        )

    def _marker(self, name: str) -> Leaf:
        return _fixed(self.vocabulary.marker(name))

    def _code(self, level: int, depth: int) -> Leaf:
        lo, hi = self.vocabulary.id_range(self.blocks[level].name)
        return Leaf(lo, hi, ((lo, hi),), level, depth)

    def depths(self, items: tuple[Item | DelayFlush, ...]) -> Iterator[int]:
        """The depths of ids that share a position with another, each at least once."""
        for item in items:
            if isinstance(item, CodesItem) and item.together:
                yield from range(len(self.levels(item)))
            elif isinstance(item, Delayed) and item.together:
                yield from range(len(item.by))
            elif isinstance(item, Repeat):
                yield from self.depths(item.of)

    def length(
        self, items: tuple[Item | DelayFlush, ...], env: Env, positions: bool = False
    ) -> int:
        """The number of leaves of `items`; size variables not in `env` count as 1.

        positions: count positions of the decoder, where levels that are together are one.
        """
        total = 0
        for item in items:
            if isinstance(item, CodesItem):
                total += 1 if positions and item.together else len(self.levels(item))
            elif isinstance(item, Literal):
                total += len(self.vocabulary.literal(item.text))
            elif isinstance(item, Delayed):
                total += 1 if positions and item.together else len(item.by)
            elif isinstance(item, DelayFlush):
                width = 1 if positions and item.of.together else len(item.of.by)
                total += width * max(item.of.by)
            elif isinstance(item, Repeat):
                times = _times(item, env)
                total += times * self.length(item.of, env, positions)
                if item.separator is not None:
                    total += times if item.separate == "each" else times - 1
            else:
                total += 1
        return total


def _fixed(id: int) -> Leaf:
    return Leaf(id, id + 1, ((id, id + 1),), -1)


def _times(item: Repeat, env: Env) -> int:
    count = item.count if isinstance(item.count, int) else env.get(str(item.count), 1)
    return count * item.times
