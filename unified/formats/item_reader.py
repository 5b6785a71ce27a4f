"""The items of a format's spans and what stands around its roles, read from YAML and checked."""

from __future__ import annotations

import re
from typing import Any

from unified.formats.spec import (
    Affix,
    CodesItem,
    Delayed,
    Item,
    Literal,
    Marker,
    Repeat,
    Role,
    SizeVariable,
)
from unified_base.text import quoted

__all__ = ["MOST_NAME", "ItemReader", "check_keys", "read_name"]

MOST_NAME = 256
"""Characters of a name or a literal, which no real format comes near; the same of the others."""
_MOST_IDS, _MOST_DELAY = 1 << 20, 4096  # the ids are of a span whose size variables are all 1
_ITEMS = ("marker", "position", "literal", "register", "codes", "embeds", "repeat", "delayed")
_MOST_LEVELS = 256  # the depth of an id is a byte


class ItemReader:
    """Reads markers, affixes, roles and spans of a format. markers: those that it declares.

    Its methods take an entry as YAML gives it and where that stands, and raise ValueError for a
    wrong one.
    """

    def __init__(self, markers: frozenset[str]):
        self.markers = markers

    def marker(self, name: Any, where: str) -> str:
        if not isinstance(name, str) or name not in self.markers:
            raise ValueError(
                f"format.{where} names {quoted(name)}, which is not among format.markers"
            )
        return str(name)

    def affix(self, entry: Any, where: str) -> Affix:
        if entry is None:
            return ()
        affix: list[Marker | Literal] = []
        for at, item in enumerate(entry if isinstance(entry, list) else [entry]):
            if isinstance(item, dict):
                check_keys(item, f"format.{where}[{at}]", ("literal",))
                affix.append(self.literal(item["literal"], f"{where}[{at}]"))
            else:
                affix.append(Marker(self.marker(item, where)))
        return tuple(affix)

    def literal(self, text: Any, where: str) -> Literal:
        if not isinstance(text, str) or not 0 < len(text) <= MOST_NAME:
            raise ValueError(f"format.{where}.literal is {quoted(text)}, expected some text")
        return Literal(text)

    def role(self, entry: Any, where: str) -> Role:
        if not isinstance(entry, dict):
            return Role(self.affix(entry, where), ())
        check_keys(entry, f"format.{where}", (), ("begin", "end"))
        return Role(
            self.affix(entry.get("begin"), f"{where}.begin"),
            self.affix(entry.get("end"), f"{where}.end"),
        )

    def span(self, items: Any, where: str) -> tuple[Item, ...]:
        known: set[str] = set()
        span = self._items(items, where, known, top=True)
        if _least(span) > _MOST_IDS:
            raise ValueError(f"format.{where} has repeats of more than {_MOST_IDS:,} ids together")
        if not isinstance(span[0], Marker) and not _begins_with_embeds(span):
            raise ValueError(f"format.{where} must begin with a marker, found {quoted(items[0])}")
        for at, item in enumerate(span):
            if isinstance(item, SizeVariable) and item.digits:
                follower = span[at + 1] if at + 1 < len(span) else None
                if not isinstance(follower, Marker | Literal):
                    raise ValueError(
                        f"format.{where}[{at}]: digits end where a marker or a literal begins; put"
                        " one behind them"
                    )
            if isinstance(item, Delayed) and not item.num_flush_steps and at + 1 == len(span):
                raise ValueError(
                    f"format.{where}[{at}]: levels that are all on time need a follower, such as a"
                    " marker, to tell where they end"
                )
            if isinstance(item, Repeat) and item.count is None and item.until is None:
                follower = span[at + 1] if at + 1 < len(span) else None
                if follower is None and _begins_with_embeds((item,)):
                    continue  # another id than theirs ends them
                if follower is None or isinstance(follower, SizeVariable):
                    raise ValueError(
                        f"format.{where}[{at}]: an open repeat needs a follower, such as a marker,"
                        " to tell where it ends"
                    )
                if isinstance(follower, Repeat) and follower.count is None:
                    raise ValueError(
                        f"format.{where}[{at}]: two open repeats in a row; put a marker between"
                        " them"
                    )
        return span

    def _items(self, items: Any, where: str, known: set[str], top: bool) -> tuple[Item, ...]:
        if not isinstance(items, list) or not items:
            raise ValueError(
                f"format.{where} is {quoted(items)}, expected a list of items that is not empty"
            )
        span: list[Item] = []
        for at, item in enumerate(items):
            if isinstance(item, dict) and "position" in item:
                span += self._position(item, f"{where}[{at}]", top)
            else:
                span.append(self._item(item, f"{where}[{at}]", known, top))
        return tuple(span)

    def _position(self, item: dict[str, Any], where: str, top: bool) -> list[Item]:
        check_keys(item, f"format.{where}", ("position",))
        names = item["position"]
        if not top:
            raise ValueError(f"format.{where}: a position of markers stands at the top of the span")
        if not isinstance(names, list) or not 2 <= len(names) <= _MOST_LEVELS:
            raise ValueError(
                f"format.{where}.position is {quoted(names)}, expected a list of markers, one for"
                f" each level, 2 to {_MOST_LEVELS}"
            )
        return [
            Marker(self.marker(name, f"{where}.position[{depth}]"), depth)
            for depth, name in enumerate(names)
        ]

    def _item(self, item: Any, where: str, known: set[str], top: bool) -> Item:
        kinds = [k for k in _ITEMS if isinstance(item, dict) and k in item]
        if not isinstance(item, dict) or len(kinds) != 1:
            raise ValueError(
                f"format.{where} must be one of {', '.join(_ITEMS[:-1])} or {_ITEMS[-1]},"
                f" found {quoted(item)}"
            )
        kind = kinds[0]
        if kind in ("register", "delayed") and not top:
            raise ValueError(
                f"format.{where}: a {kind} cannot be read inside a repeat; put it at the top of the"
                " span"
            )
        if kind == "repeat":
            return self._repeat(item, where, known, top)
        if kind == "register":
            return self._register(item, where, known)
        if kind == "delayed":
            return self._delayed(item, where, known)
        if kind == "codes":
            check_keys(item, f"format.{where}", ("codes",), ("together",))
            together = _together(item, where)
            return CodesItem(read_name(item["codes"], f"{where}.codes"), together)
        check_keys(item, f"format.{where}", (kind,), ("attended",) if kind == "embeds" else ())
        if kind == "embeds":
            name, attended = read_name(item["embeds"], f"{where}.embeds"), _attended(item, where)
            return CodesItem(name, embeds=True, attended=attended)
        if kind == "marker":
            return Marker(self.marker(item["marker"], where))
        return self.literal(item["literal"], where)

    def _register(self, item: dict[str, Any], where: str, known: set[str]) -> SizeVariable:
        name = self._set(item["register"], where, known)
        if "digits" not in item:
            check_keys(item, f"format.{where}", ("register", "block"))
            return SizeVariable(name, read_name(item["block"], f"{where}.block"))
        check_keys(item, f"format.{where}", ("register", "digits"))
        digits = item["digits"]
        if type(digits) is not int or not 1 <= digits <= 9:
            raise ValueError(f"format.{where}.digits is {quoted(digits)}, expected 1 to 9")
        return SizeVariable(name, None, digits)

    def _delayed(self, item: dict[str, Any], where: str, known: set[str]) -> Delayed:
        check_keys(item, f"format.{where}", ("delayed", "by", "fill"), ("sets", "together"))
        by = item["by"]
        if (
            not isinstance(by, list)
            or not all(type(n) is int and 0 <= n <= _MOST_DELAY for n in by)
            or not 0 < len(by) <= _MOST_LEVELS
        ):
            raise ValueError(
                f"format.{where}.by is {quoted(by)}, expected steps, 0 to {_MOST_DELAY}, for 1 to"
                f" {_MOST_LEVELS} levels"
            )
        if by[0] != 0:
            raise ValueError(f"format.{where}.by begins with {by[0]}: the first level is on time")
        sets = self._set(item.get("sets", f"count@{where}"), where, known)
        fill, end = item["fill"], None
        if isinstance(fill, dict):
            check_keys(fill, f"format.{where}.fill", ("before", "after"), ("end",))
            before = self._fill(fill["before"], f"{where}.fill.before", len(by))
            after = self._fill(fill["after"], f"{where}.fill.after", len(by))
            end = fill.get("end")
        else:
            before = after = self._fill(fill, f"{where}.fill", len(by))
        return Delayed(
            read_name(item["delayed"], f"{where}.delayed"), tuple(by), before, after, sets,
            () if end is None else self._fill(end, f"{where}.fill.end", len(by)),
            _together(item, where),
        )  # fmt: skip

    def _fill(self, entry: Any, where: str, levels: int) -> tuple[str, ...]:
        """A marker for each level: the same one, or a list of them."""
        if not isinstance(entry, list):
            return (self.marker(entry, where),) * levels
        if len(entry) != levels:
            raise ValueError(
                f"format.{where} has {len(entry)} markers, expected one for each of the {levels}"
                " levels of by"
            )
        return tuple(self.marker(name, f"{where}[{k}]") for k, name in enumerate(entry))

    def _repeat(self, item: dict[str, Any], where: str, known: set[str], top: bool) -> Repeat:
        optional = ("separator", "separate", "sets", "until", "rising")
        check_keys(item, f"format.{where}", ("repeat", "of"), optional)
        count, times = item["repeat"], 1
        is_open = count == "open"
        if isinstance(count, bool) or not isinstance(count, int | str):
            raise ValueError(
                f"format.{where}.repeat is {quoted(count)}, expected an integer, a register or open"
            )
        if isinstance(count, int) and not 1 <= count <= _MOST_IDS:
            raise ValueError(
                f"format.{where}.repeat must be at least 1 and at most {_MOST_IDS:,}, found"
                f" {quoted(count)}"
            )
        if isinstance(count, str) and (multiple := re.fullmatch(r"([1-9]\d{0,5})\*(.+)", count)):
            times, count = int(multiple[1]), multiple[2]
        if isinstance(count, str) and not is_open and count not in known:
            raise ValueError(
                f"format.{where}.repeat: nothing before it sets register {quoted(count)}"
            )
        of = self._items(item["of"], f"{where}.of", known, top=False)
        separator, separate = item.get("separator"), item.get("separate")
        if (separator is None) != (separate is None) or separate not in (None, "each", "between"):
            raise ValueError(
                f"format.{where} has separator {quoted(separator)} and separate {quoted(separate)},"
                " expected both, and separate: each or between; or neither"
            )
        if separator is not None:
            separator = self.marker(separator, f"{where}.separator")
        sets = item.get("sets")
        if is_open:
            if not top or separator is not None:
                raise ValueError(
                    f"format.{where}: an open repeat stands at the top of a span and has no "
                    "separator (a marker that ends each turn is an item inside it)"
                )
            # Every open repeat has a register, so that lengths are functions of registers only.
            sets = self._set(sets if sets is not None else f"count@{where}", where, known)
        elif sets is not None:
            raise ValueError(f"format.{where}.sets: only an open repeat sets a register")
        until = item.get("until")
        if until is not None:
            if type(until) is not int or not 0 <= until < _MOST_IDS:
                raise ValueError(f"format.{where}.until is {quoted(until)}, expected a code")
            if not is_open or len(of) != 1 or not isinstance(of[0], CodesItem):
                raise ValueError(
                    f"format.{where}.until: a code ends an open repeat of one item, codes"
                )
        rising = item.get("rising", 0)
        if "rising" in item:
            alone = len(of) == 1 and isinstance(of[0], CodesItem) and not of[0].together
            if not (top and isinstance(count, int) and alone and separator is None):
                raise ValueError(
                    f"format.{where}.rising: codes rise in a repeat of a whole number of them, at"
                    " the top of a span and without a separator"
                )
            if type(rising) is not int or not 1 <= rising < count:
                raise ValueError(
                    f"format.{where}.rising is {quoted(rising)}, expected 1 to {count - 1}: how"
                    " many codes before stands the one that a code is at least"
                )
        return Repeat(
            None if is_open else count, of, separator, separate, sets, times, until, rising
        )

    def _set(self, name: Any, where: str, known: set[str]) -> str:
        if not isinstance(name, str) or name in known or name == "open":
            raise ValueError(
                f"format.{where}: {quoted(name)} cannot be the name of a register here: it must be"
                " a text, not 'open', and not set before"
            )
        known.add(name)
        return name


