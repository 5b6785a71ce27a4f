""" "I do not know": is what a model does not know called so, and what it knows not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from unified.evaluation.altered_pictures import draw_view, paint
from unified.evaluation.answers import says_not_known
from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.names import named_subjects
from unified.evaluation.part import (
    REFUSED,
    Asked,
    Bench,
    JudgedCase,
    Part,
    PartResult,
    picture_of,
)
from unified.evaluation.part_drawing import drawn_judge
from unified.evaluation.unknown_things import (
    NEAR_WORDS,
    WISHES,
    made_up_name,
    noise,
    photo,
    photo_files,
    texture,
)
from unified.evaluation.wanted import Wanted
from unified.tasks.task import Verb
from unified_data.pocket.subjects import load_subjects

__all__ = ["UNKNOWN", "honoured", "says_so"]

_PICTURES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "photos": photo,
    "textures": texture,
    "noise": noise,
}
_VERBS: dict[str, Verb] = {
    **dict.fromkeys(("photos", "textures", "noise", "known"), "describe"),
    **dict.fromkeys(("draw, made-up names", "draw, known names", "meaning", "wishes"), "draw"),
    **dict.fromkeys(("write, made-up names", "write, known names"), "write"),
}
_TRUE = (
    ("I do not know what this is.", True), ("I don't know.", True), ("This is unknown.", True),
    ("我不知道这是什么。", True), ("a cat on a blue ground", False), ("a snowman", False),
    ("nothing on a green ground", False),
)  # fmt: skip


def says_so(request: Asked) -> str | None:
    """What a model says against a request before anything is made: a refusal, or notes that
    something was left out or taken for something else; None where it says nothing."""
    if isinstance(request, str):
        return request.removeprefix(REFUSED)
    return "; ".join(request.notes) or None


def honoured(kind: str, wanted: Wanted, names: Sequence[str]) -> bool:
    """Whether a picture itself does what a wish says; what no judge sees must be named instead.

    names: of the things seen, each as often. wanted.subjects: the thing, then one that shall not
    be there.
    """
    name = wanted.subjects[0].name
    if kind == "not":
        return name in names and wanted.subjects[1].name not in names
    if kind == "plural":
        return names.count(name) > 1
    return kind == "too many" and names.count(name) == 7


def _measure(bench: Bench) -> PartResult:
    missing: dict[str, str] = {}
    figures: list[MeasuredFigure] = []
    samples: list[JudgedCase] = []
    for condition in bench.conditions:
        reason = bench.lacks(_VERBS[condition])
        if condition == "photos" and not photo_files():
            reason = "the photographs come with scikit-image, which is not installed"
        if reason is not None:
            missing[condition] = reason
            continue
        cases = _MEASURED[condition](bench, condition)
        samples += cases
        lower = condition in ("known", "draw, known names", "write, known names")
        name = f"{condition}, called not known" if lower else condition
        outcomes = [each.right != lower for each in cases]
        figures.append(share(name, outcomes, better="lower" if lower else "higher"))
    misread = [says_not_known(text) is not truth for text, truth in _TRUE]
    judge = (share("true answers read wrong", misread, better="lower"),)
    if not figures:
        return PartResult(cannot=next(iter(missing.values())))
    return PartResult(tuple(figures), judge, tuple(samples), missing=missing)


def _described(bench: Bench, condition: str) -> list[JudgedCase]:
    """Pictures of nothing that is known; or, of `known`, of things as `seeing, together` has."""
    rng = bench.rng("unknown", condition)
    expected = "I do not know" if condition != "known" else ""
    pictures, names = [], []
    for _ in range(bench.cases):
        if condition == "known":
            subject = load_subjects()[int(rng.integers(len(load_subjects())))]
            pictures.append(paint(subject, draw_view("together", rng), rng))
            names.append(subject.phrase)
        else:
            pictures.append(_PICTURES[condition](rng))
            names.append(expected)
    texts = bench.texts([bench.request("describe", image=pixels) for pixels in pictures])
    return [
        JudgedCase(
            condition, "describe", name, text, says_not_known(text) == bool(expected), pixels
        )
        for name, text, pixels in zip(names, texts, pictures)
    ]


def _named(bench: Bench, condition: str) -> list[JudgedCase]:
    """Names that nobody knows must be refused or named; those of the world must not be."""
    rng = bench.rng("unknown", condition)
    verb = _VERBS[condition]
    made_up = condition.endswith("made-up names")
    cases = []
    for _ in range(bench.cases):
        subject = load_subjects()[int(rng.integers(len(load_subjects())))]
        name = made_up_name(rng) if made_up else subject.name
        article = subject.article if not made_up else "a"
        text = f"{article} {name}" if verb == "draw" else f"The {name}"
        told = says_so(bench.request(verb, text=text))
        right = (told is not None and name in told) if made_up else told is None
        expected = f"says that {name!r} is not known" if made_up else "says nothing against it"
        cases.append(JudgedCase(condition, f"{verb}: {text}", expected, told or "nothing", right))
    return cases


def _by_meaning(bench: Bench, condition: str) -> list[JudgedCase]:
    """Of a word that it does not know, whether it names the subject that is nearest in meaning."""
    words = list(NEAR_WORDS)
    rng = bench.rng("unknown", condition)
    cases = []
    for number in rng.permutation(len(words))[: bench.cases]:
        word, name = words[int(number)], NEAR_WORDS[words[int(number)]]
        request = bench.request("draw", text=f"a {word}")
        told = says_so(request) or ""
        read = told if isinstance(request, str) else f"{request.inputs.text} {told}"
        right = name in named_subjects(read, aliases=True)
        cases.append(JudgedCase(condition, f"draw: a {word}", name, read, right))
    return cases


def _wished(bench: Bench, condition: str) -> list[JudgedCase]:
    """Wishes that no caption may be able to say: each is honoured by the picture, or named."""
    rng = bench.rng("unknown", condition)
    judge = drawn_judge()
    everything = load_subjects()
    asked, requests = [], []
    for case in range(bench.cases):
        kind = list(WISHES)[case % len(WISHES)]
        subject, other = (everything[i] for i in rng.permutation(len(everything))[:2])
        form, pattern = WISHES[kind]
        values = {
            "a": subject.phrase, "name": subject.name, "plural": subject.plural,
            "other": other.name,
        }  # fmt: skip
        text = form.format(**values)
        asked.append((kind, Wanted(text, (subject, other)), pattern.format(**values)))
        requests.append(bench.request("draw", text=text))
    drawn = bench.complete([each if not says_so(each) else "" for each in requests])
    cases = []
    for (kind, wanted, pattern), request, result in zip(asked, requests, drawn):
        told = says_so(request)
        right = told is not None and re.search(pattern, told.lower()) is not None
        pixels = picture_of(result)
        if not right and told is None and not isinstance(pixels, str):
            names = [thing.subject.name for thing in judge.things(pixels, 8)]
            right = honoured(kind, wanted, names)
        picture = None if isinstance(pixels, str) else pixels
        text = f"draw: {wanted.caption}"
        cases.append(
            JudgedCase(condition, text, "honoured, or named", told or "nothing", right, picture)
        )
    return cases


_MEASURED: dict[str, Callable[[Bench, str], list[JudgedCase]]] = {
    **dict.fromkeys(("photos", "textures", "noise", "known"), _described),
    **dict.fromkeys(("draw, made-up names", "draw, known names"), _named),
    **dict.fromkeys(("write, made-up names", "write, known names"), _named),
    "meaning": _by_meaning,
    "wishes": _wished,
}

UNKNOWN = Part(
    "unknown",
    "What is no thing of the world is called not known, in pictures and in words; what is, is not.",
    (),
    tuple(_MEASURED),
    _measure,
)
