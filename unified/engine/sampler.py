"""Logits processing and the draw: the next id from the logits of those that are allowed.

Everything here is float32 numpy over the ids that the grammar allows; a column is an index among
them. Order, as in transformers: guidance, repetition penalty, temperature, top-k, top-p, min-p, and
the draw.

Shape legend: `N` choices, `V'` allowed ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unified.engine.race import RowNoise, draw_groups, others
from unified.engine.repetition import Redraw, redraw
from unified_base.arguments import flag, item, real, several, whole, whole_or_none
from unified_base.text import quoted

__all__ = [
    "FORMULAS",
    "FULL",
    "MEDIA",
    "UNCONDITIONAL",
    "ChoiceGroup",
    "Guidance",
    "LevelSampling",
    "SpanSampling",
    "choose",
    "choose_groups",
    "choose_with_margins",
    "every_level",
    "guide",
    "penalize",
]

Array = NDArray[np.float32]
MAX_DRAFT_TOKENS = 1024
MAX_REPETITION_WINDOW = 4096
FORMULAS = ("two-way", "log-softmax", "show-o", "three-way")
# Conditions of guidance: the whole prompt, nothing of it, its media alone.
FULL, UNCONDITIONAL, MEDIA = "full", "unconditional", "media"


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans, arXiv:2207.12598).

    Of logits c with the full prompt and u without it (unconditional), by `formula`:
      two-way      u + scale (c - u): Janus, Emu3
      log-softmax  the same of log probabilities, as transformers' `guidance_scale` has it;
                   probabilities, and so ids, are those of two-way (logits and log probabilities
                   differ by one number for all ids, which the draw does not see)
      show-o       (1 + scale) c - scale u: two-way with a scale larger by 1
      three-way    u + image_scale (i - u) + scale (c - i), i with the prompt's media alone:
                   Chameleon's own sampling

    scale: 0 to 1e6; 1 is no guidance (0 with show-o). image_scale: the same, for three-way.
    top_k: only the k likeliest by guided logits, with the full prompt's own logits (Dia); None: the
    guided logits themselves.
    """

    scale: float = 1.0
    formula: str = "two-way"
    image_scale: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.formula, str) or self.formula not in FORMULAS:
            raise ValueError(
                f"formula is {quoted(self.formula)}, expected one of {', '.join(FORMULAS)}"
            )
        object.__setattr__(self, "top_k", whole_or_none("guidance top_k", self.top_k, 1))
        for name in ("scale", "image_scale"):
            object.__setattr__(self, name, real(name, getattr(self, name), 0, 1e6))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions beside the full prompt that logits are needed for; () for no guidance."""
        if self.formula == "three-way":
            if self.scale == self.image_scale:
                return () if self.scale == 1 else (UNCONDITIONAL,)
            return (UNCONDITIONAL, MEDIA) if self.image_scale != 1 else (MEDIA,)
        return () if self.scale == (0 if self.formula == "show-o" else 1) else (UNCONDITIONAL,)


@dataclass(frozen=True)
class LevelSampling:
    """How the codes of one level are chosen, where not as the span's others are.

    temperature, top_k, top_p, min_p, repetition_penalty, repetition_window, window_repeats: as in
    `SpanSampling`; None: the span's.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    repetition_window: int | None = None
    window_repeats: int | None = None

    def __post_init__(self) -> None:
        stated = {name: value for name, value in vars(self).items() if value is not None}
        checked = SpanSampling(**stated)
        for name in stated:
            object.__setattr__(self, name, getattr(checked, name))


