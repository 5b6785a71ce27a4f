"""A declared format (YAML) read into checked, vocabulary-free data.

A span is a list of items:

    marker: NAME                     one marker
    register: NAME, block: BLOCK     one id of BLOCK whose code + 1 becomes the register's value
    codes: MODALITY | BLOCK          one id of every level of a modality, in order, or of one level
    repeat: COUNT, of: [items]       COUNT an integer, a register, or `open`: one or more times,
                                     until the next item begins; `sets: NAME` keeps how often, so
                                     that later repeats can be held to an equal count
      separator: NAME, separate: each | between

Levels frame-major are one repeat of all levels; layer-major, one repeat for each level, the later
ones counted by what the first one set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

KINDS = ("image", "audio")


@dataclass(frozen=True)
class Marker:
    name: str


@dataclass(frozen=True)
class Register:
    name: str
    block: str


@dataclass(frozen=True)
class Codes:
    blocks: str


@dataclass(frozen=True)
class Repeat:
    """count: an integer, a register's name, or None for an open repeat, which sets `sets`."""

    count: int | str | None
    of: tuple[Item, ...]
    separator: str | None = None
    separate: str | None = None
    sets: str | None = None


Item = Marker | Register | Codes | Repeat


@dataclass(frozen=True)
class Format:
    """A declared format. `source` is the YAML text it was read from."""

    name: str
    markers: tuple[str, ...]
    padding: str
    begin: str
    end: str
    roles: Mapping[str, str]
    text_separator: str
    spans: Mapping[str, tuple[Item, ...]]
    source: str


def load_format(name_or_path: str | Path) -> Format:
    """Read a format: a shipped one by name ("pocket"), or any YAML file by path."""
    name = str(name_or_path)
    if name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read format {name}: {error}") from None
        return parse_format(text)
    folder = resources.files("unified") / "formats"
    shipped = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
    if name not in shipped:
        raise ValueError(
            f"no format '{name}'; shipped formats: {', '.join(shipped)} (or give a .yaml file)"
        )
    return parse_format((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def parse_format(text: str) -> Format:
    """Read a format from YAML text; unknown keys and undeclared names are ValueError."""
    try:
        top = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the format is not valid YAML: {error}") from None
    keys = ("name", "markers", "padding", "document", "roles", "text", "spans")
    _keys(top, "format", keys)
    markers = top["markers"]
    if (
        not isinstance(markers, list)
        or not all(isinstance(m, str) and m for m in markers)
        or len(set(markers)) != len(markers)
    ):
        raise ValueError(f"format.markers must be a list of distinct names, found {markers!r}")
    reader = _Reader(frozenset(markers))
    _keys(top["document"], "format.document", ("begin", "end"))
    _keys(top["text"], "format.text", ("separator",))
    if not isinstance(top["roles"], dict) or not all(isinstance(r, str) for r in top["roles"]):
        raise ValueError("format.roles must map role names to markers")
    if not isinstance(top["spans"], dict) or not set(top["spans"]) <= set(KINDS):
        raise ValueError(f"format.spans must map {' and '.join(KINDS)} to lists of items")
    spans = {k: reader.span(items, f"spans.{k}") for k, items in top["spans"].items()}
    found = Format(
        name=str(top["name"]),
        markers=tuple(markers),
        padding=reader.marker(top["padding"], "padding"),
        begin=reader.marker(top["document"]["begin"], "document.begin"),
        end=reader.marker(top["document"]["end"], "document.end"),
        roles={r: reader.marker(m, f"roles.{r}") for r, m in top["roles"].items()},
        text_separator=reader.marker(top["text"]["separator"], "text.separator"),
        spans=spans,
        source=text,
    )
    used = [found.padding, found.begin, found.end, found.text_separator, *found.roles.values()]
    used += [items[0].name for items in spans.values() if isinstance(items[0], Marker)]
    twice = sorted({m for m in used if used.count(m) > 1})
    if twice:
        raise ValueError(f"marker {twice[0]} stands for two things at the level of the document")
    return found


class _Reader:
    def __init__(self, markers: frozenset[str]):
        self.markers = markers

    def marker(self, name: Any, where: str) -> str:
        if name not in self.markers:
            raise ValueError(f"format.{where} names {name!r}, which is not among format.markers")
        return str(name)

    def span(self, items: Any, where: str) -> tuple[Item, ...]:
        known: set[str] = set()
        span = self._items(items, where, known, top=True)
        if not isinstance(span[0], Marker):
            raise ValueError(f"format.{where} must begin with a marker")
        for at, item in enumerate(span):
            if isinstance(item, Repeat) and item.count is None:
                follower = span[at + 1] if at + 1 < len(span) else None
                if follower is None or isinstance(follower, Register):
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
        kinds = [k for k in ("marker", "register", "codes", "repeat") if k in (item or ())]
        if not isinstance(item, dict) or len(kinds) != 1:
            raise ValueError(
                f"format.{where} must be one of marker, register, codes or repeat, found {item!r}"
            )
        if kinds == ["marker"]:
            _keys(item, f"format.{where}", ("marker",))
            return Marker(self.marker(item["marker"], where))
        if kinds == ["codes"]:
            _keys(item, f"format.{where}", ("codes",))
            return Codes(str(item["codes"]))
        if kinds == ["register"]:
            _keys(item, f"format.{where}", ("register", "block"))
            if not top:
                raise ValueError(f"format.{where}: a register cannot be read inside a repeat")
            self._set(item["register"], where, known)
            return Register(str(item["register"]), str(item["block"]))
        return self._repeat(item, where, known, top)

    def _repeat(self, item: dict[str, Any], where: str, known: set[str], top: bool) -> Repeat:
        _keys(item, f"format.{where}", ("repeat", "of"), ("separator", "separate", "sets"))
        count = item["repeat"]
        is_open = count == "open"
        if isinstance(count, bool) or not isinstance(count, int | str):
            raise ValueError(f"format.{where}.repeat must be an integer, a register or open")
        if isinstance(count, int) and count < 1:
            raise ValueError(f"format.{where}.repeat must be at least 1, found {count}")
        if isinstance(count, str) and not is_open and count not in known:
            raise ValueError(f"format.{where}.repeat: nothing before it sets register {count!r}")
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
        return Repeat(None if is_open else count, of, separator, separate, sets)

    def _set(self, name: Any, where: str, known: set[str]) -> str:
        if not isinstance(name, str) or name in known or name == "open":
            raise ValueError(f"format.{where}: {name!r} is no new register name")
        known.add(name)
        return name


def _keys(obj: Any, where: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if not isinstance(obj, dict):
        raise ValueError(f"{where} must be a mapping with {', '.join(needed)}, found {obj!r}")
    missing = [k for k in needed if k not in obj]
    unknown = [str(k) for k in obj if k not in needed + optional]
    if missing or unknown:
        raise ValueError(f"{where}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
