"""VQAv2: open questions about photos, judged by what ten people answered, of a set on disk.

Goyal et al. (2017), "Making the V in VQA Matter", https://arxiv.org/abs/1612.00837.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.evaluation.asked_sets import KeptSamples, answers, chosen
from unified.evaluation.figures import mean
from unified.evaluation.part import Bench, Part, PartResult
from unified.evaluation.set_files import SetPaths, entries, field_of, file_in
from unified.evaluation.vqa_accuracy import vqa_accuracy
from unified_base.images import load_image
from unified_base.text import quoted

__all__ = ["VQAV2"]

_QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
_ANNOTATIONS = "v2_mscoco_{}_annotations.json"
_CONDITIONS = ("val2014", "train2014")
_RIGHT = 0.5
"""Of a sample that the page shows as right."""


@dataclass(frozen=True)
class _Question:
    image: Path
    text: str
    kind: str
    people: tuple[str, ...]


def _read(paths: SetPaths) -> dict[str, list[_Question]]:
    return {split: _questions(paths, split) for split in paths.conditions}


def _questions(paths: SetPaths, split: str) -> list[_Question]:
    texts = paths.folder / _QUESTIONS.format(split)
    asked: dict[int, tuple[str, str]] = {}
    for where, record in entries(texts, "questions"):
        number = field_of(record, "image_id", int, where)
        asked[field_of(record, "question_id", int, where)] = (
            field_of(record, "question", str, where),
            f"COCO_{split}_{number:012d}.jpg",
        )
    cases, places = [], {}
    for where, record in entries(paths.folder / _ANNOTATIONS.format(split), "annotations"):
        question = field_of(record, "question_id", int, where)
        if question not in asked or question in places:
            reason = "is a second time" if question in places else f"is not in {texts}"
            raise ValueError(f"{where}: question_id {question} {reason}")
        places[question] = where
        text, name = asked[question]
        # A picture's answers are many, its file is looked for once for each of them.
        image = file_in(paths.images, name, where)
        kind = field_of(record, "answer_type", str, where)
        cases.append(_Question(image, text, kind, _people(record, where)))
    if not cases:
        raise ValueError(f"{paths.folder / _ANNOTATIONS.format(split)} has no annotations")
    return cases


def _people(record: dict[str, Any], where: str) -> tuple[str, ...]:
    people = field_of(record, "answers", list, where)
    texts = [
        each["answer"]
        for each in people
        if isinstance(each, dict) and isinstance(each.get("answer"), str)
    ]
    if not texts or len(texts) < len(people):
        raise ValueError(f"{where}: answers are {quoted(people)}, expected objects with an answer")
    return tuple(texts)


def _measure(bench: Bench) -> PartResult:
    figures, samples = [], KeptSamples()
    for split in bench.conditions:
        cases = chosen(bench, "vqav2", split, bench.data[split])
        scores: dict[str, list[float]] = defaultdict(list)
        for case, answer, media in answers(bench, "ask", cases, _inputs):
            score = 0.0 if answer.reason else vqa_accuracy(answer.text, case.people)
            scores[case.kind].append(score)
            common = max(case.people, key=case.people.count)
            samples.add(split, case.text, common, answer.words, score >= _RIGHT, media)
        figures.append(
            mean(f"{split}, soft accuracy", [s for each in scores.values() for s in each])
        )
        figures += [mean(f"{split}, {kind}", values) for kind, values in sorted(scores.items())]
    return PartResult(tuple(figures), samples=samples.all())


def _inputs(case: _Question) -> dict[str, object]:
    return {"image": load_image(case.image), "question": case.text}


VQAV2 = Part(
    "vqav2",
    "VQAv2's open questions about photos; soft accuracy against ten people's answers.",
    ("ask",),
    _CONDITIONS,
    _measure,
    _read,
    ("folder", "images"),
)
