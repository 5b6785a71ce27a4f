"""Consistency: what a model draws, describes, and draws again from its own description."""

from __future__ import annotations

import numpy as np

from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.names import subjects_in_view
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult, picture_of
from unified.evaluation.part_drawing import drawn_judge
from unified.evaluation.placed_things import paint_things
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.wanted import WANTED, Wanted, true_things
from unified_data.pocket.scenes import BACKGROUNDS

__all__ = ["CONSISTENCY"]

_CONDITIONS = ("one", "two")
_FIGURES = ("described as asked for", "described as drawn", "drawn again alike")
_MOST = 5


def _things(judge: SceneJudge, pixels: np.ndarray | str) -> list[str] | None:
    """Names of what is seen in a picture, each as often; None where there is no picture."""
    if isinstance(pixels, str):
        return None
    return sorted(thing.subject.name for thing in judge.things(pixels, _MOST))


def _measure(bench: Bench) -> PartResult:
    judge = drawn_judge()
    wanted: list[tuple[str, Wanted]] = []
    for condition in bench.conditions:
        rng = bench.rng("consistency", condition)
        wanted += [(condition, WANTED[condition](rng)) for _ in range(bench.cases)]
    asked = [bench.request("draw", text=each.caption) for _, each in wanted]
    first = [picture_of(result) for result in bench.complete(asked)]
    texts = bench.texts(
        [
            pixels if isinstance(pixels, str) else bench.request("describe", image=pixels)
            for pixels in first
        ]
    )
    again = [bench.request("draw", text=text) if text.strip() else text for text in texts]
    second = [picture_of(result) for result in bench.complete(again)]
    figures, samples = [], []
    for condition in bench.conditions:
        outcomes: dict[str, list[bool]] = {name: [] for name in _FIGURES}
        for (own, each), pixels, text, redrawn in zip(wanted, first, texts, second):
            if own != condition:
                continue
            names = {subject.name for subject in each.subjects}
            seen, seen_again = _things(judge, pixels), _things(judge, redrawn)
            told = subjects_in_view(text)
            outcomes["described as asked for"].append(told == names)
            outcomes["described as drawn"].append(bool(seen) and told == set(seen or ()))
            alike = bool(seen) and seen == seen_again
            outcomes["drawn again alike"].append(alike)
            answer = f"{text!r}, then {' and '.join(seen_again or ['nothing'])}"
            picture = None if isinstance(pixels, str) else pixels
            right = told == names and alike
            samples.append(
                JudgedCase(condition, f"draw, describe, draw: {each.caption}", each.caption,
                           answer, right, picture)
            )  # fmt: skip
        figures += [share(f"{condition}, {name}", values) for name, values in outcomes.items()]
    return PartResult(tuple(figures), _of_judge(bench, judge, wanted), tuple(samples))


def _of_judge(
    bench: Bench, judge: SceneJudge, wanted: list[tuple[str, Wanted]]
) -> tuple[MeasuredFigure, ...]:
    """Whether the things of true pictures are seen, and read from the captions themselves."""
    rng = bench.rng("consistency", "judge")
    grounds = list(BACKGROUNDS.values())
    wrong = []
    for _, each in wanted:
        things = true_things(each, rng)
        pixels = paint_things(things, grounds[int(rng.integers(len(grounds)))])
        names = sorted(subject.name for subject in each.subjects)
        read = sorted(subjects_in_view(each.caption))
        wrong.append(_things(judge, pixels) != names or read != names)
    return (share("true pictures and captions judged wrong", wrong, better="lower"),)


CONSISTENCY = Part(
    "consistency",
    "A picture that the model drew is described as what was asked for, and drawn again from that"
    " description it shows the same things.",
    ("draw", "describe"),
    _CONDITIONS,
    _measure,
)
