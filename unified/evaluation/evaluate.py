"""Run a suite on a model: every part that it can do, and the reason for those that it cannot."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from unified.evaluation.part import REFUSED, Bench, JudgedCase, Part, PartResult
from unified.evaluation.report import Failure, PartReport, Report
from unified.evaluation.report_page import failures_first
from unified.evaluation.suite import PARTS, Suite, read_sets
from unified.models.model import UnifiedModel
from unified_base.version import __version__

__all__ = ["evaluate"]

_MOST_FAILURES = 12  # of a part, in words


def evaluate(
    model: UnifiedModel,
    suite: Suite,
    model_name: str,
    suite_name: str,
    progress: Callable[[str, int, int], None] = lambda part, done, total: None,
) -> tuple[Report, dict[str, tuple[JudgedCase, ...]]]:
    """Measure a model.

    Args:
        model: it need not have every verb.
        suite: what is measured, and how much of it.
        model_name: for the report.
        suite_name: for the report.
        progress: told the part, its cases done and all of its cases, which may start anew.

    Returns:
        The report, and every part's samples.

    Raises ValueError for a set on disk that is none, before anything is measured.
    """
    started = time.perf_counter()
    data = read_sets(suite)
    parts: dict[str, PartReport] = {}
    samples: dict[str, tuple[JudgedCase, ...]] = {}
    for name, settings in suite.parts.items():
        part = PARTS[name]
        bench = Bench(
            model, settings.cases, settings.conditions or part.conditions, suite.seed,
            lambda done, total, name=name: progress(name, done, total),  # type: ignore[misc]
            data.get(name),
        )  # fmt: skip
        result = _measured(part, bench)
        samples[name] = result.samples
        wrong = [sample for sample in result.samples if not sample.right]
        failures = tuple(
            Failure(sample.condition, sample.asked, sample.expected, sample.answer)
            for sample in failures_first(wrong, _MOST_FAILURES)
        )
        parts[name] = PartReport(
            part.about, settings.cases, result.figures, result.judge, failures, result.cannot,
            dict(result.missing),
        )  # fmt: skip
    report = Report(
        model_name, model.vocabulary.hash, suite_name, suite.seed,
        round(time.perf_counter() - started, 1), _versions(), _machine(), parts,
    )  # fmt: skip
    return report, samples


def _measured(part: Part, bench: Bench) -> PartResult:
    reason = bench.lacks(*part.verbs)
    if reason is not None:
        return PartResult(cannot=reason)
    result = part.measure(bench)
    reasons = [case.answer for case in result.samples]
    if reasons and all(reason.startswith(REFUSED) for reason in reasons):
        return PartResult(cannot=reasons[0].removeprefix(REFUSED))
    return result


def _versions() -> dict[str, str]:
    versions = {"unified": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "numpy", "pillow")}
    for program in ("espeak-ng", "flite"):
        try:
            told = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            number = re.search(r"\d+\.[\d.]*\d", told)
            versions[program] = number[0] if number else "unknown"
        except OSError:
            versions[program] = "none"
    for package in ("pocketsphinx", "scikit-image"):  # judges and cases that need not be there
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "none"
    return versions


def _machine() -> str:
    """Kind of processor and cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {cores} cores"