@dataclass(frozen=True)
class SpanSampling:
    """How the ids of one kind of span are chosen.

    Attributes:
        temperature: 1e-6 to 1e6; 0 takes the likeliest id.
        top_k: only the k likeliest; None: all.
        top_p: only the likeliest that hold this much probability, above 0 to 1 (Holtzman et al.,
            arXiv:1904.09751).
        min_p: only those with at least this share of the likeliest one's probability, 0 to 1
            (arXiv:2407.01082).
        repetition_penalty: of ids that the sequence already has, prompt included, 1e-3 to 1e3
            (Keskar et al., arXiv:1909.05858): in text those of text, in sound those of sound, too;
            not for pictures.
        guidance: classifier-free guidance.
        draft_tokens: ids guessed ahead for each pass of the decoder (speculative decoding), which
            gives the same ids in fewer passes: 0 to 1,024 at most, or "auto", as many as save time
            by what is measured.
        ends_likeliest: a sound ends where its end is the likeliest id, and nowhere else (Dia); else
            the end is drawn as codes are.
        levels: parameters of codebook levels, from level 0 on; the last of them holds for all
            levels behind it, too. Guidance is the span's. Nothing is drafted where there are any.
        repetition_window: repetition-aware sampling: a code that is drawn, and that stands
            `window_repeats` times or more among the last so many of its level in its span, is drawn
            anew, without temperature, cuts or penalty; 1 to 4,096. None: nothing is drawn anew, as
            with temperature 0. Nothing is drafted with it.
        window_repeats: 1 to 4,096.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    guidance: Guidance = Guidance()
    draft_tokens: int | Literal["auto"] = "auto"
    levels: tuple[LevelSampling, ...] = ()
    ends_likeliest: bool = False
    repetition_window: int | None = None
    window_repeats: int = 2

    def __post_init__(self) -> None:
        checked = {
            "temperature": real("temperature", self.temperature, 1e-6, 1e6, 0),
            "top_k": whole_or_none("top_k", self.top_k, 1),
            # From the smallest number there is, which keeps the likeliest alone.
            "top_p": real(
                "top_p", self.top_p, 5e-324, 1, expected="a number above 0 and at most 1"
            ),
            "min_p": real("min_p", self.min_p, 0, 1),
            "repetition_penalty": real("repetition_penalty", self.repetition_penalty, 1e-3, 1e3),
            "guidance": item("guidance", self.guidance, Guidance, "a Guidance"),
            "repetition_window": whole_or_none(
                "repetition_window", self.repetition_window, 1, MAX_REPETITION_WINDOW
            ),
            "window_repeats": whole(
                "window_repeats", self.window_repeats, 1, MAX_REPETITION_WINDOW
            ),
            "ends_likeliest": flag("ends_likeliest", self.ends_likeliest),
            "draft_tokens": "auto"
            if isinstance(self.draft_tokens, str) and self.draft_tokens == "auto"
            else whole(
                "draft_tokens",
                self.draft_tokens,
                0,
                MAX_DRAFT_TOKENS,
                expected=f"'auto' or a whole number from 0 to {MAX_DRAFT_TOKENS}",
            ),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if type(self.levels) is not tuple or self.levels:
            levels = several("levels", self.levels, LevelSampling)
            object.__setattr__(self, "levels", tuple(levels))

    def of_level(self, level: int) -> SpanSampling:
        """The parameters of one codebook level; -1, of an id that is no code: the span's."""
        return _of_level(self, level) if self.levels else self

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "levels": [asdict(level) for level in self.levels]}


def every_level(sampling: SpanSampling) -> tuple[SpanSampling, ...]:
    """The parameters of all levels that have their own, and of what is no code."""
    return tuple(sampling.of_level(level) for level in range(-1, len(sampling.levels)))


@lru_cache(maxsize=256)
def _of_level(sampling: SpanSampling, level: int) -> SpanSampling:
    changes: dict[str, Any] = {"levels": (), "draft_tokens": 0}
    if level >= 0:
        own = sampling.levels[min(level, len(sampling.levels) - 1)]
        changes |= {name: value for name, value in vars(own).items() if value is not None}
    return replace(sampling, **changes)


def guide(guidance: Guidance, logits: Array, others: Mapping[str, Array]) -> Array:
    """Guided logits (..., V').

    logits: with the full prompt. others: of the same shape, for each of `Guidance.conditions`.
    """
    conditions = guidance.conditions
    if not conditions:
        return logits
    scale = np.float32(guidance.scale + (guidance.formula == "show-o"))
    base = others[conditions[-1]]
    with np.errstate(invalid="ignore", over="ignore"):
        guided = base + scale * (logits - base)
        if conditions == (UNCONDITIONAL, MEDIA):
            unconditional = others[UNCONDITIONAL]
            image_scale = np.float32(guidance.image_scale)
            guided += unconditional + image_scale * (base - unconditional) - base
    if not np.isfinite(guided).all():
        # An id that a condition rules out (-inf) has no guided logit: the full prompt's holds.
        ruled_out = np.isneginf(logits)
        for part in others.values():
            ruled_out |= np.isneginf(part)
        guided = np.where(ruled_out, logits, guided)
    if guidance.top_k is not None and guidance.top_k < guided.shape[-1]:
        least = np.partition(guided, -guidance.top_k, axis=-1)[..., -guidance.top_k, None]
        guided = np.where(guided >= least, logits, -np.float32(np.inf))
    elif guidance.top_k is not None:
        guided = logits
    return guided


def ended(logits: Array, is_end: NDArray[np.bool_]) -> Array:
    """Logits (N, V') with -inf for the ends (V',) of a sound where none is the likeliest column,
    and for all others where one is: see `SpanSampling.ends_likeliest`."""
    likeliest = is_end[logits.argmax(axis=1)]
    return np.where(likeliest[:, None] == is_end, logits, -np.float32(np.inf))


def penalize(logits: Array, columns: Sequence[int] | NDArray[np.int64], penalty: float) -> Array:
    """Logits (V',), those of some columns divided by `penalty` if positive, else multiplied."""
    if penalty == 1 or not len(columns):
        return logits
    at = np.asarray(columns, np.int64)
    penalized = logits[at]
    logits = logits.copy()
    logits[at] = np.where(
        penalized > 0, penalized / np.float32(penalty), penalized * np.float32(penalty)
    )
    return logits


