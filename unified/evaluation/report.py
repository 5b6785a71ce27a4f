"""Reports of an evaluation: JSON, a table in words, and the comparison of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unified.evaluation.figures import Difference, MeasuredFigure, difference
from unified_base.config import parse_config
from unified_base.structured import read_json

__all__ = [
    "AGAINST",
    "Compared",
    "Failure",
    "PartReport",
    "Report",
    "compare",
    "compared_json",
    "figure_text",
    "read_report",
    "rows",
]

FORM = 1
"""The form of the JSON; it changes where a reader of the old one would misread the new one."""

AGAINST = "against"
"""The key of a comparison beside a report's own entries."""


@dataclass(frozen=True)
class Failure:
    """A case that came out wrong, in words."""

    condition: str
    asked: str
    expected: str
    answer: str


@dataclass(frozen=True)
class PartReport:
    """What one part measured; see `unified.evaluation.part.PartResult`. cases: of a condition.

    missing: conditions that were not measured, with the reason.
    """

    about: str
    cases: int
    figures: tuple[MeasuredFigure, ...]
    judge: tuple[MeasuredFigure, ...]
    failures: tuple[Failure, ...]
    cannot: str | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a suite measured of a model.

    suite: its name or file. vocabulary: hash of the model's. seconds: the whole took. versions: of
    what it ran with. machine: in words. parts: in the order of the suite.
    """

    model: str
    vocabulary: str
    suite: str
    seed: int
    seconds: float
    versions: dict[str, str]
    machine: str
    parts: dict[str, PartReport]
    form: int = FORM

    def __post_init__(self) -> None:
        if self.form != FORM:
            raise ValueError(f"form is {self.form}, expected {FORM}; measure again")

    def to_json(self) -> dict[str, Any]:
        """Plain entries, for `read_report`."""
        return asdict(self)


def read_report(path: Path) -> Report:
    """The report of a JSON file that `unified evaluate --json` printed.

    Raises ValueError for a file that is none.
    """
    entries = read_json(path)
    entries.pop(AGAINST, None)
    return parse_config(Report, entries, str(path))


@dataclass(frozen=True)
class Compared:
    """A figure of two reports. now, before: None where a report does not have it."""

    now: MeasuredFigure | None
    before: MeasuredFigure | None

    @property
    def difference(self) -> Difference | None:
        if self.now is None or self.before is None:
            return None
        return difference(self.now, self.before)

    @property
    def verdict(self) -> str:
        """better, worse, no sure difference; or which report lacks it."""
        if self.now is None or self.before is None:
            return "not measured now" if self.now is None else "not measured before"
        gain = difference(self.now, self.before)
        if not gain.sure:
            return "no sure difference"
        return "better" if (gain.value > 0) == (self.now.better == "higher") else "worse"


def compare(now: Report, before: Report) -> dict[str, list[Compared]]:
    """Figures of both reports side by side, by part; those of the judges are left out."""
    compared: dict[str, list[Compared]] = {}
    for part in [*now.parts, *(name for name in before.parts if name not in now.parts)]:
        here, there = _by_name(now.parts.get(part)), _by_name(before.parts.get(part))
        names = [*here, *(name for name in there if name not in here)]
        compared[part] = [Compared(here.get(name), there.get(name)) for name in names]
    return compared


def compared_json(now: Report, before: Report) -> dict[str, list[dict[str, Any]]]:
    """`compare` as plain entries: by part, each figure's change with its interval and verdict."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for part, figures in compare(now, before).items():
        parts[part] = []
        for each in figures:
            gain, figure = each.difference, each.now or each.before
            assert figure is not None
            change = (None, None, None) if gain is None else (gain.value, gain.low, gain.high)
            entries = dict(zip(("change", "low", "high"), change))
            parts[part].append({"name": figure.name, **entries, "verdict": each.verdict})
    return parts


def _by_name(part: PartReport | None) -> Mapping[str, MeasuredFigure]:
    return {} if part is None else {figure.name: figure for figure in part.figures}


def figure_text(value: float, unit: str) -> str:
    """A value as a reader has it: in per cent, or as a plain number where it counts something."""
    return f"{value:.2f}" if unit == "count" else f"{100 * value:.1f}%"


def _gained(value: float, unit: str) -> str:
    return f"{value:+.2f}" if unit == "count" else f"{100 * value:+.1f}"


def rows(report: Report, before: Report | None = None) -> list[tuple[str, ...]]:
    """The report as rows of a table, headings first; with a change where there is one before.

    A judge's figures are rows that begin with "judge:".
    """
    heading = ("measure", "value", "95% interval", "cases", "chance", "")
    table: list[tuple[str, ...]] = [heading if before is None else (*heading[:5], "change", "")]
    compared = {} if before is None else compare(report, before)
    for name, part in report.parts.items():
        width = len(table[0])
        if part.cannot is not None:
            table.append((name, *[""] * (width - 2), f"cannot: {part.cannot}"))
            continue
        table.append((name, *[""] * (width - 1)))
        changes = {each.now.name: each for each in compared.get(name, ()) if each.now is not None}
        for figure in part.figures:
            cells = (f"  {figure.name}", *_cells(figure))
            note = "lower is better" if figure.better == "lower" else ""
            if before is None:
                table.append((*cells, note))
                continue
            change = changes[figure.name]
            gain = change.difference
            gained = "" if gain is None else _gained(gain.value, figure.unit)
            table.append((*cells, gained, change.verdict))
        for condition, reason in part.missing.items():
            table.append((f"  {condition}", *[""] * (width - 2), f"cannot: {reason}"))
        for figure in part.judge:
            table.append((f"  judge: {figure.name}", *_cells(figure), *[""] * (width - 5)))
    return table


def _cells(figure: MeasuredFigure) -> tuple[str, str, str, str]:
    chance = "" if figure.chance is None else figure_text(figure.chance, figure.unit)
    ends = (figure_text(end, figure.unit).rstrip("%") for end in (figure.low, figure.high))
    value = figure_text(figure.value, figure.unit)
    return value, "\u2013".join(ends), str(figure.cases), chance
