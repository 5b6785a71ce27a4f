"""A format's YAML text read and checked (see `format_spec` for what it may say)."""

from __future__ import annotations

import re
from typing import Any

import yaml

from unified.formats.spec import (
    Affix,
    CodesItem,
    Delayed,
    Format,
    Item,
    Literal,
    Marker,
    Repeat,
    Role,
    SizeVariable,
    SpanSpec,
)
from unified_base.structured import parse_yaml
from unified_base.text import quoted
from unified_data.segments import media_class, media_classes

# What no real format comes near; the ids are of a span whose registers are all 1.
_MOST_TEXT, _MOST_MARKERS, _MOST_NAME = 1 << 18, 4096, 256
_MOST_IDS, _MOST_DELAY = 1 << 20, 4096
# What stands where guidance does without a text: the key in a file, and what it is here.
_GUIDANCE = {"blank": "pad_text_with", "instead": "uncond_token"}
_ITEMS = ("marker", "literal", "register", "codes", "repeat", "delayed")


def parse_format(text: str) -> Format:
    """Read a format from YAML text; unknown keys and undeclared names are ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"the format is {quoted(text)}, expected YAML text")
    top = parse_yaml(text, "the format", _MOST_TEXT)
    keys = ("name", "markers", "padding", "document", "roles", "text", "spans")
    _keys(top, "format", keys, ("guidance",))
    markers = top["markers"]
    if (
        not isinstance(markers, list)
        or len(markers) > _MOST_MARKERS
        or not all(isinstance(m, str) and 0 < len(m) <= _MOST_NAME for m in markers)
        or len(set(markers)) != len(markers)
    ):
        raise ValueError(
            f"format.markers must be a list of distinct names, found {quoted(markers)}"
        )
    reader = _Reader(frozenset(markers))
    _keys(top["document"], "format.document", ("begin", "end"), ("start",))
    _keys(top["text"], "format.text", ("separator",))
    if not isinstance(top["roles"], dict) or not all(isinstance(r, str) for r in top["roles"]):
        raise ValueError("format.roles must map role names to markers")
    start = top["document"].get("start")
    if start is not None and not (isinstance(start, str) and start in top["roles"]):
        raise ValueError(
            f"format.document.start names {quoted(start)}, which is not among format.roles"
        )
    separator = top["text"]["separator"]
    without: dict[str, Any] = {}
    if "guidance" in top:
        _keys(top["guidance"], "format.guidance", (), ("blank", "instead", "leads"))
        named = [key for key in _GUIDANCE if key in top["guidance"]]
        if len(named) != 1:
            raise ValueError("format.guidance must have blank or instead")
        (key,) = named
        without = {_GUIDANCE[key]: reader.marker(top["guidance"][key], f"guidance.{key}")}
        leads = top["guidance"].get("leads", False)
        if not isinstance(leads, bool) or (leads and key != "blank"):
            raise ValueError(
                f"format.guidance.leads is {quoted(leads)}, expected true or false, beside blank"
            )
        without["pad_affixes"] = leads
    format = Format(
        name=_name(top["name"], "name"),
        markers=tuple(markers),
        padding=reader.marker(top["padding"], "padding"),
        begin=reader.affix(top["document"]["begin"], "document.begin"),
        end=reader.affix(top["document"]["end"], "document.end"),
        start=start,
        roles={name: reader.role(role, f"roles.{name}") for name, role in top["roles"].items()},
        text_separator=None if separator is None else reader.marker(separator, "text.separator"),
        spans=_spans(reader, top["spans"]),
        source=text,
        **without,
    )
    _check_document(format)
    return format


def write_format(entries: dict[str, Any]) -> str:
    """The YAML text of a format's entries, for `parse_format`."""
    return yaml.dump(
        entries, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None,
        width=100,
    )  # fmt: skip


