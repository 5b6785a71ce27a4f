"""A report as one self-contained HTML page: what goes into what, its table, and samples of every
part, failures first.

The same report and samples give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from unified.evaluation.any_to_any import plot
from unified.evaluation.part import JudgedCase
from unified.evaluation.report import Report, rows
from unified_base.html_page import data_address, render_html
from unified_base.images import encode_png
from unified_base.sounds import encode_wav

__all__ = ["failures_first", "render_report"]

MOST_SAMPLES = 32
"""Of each part on the page."""
_SIDE = 144  # CSS pixels of a picture


def failures_first(samples: Sequence[JudgedCase], number: int) -> list[JudgedCase]:
    """At most `number` samples: failures, then the rest; conditions take turns in both."""
    order: list[JudgedCase] = []
    for right in (False, True):
        groups: dict[str, list[JudgedCase]] = {}
        for sample in samples:
            if sample.right == right:
                groups.setdefault(sample.condition, []).append(sample)
        for turn in zip_longest(*groups.values()):
            order += [sample for sample in turn if sample is not None]
    return order[:number]


def render_report(
    report: Report, samples: Mapping[str, Sequence[JudgedCase]], before: Report | None = None
) -> str:
    """The page. samples: by part. before: a report to compare with."""
    heading, *table = rows(report, before)
    about = {
        "Model": f"{report.model} (vocabulary {report.vocabulary[:12]})",
        "Suite": f"{report.suite}, seed {report.seed}",
        "Took": f"{report.seconds:.0f} s on {report.machine}",
        "Versions": ", ".join(f"{name} {number}" for name, number in report.versions.items()),
    }
    if before is not None:
        about["Compared with"] = f"{before.model}, suite {before.suite}, seed {before.seed}"
    sheets = [
        {
            "name": name,
            "about": report.parts[name].about,
            "wrong": sum(not sample.right for sample in several),
            "cases": len(several),
            "cards": [_card(sample) for sample in failures_first(several, MOST_SAMPLES)],
        }
        for name, several in samples.items()
        if several
    ]
    return render_html(
        "unified.evaluation", "evaluation", f"Evaluation of {report.model}",
        about=about, heading=heading, table=table, sheets=sheets, matrix=plot(report),
    )  # fmt: skip


def _card(sample: JudgedCase) -> dict[str, Any]:
    card: dict[str, Any] = {
        "right": sample.right,
        "condition": sample.condition,
        "asked": sample.asked,
        "expected": sample.expected,
        "answer": sample.answer,
        "picture": None,
        "sound": None,
    }
    if sample.pixels is not None:
        height, width = sample.pixels.shape[:2]
        card["picture"] = data_address("image/png", encode_png(sample.pixels))
        card["width"], card["height"] = _SIDE, round(_SIDE * height / width)
    if sample.audio is not None:
        sound = encode_wav(sample.audio.waveform, sample.audio.sample_rate)
        card["sound"] = data_address("audio/wav", sound)
    return card
