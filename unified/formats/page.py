"""A declared format on one page, as productions people can read."""

from __future__ import annotations

import json
import textwrap

from unified.formats.columns import draw_columns
from unified.formats.spec import (
    Affix,
    CodesItem,
    Delayed,
    Format,
    Item,
    Literal,
    Marker,
    Repeat,
    SizeVariable,
)

__all__ = ["page"]

_WIDTH = 120  # of the page
_LONGEST = 32  # characters of a literal


def page(format: Format) -> str:
    """A format's own words about itself, its productions, what its registers may be, and its
    positions as columns where codes are together."""
    words = [line[1:].strip() for line in format.source.splitlines() if line.startswith("#")]
    about = " ".join(words[: words.index("")] if "" in words else words)
    rules = [("document", _document(format))]
    for name, role in format.roles.items():
        begin, end = _affix(role.begin), _affix(role.end)
        says = [f"begins with {begin}" if begin else "begins the document"]
        says += [f"ends with {end}"] if end else []
        rules.append((f"role {name}", ", ".join(says)))
    separator = f" ({format.text_separator} id+)*" if format.text_separator else ""
    rules.append(("text", f"id+{separator}"))
    notes = []
    for kind, span in format.spans.items():
        note = "   and then the document ends" if span.terminal else ""
        rules.append((kind, _items(span.items) + note))
        notes += _size_variables(kind, span.items)
        if span.streams:
            streams = [f"{name} ({number or 'text'})" for name, number in span.streams.items()]
            notes.append(f"streams of {kind}: {', '.join(streams)}")
    rules.append(("markers", " ".join(format.markers)))
    width = max(len(name) for name, _ in rules)
    lines = []
    for name, rule in rules:
        head = f"{name:<{width}}  {'is' if name.startswith('role') else ':='}  "
        lines += textwrap.wrap(
            head + rule,
            _WIDTH,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
    title = textwrap.wrap(f"{format.name}: {about}", _WIDTH)
    notes = [line for note in notes for line in textwrap.wrap(note, _WIDTH, subsequent_indent="  ")]
    drawn = draw_columns(format, _WIDTH)
    parts = [*title, "", *lines, *(["", *notes] if notes else []), *(["", *drawn] if drawn else [])]
    return "\n".join(parts)


def _document(format: Format) -> str:
    items = " | ".join(["text", *format.spans])
    body = f"({items})*"
    if format.roles:
        body += f" of the roles {', '.join(format.roles)}"
    return " ".join(part for part in (_affix(format.begin), body, _affix(format.end)) if part)


def _affix(affix: Affix) -> str:
    return " ".join(_item(item) for item in affix)


def _items(items: tuple[Item, ...]) -> str:
    parts: list[str] = []
    for at, item in enumerate(items):
        if isinstance(item, Marker) and item.depth:  # with those before it in one position
            parts[-1] += f" + {item.name}"
            if at + 1 == len(items) or getattr(items[at + 1], "depth", 0) == 0:
                parts[-1] = f"({_shortened(parts[-1], ' + ')})"
        else:
            parts.append(_item(item))
    return " ".join(parts)


def _shortened(names: str, between: str) -> str:
    """The first and the last of more than four markers."""
    parts = names.split(between)
    return names if len(parts) <= 4 else between.join((parts[0], "...", parts[-1]))


def _item(item: Item) -> str:
    if isinstance(item, Marker):
        return item.name
    if isinstance(item, Literal):
        return _quoted(item.text)
    if isinstance(item, SizeVariable):
        return f"{item.name}:{item.block or 'digits'}"
    if isinstance(item, CodesItem):
        name = f"<{item.blocks} as vectors>" if item.embeds else item.blocks
        name = f"<{item.blocks}, attended to>" if item.attended else name
        return f"{name} together" if item.together else name
    if isinstance(item, Delayed):
        fill = "" if _fills(item) else f", {item.before[0]} where a level has none"
        return f"(a step of {item.kind}{' together' if item.together else ''}{fill})+"
    assert isinstance(item, Repeat)
    inner = _items(item.of)
    if item.until is not None:
        return f"({inner})+ (a turn of code {item.until} in every level)"
    if item.count is None:
        return f"({inner}){{{item.sets}}}" if not (item.sets or "").startswith("count@") else (
            f"({inner})+"
        )  # fmt: skip
    count = f"{item.times if item.times > 1 else ''}{item.count}"
    if item.rising:
        count += f", each at least the one {item.rising} before"
    if item.separator is None:
        return f"({inner}){{{count}}}" if " " in inner or "{" in inner else f"{inner}{{{count}}}"
    if item.separate == "each":
        return f"({inner} {item.separator}){{{count}}}"
    return f"({inner}){{{count}, {item.separator} between}}"


def _quoted(text: str) -> str:
    """A literal on one line, cut short: system prompts are long."""
    line = json.dumps(text, ensure_ascii=False)
    return line if len(line) <= _LONGEST else f'{line[: _LONGEST - 4]}..."'


def _size_variables(kind: str, items: tuple[Item, ...]) -> list[str]:
    notes = []
    for item in items:
        if isinstance(item, SizeVariable) and item.block:
            notes.append(f"{item.name} of {kind}: one id of block {item.block}, its code + 1")
        elif isinstance(item, SizeVariable):
            notes.append(f"{item.name} of {kind}: decimal digits, at most {item.digits}")
        elif isinstance(item, Delayed):
            late = ", ".join(str(step) for step in item.by)
            notes.append(f"levels of {kind}: {late} steps late")
            if fills := _fills(item):
                notes.append(f"where a level of {kind} has no code: {fills}")
        elif isinstance(item, Repeat) and item.sets and not item.sets.startswith("count@"):
            notes.append(f"{item.sets} of {kind}: 1 or more, the same wherever it stands")
    return notes


def _fills(item: Delayed) -> str:
    """What stands where delayed levels have no code; "" if it is one marker everywhere."""
    if len({*item.before, *item.after, *item.end}) == 1:
        return ""
    names = {"before": item.before, "at its end": item.end, "after": item.after}
    return ", ".join(
        f"{when} {_shortened(' '.join(fill), ' ')}" for when, fill in names.items() if fill
    )
