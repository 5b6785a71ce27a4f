"""What a span must keep to, so that its ids can be read back: checks of a compiled span."""

from __future__ import annotations

from unified.formats.span_layout import SpanLayout
from unified.formats.span_stages import (
    Axis,
    DigitsStage,
    OpenStage,
    RunStage,
    code_paths,
    counters,
)
from unified.formats.spec import CodesItem, Delayed, Marker
from unified.formats.streams import streams_in_words

__all__ = ["check_open_repeats", "check_positions", "find_axes", "stream_ends"]

MOST_AXES = 4
"""Most axes of a grid of codes: of rows and columns of tiles, each with rows and columns."""
_MOST_TOGETHER = 1 << 8  # the depth of an id is a byte


def find_axes(span: SpanLayout) -> tuple[Axis, ...]:
    """The axes of the grid that the repeats around the codes of every level make.

    Raises ValueError where levels are missing, surplus, or in unequal numbers.
    """
    kind, number = span.kind, len(span.blocks)
    for item in span.items:
        if isinstance(item, Delayed) and len(item.by) != number:
            raise ValueError(
                f"the format's {kind} spans delay {len(item.by)} levels, the vocabulary has"
                f" {number}{streams_in_words(span.streams)}"
            )
    axes_of: dict[int, tuple[Axis, ...]] = {}
    if span.embeds and [block.size for block in span.blocks] != [1]:
        sizes = ", ".join(f"{block.name} of {block.size}" for block in span.blocks)
        raise ValueError(
            f"the format's {kind} spans hold continuous positions; the vocabulary has blocks"
            f" {sizes} for them, expected '{kind}.0' of one id"
        )
    for codes, axes in code_paths(span.items, ()):
        for k in span.leaves.levels(codes):
            if k in axes_of:
                raise ValueError(f"the format's {kind} spans hold level {k} twice")
            axes_of[k] = axes
    if len(axes_of) != number or len(set(axes_of.values())) != 1:
        raise ValueError(
            f"the format's {kind} spans must hold each of the {number} levels of the vocabulary"
            f" once, all in equal numbers; they hold levels"
            f" {', '.join(map(str, sorted(axes_of)))}, in {len(set(axes_of.values()))} numbers"
        )
    axes = next(iter(axes_of.values()))
    if span.attended and axes != ((None, 1),):
        raise ValueError(
            f"the format's {kind} spans have more than one place of a medium that is attended to,"
            f" expected 'repeat: 1, of: [{{embeds: {kind}, attended: true}}]'"
        )
    if not 1 <= len(axes) <= MOST_AXES:
        raise ValueError(
            f"the codes of the format's {kind} spans stand in {len(axes)} nested repeats,"
            " expected one (frames), two (rows of codes), three (frames of rows) or four (rows of"
            " tiles)"
        )
    counted = [n for st in span.stages if isinstance(st, RunStage) for n in counters(st.items)]
    for name in (*span.size_variables, *span.open_variables, *counted):
        if name not in [axis for axis, _ in axes]:
            raise ValueError(
                f"the format's {kind} spans have register {name}, which is no side of"
                " their grid of codes"
            )
    if span.streams and len(axes) != 1:
        raise ValueError(
            f"the format's {kind} spans have streams of rows; streams are of frames alone"
        )
    return axes


def stream_ends(span: SpanLayout) -> dict[int, str]:
    """The level with which a frame of a stream is complete -> the stream."""
    late = [0] * len(span.blocks)
    for item in span.items:
        if isinstance(item, Delayed):
            late = list(item.by)
    order = [k for codes, _ in code_paths(span.items, ()) for k in span.leaves.levels(codes)]
    return {
        max(levels, key=lambda k: (late[k], order.index(k))): name
        for name, levels in span.streams.items()
    }


def check_positions(span: SpanLayout) -> None:
    """Raises ValueError unless positions of markers hold as many ids as those of codes."""
    if span.num_together > _MOST_TOGETHER:
        raise ValueError(
            f"the format's {span.kind} spans have positions of {span.num_together} ids,"
            f" expected at most {_MOST_TOGETHER}"
        )
    depths = [item.depth if isinstance(item, Marker) else -1 for item in span.items]
    for at, (depth, following) in enumerate(zip(depths, (*depths[1:], -1))):
        if depth > 0 and following != depth + 1 and depth + 1 != span.num_together:
            raise ValueError(
                f"the format's {span.kind} spans have a position of {depth + 1} markers (up to"
                f" {getattr(span.items[at], 'name', '')}), and others of {span.num_together} ids:"
                " expected as many in each"
            )


def check_open_repeats(span: SpanLayout) -> None:
    """Raises ValueError where nothing tells the end of an open repeat or of digits, and where the
    length of the span is not linear in each of its size variables."""
    kind = span.kind
    for at, stage in enumerate(span.stages):
        # Budgets solve for one size variable at a time, so lengths must be linear in each: a
        # side that multiplies itself (h rows of h codes) would not be.
        name = getattr(stage, "variable", getattr(stage, "name", None))
        if name is not None:
            a, b = span.affine(name, {}, at)
            if span.length({name: 3}, at) != a + 3 * b:
                raise ValueError(
                    f"the format's {kind} spans repeat by {name} inside a repeat by {name}"
                )
        env = dict.fromkeys((*span.size_variables, *span.open_variables), 1)
        if isinstance(stage, OpenStage):
            if set(counters(stage.items)) & {*span.open_variables}:
                raise ValueError(
                    f"the format's {kind} spans have an open repeat that another counts by"
                )
            if stage.until is not None:
                _check_until(span, stage)
                continue  # its last turn tells where it ends
            if not span.after_open(at, env):
                continue  # of vectors, which nothing but their own id goes on with
            again = span.run(at, env).leaves[0]
            after = span.run(at + 1, env).leaves[0]
            if again.lo < after.hi and after.lo < again.hi:
                raise ValueError(
                    f"the format's {kind} spans have an open repeat that begins with"
                    " the same ids as what follows it: nothing would tell where it ends"
                )
        if isinstance(stage, DigitsStage) and span.run(at + 1, env).lows[0] in stage.ids:
            raise ValueError(
                f"the format's {kind} spans have a digit right behind the digits of"
                f" {stage.name}: nothing would tell where they end"
            )


def _check_until(span: SpanLayout, stage: OpenStage) -> None:
    """A turn that ends a repeat holds all levels, and some other turn is possible."""
    (codes,) = stage.items
    assert isinstance(codes, CodesItem)
    if len(span.leaves.levels(codes)) != len(span.blocks) or span.streams:
        raise ValueError(
            f"the format's {span.kind} spans repeat until a turn is {stage.until} in every level:"
            " expected all levels in each turn, and no streams"
        )
    if span.blocks[-1].size < 2:
        raise ValueError(
            f"block '{span.blocks[-1].name}' has one code, which ends a span in this format:"
            " expected another"
        )
