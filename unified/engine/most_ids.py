"""How many positions a request can need at most: what its KV slots must hold."""

from __future__ import annotations

from unified.engine.active import ActiveRequest
from unified.engine.request import CodedSlot, Request, Sampling, slot_limits
from unified.engine.sampler import FULL
from unified.formats.grammar import Grammar
from unified.formats.rules import Rules
from unified.formats.span_grammar import SpanGrammar

__all__ = ["branch_lengths"]


def branch_lengths(active: ActiveRequest, max_ids: int | None = None) -> list[int]:
    """The most positions that each branch of a request can have, as far as the grammar bounds them.

    max_ids: of the sequence, in place of the request's own.
    """
    segments, own = active.request.segments, active.branches[FULL].positions
    first = next(i for i, segment in enumerate(segments) if isinstance(segment, CodedSlot))
    slot = segments[first]
    role = slot.role or active.grammar.format.start
    # Each id to come may have a position of its own.
    left = (active.max_ids if max_ids is None else max_ids) - len(active.ids)
    length = len(own) + left
    most = _most_from(
        first, active.request, active.grammar, active.sampling, slot.kind, role, max(1, left)
    )
    if most is not None:
        length = min(length, active.prompt_positions + most)
    return [
        length + max(0, len(branch.positions) - len(own)) for branch in active.branches.values()
    ]


def _most_from(
    index: int,
    request: Request,
    grammar: Grammar,
    sampling: Sampling,
    kind: str,
    role: str | None,
    max_ids: int,
) -> int | None:
    """The most positions from segment `index` to the document's end; None: nothing bounds them.

    The markers before that segment are left out. A picture of a given grid has an exact number, a
    sound one by `max_audio_frames` and `max_ids`, a text one by `max_text_ids`.

    Args:
        kind: of segment `index`.
        role: of segment `index`.
        max_ids: that all these segments can have, 1 or more.
    """
    total = 0
    for at, segment in enumerate(request.segments[index:]):
        if at:
            total += len(grammar.segment_prefix(kind, role, segment.kind, segment.role))
        if isinstance(segment, CodedSlot):
            most = _most_of_slot(segment, grammar, sampling, max_ids)
            if most is None:
                return None
            total += most
        else:
            total += grammar.segment_ids(segment).num_positions
        kind, role = segment.kind, segment.role or grammar.format.start
    return total + len(grammar.eos(role))


def _most_of_slot(
    slot: CodedSlot, grammar: Grammar, sampling: Sampling, max_ids: int
) -> int | None:
    if slot.kind == "text":
        return sampling.max_text_ids
    if slot.kind == "any":
        return None
    rules = grammar.rules(slot_limits(slot, sampling))
    lengths = [_most_of_span(grammar.span_grammars[kind], rules, max_ids) for kind in rules.kinds]
    if not lengths or None in lengths:
        return None
    return max(length for length in lengths if length is not None)


def _most_of_span(span: SpanGrammar, rules: Rules, max_ids: int) -> int | None:
    sizes: dict[str, int | None] = {name: span.most(name) for name in span.size_variables}
    frames = rules.limits.of(span.modality).max_frames
    sizes.update(dict.fromkeys(span.open_variables, frames))
    sizes.update(rules.forced[span.kind])
    known = {name: size for name, size in sizes.items() if size is not None}
    for name in sizes:
        if name not in known and name in span.open_variables:
            # As many frames as ids allow, of which a position holds several.
            known[name] = max(1, max_ids // span.affine(name, known, -1)[1])
    return span.length(known, positions=True) if len(known) == len(sizes) else None
