"""Drawing: does a picture of a caption show what it says, and do ten seeds give ten pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from unified.evaluation.figures import MeasuredFigure, mean, share
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult, picture_of
from unified.evaluation.placed_things import paint_things
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.wanted import WANTED, Verdict, Wanted, true_things, verdict
from unified_data.pocket.scenes import BACKGROUNDS
from unified_data.pocket.subjects import load_subjects
from unified_data.world.style_names import HELD_OUT_STYLE, WHOLE_STYLES
from unified_tokenizers.report import reconstruct_picture

__all__ = ["DRAWING", "distinct", "drawn_judge", "judged"]

_SEEDS = 10
_APART = 3.0
"""Mean absolute difference of two pictures, of 255, from which on they are two."""
_SIDES = (22, 92)
_JUDGED = 8
"""Captions of a condition that the judge is measured on."""


@cache
def drawn_judge() -> SceneJudge:
    """The judge of what a model drew: in any style that it may have been taught."""
    # The judge compares with every subject: styles that lack some cannot be told so.
    styles = [style for style in WHOLE_STYLES if style != HELD_OUT_STYLE]
    return SceneJudge(styles=styles, sides=_SIDES)


def judged(judge: SceneJudge, wanted: Wanted, pixels: np.ndarray) -> Verdict:
    """What a picture, uint8 (H, W, 3), shows of what was asked for."""
    most = len(wanted.subjects) + 2  # one too many is wrong, however many more there are
    return verdict(wanted, judge.things(pixels, most, bool(wanted.colours)), pixels)


def distinct(pictures: Sequence[np.ndarray]) -> int:
    """How many of some pictures of one size differ from all before them: they need not be equal
    bit for bit to be the same."""
    new: list[np.ndarray] = []
    for pixels in pictures:
        values = pixels.astype(np.float32)
        if all(np.abs(values - other).mean() >= _APART for other in new):
            new.append(values)
    return len(new)


def _measure(bench: Bench) -> PartResult:
    judge = drawn_judge()
    conditions = [name for name in bench.conditions if name != "diversity"]
    cases: list[tuple[str, Wanted]] = []
    for condition in conditions:
        rng = bench.rng("drawing", condition)
        cases += [(condition, WANTED[condition](rng)) for _ in range(bench.cases)]
    requests = [bench.request("draw", text=wanted.caption) for _, wanted in cases]
    samples: list[JudgedCase] = []
    verdicts: list[Verdict] = []
    for (condition, wanted), result in zip(cases, bench.complete(requests)):
        pixels = picture_of(result)
        if isinstance(pixels, str):
            told = Verdict(False, False, pixels)
            samples.append(
                JudgedCase(condition, wanted.caption, wanted.caption, told.seen, False)
            )  # fmt: skip
        else:
            told = judged(judge, wanted, pixels)
            samples.append(
                JudgedCase(
                    condition, wanted.caption, wanted.caption, told.seen, told.all, pixels
                )
            )  # fmt: skip
        verdicts.append(told)
    figures: list[MeasuredFigure] = []
    for condition in conditions:
        rows = [i for i, case in enumerate(cases) if case[0] == condition]
        figures += _figures(condition, [cases[i][1] for i in rows], [verdicts[i] for i in rows])
    if "diversity" in bench.conditions:
        more, following = _diversity(bench, judge)
        figures += more
        samples += following
    return PartResult(tuple(figures), _of_judge(bench, judge, cases), tuple(samples))


def _figures(
    condition: str, wanted: Sequence[Wanted], verdicts: Sequence[Verdict]
) -> list[MeasuredFigure]:
    """The things alone, and with the rest of the caption; of numbers, each number as well."""
    total = len(load_subjects())
    chance = total ** -float(len(set(wanted[0].subjects)))
    right = [told.things for told in verdicts]
    if condition == "count":
        figures = [share("count", right, chance / 4)]
        for number in range(1, 5):
            rows = [told for told, each in zip(right, wanted) if len(each.subjects) == number]
            if rows:
                figures.append(share(f"count, {number}", rows))
        return figures
    figures = [share(condition, right, chance)]
    if wanted[0].aspect is not None:
        name = f"{condition}, and {wanted[0].aspect}"
        figures.append(share(name, [told.all for told in verdicts]))
    return figures


def _diversity(
    bench: Bench, judge: SceneJudge
) -> tuple[list[MeasuredFigure], list[JudgedCase]]:  # fmt: skip
    """One caption with ten seeds: distinct pictures among those that show the thing."""
    rng = bench.rng("drawing", "diversity")
    wanted = [WANTED["one"](rng) for _ in range(max(2, bench.cases // 4))]
    requests = [bench.request("draw", text=each.caption) for each in wanted for _ in range(_SEEDS)]
    seeds = [bench.seed + number for _ in wanted for number in range(_SEEDS)]
    results = bench.complete(requests, seeds)
    numbers, right, samples = [], [], []
    for row, each in enumerate(wanted):
        pictures = [picture_of(result) for result in results[row * _SEEDS : (row + 1) * _SEEDS]]
        true = [
            pixels
            for pixels in pictures
            if not isinstance(pixels, str) and judged(judge, each, pixels).things
        ]
        numbers.append(distinct(true))
        right.append(len(true) == _SEEDS)
        came = next((pixels for pixels in pictures if not isinstance(pixels, str)), None)
        answer = f"{numbers[-1]} distinct right pictures of {_SEEDS} seeds"
        samples.append(
            JudgedCase(
                "diversity", each.caption, f"{_SEEDS} of them", answer, numbers[-1] >= 8, came
            )
        )  # fmt: skip
    return [
        mean(f"diversity, distinct right pictures of {_SEEDS} seeds", numbers, "count"),
        share(f"diversity, all {_SEEDS} right", right),
    ], samples


def _of_judge(
    bench: Bench, judge: SceneJudge, cases: list[tuple[str, Wanted]]
) -> tuple[MeasuredFigure, ...]:
    """What the judge makes of true pictures, as they are and out of the model's own tokenizer, and
    of the pictures of other captions of the same kind."""
    if not cases:
        return ()
    rng = bench.rng("drawing", "judge")
    first: dict[str, list[tuple[str, Wanted]]] = {}
    for case in cases:
        first.setdefault(case[0], []).append(case)
    cases = [case for several in first.values() for case in several[:_JUDGED]]
    pictures = []
    for _, wanted in cases:
        names = list(BACKGROUNDS)
        ground = BACKGROUNDS[wanted.ground or names[int(rng.integers(len(names)))]]
        pictures.append(paint_things(true_things(wanted, rng), ground))
    wrong = [
        not judged(judge, wanted, pixels).all for (_, wanted), pixels in zip(cases, pictures)
    ]  # fmt: skip
    figures = [share("true pictures judged wrong", wrong, better="lower")]
    others = [
        judged(judge, wanted, pixels).all
        for (condition, wanted), (other, following), pixels in zip(cases, cases[1:], pictures[1:])
        if condition == other and wanted.caption != following.caption
    ]
    if others:
        figures.append(share("pictures of other captions judged right", others, better="lower"))
    tokenizer = bench.model.image_tokenizer
    if tokenizer is not None and hasattr(tokenizer, "encode"):
        restored = [
            not judged(judge, wanted, reconstruct_picture(tokenizer, pixels)[0]).things
            for (_, wanted), pixels in zip(cases, pictures)
            if not wanted.colours
        ]
        if restored:
            name = "true pictures through the tokenizer judged wrong"
            figures.append(share(name, restored, better="lower"))
    return tuple(figures)


DRAWING = Part(
    "drawing",
    "Pictures of captions of held-out combinations show the things named, and no others, as the"
    " caption says.",
    ("draw",),
    (*WANTED, "diversity"),
    _measure,
)
