"""MME: two yes-no questions about each picture of fourteen kinds, of a set on disk.

Fu et al. (2023), "MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models",
https://arxiv.org/abs/2306.13394; folders and scoring of its evaluation tool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unified.evaluation.asked_sets import KeptSamples, answers, chosen
from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.part import Bench, Part, PartResult
from unified.evaluation.set_files import SetPaths, lines
from unified_base.images import load_image
from unified_base.text import quoted

__all__ = ["MME", "mme_says", "mme_score"]

_SUITES = {
    "perception": (
        "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark",
        "artwork", "OCR",
    ),
    "cognition": (
        "commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning",
    ),
}  # fmt: skip
_SUFFIXES = (".jpg", ".png", ".jpeg")
_RESAMPLES = 1000


@dataclass(frozen=True)
class _Picture:
    image: Path
    questions: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class _Question:
    image: Path
    text: str
    expected: bool


def mme_says(answer: str) -> bool | None:
    """What MME's tool reads: yes or no within the first four characters, in lower case; else None.

    Yes counts where both are there.
    """
    begin = answer.lower()[:4]
    if "yes" in begin:
        return True
    return False if "no" in begin else None


def mme_score(right: Mapping[str, np.ndarray]) -> float:
    """The tool's points of kinds of questions: 100 (accuracy + accuracy+) each, added up.

    right: by kind, bool (N, 2), whether each picture's two questions were answered right.
    """
    return sum(100 * float(rows.mean() + rows.all(axis=1).mean()) for rows in right.values())


def _read(paths: SetPaths) -> dict[str, list[_Picture]]:
    return {kind: _pictures(paths.folder / kind) for kind in paths.conditions}


def _pictures(folder: Path) -> list[_Picture]:
    """Pictures and question files of one name: side by side, or in two folders."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder, expected one of MME's; name the conditions that are there"
        )
    texts, images = folder / "questions_answers_YN", folder / "images"
    files = sorted((texts if texts.is_dir() else folder).glob("*.txt"))
    pictures = []
    for file in files:
        beside = images if images.is_dir() else folder
        image = next(
            (path for suffix in _SUFFIXES if (path := beside / f"{file.stem}{suffix}").is_file()),
            None,
        )
        if image is None:
            raise ValueError(f"{file} has no picture {beside / file.stem}, .jpg, .png or .jpeg")
        questions = tuple(_question(where, line) for where, line in lines(file))
        if len(questions) != 2:
            raise ValueError(f"{file} has {len(questions)} questions, expected 2")
        pictures.append(_Picture(image, questions))
    if not pictures:
        raise ValueError(f"{folder} has no question files, expected NAME.txt beside each picture")
    return pictures


def _question(where: str, line: str) -> tuple[str, bool]:
    text, tab, label = line.rpartition("\t")
    if not tab or label.strip().lower() not in ("yes", "no"):
        raise ValueError(f"{where} is {quoted(line)}, expected QUESTION, a tab, and Yes or No")
    return text.strip(), label.strip().lower() == "yes"


def _measure(bench: Bench) -> PartResult:
    samples = KeptSamples()
    right: dict[str, np.ndarray] = {}
    figures: list[MeasuredFigure] = []
    for kind in bench.conditions:
        pictures = chosen(bench, "mme", kind, bench.data[kind])
        cases = [_Question(each.image, *pair) for each in pictures for pair in each.questions]
        outcomes = []
        for case, answer, media in answers(bench, "ask", cases, _inputs):
            outcome = answer.reason is None and mme_says(answer.text) == case.expected
            outcomes.append(outcome)
            expected = "yes" if case.expected else "no"
            samples.add(kind, case.text, expected, answer.words, outcome, media)
        right[kind] = np.array(outcomes).reshape(-1, 2)
        figures.append(share(f"{kind}, accuracy", outcomes, 0.5))
        both = np.all(right[kind], axis=1).tolist()
        figures.append(share(f"{kind}, accuracy+", both, 0.25))
    for name, kinds in _SUITES.items():
        if set(kinds) <= set(right):
            figures.append(_points(name, kinds, right))
    return PartResult(tuple(figures), samples=samples.all())


def _inputs(case: _Question) -> dict[str, object]:
    return {"image": load_image(case.image), "question": case.text}


def _points(name: str, kinds: Sequence[str], right: Mapping[str, np.ndarray]) -> MeasuredFigure:
    """Points as a share of all that there are, bootstrapped over the pictures of each kind."""
    most = 200 * len(kinds)
    value = mme_score({kind: right[kind] for kind in kinds}) / most
    rng = np.random.default_rng(0)
    values = []
    for _ in range(_RESAMPLES):
        rows = {kind: right[kind] for kind in kinds}
        drawn = {kind: each[rng.integers(len(each), size=len(each))] for kind, each in rows.items()}
        values.append(mme_score(drawn) / most)
    low, high = (float(np.quantile(values, end)) for end in (0.025, 0.975))
    cases = sum(len(right[kind]) for kind in kinds)
    return MeasuredFigure(
        f"{name}, share of {most:,} points", value, min(low, value), max(high, value), cases,
        "score", interval="bootstrap", chance=0.375,
    )  # fmt: skip


MME = Part(
    "mme",
    "MME's pairs of yes-no questions about pictures; accuracy+: both of a picture are right.",
    ("ask",),
    tuple(kind for kinds in _SUITES.values() for kind in kinds),
    _measure,
    _read,
    ("folder",),
)
