"""Formats with the codes of a place or a frame in one position of the decoder, or in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from unified.formats.parser import parse_format, write_format
from unified.formats.spec import Format
from unified_base.text import quoted

__all__ = ["together_kinds", "with_layouts"]

_SUFFIX = "-together"


def with_layouts(format: Format, together: Mapping[str, bool]) -> Format:
    """A format whose spans hold the levels of a step in one position, or in positions of their own.

    Markers and their order stay, so that the ids of a document do; its name ends in "-together"
    where any span has positions of several ids.

    Args:
        format: of any layout.
        together: by the kind of a span, whether its levels are in one position.

    Raises:
        ValueError: there are no such spans, or their levels are items of their own (blocks named
            one by one), which cannot be put together.
    """
    top = yaml.safe_load(format.source)
    before = together_kinds(format)
    for kind, joined in together.items():
        if kind not in format.spans:
            raise ValueError(
                f"format '{format.name}' has no {kind} spans; it has"
                f" {', '.join(format.spans) or 'text alone'}"
            )
        items = list(_items_of_codes(top["spans"][kind]))
        if joined and any("." in str(item.get("codes", "")) for item in items):
            names = ", ".join(quoted(item["codes"]) for item in items if "codes" in item)
            raise ValueError(
                f"format '{format.name}' lays {kind} codes out block by block ({names}); write"
                f" {{codes: {kind}, together: true}} into the format's file in their place"
            )
        for item in items:
            item.pop("together", None)
            if joined:
                item["together"] = True
    if all((kind in before) == joined for kind, joined in together.items()):
        return format
    name = format.name.removesuffix(_SUFFIX)
    spans = top["spans"].values()
    several = any(item.get("together") for span in spans for item in _items_of_codes(span))
    top["name"] = name + _SUFFIX if several else name
    return parse_format(write_format(top))


def together_kinds(format: Format) -> tuple[str, ...]:
    """The kinds of spans whose levels are in one position."""
    spans = yaml.safe_load(format.source)["spans"]
    return tuple(
        kind
        for kind, span in spans.items()
        if any(item.get("together") for item in _items_of_codes(span))
    )


def _items_of_codes(span: Any) -> Iterator[dict[str, Any]]:
    """The items of a span's YAML that hold codes, in repeats as well."""
    for item in span if isinstance(span, list) else span["items"]:
        if "repeat" in item:
            yield from _items_of_codes(item["of"])
        elif "codes" in item or "delayed" in item:
            yield item
