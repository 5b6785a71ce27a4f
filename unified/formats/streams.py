"""Parallel streams of a span: which of its levels are of whom, and codes by stream and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unified.vocabulary.block import TEXT, Block
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["divide_streams", "join_streams", "level_in_words", "streams_in_words"]

Streams = Mapping[str, tuple[int, ...]]
"""The levels of each stream, by name."""


def divide_streams(
    kind: str,
    declared: Mapping[str, int | None],
    codebooks: Sequence[Block],
    vocabulary: Vocabulary,
) -> tuple[tuple[Block, ...], Streams]:
    """The blocks of a span by level, and the levels of each stream.

    Args:
        declared: name -> number of codebooks, None for the text (`SpanSpec.streams`).
        codebooks: those of the kind in the vocabulary.

    Raises ValueError where the streams do not hold each codebook once.
    """
    if not declared:
        return tuple(codebooks), {}
    total = sum(number or 0 for number in declared.values())
    if total != len(codebooks):
        sizes = ", ".join(f"{name} {number or 'text'}" for name, number in declared.items())
        raise ValueError(
            f"the streams of the format's {kind} spans hold {total} codebooks ({sizes}), the"
            f" vocabulary has {len(codebooks)} for {kind}"
        )
    blocks: list[Block] = []
    streams: dict[str, tuple[int, ...]] = {}
    left = iter(codebooks)
    for name, number in declared.items():
        own = [vocabulary.block(TEXT)] if number is None else [next(left) for _ in range(number)]
        streams[name] = tuple(range(len(blocks), len(blocks) + len(own)))
        blocks += own
    return tuple(blocks), streams


def level_in_words(streams: Streams, level: int) -> str:
    """Such as "level 3", or "stream listener, level 0"."""
    for name, levels in streams.items():
        if level in levels:
            return f"stream {name}, level {levels.index(level)}"
    return f"level {level}"


def streams_in_words(streams: Streams) -> str:
    """Such as " (text 1, speaker 8, listener 8)"; "" without streams."""
    sizes = ", ".join(f"{name} {len(levels)}" for name, levels in streams.items())
    return f" ({sizes})" if sizes else ""


def join_streams(kind: str, streams: Streams, codes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Codes of each stream, int (levels of the stream, T), as those of a span (K, T).

    The text is a stream of one level: its ids (1, T).

    Raises ValueError for streams missing or surplus, of other numbers of levels, or of unequal
    length, by name.
    """
    if set(codes) != set(streams):
        raise ValueError(
            f"{kind} spans have the streams {', '.join(streams) or '(none)'}, found"
            f" {', '.join(codes) or 'none'}"
        )
    lengths: dict[str, int] = {}
    for name, levels in streams.items():
        shape = np.shape(codes[name])
        if len(shape) != 2 or shape[0] != len(levels):
            raise ValueError(
                f"stream '{name}' of {kind} must have codes of shape ({len(levels)}, frames),"
                f" found {shape}"
            )
        lengths[name] = shape[1]
    shortest, longest = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
    if lengths[shortest] != lengths[longest]:
        raise ValueError(
            f"stream '{shortest}' of {kind} ends at frame {lengths[shortest]}, where '{longest}'"
            f" goes on to {lengths[longest]}: the streams of a span are of equal length"
        )
    return np.concatenate([np.asarray(codes[name]) for name in streams])
