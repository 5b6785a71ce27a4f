"""A compiled grammar as one that plain language-model engines enforce: llguidance's Lark.

Ids are written as ids (`<[4106-6025]>`), so no engine's tokenizer can take text for media. Sizes
that a sequence states itself are written out, one alternative for each, up to a largest side; the
equal counts of levels that follow one another are counted in a rule's parameter. Budgets and the
other limits of a request are the engine's own. The ids of a position that holds several follow one
another, as everywhere: an engine that chooses them at once asks at each depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

from unified.formats.span_stages import (
    DelayFlush,
    DigitsStage,
    LastTurn,
    OpenStage,
    RunStage,
    SizeStage,
    SpanItem,
)
from unified.formats.spec import CodesItem, Delayed, Literal, Marker, Repeat
from unified.vocabulary.block import TEXT

if TYPE_CHECKING:
    from unified.formats.grammar import Grammar
    from unified.formats.span_grammar import SpanGrammar
    from unified.vocabulary.block import Ranges

__all__ = ["to_llguidance"]

_MOST_DELAY = 64  # steps; every sound that ends before the last level has begun is written out
_BITS = 14  # of a count in a rule's parameter: 16,383 frames are eleven minutes at 25 a second


def to_llguidance(grammar: Grammar, max_side: int = 32) -> str:
    """The grammar in llguidance's Lark syntax.

    Args:
        max_side: the largest height or width, in codes, of what states its own size.

    Raises ValueError for a `max_side` below 1, for more than four levels of equal count, for
    delays of more than 64 steps; and for codes that rise, as those of boxes do.
    """
    if max_side < 1:
        raise ValueError(f"max_side is {max_side}, expected at least 1")
    return "\n".join(_document(grammar, max_side)) + "\n"


def _ids(ranges: Ranges) -> str:
    """One id of some ranges."""
    parts = (str(a) if b - a == 1 else f"{a}-{b - 1}" for a, b in ranges)
    return f"<[{','.join(parts)}]>"


def _sequence(ids: tuple[int, ...]) -> str:
    return " ".join(_ids(((id, id + 1),)) for id in ids)


def _name(role: str | None) -> str:
    return f"role-{role}" if role else "plain"


def _document(grammar: Grammar, max_side: int) -> Iterator[str]:
    first = grammar.format.start
    yield f"// Format {grammar.format.name}, vocabulary {grammar.vocabulary.hash[:16]}."
    if grammar.num_together > 1:
        yield f"// Up to {grammar.num_together} ids that follow one another are one position."
    begin = _sequence(grammar.begin)
    yield f"start: {begin} ({_name(first)} | empty-{_name(first)})"
    yield f"text: {_ids(grammar.vocabulary.text_ranges)}+"
    separator = grammar.separator
    more = f" ({_sequence((separator,))} text)*" if separator is not None else ""
    yield f"texts: text{more}"
    # What is read alone is in no grammar of what is written.
    written = {kind: span for kind, span in grammar.span_grammars.items() if not span.embeds}
    going_on = [kind for kind, span in written.items() if not span.terminal]
    last = [kind for kind, span in written.items() if span.terminal]
    spans = " | ".join(f"span-{kind}" for kind in going_on)
    body = f"texts | (texts? ({spans}))+ texts?" if going_on else "texts"
    yield f"body: {body}"
    for role, paths in grammar.paths.items():
        ways = [
            _sequence(path) + (f" {_name(other)}" if other is not None else "")
            for path, other in paths.items()
        ]
        yield f"on-{_name(role)}: {' | '.join(ways)}"
        ends = [f"body on-{_name(role)}"]
        if last:
            eos = _sequence(grammar.eos(role))
            ends.append(f"body? ({' | '.join(f'span-{kind}' for kind in last)}) {eos}")
        yield f"{_name(role)}: {' | '.join(ends)}"
    yield f"empty-{_name(first)}: on-{_name(first)}"
    for span_grammar in written.values():
        yield from _span(span_grammar, max_side)


def _span(span: SpanGrammar, max_side: int) -> Iterator[str]:
    """The rules of one kind of span, the first of them `span-KIND`."""
    kind = span.kind
    begin = _sequence((span.begin,))
    header = [s for s in span.stages if isinstance(s, SizeStage | DigitsStage)]
    if header and any(isinstance(stage, OpenStage) for stage in span.stages):
        raise ValueError(f"{kind} spans have both sizes and open repeats: no export for them")
    if header:
        yield f"span-{kind}: {begin} {kind}-0"
        yield from _sized(span, max_side)
        return
    parts, counted = [begin], {n for s in span.stages if isinstance(s, RunStage)
                               for n in _size_variables(s.items)}  # fmt: skip
    rules: list[str] = []
    for at, stage in enumerate(span.stages):
        if isinstance(stage, OpenStage) and isinstance(stage.items[0], Delayed):
            parts.append(f"{kind}-steps")
            rules += _steps(span, at)
            break
        if isinstance(stage, OpenStage) and stage.variable in counted:
            parts.append(f"{kind}-count::0x0")
            rules += _counted(span, at)
            break
        if isinstance(stage, OpenStage) and stage.until is not None:
            parts.append(f"({_turn(span, span.last_turns[at])})+")
        elif isinstance(stage, OpenStage):
            parts.append(f"({_items(span, stage.items, {})})+")
        else:
            assert isinstance(stage, RunStage)
            parts.append(_items(span, stage.items, {}))
    yield f"span-{kind}: {' '.join(parts)}"
    yield from rules


def _sized(span: SpanGrammar, max_side: int) -> Iterator[str]:
    """One rule for every prefix of sizes: the sizes first, then what they count."""
    names: list[str] = []
    stages = span.stages
    header = span.header_stages
    values = range(1, max_side + 1)

    def rule(sizes: tuple[int, ...], stage: int) -> str:
        return "-".join([span.kind, str(stage), *map(str, sizes)])

    for at in range(header):
        stage = stages[at]
        for sizes in product(values, repeat=len(names)):
            env = dict(zip(names, sizes))
            if isinstance(stage, RunStage):
                items = _items(span, stage.items, env)
                yield f"{rule(sizes, at)}: {items} {rule(sizes, at + 1)}"
                continue
            ways = [
                f"{_value(span, stage, value)} {rule((*sizes, value), at + 1)}"
                for value in values
                if _can_be(stage, value)
            ]
            yield f"{rule(sizes, at)}: {' | '.join(ways)}"
        if not isinstance(stage, RunStage):
            names.append(getattr(stage, "name", ""))
    for sizes in product(values, repeat=len(names)):
        env = dict(zip(names, sizes))
        rest = [_items(span, s.items, env) for s in stages[header:] if isinstance(s, RunStage)]
        yield f"{rule(sizes, header)}: {' '.join(rest)}"


def _can_be(stage: object, value: int) -> bool:
    if isinstance(stage, SizeStage):
        return value <= stage.block.size
    return isinstance(stage, DigitsStage) and value < 10**stage.max_digits


def _value(span: SpanGrammar, stage: object, value: int) -> str:
    if isinstance(stage, SizeStage):
        return _sequence((span.vocabulary.to_ids(stage.block.name, value - 1),))
    assert isinstance(stage, DigitsStage)
    return _sequence(tuple(stage.ids[int(digit)] for digit in str(value)))


def _turn(span: SpanGrammar, last: tuple[int, ...]) -> str:
    """A turn with another id than the last turn's in one of its levels: for each level, the turns
    in which it is the first such."""
    ways = []
    for level, id in enumerate(last):
        lo, hi = span.vocabulary.id_range(span.blocks[level].name)
        others = tuple((a, b) for a, b in ((lo, id), (id + 1, hi)) if a < b)
        if others:
            later = [_code(span, k) for k in range(level + 1, len(last))]
            ways.append(" ".join([_sequence(last[:level]), _ids(others), *later]).strip())
    return " | ".join(ways)


def _items(span: SpanGrammar, items: tuple[SpanItem, ...], env: dict[str, int]) -> str:
    parts: list[str] = []
    for item in items:
        if isinstance(item, Marker):
            parts.append(_sequence((span.vocabulary.marker(item.name),)))
        elif isinstance(item, Literal):
            parts.append(_sequence(span.vocabulary.literal(item.text)))
        elif isinstance(item, CodesItem):
            parts += [_code(span, level) for level in span.leaves.levels(item)]
        elif isinstance(item, LastTurn):
            parts += [_ids(leaf.ranges) for leaf, _ in span.leaves.expand((item,), {})]
        elif isinstance(item, Repeat):
            count = item.count if isinstance(item.count, int) else env[str(item.count)]
            times = count * item.times
            if item.rising:
                raise ValueError(
                    f"{span.kind} spans: no export for codes that rise: which ids may come depends"
                    " on one before them, which that grammar cannot say"
                )
            inner = _items(span, item.of, env)
            if item.separator is None:
                parts.append(f"({inner}){{{times}}}")
                continue
            separator = _sequence((span.vocabulary.marker(item.separator),))
            if item.separate == "each":
                parts.append(f"({inner} {separator}){{{times}}}")
            else:
                before = f"({inner} {separator}){{{times - 1}}} " if times > 1 else ""
                parts.append(before + inner)
    return " ".join(parts)


def _code(span: SpanGrammar, level: int) -> str:
    block = span.blocks[level].name
    return _ids(
        span.vocabulary.text_ranges if block == TEXT else (span.vocabulary.id_range(block),)
    )


def _size_variables(items: tuple[SpanItem, ...]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Repeat):
            if isinstance(item.count, str):
                yield item.count
            yield from _size_variables(item.of)


def _counted(span: SpanGrammar, at: int) -> Iterator[str]:
    """Runs whose repeats are all counted by an open one before them.

    While that one runs, each later repeat's field of the parameter counts up; then it counts down.
    """
    kind, stages = span.kind, span.stages
    opened, *runs = stages[at:]
    assert isinstance(opened, OpenStage)
    later = [item for stage in runs if isinstance(stage, RunStage) for item in stage.items]
    repeats = [item for item in later if isinstance(item, Repeat)]
    if len(runs) != 1 or len(repeats) > 4:
        raise ValueError(f"{kind} spans: no export for more than four repeats of one count")
    fields = [f"[{_BITS * n}:{_BITS * (n + 1)}]" for n in range(len(repeats))]
    # One more repeat, which every field counts, or the first of what follows. Each rule that only
    # hands on has two ways to say so: llguidance 1.9 leaves a rule with one out, and its counting.
    yield f"{kind}-count::_: {_items(span, opened.items, {})} {kind}-up-1::incr({fields[0]})"
    for n, field in enumerate(fields[1:], 1):
        up = f"{kind}-up-{n + 1}::incr({field})"
        yield f"{kind}-up-{n}::_: {up} %if true | {up} %if gt({fields[0]}, 0)"
    yield f"{kind}-up-{len(fields)}::_: {kind}-count::_ | {kind}-down-0::_"
    last = max(n for n, item in enumerate(later) if isinstance(item, Repeat))
    step = 0
    for n, item in enumerate(later[: last + 1]):
        following = f"{kind}-down-{n + 1}::_" if n < last else f"{kind}-rest"
        if isinstance(item, Repeat):
            field, repeated = fields[step], _items(span, item.of, {})
            yield (
                f"{kind}-down-{n}::_: {repeated} {kind}-down-{n}::decr({field})"
                f" %if gt({field}, 0) | {following} %if is_zeros({field})"
            )
            step += 1
        else:
            yield f"{kind}-down-{n}::_: {_items(span, (item,), {})} {following}"
    yield f"{kind}-rest: {_items(span, tuple(later[last + 1 :]), {}) or chr(34) * 2}"


def _steps(span: SpanGrammar, at: int) -> Iterator[str]:
    """Delayed levels: the first steps, any number of full ones, and the last ones; sounds that end
    before their last level has begun are written out."""
    kind, stage = span.kind, span.stages[at]
    assert isinstance(stage, OpenStage)
    rest = span.stages[at + 1]
    assert isinstance(rest, RunStage)
    flush = rest.items[0]
    assert isinstance(flush, DelayFlush)

    def leaves(stage: int, frames: int, repeat: int = 0) -> str:
        run = span.run(stage, {flush.of.sets: frames}, repeat)
        return " ".join(_ids(leaf.ranges) for leaf in run.leaves)

    ways = []
    warmup = stage.warmup
    if warmup > _MOST_DELAY:
        raise ValueError(f"{kind} spans: no export for delays of more than {_MOST_DELAY} steps")
    for frames in range(1, warmup + 1):
        steps = [leaves(at, frames, repeat) for repeat in range(frames)]
        ways.append(" ".join([*steps, leaves(at + 1, frames)]))
    steps = [leaves(at, warmup, repeat) for repeat in range(warmup)]
    full = leaves(at, warmup, warmup)
    ways.append(" ".join([*steps, f"({full})+", leaves(at + 1, warmup + 1)]))
    yield f"{kind}-steps: {' | '.join(ways)}"
