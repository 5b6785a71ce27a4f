"""One declared span over a vocabulary: its grid, and codes to ids (the rest is `SpanLayout`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from unified.formats.span_checks import (
    check_open_repeats,
    check_positions,
    find_axes,
    stream_ends,
)
from unified.formats.span_layout import SpanLayout
from unified.formats.span_stages import DigitsStage, Env, OpenStage, SizeStage
from unified.formats.spec import Repeat, SpanSpec
from unified.formats.streams import join_streams, streams_in_words
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["ExpandedSpan", "SpanGrammar"]


class ExpandedSpan(NamedTuple):
    """A span of known sizes, begin and end included; all int64 (L,).

    levels: of codes; -1 for other ids. depths: the index of each id within its position.
    """

    ids: np.ndarray
    levels: np.ndarray
    depths: np.ndarray


class SpanGrammar(SpanLayout):
    """A compiled span of one kind ("image", "audio", ...).

    axes: the length of each axis of the grid. stream_ends: the level that completes a frame of a
    stream -> the stream.
    """

    def __init__(self, kind: str, span: SpanSpec, vocabulary: Vocabulary):
        super().__init__(kind, span, vocabulary)
        self.axes = find_axes(self)
        self.stream_ends = stream_ends(self)
        check_positions(self)
        check_open_repeats(self)

    def grid(self, env: Env) -> tuple[int | None, ...]:
        """The lengths of the axes, None where a size variable is not in `env`."""
        return tuple(
            times if name is None else env[name] * times if name in env else None
            for name, times in self.axes
        )

    def fix_grid(self, grid: tuple[int, ...]) -> dict[str, int]:
        """The values of the size variables that give this grid.

        Raises ValueError where the format cannot say it.
        """
        size_words = "x".join(map(str, grid))
        if len(grid) != len(self.axes):
            raise ValueError(
                f"{self.kind} codes have a grid of {len(grid)} axes ({size_words}), the format's"
                f" have {len(self.axes)} ({self._axes_in_words()})"
            )
        env: dict[str, int] = {}
        for (name, times), size in zip(self.axes, grid):
            fits = size == times if name is None else size >= times and size % times == 0
            if fits and name is not None:
                fits = env.setdefault(name, size // times) == size // times
            if not fits:
                raise ValueError(
                    f"{self.kind} codes have a grid of {size_words}; the format's grids are"
                    f" {self._axes_in_words()}"
                )
        for stage in self.stages:
            if not isinstance(stage, SizeStage | DigitsStage) or stage.name not in env:
                continue
            largest = self.most(stage.name)
            assert largest is not None  # its stage is this one
            if not 1 <= env[stage.name] <= largest:
                raise ValueError(
                    f"{self.kind} codes have a grid of {size_words}; {stage.name} must be"
                    f" in 1..{largest}, found {env[stage.name]}"
                )
        return env

    def most(self, name: str | None) -> int | None:
        """The largest value that a size variable can have; None where nothing bounds it."""
        for stage in self.stages:
            if isinstance(stage, SizeStage) and stage.name == name:
                return stage.block.size
            if isinstance(stage, DigitsStage) and stage.name == name:
                return int(10**stage.max_digits) - 1
        return None

    def _axes_in_words(self) -> str:
        """Such as "32x32", "(2 times h)x(2 times w)" or "frames"."""
        names = [name if name is None or "@" not in name else "frames" for name, _ in self.axes]
        return "x".join(
            str(times) if name is None else f"({times} times {name})" if times > 1 else name
            for name, (_, times) in zip(names, self.axes)
        )

    def expand(self, grid: tuple[int, ...]) -> ExpandedSpan:
        """A span with this grid, the id of each code being the least of its block.

        Raises ValueError where the format cannot say it.
        """
        env = self.fix_grid(grid)
        lows = [np.array([self.begin] * self.has_begin, np.int64)]
        levels, depths = [np.full(len(lows[0]), -1)], [np.zeros(len(lows[0]), np.int64)]
        for at, stage in enumerate(self.stages):
            if isinstance(stage, SizeStage):
                lows.append(
                    np.array([self.vocabulary.to_ids(stage.block.name, env[stage.name] - 1)])
                )
                levels.append(np.array([-1]))
                depths.append(np.array([0]))
            elif isinstance(stage, DigitsStage):
                digits = str(env[stage.name])
                lows.append(np.array([stage.ids[int(digit)] for digit in digits]))
                levels.append(np.full(len(digits), -1))
                depths.append(np.zeros(len(digits), np.int64))
            else:
                repeats = env[stage.variable] if isinstance(stage, OpenStage) else 1
                for repeat in range(repeats):
                    run = self.run(at, env, repeat)
                    lows.append(run.lows)
                    levels.append(run.levels)
                    depths.append(run.depths)
        return ExpandedSpan(*map(np.concatenate, (lows, levels, depths)))

    def serialize(self, codes: np.ndarray) -> ExpandedSpan:
        """The span of codes int64 (K, *grid)."""
        self.check_codes(codes)
        span = self.expand(self.grid_of(codes))
        for k, block in enumerate(self.blocks):
            span.ids[span.levels == k] = self.vocabulary.to_ids(block.name, codes[k].reshape(-1))
        return span

    def grid_of(self, codes: np.ndarray) -> tuple[int, ...]:
        """The grid of codes (K, *grid); of continuous positions in rows as one axis where the
        format has no rows of them."""
        grid = codes.shape[1:]
        return (int(np.prod(grid)),) if self.embeds and len(self.axes) == 1 else grid

    def split_streams(self, codes: np.ndarray) -> dict[str, np.ndarray]:
        """Codes (K, ...) as those of each stream by name; ids of the text tokenizer for text."""
        return {name: codes[list(levels)] for name, levels in self.streams.items()}

    def stream_ids(self, codes: Mapping[str, np.ndarray]) -> dict[int, list[int]]:
        """Ids of streams that are not sampled, by level. codes: (levels, T) by name of the stream.

        Raises ValueError for unknown streams, the one whose id begins positions, and codes of other
        levels or lengths.
        """
        lengths = {np.shape(own)[-1] for own in codes.values()}
        ids: dict[int, list[int]] = {}
        for name, own in codes.items():
            levels = self.streams.get(name, ())
            if not levels or 0 in levels:
                able = [stream for stream, held in self.streams.items() if 0 not in held]
                raise ValueError(
                    f"{self.kind} has no stream '{name}' that can be given, expected"
                    f" {', '.join(able) or 'none: this format has no streams'}"
                )
            if np.shape(own)[:-1] != (len(levels),) or len(lengths) != 1:
                raise ValueError(
                    f"stream '{name}' is given as codes of shape {np.shape(own)}, expected"
                    f" ({len(levels)}, T), and the same T for all streams"
                )
            for level, row in zip(levels, own):
                ids[level] = self.vocabulary.to_ids(self.blocks[level].name, row).tolist()
        return ids

    def join_streams(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Codes of each stream, int (levels, T), as those of the span (K, T).

        Raises ValueError for streams missing or surplus, of other levels, or of unequal length.
        """
        return join_streams(self.kind, self.streams, codes)

    def check_codes(self, codes: np.ndarray) -> None:
        """Raises ValueError for codes (K, *grid) of another number of levels, for a frame that
        would end the span, and for codes that fall where they may only rise."""
        if len(codes) != len(self.blocks):
            raise ValueError(
                f"{self.kind} codes must have {len(self.blocks)} levels"
                f"{streams_in_words(self.streams)}, found {len(codes)}"
            )
        for item in self.items:
            steps = item.rising if isinstance(item, Repeat) else 0
            if steps and (codes[:, steps:] < codes[:, :-steps]).any():
                k, at = np.argwhere(codes[:, steps:] < codes[:, :-steps])[0]
                raise ValueError(
                    f"code {at + steps} of {self.kind} codes is {codes[k, at + steps]}, expected at"
                    f" least {codes[k, at]}, the code {steps} before it"
                )
        for at in self.last_turns:
            until = getattr(self.stages[at], "until", None)
            ending = np.flatnonzero((codes == until).all(0))
            if len(ending):
                raise ValueError(
                    f"frame {ending[0]} of {self.kind} codes is {until} in every level, which ends"
                    " a span in this format; leave the frame out"
                )
