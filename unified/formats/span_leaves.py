"""The ids that the items of a span expand to, once its size variables are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from unified.formats.span_stages import DelayFlush, Env, LastTurn, Leaf, SpanItem, latest_level
from unified.formats.spec import CodesItem, Delayed, Literal, Marker, Repeat
from unified.vocabulary.block import TEXT, Block
from unified.vocabulary.vocabulary import Vocabulary

IndexedLeaf = tuple[Leaf, int | None]
"""A leaf, and the row or frame (index on the first axis of the grid) of its code, if it has one."""


class LeafExpander:
    """Expands items of one kind of span to leaves, and counts them without doing so.

    blocks: of the kind, by level. streams: the levels of each stream, by name.
    """

    def __init__(
        self,
        kind: str,
        blocks: tuple[Block, ...],
        vocabulary: Vocabulary,
        streams: Mapping[str, tuple[int, ...]],
    ):
        self.kind = kind
        self.blocks = blocks
        self.vocabulary = vocabulary
        self.streams = streams

    def levels(self, codes: CodesItem) -> tuple[int, ...]:
        """The levels that an item of codes holds: all of the kind, a stream's, or the one of its
        block."""
        if codes.blocks == self.kind:
            return tuple(range(len(self.blocks)))
        for name, levels in self.streams.items():
            if codes.blocks == f"{self.kind}.{name}":
                return levels
        for k, block in enumerate(self.blocks):
            if block.name == codes.blocks:
                return (k,)
        streams = [f"{self.kind}.{name}" for name in self.streams]
        raise ValueError(
            f"the format's {self.kind} spans have codes of block '{codes.blocks}'; the vocabulary"
            f" has {', '.join([*(b.name for b in self.blocks), *streams])} for them"
        )

    def expand(
        self,
        items: tuple[SpanItem, ...],
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
                out.append((self._marker(item.name, item.depth), None))
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
                    out.append((self._delayed(item, k, repeat - late), frame))
            elif isinstance(item, DelayFlush):
                out += self._flush(item.of, env[item.of.sets])
            elif isinstance(item, LastTurn):
                out += self._last_turn(item.of)
            elif isinstance(item, Repeat):
                times = _times(item, env)
                for again in range(times):
                    turn = self.expand(item.of, env, again if index is None else index)
                    if item.rising and again >= item.rising:
                        turn = [(leaf._replace(rising=item.rising), at) for leaf, at in turn]
                    out += turn
                    if item.separator and (item.separate == "each" or again < times - 1):
                        out.append((self._marker(item.separator), None))
        return out

    def _flush(self, item: Delayed, frames: int) -> list[IndexedLeaf]:
        """The steps after the last code of level 0, until every level has `frames` codes."""
        latest = latest_level(item)
        out: list[IndexedLeaf] = []
        for step in range(frames, frames + item.num_flush_steps):
            for k, late in enumerate(item.by):
                frame = step - late
                done = frame if k == latest and 0 <= frame < frames else None
                out.append((self._delayed(item, k, frame, frames), done))
        return out

    def _delayed(self, item: Delayed, level: int, frame: int, frames: int | None = None) -> Leaf:
        """A level's id in a step: its code of `frame`, or what fills it.

        frames: how many there are; None where more may come.
        """
        depth = level if item.together else 0
        if frame < 0:
            return self._marker(item.before[level], depth)
        if frames is None or frame < frames:
            return self._code(level, depth)
        if item.end and frame == frames:
            return self._marker(item.end[level], depth)
        return self._marker(item.after[level], depth)

    def _last_turn(self, item: Repeat) -> list[IndexedLeaf]:
        """The turn that ends an open repeat: no frame, though its ids are codes'."""
        (codes,) = item.of
        assert isinstance(codes, CodesItem)
        out: list[IndexedLeaf] = []
        for depth, k in enumerate(self.levels(codes)):
            id = self.vocabulary.to_ids(self.blocks[k].name, int(item.until or 0))
            out.append((_fixed(id, depth if codes.together else 0), None))
        return out

    def _marker(self, name: str, depth: int = 0) -> Leaf:
        return _fixed(self.vocabulary.marker(name), depth)

    def _code(self, level: int, depth: int) -> Leaf:
        block = self.blocks[level].name
        if block != TEXT:
            lo, hi = self.vocabulary.id_range(block)
            return Leaf(lo, hi, ((lo, hi),), level, depth)
        if len(self.vocabulary.text_ranges) != 1:
            raise ValueError(
                f"the ids of text are {len(self.vocabulary.text_ranges)} ranges, expected one, to"
                f" be a stream of {self.kind} spans"
            )
        ((lo, hi),) = self.vocabulary.text_ranges
        return Leaf(lo, hi, ((lo, hi),), level, depth)

    def depths(self, items: tuple[SpanItem, ...]) -> Iterator[int]:
        """The depths of ids that share a position with another, each at least once."""
        for item in items:
            if isinstance(item, Marker):
                yield item.depth
            elif isinstance(item, CodesItem) and item.together:
                yield from range(len(self.levels(item)))
            elif isinstance(item, Delayed) and item.together:
                yield from range(len(item.by))
            elif isinstance(item, Repeat):
                yield from self.depths(item.of)

    def length(self, items: tuple[SpanItem, ...], env: Env, positions: bool = False) -> int:
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
                total += width * item.of.num_flush_steps
            elif isinstance(item, LastTurn):
                total += self.length(item.of.of, env, positions)
            elif isinstance(item, Repeat):
                times = _times(item, env)
                total += times * self.length(item.of, env, positions)
                if item.separator is not None:
                    total += times if item.separate == "each" else times - 1
            else:
                inside = isinstance(item, Marker) and item.depth > 0
                total += not (positions and inside)
        return total


def _fixed(id: int, depth: int = 0) -> Leaf:
    return Leaf(id, id + 1, ((id, id + 1),), -1, depth)


def _times(item: Repeat, env: Env) -> int:
    count = item.count if isinstance(item.count, int) else env.get(str(item.count), 1)
    return count * item.times