class _Dumper(yaml.SafeDumper):
    """Line breaks as \\n, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def _spans(reader: _Reader, spans: Any) -> dict[str, SpanSpec]:
    if not isinstance(spans, dict) or not all(isinstance(kind, str) for kind in spans):
        raise ValueError("format.spans must map kinds, such as image, to lists of items")
    spans_by_kind = {}
    for kind, entry in spans.items():
        where = f"spans.{kind}"
        if kind in ("text", "any") or not re.fullmatch(r"[a-z]\w*", kind):
            raise ValueError(f"format.{where}: {quoted(kind)} cannot be the name of a kind of span")
        if isinstance(entry, list):
            entry = {"items": entry}
        _keys(entry, f"format.{where}", ("items",), ("modality", "closes"))
        modality = entry.get("modality", kind)
        try:
            media_class(modality if isinstance(modality, str) else "")
        except ValueError:
            raise ValueError(
                f"format.{where}.modality is {quoted(modality)}, expected one of"
                f" {', '.join(media_classes())}; others join by `register_modality`, or with the"
                " package that has them"
            ) from None
        closes = entry.get("closes", False)
        if not isinstance(closes, bool):
            raise ValueError(f"format.{where}.closes is {quoted(closes)}, expected true or false")
        spans_by_kind[kind] = SpanSpec(modality, reader.span(entry["items"], where), closes)
    return spans_by_kind


def _check_document(format: Format) -> None:
    """The first ids at the level of the document must tell what they begin."""
    # Where every role has an end, that tells where the last one ends, and nothing need follow it.
    role_ends_tell = format.start is not None and all(role.end for role in format.roles.values())
    if not role_ends_tell and not (format.end and isinstance(format.end[0], Marker)):
        raise ValueError("format.document.end must begin with a marker")
    used: list[Any] = [span.items[0] for span in format.spans.values()]
    used.append(Marker(format.padding))
    used += [] if format.text_separator is None else [Marker(format.text_separator)]
    ends = {role.end[0] for role in format.roles.values() if role.end}
    if not role_ends_tell:
        used += [format.end[0], *(item for item in format.begin if isinstance(item, Marker))]
        used += [role.begin[0] for name, role in format.roles.items() if role.begin]
    used += ends
    for item in used:
        if not isinstance(item, Marker):
            raise ValueError(f"format: {item} begins a role or ends one, where a marker must stand")
    names = [item.name for item in used if isinstance(item, Marker)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"marker {twice[0]} stands for two things at the level of the document")
    silent = [
        name for name, role in format.roles.items() if not role.begin and name != format.start
    ]
    if silent and not all(role.end for role in format.roles.values()):
        raise ValueError(f"format.roles.{silent[0]}: nothing says where the role begins")


class _Reader:
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
                _keys(item, f"format.{where}[{at}]", ("literal",))
                affix.append(self.literal(item["literal"], f"{where}[{at}]"))
            else:
                affix.append(Marker(self.marker(item, where)))
        return tuple(affix)

    def literal(self, text: Any, where: str) -> Literal:
        if not isinstance(text, str) or not 0 < len(text) <= _MOST_NAME:
            raise ValueError(f"format.{where}.literal is {quoted(text)}, expected some text")
        return Literal(text)

    def role(self, entry: Any, where: str) -> Role:
        if not isinstance(entry, dict):
            return Role(self.affix(entry, where), ())
        _keys(entry, f"format.{where}", (), ("begin", "end"))
        return Role(
            self.affix(entry.get("begin"), f"{where}.begin"),
            self.affix(entry.get("end"), f"{where}.end"),
        )

    def span(self, items: Any, where: str) -> tuple[Item, ...]:
        known: set[str] = set()
        span = self._items(items, where, known, top=True)
        if _least(span) > _MOST_IDS:
            raise ValueError(f"format.{where} has repeats of more than {_MOST_IDS:,} ids together")
        if not isinstance(span[0], Marker):
            raise ValueError(f"format.{where} must begin with a marker")
        for at, item in enumerate(span):
            if isinstance(item, SizeVariable) and item.digits:
                follower = span[at + 1] if at + 1 < len(span) else None
                if not isinstance(follower, Marker | Literal):
                    raise ValueError(
                        f"format.{where}[{at}]: digits end where a marker or a literal begins"
                    )
            if isinstance(item, Delayed) and at + 1 == len(span):
                raise ValueError(f"format.{where}[{at}]: delayed levels need a follower")
            if isinstance(item, Repeat) and item.count is None:
                follower = span[at + 1] if at + 1 < len(span) else None
                if follower is None or isinstance(follower, SizeVariable):
                    raise ValueError(f"format.{where}[{at}]: an open repeat needs a follower")
                if isinstance(follower, Repeat) and follower.count is None:
                    raise ValueError(f"format.{where}[{at}]: two open repeats in a row")
        return span

    def _items(self, items: Any, where: str, known: set[str], top: bool) -> tuple[Item, ...]:
        if not isinstance(items, list) or not items:
            raise ValueError(f"format.{where} must be a non-empty list of items")
        return tuple(
            self._item(item, f"{where}[{at}]", known, top) for at, item in enumerate(items)
        )

    def _item(self, item: Any, where: str, known: set[str], top: bool) -> Item:
        kinds = [k for k in _ITEMS if isinstance(item, dict) and k in item]
        if not isinstance(item, dict) or len(kinds) != 1:
            raise ValueError(
                f"format.{where} must be one of {', '.join(_ITEMS[:-1])} or {_ITEMS[-1]},"
                f" found {quoted(item)}"
            )
        kind = kinds[0]
        if kind in ("register", "delayed") and not top:
            raise ValueError(f"format.{where}: a {kind} cannot be read inside a repeat")
        if kind == "repeat":
            return self._repeat(item, where, known, top)
        if kind == "register":
            return self._register(item, where, known)
        if kind == "delayed":
            return self._delayed(item, where, known)
        _keys(item, f"format.{where}", (kind,))
        if kind == "marker":
            return Marker(self.marker(item["marker"], where))
        if kind == "literal":
            return self.literal(item["literal"], where)
        return CodesItem(_name(item["codes"], f"{where}.codes"))

    def _register(self, item: dict[str, Any], where: str, known: set[str]) -> SizeVariable:
        name = self._set(item["register"], where, known)
        if "digits" not in item:
            _keys(item, f"format.{where}", ("register", "block"))
            return SizeVariable(name, _name(item["block"], f"{where}.block"))
        _keys(item, f"format.{where}", ("register", "digits"))
        digits = item["digits"]
        if type(digits) is not int or not 1 <= digits <= 9:
            raise ValueError(f"format.{where}.digits is {quoted(digits)}, expected 1 to 9")
        return SizeVariable(name, None, digits)

    def _delayed(self, item: dict[str, Any], where: str, known: set[str]) -> Delayed:
        _keys(item, f"format.{where}", ("delayed", "by", "fill"), ("sets",))
        by = item["by"]
        if (
            not isinstance(by, list)
            or not all(type(n) is int and 0 <= n <= _MOST_DELAY for n in by)
            or not by
        ):
            raise ValueError(
                f"format.{where}.by is {quoted(by)}, expected steps, 0 or more, by level"
            )
        if by[0] != 0:
            raise ValueError(f"format.{where}.by begins with {by[0]}: the first level is on time")
        sets = self._set(item.get("sets", f"count@{where}"), where, known)
        return Delayed(
            _name(item["delayed"], f"{where}.delayed"),
            tuple(by),
            self.marker(item["fill"], f"{where}.fill"),
            sets,
        )

    def _repeat(self, item: dict[str, Any], where: str, known: set[str], top: bool) -> Repeat:
        _keys(item, f"format.{where}", ("repeat", "of"), ("separator", "separate", "sets"))
        count, times = item["repeat"], 1
        is_open = count == "open"
        if isinstance(count, bool) or not isinstance(count, int | str):
            raise ValueError(f"format.{where}.repeat must be an integer, a register or open")
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
            raise ValueError(f"format.{where} needs separator with separate: each or between")
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
        return Repeat(None if is_open else count, of, separator, separate, sets, times)

    def _set(self, name: Any, where: str, known: set[str]) -> str:
        if not isinstance(name, str) or name in known or name == "open":
            raise ValueError(f"format.{where}: {quoted(name)} is no new register name")
        known.add(name)
        return name


def _least(items: tuple[Item, ...]) -> int:
    """The fewest ids of items, each register being 1."""
    total = 0
    for item in items:
        if isinstance(item, Repeat):
            count = item.count if isinstance(item.count, int) else 1
            total += count * item.times * (_least(item.of) + (item.separator is not None))
        else:
            total += len(item.text) if isinstance(item, Literal) else 1
    return total


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_NAME:
        raise ValueError(f"format.{where} is {quoted(value)}, expected a name")
    return value


def _keys(obj: Any, where: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if not isinstance(obj, dict):
        raise ValueError(f"{where} must be a mapping with {', '.join(needed)}, found {quoted(obj)}")
    missing = [k for k in needed if k not in obj]
    unknown = [str(k) for k in obj if k not in needed + optional]
    if missing or unknown:
        raise ValueError(
            f"{where}: missing {missing or 'nothing'}, unknown"
            f" {quoted(unknown) if unknown else 'nothing'}"
        )
