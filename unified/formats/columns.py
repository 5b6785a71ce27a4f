"""Positions of a format that hold several ids, drawn as columns: a row for each depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from unified.formats.span_grammar import SpanGrammar
from unified.formats.spec import CodesItem, Delayed, Format, Item, Marker, Repeat, SizeVariable
from unified.formats.streams import streams_in_words
from unified.vocabulary.block import TEXT, Block
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["draw_columns", "example_vocabulary"]

_TEXT, _SIZES, _CODES = 64, 64, 8  # of the vocabulary that an example is made with
_SIDE = 3  # frames, or rows and columns, of the example
_LEVELS = 3  # where the format leaves their number to the vocabulary
_ROWS = 6  # levels that are drawn before some are left out


def draw_columns(format: Format, width: int) -> list[str]:
    """Lines at most `width` wide: an example of each kind of span that puts ids together."""
    lines: list[str] = []
    vocabulary = example_vocabulary(format)
    for kind, spec in format.spans.items():
        if not _is_together(spec.items):
            continue
        try:
            span = SpanGrammar(kind, spec, vocabulary)
        except ValueError as error:
            lines += [f"{kind} has no positions to draw: {error}", ""]
            continue
        free = spec.num_codebooks is None
        grid = tuple(_SIDE * times if name else times for name, times in span.axes)
        size = "x".join(map(str, grid)) + (" codes" if len(grid) > 1 else " frames")
        levels = f"{len(span.blocks)} levels{streams_in_words(span.streams)}"
        note = " (the vocabulary says how many)" if free else ""
        lines += [f"{kind} of {size} and {levels}{note}; a column is a position:", ""]
        lines += [*_drawn(span, grid, width), ""]
    return lines[:-1]


def example_vocabulary(format: Format) -> Vocabulary:
    """A small one that a format fits: three levels of a kind where the format does not say."""
    blocks = [Block(TEXT, 0, _TEXT)]

    def add(name: str, size: int, **fields: Any) -> None:
        blocks.append(Block(name, blocks[-1].stop, size, **fields))

    add("markers", len(format.markers), symbols=format.markers)
    items = [item for spec in format.spans.values() for item in spec.items]
    for name in sorted({i.block for i in items if isinstance(i, SizeVariable) and i.block}):
        add(name, _SIZES)
    for kind, spec in format.spans.items():
        last = max((item.until or 0 for item in spec.items if isinstance(item, Repeat)), default=0)
        for level in range(spec.num_codebooks or _LEVELS):
            size = 1 if spec.embeds else max(_CODES, last + 2)
            add(f"{kind}.{level}", size, level=level)
    literals = tuple((text, (at % _TEXT,)) for at, text in enumerate(format.literals))
    return Vocabulary(tuple(blocks), _TEXT, _TEXT, literals)


def _is_together(items: tuple[Item, ...]) -> bool:
    for item in items:
        if isinstance(item, Marker) and item.depth:
            return True
        if isinstance(item, CodesItem | Delayed) and item.together:
            return True
        if isinstance(item, Repeat) and _is_together(item.of):
            return True
    return False


def _drawn(span: SpanGrammar, grid: tuple[int, ...], width: int) -> Iterator[str]:
    """The example as a table: what each row is of, and the ids of each position."""
    columns = list(_columns(span, grid))
    depth = span.num_together
    heads = [_head(span, level) if depth == len(span.blocks) else "" for level in range(depth)]
    rows = list(range(depth))
    if depth > _ROWS:
        rows = [*rows[: _ROWS - 2], -1, rows[-1]]
    widths = [max(len(cell) for cell in column) for column in columns]
    head_width = max(map(len, heads))
    begin, end = _fit(widths, width - head_width)
    for row in rows:
        cells = [
            (column[row] if row >= 0 else ".." if column[-1] else "").ljust(size)
            for column, size in zip(columns, widths)
        ]
        if begin < end:
            cells[begin:end] = [".." if cells[begin].strip() else "  "]
        head = ".." if row < 0 else heads[row]
        yield "  ".join([head.ljust(head_width), *cells]).rstrip()


def _fit(widths: list[int], room: int) -> tuple[int, int]:
    """The columns [begin, end) to leave out, in the middle, so that the others fit."""
    begin = end = len(widths)
    if sum(widths) + 2 * len(widths) <= room:
        return begin, end
    begin, end = 0, len(widths)
    left = room - 4  # for the dots in their place
    while begin < end:
        if begin <= len(widths) - end:
            left -= widths[begin] + 2
            step = (1, 0)
        else:
            left -= widths[end - 1] + 2
            step = (0, -1)
        if left < 0:
            break
        begin, end = begin + step[0], end + step[1]
    return begin, end


def _columns(span: SpanGrammar, grid: tuple[int, ...]) -> Iterator[list[str]]:
    """The cells of each position, by depth; "" below the last id of a position of fewer."""
    vocabulary = span.vocabulary
    ids, levels, depths = span.expand(grid)
    counts = np.zeros(len(span.blocks), int)
    column: list[str] = []
    for id, level, depth in zip(ids.tolist(), levels.tolist(), depths.tolist()):
        if depth == 0 and column:
            yield column + [""] * (span.num_together - len(column))
            column = []
        if level >= 0:
            at = np.unravel_index(counts[level], grid)
            column.append("[" + ",".join(str(side) for side in at) + "]")
            counts[level] += 1
        else:
            block = vocabulary.block_of(id)
            plain = str(vocabulary.from_ids(block.name, id)) if block.name != TEXT else "digit"
            column.append(vocabulary.symbol(id) if block.symbols else plain)
    yield column + [""] * (span.num_together - len(column))


def _head(span: SpanGrammar, level: int) -> str:
    for name, levels in span.streams.items():
        if level in levels:
            return name if len(levels) == 1 else f"{name} {levels.index(level)}"
    return f"level {level}"
