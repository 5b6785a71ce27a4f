"""Sampling parameters that are stated in part: a task's, and those of one request.

{"image": {"temperature": 0.9, "guidance": 3.0}, "max_ids": 9216}     of a task
{"image.temperature": "0.9", "max_ids": "9216"}                       `--set`, or `settings=`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from unified.engine.request import MODES, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified_base.structured import parse_yaml
from unified_base.text import quoted

__all__ = ["check_settings", "read_settings", "sampling_over"]

_OF_KINDS = tuple(field.name for field in fields(SpanSampling))
_OF_GUIDANCE = tuple(field.name for field in fields(Guidance))
_OF_ALL = tuple(field.name for field in fields(Sampling) if field.name not in (*MODES, "spans"))


def sampling_over(
    sampling: Sampling, settings: Mapping[str, Any], kinds: Mapping[str, str] | None = None
) -> Sampling:
    """Sampling parameters with some in their place.

    settings: {KIND: {PARAMETER: value}} for kinds of spans, {PARAMETER: value} for budgets and all
    that belongs to no kind; both may stand as "KIND.PARAMETER". `guidance` as a number is its
    scale. kinds: of spans that a format has, with their modality, whose parameters they begin with;
    None: any.

    Raises ValueError for a parameter that there is not (with the nearest), a kind that the format
    lacks, and a value out of range.
    """
    if not settings:
        return sampling
    nested = _nested(settings)
    known = None if kinds is None else {*MODES, *kinds}
    entries = sampling.to_json()
    for name, value in nested.items():
        if name in _OF_ALL:
            entries[name] = value
            continue
        if known is not None and name not in known:
            raise _unknown(name, [*sorted(known), *_OF_ALL])
        _check_kind(name, value)
        if name in MODES:
            _into(entries[name], value)
        else:
            begin = sampling.of(name, (kinds or {}).get(name, "text"))
            _into(entries["spans"].setdefault(name, begin.to_json()), value)
    return Sampling.from_json(entries, "sampling")


def check_settings(settings: Any) -> None:
    """Raises ValueError for settings that no model's sampling parameters take."""
    if not isinstance(settings, Mapping):
        raise ValueError(f"sampling is {quoted(settings)}, expected a mapping of settings")
    sampling_over(Sampling(), settings)


def read_settings(texts: Iterable[str]) -> dict[str, Any]:
    """The settings of `--set KIND.KEY=VALUE` and `--set KEY=VALUE`; values as YAML has them.

    Raises ValueError for what is none, or stands twice.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name or not value.strip():
            raise ValueError(
                f"--set {quoted(text)}: expected KIND.KEY=VALUE, such as image.temperature=0.9"
            )
        if name in settings:
            raise ValueError(f"--set {name} stands twice; give it once")
        settings[name] = parse_yaml(value, f"--set {name}")
    return settings


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as mappings in mappings."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        if not isinstance(name, str):
            raise ValueError(f"a setting is named {quoted(name)}, expected a text")
        *groups, last = name.split(".")
        holder = nested
        for group in groups:
            holder = holder.setdefault(group, {})
            if not isinstance(holder, dict):
                raise ValueError(f"setting {quoted(name)} is inside {group}, which is one value")
        if isinstance(value, Mapping):
            within = holder.setdefault(last, {})
            if not isinstance(within, dict):
                raise ValueError(f"setting {quoted(name)} stands twice; give it once")
            within.update(value)
        elif last in holder:
            raise ValueError(f"setting {quoted(name)} stands twice; give it once")
        else:
            holder[last] = value
    return nested


def _check_kind(kind: str, value: Any) -> None:
    if not isinstance(value, dict):
        if kind in MODES:
            raise ValueError(
                f"setting {kind} is {quoted(value)}, expected {kind}.KEY with KEY one of"
                f" {', '.join(_OF_KINDS)}"
            )
        raise _unknown(kind, [*MODES, *_OF_ALL])
    for name, entry in value.items():
        if name not in _OF_KINDS:
            raise _unknown(f"{kind}.{name}", [f"{kind}.{key}" for key in _OF_KINDS])
        if name == "guidance" and isinstance(entry, Mapping):
            for key in entry:
                if key not in _OF_GUIDANCE:
                    names = [f"{kind}.guidance.{each}" for each in _OF_GUIDANCE]
                    raise _unknown(f"{kind}.guidance.{key}", names)


def _into(entries: dict[str, Any], value: Mapping[str, Any]) -> None:
    for name, entry in value.items():
        if name == "guidance":
            change = entry if isinstance(entry, Mapping) else {"scale": entry}
            entries[name] = {**entries[name], **change}
        else:
            entries[name] = entry


def _unknown(name: str, names: list[str]) -> ValueError:
    near = get_close_matches(name[:80], names, 1)
    guess = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    return ValueError(f"there is no setting {quoted(name)}; {guess}")
