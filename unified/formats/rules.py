"""Limits in the terms of one format: lengths in ids, settled sizes, and what may begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unified.formats.limits import UNLIMITED, Limits
from unified.formats.span_grammar import SpanGrammar
from unified_base.text import quoted
from unified_data.segments import modalities

__all__ = ["Rules", "rules_of"]


@dataclass(frozen=True)
class Rules:
    """What limits mean for one format. All lengths in ids.

    kinds: span kinds that may be written, in the order of the format. least: kind -> the shortest
    span of it under the limits. forced: kind -> the size variables that have a settled value.
    fixed: the same, and the fewest repeats of open repeats. exact: kind -> number of spans, where
    exact.
    """

    limits: Limits
    max_ids: int
    text: bool
    kinds: tuple[str, ...]
    least: dict[str, int]
    forced: dict[str, dict[str, int]]
    fixed: dict[str, dict[str, int]]
    exact: dict[str, int]


def rules_of(limits: Limits, name: str, spans: Mapping[str, SpanGrammar]) -> Rules:
    """The rules that limits mean for the spans of a format.

    Args:
        name: of the format, for errors.

    Raises ValueError where the format cannot keep the limits.
    """
    fixed: dict[str, dict[str, int]] = {}
    forced: dict[str, dict[str, int]] = {}
    for kind, span in spans.items():
        fixed[kind], forced[kind] = _sizes(limits, name, span)
    exact = _exact(limits, name, spans)
    known = dict.fromkeys((*modalities(), *spans))
    allow = tuple(known) if limits.allow is None else limits.allow
    unknown = [kind for kind in allow if kind not in known]
    if unknown:
        raise ValueError(f"allow has {quoted(unknown)}; it may hold {', '.join(known)}")
    kinds = tuple(
        kind
        for kind, span in spans.items()
        if {kind, span.modality} & set(allow) and exact.get(kind) != 0 and not span.embeds
    )
    return Rules(
        limits=limits,
        max_ids=UNLIMITED if limits.max_ids is None else limits.max_ids,
        text="text" in allow,
        kinds=kinds,
        least={kind: span.length(fixed[kind]) for kind, span in spans.items()},
        forced=forced,
        fixed=fixed,
        exact={k: number for k, number in exact.items() if k in spans and not spans[k].embeds},
    )


def _sizes(limits: Limits, name: str, span: SpanGrammar) -> tuple[dict[str, int], dict[str, int]]:
    """(fixed, forced) of one kind of span, see `Rules`."""
    if span.embeds:  # which no limits are about: they are of what is written
        return dict.fromkeys(span.open_variables, 1), {}
    wanted = limits.of(span.modality)
    if wanted.grid is not None:
        sizes = span.fix_grid(wanted.grid)
        if any(variable in span.open_variables for variable in sizes):
            raise ValueError(
                f"format '{name}' has {span.kind} spans of open length: their grid cannot be"
                " settled beforehand; leave it out"
            )
        return sizes, sizes
    bounded = wanted.min_frames > 1 or wanted.max_frames is not None
    if bounded and not span.open_variables:
        raise ValueError(
            f"format '{name}' has no {span.kind} spans of open length: their frames cannot be"
            " bounded; leave the bounds out"
        )
    return dict.fromkeys(span.open_variables, wanted.min_frames), {}


def _exact(limits: Limits, name: str, spans: Mapping[str, SpanGrammar]) -> dict[str, int]:
    exact = {
        modality: wanted.count
        for modality in modalities()
        if (wanted := limits.of(modality)).count is not None
    }
    for kind, number in exact.items():
        if number and (kind not in spans or spans[kind].embeds):
            written = [name for name, span in spans.items() if not span.embeds]
            raise ValueError(
                f"format '{name}' has no {kind} spans to write, but the limits ask for {number}; it"
                f" has {', '.join(written) or 'text alone'}"
            )
    terminal = [kind for kind, span in spans.items() if span.terminal]
    total = sum(exact.get(kind, 0) for kind in terminal)
    if total > 1:
        raise ValueError(
            f"a document of format '{name}' ends after its first {' or '.join(terminal)} span, but"
            f" the limits ask for {total}"
        )
    return exact
