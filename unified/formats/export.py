"""A compiled grammar as one that plain language-model engines enforce: llguidance's Lark.

Ids are written as ids (`<[4106-6025]>`), so no engine's tokenizer can take text for media. Sizes
that a sequence states itself are written out, one alternative for each, up to a largest side; the
equal counts of levels that follow one another are counted in a rule's parameter. Budgets and the
other limits of a request are the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

from unified.formats.span_stages import DelayFlush, DigitsStage, OpenStage, RunStage, SizeStage
from unified.formats.spec import CodesItem, Item, Literal, Marker, Repeat

if TYPE_CHECKING:
    from unified.formats.grammar import Grammar
    from unified.formats.span_grammar import SpanGrammar
    from unified.vocabulary.block import Ranges

__all__ = ["to_llguidance"]

_BITS = 14  # of a count in a rule's parameter: 16,383 frames are eleven minutes at 25 a second


def to_llguidance(grammar: Grammar, max_side: int = 32) -> str:
    """The grammar in llguidance's Lark syntax.

    Args:
        max_side: the largest height or width, in codes, of what states its own size.

    Raises ValueError for a `max_side` below 1 and for more than four levels of equal count.
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
    begin = _sequence(grammar.begin)
    yield f"start: {begin} ({_name(first)} | empty-{_name(first)})"
    yield f"text: {_ids(grammar.vocabulary.text_ranges)}+"
    separator = grammar.separator
    more = f" ({_sequence((separator,))} text)*" if separator is not None else ""
    yield f"texts: text{more}"
    going_on = [kind for kind, program in grammar.span_grammars.items() if not program.terminal]
    last = [kind for kind, program in grammar.span_grammars.items() if program.terminal]
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
            closing = _sequence(grammar.eos(role))
            ends.append(f"body? ({' | '.join(f'span-{kind}' for kind in last)}) {closing}")
        yield f"{_name(role)}: {' | '.join(ends)}"
    yield f"empty-{_name(first)}: on-{_name(first)}"
    for program in grammar.span_grammars.values():
        yield from _span(program, max_side)


def _span(program: SpanGrammar, max_side: int) -> Iterator[str]:
    """The rules of one kind of span, the first of them `span-KIND`."""
    kind = program.kind
    begin = _sequence((program.begin,))
    header = [s for s in program.stages if isinstance(s, SizeStage | DigitsStage)]
    if header and any(isinstance(stage, OpenStage) for stage in program.stages):
        raise ValueError(f"{kind} spans have both sizes and open repeats: no export for them")
    if header:
        yield f"span-{kind}: {begin} {kind}-0"
        yield from _sized(program, max_side)
        return
    found, counted = [begin], {n for s in program.stages if isinstance(s, RunStage)
                               for n in _registers(s.items)}  # fmt: skip
    rules: list[str] = []
    for at, stage in enumerate(program.stages):
        if isinstance(stage, OpenStage) and stage.ramp:
            found.append(f"{kind}-steps")
            rules += _steps(program, at)
            break
        if isinstance(stage, OpenStage) and stage.register in counted:
            found.append(f"{kind}-count::0x0")
            rules += _counted(program, at)
            break
        if isinstance(stage, OpenStage):
            found.append(f"({_items(program, stage.items, {})})+")
        else:
            assert isinstance(stage, RunStage)
            found.append(_items(program, stage.items, {}))
    yield f"span-{kind}: {' '.join(found)}"
    yield from rules


def _sized(program: SpanGrammar, max_side: int) -> Iterator[str]:
    """One rule for every prefix of register values: the registers first, then what they count."""
    names: list[str] = []
    stages = program.stages
    header = program.header_stages
    values = range(1, max_side + 1)

    def rule(taken: tuple[int, ...], stage: int) -> str:
        return "-".join([program.kind, str(stage), *map(str, taken)])

    for at in range(header):
        stage = stages[at]
        for taken in product(values, repeat=len(names)):
            env = dict(zip(names, taken))
            if isinstance(stage, RunStage):
                items = _items(program, stage.items, env)
                yield f"{rule(taken, at)}: {items} {rule(taken, at + 1)}"
                continue
            ways = [
                f"{_value(program, stage, value)} {rule((*taken, value), at + 1)}"
                for value in values
                if _can_be(stage, value)
            ]
            yield f"{rule(taken, at)}: {' | '.join(ways)}"
        if not isinstance(stage, RunStage):
            names.append(getattr(stage, "name", ""))
    for taken in product(values, repeat=len(names)):
        env = dict(zip(names, taken))
        rest = [_items(program, s.items, env) for s in stages[header:] if isinstance(s, RunStage)]
        yield f"{rule(taken, header)}: {' '.join(rest)}"


def _can_be(stage: object, value: int) -> bool:
    if isinstance(stage, SizeStage):
        return value <= stage.block.size
    return isinstance(stage, DigitsStage) and value < 10**stage.most


