"""What a request gives, checked as a whole before anything is sampled: media behind a slot, too."""

from __future__ import annotations

from unified.engine.request import CodedSlot, Request
from unified.formats.coded import Coded, CodedMedia
from unified.formats.grammar import Grammar
from unified_base.text import counted

__all__ = ["check_given"]


def check_given(
    request: Request,
    grammar: Grammar,
    width: int | None = None,
    attends: bool = False,
    encodes: bool = False,
) -> None:
    """Raises ValueError, naming the segment, for codes of other levels or codebooks than the
    format has, for streams of unequal length, and for vectors that the decoder cannot read.

    width: of its vectors; None: it reads none. attends: whether its layers attend to media.
    encodes: whether an encoder reads what is seen both ways, once.
    """
    if encodes:
        _check_encoded(request, grammar)
    for index, segment in enumerate(request.segments):
        try:
            _check(segment, grammar)
            if isinstance(segment, CodedSlot):
                _check_role(segment, grammar)
            if isinstance(segment, CodedMedia):
                _check_vectors(segment, grammar, width, attends)
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


def _check_encoded(request: Request, grammar: Grammar) -> None:
    """Raises ValueError where what an encoder reads stands behind other segments."""
    format, decoded = grammar.format, ""
    for index, segment in enumerate(request.segments):
        role = segment.role or format.start
        if role not in format.bidirectional:
            decoded = decoded or f"segment {index} ({segment.kind})"
        elif decoded:
            raise ValueError(
                f"segment {index} ({segment.kind}) in role {role} is for the encoder, which reads"
                f" once and before all that the decoder does, and {decoded} stands before it; put"
                " it first: such a model answers one prompt"
            )


def _check_role(slot: CodedSlot, grammar: Grammar) -> None:
    role = slot.role or grammar.format.start
    if role in grammar.format.bidirectional:
        raise ValueError(
            f"it is to be written in role {role}, which format '{grammar.format.name}' reads both"
            " ways: nothing can see what is not written yet; write in another role"
        )


def _check_vectors(segment: CodedMedia, grammar: Grammar, width: int | None, attends: bool) -> None:
    span = grammar.span_grammars[segment.kind]
    if not span.embeds:
        if segment.features is not None:
            raise ValueError(
                f"it has vectors, but the format lays {segment.kind} out in codes; leave them out"
            )
        return
    features, places = segment.features, segment.codes.size
    if features is None:
        raise ValueError(
            f"the format reads {segment.kind} as vectors and the segment has none; let the model's"
            " encoder make them"
        )
    wrong_number = len(features) == 0 if span.attended else len(features) != places
    if features.dtype.kind != "f" or features.ndim != 2 or wrong_number:
        expected = (
            "(N, width) of one or more"
            if span.attended
            else f"({places}, width): one vector for each of its {counted(places, 'place')}"
        )
        raise ValueError(
            f"its vectors are {features.dtype} of shape {features.shape}, expected numbers"
            f" {expected}"
        )
    if span.attended and not attends:
        raise ValueError(
            f"the format lets the decoder's layers attend to {segment.kind}, and nothing in its"
            " layers does; `unified extend --layers gated-cross-attention` puts it there"
        )
    if width is None:
        raise ValueError(
            "the backend reads no vectors; open the model with backend transformers, torch_static"
            " or cpu"
        )
    if features.shape[1] != width:
        raise ValueError(
            f"its vectors have {features.shape[1]} numbers, the decoder's embeddings have {width};"
            " they were made for another decoder: take its own encoder and connector"
        )
