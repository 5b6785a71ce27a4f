"""What a request gives, checked as a whole before anything is sampled: media behind a slot, too."""

from __future__ import annotations

from unified.engine.request import CodedSlot, Request
from unified.formats.coded import Coded, CodedMedia
from unified.formats.grammar import Grammar
from unified_base.text import counted

__all__ = ["check_given"]


def check_given(request: Request, grammar: Grammar) -> None:
    """Raises ValueError, naming the segment, for codes of other levels or codebooks than the
    format has, and for streams of unequal length."""
    for index, segment in enumerate(request.segments):
        try:
            _check(segment, grammar)
        except ValueError as error:
            raise ValueError(f"segment {index} ({segment.kind}): {error}") from None


def _check(segment: Coded | CodedSlot, grammar: Grammar) -> None:
    if isinstance(segment, CodedMedia):
        grammar.segment_ids(segment)
        return
    span = grammar.span_grammars.get(segment.kind)
    if span is None or not isinstance(segment, CodedSlot):
        return
    if segment.streams:
        span.stream_ids(segment.streams)
    if not segment.begins:
        return
    if len(segment.begins) != len(span.blocks):
        raise ValueError(
            f"the codes that it begins with have {counted(len(segment.begins), 'level')}, expected"
            f" {len(span.blocks)}"
        )
    lengths = sorted({len(ids) for ids in segment.begins})
    if len(lengths) > 1:
        raise ValueError(
            f"the codes that it begins with have levels of {lengths[0]} to {lengths[-1]} frames,"
            " expected as many in each"
        )
    for level, (block, ids) in enumerate(zip(span.blocks, segment.begins)):
        for frame, id in enumerate(ids):
            if not any(start <= id < stop for start, stop in block.runs):
                raise ValueError(
                    f"the codes that it begins with have id {id} in level {level}, frame {frame},"
                    f" which is none of block '{block.name}'"
                )