def _value(program: SpanGrammar, stage: object, value: int) -> str:
    if isinstance(stage, SizeStage):
        return _sequence((program.vocabulary.to_ids(stage.block.name, value - 1),))
    assert isinstance(stage, DigitsStage)
    return _sequence(tuple(stage.ids[int(digit)] for digit in str(value)))


def _items(program: SpanGrammar, items: tuple[Item | DelayFlush, ...], env: dict[str, int]) -> str:
    found: list[str] = []
    for item in items:
        if isinstance(item, Marker):
            found.append(_sequence((program.vocabulary.marker(item.name),)))
        elif isinstance(item, Literal):
            found.append(_sequence(program.vocabulary.literal(item.text)))
        elif isinstance(item, CodesItem):
            found += [_code(program, level) for level in program.levels(item)]
        elif isinstance(item, Repeat):
            count = item.count if isinstance(item.count, int) else env[str(item.count)]
            times = count * item.times
            inner = _items(program, item.of, env)
            if item.separator is None:
                found.append(f"({inner}){{{times}}}")
                continue
            separator = _sequence((program.vocabulary.marker(item.separator),))
            if item.separate == "each":
                found.append(f"({inner} {separator}){{{times}}}")
            else:
                before = f"({inner} {separator}){{{times - 1}}} " if times > 1 else ""
                found.append(before + inner)
    return " ".join(found)


def _code(program: SpanGrammar, level: int) -> str:
    return _ids((program.vocabulary.id_range(program.blocks[level].name),))


def _registers(items: tuple[Item | DelayFlush, ...]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Repeat):
            if isinstance(item.count, str):
                yield item.count
            yield from _registers(item.of)


def _counted(program: SpanGrammar, at: int) -> Iterator[str]:
    """Runs whose repeats are all counted by an open one before them.

    While that one runs, each later repeat's field of the parameter counts up; then it counts down.
    """
    kind, stages = program.kind, program.stages
    opened, *runs = stages[at:]
    assert isinstance(opened, OpenStage)
    later = [item for stage in runs if isinstance(stage, RunStage) for item in stage.items]
    repeats = [item for item in later if isinstance(item, Repeat)]
    if len(runs) != 1 or len(repeats) > 4:
        raise ValueError(f"{kind} spans: no export for more than four repeats of one count")
    fields = [f"[{_BITS * n}:{_BITS * (n + 1)}]" for n in range(len(repeats))]
    # One more turn, which every field counts, or the first of what follows. Each rule that only
    # hands on has two ways to say so: llguidance 1.9 leaves a rule with one out, and its counting.
    yield f"{kind}-count::_: {_items(program, opened.items, {})} {kind}-up-1::incr({fields[0]})"
    for n, field in enumerate(fields[1:], 1):
        up = f"{kind}-up-{n + 1}::incr({field})"
        yield f"{kind}-up-{n}::_: {up} %if true | {up} %if gt({fields[0]}, 0)"
    yield f"{kind}-up-{len(fields)}::_: {kind}-count::_ | {kind}-down-0::_"
    last = max(n for n, item in enumerate(later) if isinstance(item, Repeat))
    step = 0
    for n, item in enumerate(later[: last + 1]):
        following = f"{kind}-down-{n + 1}::_" if n < last else f"{kind}-rest"
        if isinstance(item, Repeat):
            field, turn = fields[step], _items(program, item.of, {})
            yield (
                f"{kind}-down-{n}::_: {turn} {kind}-down-{n}::decr({field})"
                f" %if gt({field}, 0) | {following} %if is_zeros({field})"
            )
            step += 1
        else:
            yield f"{kind}-down-{n}::_: {_items(program, (item,), {})} {following}"
    yield f"{kind}-rest: {_items(program, tuple(later[last + 1 :]), {}) or chr(34) * 2}"


def _steps(program: SpanGrammar, at: int) -> Iterator[str]:
    """Delayed levels: the first steps, any number of full ones, and the last ones; sounds that end
    before their last level has begun are written out."""
    kind, stage = program.kind, program.stages[at]
    assert isinstance(stage, OpenStage)
    rest = program.stages[at + 1]
    assert isinstance(rest, RunStage)
    ending = rest.items[0]
    assert isinstance(ending, DelayFlush)

    def leaves(stage: int, frames: int, turn: int = 0) -> str:
        plan = program.plan(stage, {ending.of.sets: frames}, turn)
        return " ".join(_ids(leaf.ranges) for leaf in plan.leaves)

    ways = []
    ramp = stage.ramp
    for frames in range(1, ramp + 1):
        steps = [leaves(at, frames, turn) for turn in range(frames)]
        ways.append(" ".join([*steps, leaves(at + 1, frames)]))
    steps = [leaves(at, ramp, turn) for turn in range(ramp)]
    full = leaves(at, ramp, ramp)
    ways.append(" ".join([*steps, f"({full})+", leaves(at + 1, ramp + 1)]))
    yield f"{kind}-steps: {' | '.join(ways)}"