def _begins_with_embeds(span: tuple[Item, ...]) -> bool:
    """Whether the first id of a span is that of a continuous position."""
    first: Item | None = span[0]
    while isinstance(first, Repeat):
        first = first.of[0]
    return isinstance(first, CodesItem) and first.embeds


def _together(item: dict[str, Any], where: str) -> bool:
    """Whether the levels of an item are in one position."""
    together = item.get("together", False)
    if not isinstance(together, bool):
        raise ValueError(f"format.{where}.together is {quoted(together)}, expected true or false")
    return together


def _attended(item: dict[str, Any], where: str) -> bool:
    """Whether the layers of a decoder attend to what an item stands for."""
    attended = item.get("attended", False)
    if not isinstance(attended, bool):
        raise ValueError(f"format.{where}.attended is {quoted(attended)}, expected true or false")
    return attended


def _least(items: tuple[Item, ...]) -> int:
    """The fewest ids of items, each register being 1."""
    total = 0
    for item in items:
        if isinstance(item, Repeat):
            count = item.count if isinstance(item.count, int) else 1
            total += count * item.times * (_least(item.of) + (item.separator is not None))
        elif isinstance(item, Delayed):
            total += len(item.by) * (1 + item.num_flush_steps)
        else:
            total += len(item.text) if isinstance(item, Literal) else 1
    return total


def read_name(value: Any, where: str) -> str:
    """`value`, a name. ValueError for anything else, or one that is too long."""
    if not isinstance(value, str) or not 0 < len(value) <= MOST_NAME:
        raise ValueError(f"format.{where} is {quoted(value)}, expected a name")
    return value


def check_keys(
    obj: Any, where: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> None:
    """Raises ValueError unless `obj` is a mapping with all needed keys, and no unknown ones."""
    if not isinstance(obj, dict):
        raise ValueError(
            f"{where} is {quoted(obj)}, expected a mapping with {', '.join(needed or optional)}"
        )
    missing = [k for k in needed if k not in obj]
    unknown = [str(k) for k in obj if k not in needed + optional]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown:
        raise ValueError(
            f"{where} has unknown keys {quoted(unknown)}, expected {', '.join(needed + optional)}"
        )
