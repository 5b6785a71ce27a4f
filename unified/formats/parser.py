"""A format's YAML text read and checked (see `spec` for what it may say)."""

from __future__ import annotations

import re
from typing import Any

import yaml

from unified.formats.item_reader import MOST_NAME, ItemReader, check_keys, read_name
from unified.formats.spec import Format, Item, Literal, Marker, SpanSpec
from unified_base.structured import parse_yaml
from unified_base.text import quoted
from unified_data.segments import media_class, media_classes

_MOST_TEXT, _MOST_MARKERS = 1 << 18, 4096  # what no real format comes near
# What stands where guidance does without a text: the key in a file, and what it is here.
_GUIDANCE = {"blank": "pad_text_with", "instead": "uncond_token"}


def parse_format(text: str) -> Format:
    """Read a format from YAML text; unknown keys and undeclared names are ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"the format is {quoted(text)}, expected YAML text")
    top = parse_yaml(text, "the format", _MOST_TEXT)
    keys = ("name", "markers", "padding", "document", "roles", "text", "spans")
    check_keys(top, "format", keys, ("guidance", "bidirectional"))
    markers = top["markers"]
    if (
        not isinstance(markers, list)
        or len(markers) > _MOST_MARKERS
        or not all(isinstance(m, str) and 0 < len(m) <= MOST_NAME for m in markers)
        or len(set(markers)) != len(markers)
    ):
        raise ValueError(
            f"format.markers must be a list of distinct names, found {quoted(markers)}"
        )
    reader = ItemReader(frozenset(markers))
    check_keys(top["document"], "format.document", ("begin", "end"), ("start",))
    check_keys(top["text"], "format.text", ("separator",))
    if not isinstance(top["roles"], dict) or not all(isinstance(r, str) for r in top["roles"]):
        raise ValueError(
            f"format.roles is {quoted(top['roles'])}, expected a mapping of role names to markers"
        )
    start = top["document"].get("start")
    if start is not None and not (isinstance(start, str) and start in top["roles"]):
        raise ValueError(
            f"format.document.start names {quoted(start)}, which is not among format.roles"
        )
    separator = top["text"]["separator"]
    without: dict[str, Any] = {}
    if "guidance" in top:
        check_keys(top["guidance"], "format.guidance", (), ("blank", "instead", "leads"))
        named = [key for key in _GUIDANCE if key in top["guidance"]]
        if len(named) != 1:
            raise ValueError(
                f"format.guidance has {quoted(sorted(map(str, top['guidance'])))}, expected either"
                " blank or instead"
            )
        (key,) = named
        without = {_GUIDANCE[key]: reader.marker(top["guidance"][key], f"guidance.{key}")}
        leads = top["guidance"].get("leads", False)
        if not isinstance(leads, bool) or (leads and key != "blank"):
            raise ValueError(
                f"format.guidance.leads is {quoted(leads)}, expected true or false, beside blank"
            )
        without["pad_affixes"] = leads
    format = Format(
        name=read_name(top["name"], "name"),
        markers=tuple(markers),
        padding=reader.marker(top["padding"], "padding"),
        begin=reader.affix(top["document"]["begin"], "document.begin"),
        end=reader.affix(top["document"]["end"], "document.end"),
        start=start,
        roles={name: reader.role(role, f"roles.{name}") for name, role in top["roles"].items()},
        text_separator=None if separator is None else reader.marker(separator, "text.separator"),
        spans=_spans(reader, top["spans"]),
        source=text,
        bidirectional=_names(top.get("bidirectional", [])),
        **without,
    )
    _check_document(format)
    _check_both_ways(format)
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


def _spans(reader: ItemReader, spans: Any) -> dict[str, SpanSpec]:
    if not isinstance(spans, dict) or not all(isinstance(kind, str) for kind in spans):
        raise ValueError(
            f"format.spans is {quoted(spans)}, expected a mapping of kinds, such as image, to lists"
            " of items"
        )
    spans_by_kind = {}
    for kind, entry in spans.items():
        where = f"spans.{kind}"
        if kind in ("text", "any") or not re.fullmatch(r"[a-z]\w*", kind):
            raise ValueError(
                f"format.{where}: {quoted(kind)} cannot be the name of a kind of span: it must"
                " be of letters, digits and '_', begin with a small letter, and be neither text nor"
                " any"
            )
        if isinstance(entry, list):
            entry = {"items": entry}
        check_keys(entry, f"format.{where}", ("items",), ("modality", "closes", "streams"))
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
        streams = _streams(entry.get("streams", {}), f"{where}.streams")
        items = reader.span(entry["items"], where)
        spans_by_kind[kind] = SpanSpec(modality, items, closes, streams)
    return spans_by_kind


def _names(entry: Any) -> tuple[str, ...]:
    if not isinstance(entry, list) or not all(isinstance(name, str) for name in entry):
        raise ValueError(
            f"format.bidirectional is {quoted(entry)}, expected a list of roles and kinds of spans"
        )
    return tuple(dict.fromkeys(entry))


def _check_both_ways(format: Format) -> None:
    """What is seen both ways is read and never written."""
    for name in format.bidirectional:
        span = format.spans.get(name)
        if name not in format.roles and span is None:
            known = [*format.roles, *(kind for kind, s in format.spans.items() if s.embeds)]
            raise ValueError(
                f"format.bidirectional names {quoted(name)}, expected some of"
                f" {', '.join(known) or 'its roles, which it has none of'}"
            )
        if name not in format.roles and span is not None and not span.embeds:
            raise ValueError(
                f"format.bidirectional names {name}, whose codes are written one after another;"
                " expected a role, or a kind of span of vectors"
            )


def _streams(entry: Any, where: str) -> dict[str, int | None]:
    """Streams by name, None for the one that is the text."""
    names = isinstance(entry, dict) and all(
        isinstance(name, str) and re.fullmatch(r"[a-z]\w*", name) for name in entry
    )
    if not names or not all(
        number == "text" or (type(number) is int and 1 <= number <= MOST_NAME)
        for number in entry.values()
    ):
        raise ValueError(
            f"format.{where} is {quoted(entry)}, expected names, each with its number of codebooks"
            f" (1 to {MOST_NAME}), or text"
        )
    if list(entry.values()).count("text") > 1 or (entry and set(entry.values()) == {"text"}):
        raise ValueError(
            f"format.{where} is {quoted(entry)}, expected codebooks, and at most one stream of text"
        )
    return {name: None if number == "text" else number for name, number in entry.items()}


def _check_document(format: Format) -> None:
    """The first ids at the level of the document must tell what they begin."""
    # Where every role has an end, that tells where the last one ends, and nothing need follow it.
    role_ends_tell = format.start is not None and all(role.end for role in format.roles.values())
    if not role_ends_tell and not (format.end and isinstance(format.end[0], Marker)):
        texts = [quoted(item.text) for item in format.end if isinstance(item, Literal)]
        first = texts[0] if texts else "nothing"
        raise ValueError(
            f"format.document.end begins with {first}, expected a marker: nothing else would tell"
            " where a document ends (unless it has a start, and every role an end)"
        )
    used: list[Item] = [span.items[0] for span in format.spans.values() if not span.embeds]
    # A span of vectors may begin with an id of its own, or as one of codes does, which what follows
    # tells apart.
    of_vectors = {span.items[0] for span in format.spans.values() if span.embeds}
    used += [item for item in of_vectors if isinstance(item, Marker) and item not in used]
    used.append(Marker(format.padding))
    used += [] if format.text_separator is None else [Marker(format.text_separator)]
    ends = {role.end[0] for role in format.roles.values() if role.end}
    if not role_ends_tell:
        used += [format.end[0], *(item for item in format.begin if isinstance(item, Marker))]
        # Several roles may begin with one marker: what follows it tells them apart.
        used += {role.begin[0] for role in format.roles.values() if role.begin}
    used += ends
    for item in used:
        if not isinstance(item, Marker):
            raise ValueError(
                f"the text {quoted(getattr(item, 'text', item))} begins or ends a role in the"
                " format, expected a marker: a user could write the text, too"
            )
    names = [item.name for item in used if isinstance(item, Marker)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"marker {twice[0]} stands for two things at the level of the document; give each a"
            " marker of its own"
        )
    silent = [
        name for name, role in format.roles.items() if not role.begin and name != format.start
    ]
    if silent and not all(role.end for role in format.roles.values()):
        raise ValueError(
            f"format.roles.{silent[0]}: nothing says where the role begins; give it a begin, or"
            " every role an end"
        )
