"""Drawing: does a picture of a caption show what it says, and where; judged by glyphs."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.judges import GlyphJudge
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified.evaluation.pocket import Drawing, judge_scene
from unified_data.document import Image
from unified_data.pocket.scenes import BACKGROUNDS, LOCATIONS, SIDE, Kind, Scene, compose, render
from unified_data.pocket.subjects import load_subjects
from unified_tokenizers.report import reconstruct_picture

__all__ = ["DRAWING", "right_of"]

_KINDS: dict[str, Kind] = {"one": "one", "ground": "one", "placed": "placed", "two": "two"}
_ASPECTS = {"ground": "colour of the ground", "placed": "location", "two": "relation"}
"""What else a caption of a condition says, beside the things."""
# Centres of the things at a location, as shares of the side, (y, x).
_CENTRES = dict(
    zip(LOCATIONS, ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)))
)


def _scene(condition: str, rng: np.random.Generator) -> Scene:
    """A scene of a condition that training never showed; of one thing on white there is none."""
    if condition == "one":
        return compose(rng, "one", background="white")
    while True:
        scene = compose(rng, _KINDS[condition])
        if scene.split == "heldout":
            return scene


def right_of(judge: GlyphJudge, scene: Scene, pixels: np.ndarray) -> tuple[Drawing, bool]:
    """A judged picture, and whether it also holds what else its caption says.

    That is the colour of the ground, the location of a small thing, or how two things stand.
    """
    if pixels.shape[:2] != (SIDE, SIDE):
        picture = PillowImage.fromarray(pixels).resize((SIDE, SIDE), PillowImage.Resampling.BOX)
        pixels = np.asarray(picture)
    drawing = judge_scene(judge, scene, pixels)
    if not drawing.right or scene.kind == "two":
        return drawing, drawing.in_place
    if scene.kind == "placed":
        match = judge.best(pixels)
        centre = [(corner + match.side / 2) / SIDE for corner in (match.y, match.x)]
        nearest = min(_CENTRES, key=lambda name: np.hypot(*np.subtract(_CENTRES[name], centre)))
        return drawing, nearest == scene.location
    return drawing, _ground(pixels) == scene.background


def _ground(pixels: np.ndarray) -> str:
    """The world's colour that is nearest to the median of a picture's border."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(border, axis=0)
    return min(BACKGROUNDS, key=lambda name: np.linalg.norm(colour - BACKGROUNDS[name]))


def _measure(bench: Bench) -> PartResult:
    judge = GlyphJudge()
    cases: list[tuple[str, Scene]] = []
    for condition in bench.conditions:
        rng = bench.rng("drawing", condition)
        cases += [(condition, _scene(condition, rng)) for _ in range(bench.cases)]
    requests = [bench.request("draw", text=scene.caption) for _, scene in cases]
    samples: list[JudgedCase] = []
    whole: list[bool] = []  # right in all that the caption says
    for (condition, scene), result in zip(cases, bench.complete(requests)):
        if isinstance(result, str) or not isinstance(result.segments[-1], Image):
            text = result if isinstance(result, str) else "no picture came"
            samples.append(JudgedCase(condition, scene.caption, scene.caption, text, False))
            whole.append(False)
            continue
        pixels = result.segments[-1].pixels
        drawing, exact = right_of(judge, scene, pixels)
        seen = " and ".join(subject.name for subject in drawing.named)
        if drawing.right and not exact:
            seen += f", with another {_ASPECTS.get(condition, 'ground')}"
        samples.append(
            JudgedCase(condition, scene.caption, scene.caption, seen, drawing.right, pixels)
        )
        whole.append(exact)
    figures: list[MeasuredFigure] = []
    for condition in bench.conditions:
        rows = [i for i, sample in enumerate(samples) if sample.condition == condition]
        chance = 1 / len(load_subjects()) ** (2 if condition == "two" else 1)
        figures.append(share(condition, [samples[i].right for i in rows], chance))
        if condition in _ASPECTS:
            name = f"{condition}, and {_ASPECTS[condition]}"
            figures.append(share(name, [whole[i] for i in rows]))
    return PartResult(tuple(figures), _of_judge(bench, judge, cases), tuple(samples))


def _of_judge(
    bench: Bench, judge: GlyphJudge, cases: list[tuple[str, Scene]]
) -> tuple[MeasuredFigure, ...]:
    """What the judge makes of true pictures, as they are and out of the model's own tokenizer."""
    pictures = [(scene, render(scene)) for _, scene in cases]
    clean = [not right_of(judge, scene, pixels)[1] for scene, pixels in pictures]
    figures = [share("true pictures judged wrong", clean, better="lower")]
    others = [scene for _, scene in cases[1:]] + [cases[0][1]]
    pairs = [
        (other, pixels)
        for other, (scene, pixels) in zip(others, pictures)
        if other.kind == scene.kind and set(other.subjects) != set(scene.subjects)
    ]
    if pairs:
        accepted = [right_of(judge, *pair)[0].right for pair in pairs]
        figures.append(share("pictures of other things judged right", accepted, better="lower"))
    tokenizer = bench.model.image_tokenizer
    if tokenizer is not None and hasattr(tokenizer, "encode"):
        restored = [
            not right_of(judge, scene, reconstruct_picture(tokenizer, pixels)[0])[1]
            for scene, pixels in pictures
        ]
        name = "true pictures through the tokenizer judged wrong"
        figures.append(share(name, restored, better="lower"))
    return tuple(figures)


DRAWING = Part(
    "drawing",
    "Pictures of captions of held-out combinations show the things named, as the caption says.",
    ("draw",),
    tuple(_KINDS),
    _measure,
)
