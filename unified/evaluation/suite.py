"""Suites of measurements, as data: a YAML file of parts with numbers of cases."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from unified.evaluation.part import Part
from unified.evaluation.part_articles import ARTICLES
from unified.evaluation.part_asking import ASKING
from unified.evaluation.part_charts import CHARTS
from unified.evaluation.part_consistency import CONSISTENCY
from unified.evaluation.part_crossing import CROSSING
from unified.evaluation.part_drawing import DRAWING
from unified.evaluation.part_grounding import GROUNDING
from unified.evaluation.part_interleaved import INTERLEAVED
from unified.evaluation.part_listening import LISTENING
from unified.evaluation.part_seeing import SEEING
from unified.evaluation.part_speaking import SPEAKING
from unified.evaluation.part_unknown import UNKNOWN
from unified.evaluation.real_sets import REAL_SETS
from unified.evaluation.set_files import SetPaths
from unified_base.config import parse_config, read_config
from unified_base.structured import parse_yaml
from unified_base.text import quoted

__all__ = [
    "PARTS",
    "PartSettings",
    "Suite",
    "open_suite",
    "read_sets",
    "shipped_suites",
]

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        SEEING, DRAWING, ASKING, CONSISTENCY, UNKNOWN, LISTENING, SPEAKING, CROSSING, ARTICLES,
        INTERLEAVED, GROUNDING, CHARTS, *REAL_SETS,
    )
}  # fmt: skip
"""All parts, in the order of a report; a new one joins by its entry here."""
_MOST_CASES = 100_000


@dataclass(frozen=True)
class PartSettings:
    """How much of a part. cases: of every condition. conditions: some of the part's; none: all.

    folder: of a set on disk. images: where its pictures lie; empty: in the folder. output: the
    folder to write to, of parts that make media for another scorer.
    """

    cases: int
    conditions: tuple[str, ...] = ()
    folder: str = ""
    images: str = ""
    output: str = ""


@dataclass(frozen=True)
class Suite:
    """Parts by name, in order. seed: of what is asked, and of what is sampled."""

    parts: dict[str, PartSettings]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError(f"it has no parts, expected some of {', '.join(PARTS)}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected at least 0")
        for name, settings in self.parts.items():
            if name not in PARTS:
                raise ValueError(
                    f"there is no part {quoted(name)}, expected one of {', '.join(PARTS)}"
                )
            if not 1 <= settings.cases <= _MOST_CASES:
                raise ValueError(
                    f"parts.{name}.cases is {settings.cases}, expected 1 to {_MOST_CASES:,}"
                )
            for condition in settings.conditions:
                if condition not in PARTS[name].conditions:
                    raise ValueError(
                        f"parts.{name} has no condition {quoted(condition)}, expected one of "
                        f"{', '.join(PARTS[name].conditions)}"
                    )
            if len(set(settings.conditions)) < len(settings.conditions):
                raise ValueError(f"parts.{name} names a condition twice")
            _check_paths(name, settings)


def _check_paths(name: str, settings: PartSettings) -> None:
    """Raises ValueError for a path that a part has no use for, or that it lacks."""
    for entry in ("folder", "images", "output"):
        path = getattr(settings, entry)
        if path and entry not in PARTS[name].paths:
            raise ValueError(f"parts.{name}.{entry} is {quoted(path)}, but {name} takes none")
        if not path and entry in PARTS[name].paths and entry != "images":
            purpose = "of the set on disk" if entry == "folder" else "that it writes to"
            raise ValueError(f"parts.{name}.{entry} is missing, expected the folder {purpose}")


def read_sets(suite: Suite) -> dict[str, Any]:
    """What the parts of a suite that measure sets on disk read from them, by part.

    Raises ValueError, in one line with file and line, for what is no such set.
    """
    data = {}
    for name, settings in suite.parts.items():
        read = PARTS[name].read
        if read is not None:
            folder = Path(settings.folder)
            images = Path(settings.images) if settings.images else folder
            output = Path(settings.output) if settings.output else None
            conditions = settings.conditions or PARTS[name].conditions
            data[name] = read(SetPaths(folder, images, output, conditions))
    return data


def shipped_suites() -> list[str]:
    """Names of the suites that come with the package."""
    files = (resources.files(__package__) / "suites").iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith(".yaml"))


def open_suite(name: str) -> Suite:
    """A shipped suite by its name, or that of a YAML file.

    Raises ValueError, in one line, for a name that is none, and for a file that is no suite.
    """
    if name.endswith((".yaml", ".yml")):
        return read_config(Suite, Path(name))
    if name not in shipped_suites():
        raise ValueError(
            f"there is no suite {quoted(name)}, expected {', '.join(shipped_suites())} or a "
            "FILE.yaml"
        )
    text = (resources.files(__package__) / "suites" / f"{name}.yaml").read_text("utf-8")
    return parse_config(Suite, parse_yaml(text, name), f"suite {name}")