def choose(logits: Array, sampling: SpanSampling, noise: Sequence[RowNoise]) -> list[int]:
    """One column for each row of `logits` (N, V'), drawn with the row's own noise.

    Logits of -inf rule a column out. Raises ValueError for NaN, +inf, and where all are ruled out:
    the decoder's weights are damaged.
    """
    return _choose_alone(ChoiceGroup(logits, sampling, noise))[0]


def choose_with_margins(
    logits: Array, sampling: SpanSampling, noise: Sequence[RowNoise]
) -> tuple[list[int], Array]:
    """What `choose` gives, and by how much the second best column lost: (N,), 0 or more.

    The margin is a difference of logits, over the temperature if that is not 0, noise included. A
    choice with a large one stays as it is when logits change a little.
    """
    return _choose_alone(ChoiceGroup(logits, sampling, noise, margins=True))


def _choose_alone(group: ChoiceGroup) -> tuple[list[int], Array]:
    (chosen,) = choose_groups([group])
    if isinstance(chosen, ValueError):
        raise chosen
    return chosen


class ChoiceGroup(NamedTuple):
    """Choices with the same parameters: logits (N, V'), and a noise for each of the N rows.

    margins: whether they are asked for (see `choose_with_margins`); redraw: how columns that repeat
    are drawn anew, without a margin of their own; None: they are not.
    """

    logits: Array
    sampling: SpanSampling
    noise: Sequence[RowNoise]
    margins: bool = False
    redraw: Redraw | None = None


def choose_groups(
    groups: Sequence[ChoiceGroup],
) -> list[tuple[list[int], Array] | ValueError]:
    """Columns of every group, and their margins, which mean nothing where nobody asked for them.

    What `choose` gives for each group alone, with one race for all: the time of a few rows is that
    of the calls, not of what they compute. A group whose logits are damaged has its error in place
    of its columns, and nothing of it was drawn.
    """
    chosen: list[tuple[list[int], Array] | ValueError] = []
    drawn: list[tuple[int, Array]] = []
    for logits, sampling, _, margins, _ in groups:
        try:
            top = _top(logits)
        except ValueError as error:
            chosen.append(error)
            continue
        if sampling.temperature == 0:
            columns = logits.argmax(axis=1)
            lead = top[:, 0]
            if margins:
                lead = lead - others(logits, columns, -np.inf)
            chosen.append((columns.tolist(), lead))
        else:
            drawn.append((len(chosen), np.exp(_scores(logits, top, sampling))))
            chosen.append(([], top[:0, 0]))  # its place
    if drawn:
        noise = [groups[index].noise for index, _ in drawn]
        margins = any(groups[index].margins for index, _ in drawn)
        results = draw_groups([weights for _, weights in drawn], noise, margins)
        for (index, _), (columns, lead) in zip(drawn, results):
            again = groups[index].redraw
            chosen[index] = columns if again is None else redraw(columns, again), lead
    return chosen


def _top(logits: Array) -> Array:
    """The largest logit of each row, (N, 1). Raises ValueError where it is not a finite number."""
    top: Array = logits.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError(
            "the decoder gave logits that are not numbers; its weights are damaged: "
            "copy or train the model again"
        )
    return top


def _scores(logits: Array, top: Array, sampling: SpanSampling) -> Array:
    """Each logit's distance below the largest, over the temperature: (N, V'), all <= 0.

    -inf for what top-k, top-p and min-p leave out. Of equals at the edge of a cut all stay, as in
    transformers.
    """
    with np.errstate(over="ignore"):  # far below the best at a low temperature: -inf is right
        scores: Array = (logits - top) / np.float32(sampling.temperature)
    if sampling.top_k is not None and sampling.top_k < scores.shape[1]:
        edge = scores.shape[1] - sampling.top_k
        scores = _above(scores, np.partition(scores, edge, axis=1)[:, edge, None])
    if sampling.top_p < 1:
        least = [_nucleus(row[row > -np.inf], sampling.top_p) for row in scores]
        scores = _above(scores, np.array(least, np.float32)[:, None])
    if sampling.min_p > 0:
        scores = _above(scores, np.float32(np.log(sampling.min_p)))
    return scores


def _above(scores: Array, least: Array | np.float32) -> Array:
    return np.where(scores < least, np.float32(-np.inf), scores)


def _nucleus(scores: Array, top_p: float) -> np.float32:
    """The least of the likeliest scores (V',), all <= 0, that hold `top_p` of the probability."""
    enough = top_p * np.exp(scores).sum(dtype=np.float64)
    for depth in (4, 8, 16, np.inf):
        # Sorting takes most of the time: only those near the best where they hold enough.
        near = scores[scores >= -depth]
        if np.exp(near).sum(dtype=np.float64) >= enough:
            break
    ordered = -np.sort(-near)
    sums = np.cumsum(np.exp(ordered), dtype=np.float64)
    # Sums are rounded: the last one may lie a little below the sum of all from before.
    return np.float32(ordered[min(int(np.searchsorted(sums, enough)), len(ordered) - 1)])
