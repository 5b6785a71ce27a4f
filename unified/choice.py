"""Choosing the next id from the logits of those that are allowed.

Everything here is float32 numpy over the columns that the grammar leaves open; a column is the
place of an id among them. Order, as in transformers: guidance, repetition penalty, temperature,
top-k, top-p, min-p, and the draw.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FORMULAS",
    "Guidance",
    "SpanSampling",
    "choose",
    "distribution",
    "guide",
    "penalize",
]

Array = NDArray[np.float32]

FORMULAS = ("two-way", "log-softmax", "show-o", "three-way")


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans, arXiv:2207.12598): logits c with the prompt, u
    without it.

    scale: 1 is none at all. formula:
      two-way      u + scale (c - u), of logits: Janus, Emu3
      log-softmax  the same of logarithms of probabilities, as transformers' `guidance_scale` has
                   it; probabilities, and so ids, are those of two-way (logits and logarithms
                   differ by one number, which the draw does not see)
      show-o       (1 + scale) c - scale u: two-way with 1 more; here 0 is none at all
      three-way    u + image_scale (i - u) + scale (c - i), i with the prompt's media alone, as
                   Chameleon's own sampling has it
    """

    scale: float = 1.0
    formula: str = "two-way"
    image_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.formula not in FORMULAS:
            raise ValueError(f"formula is {self.formula!r}, expected one of {', '.join(FORMULAS)}")
        for name in ("scale", "image_scale"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")

    @property
    def without(self) -> tuple[str, ...]:
        """What the further branches do without: "prompt", and "text" of the prompt."""
        if self.formula == "three-way":
            if self.scale == self.image_scale:
                return () if self.scale == 1 else ("prompt",)
            return ("prompt", "text") if self.image_scale != 1 else ("text",)
        return () if self.scale == (0 if self.formula == "show-o" else 1) else ("prompt",)


@dataclass(frozen=True)
class SpanSampling:
    """How the ids of one kind of span are chosen.

    temperature: 0 takes the likeliest. top_k: only the k likeliest (None: all). top_p: only the
    likeliest that hold this much probability (Holtzman et al., arXiv:1904.09751). min_p: only
    those with at least this share of the likeliest one's probability (arXiv:2407.01082).
    repetition_penalty: of ids that the text already has, prompt included (Keskar et al.,
    arXiv:1909.05858); for text alone. guidance: see `Guidance`. drafts: so many ids are guessed
    ahead and judged in one step of the decoder (see `unified.drafts`), with the same distribution;
    0: one id a step. Not for text.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    guidance: Guidance = Guidance()
    drafts: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}, expected 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}, expected at least 1")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, expected more than 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}, expected 0 to 1")
        if type(self.drafts) is not int or self.drafts < 0:
            raise ValueError(f"drafts is {self.drafts!r}, expected 0 or more")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ValueError(
                f"repetition_penalty is {self.repetition_penalty}, expected more than 0"
            )


def guide(guidance: Guidance, logits: Array, others: Mapping[str, Array]) -> Array:
    """Guided logits (..., V'). others: those of the branches, by what they do without."""
    without = guidance.without
    if not without:
        return logits
    scale = np.float32(guidance.scale + (guidance.formula == "show-o"))
    base = others[without[-1]]
    guided = base + scale * (logits - base)
    if without == ("prompt", "text"):
        blank = others["prompt"]
        guided += blank + np.float32(guidance.image_scale) * (base - blank) - base
    return guided


def penalize(logits: Array, columns: Collection[int], penalty: float) -> Array:
    """Logits (V',) with those of some columns less likely: divided if positive, else multiplied."""
    if penalty == 1 or not columns:
        return logits
    at = np.fromiter(columns, np.int64)
    found = logits[at]
    logits = logits.copy()
    logits[at] = np.where(found > 0, found / np.float32(penalty), found * np.float32(penalty))
    return logits


def choose(
    logits: Array, sampling: SpanSampling, generators: Sequence[np.random.Generator]
) -> list[int]:
    """One column for each row of `logits` (N, V'), drawn with the row's own generator.

    The draw is an argmax over logits plus Gumbel noise: unlike a search in the cumulated
    probabilities, it turns on the two best candidates alone, so rounding elsewhere cannot tip it.
    Raises ValueError when the decoder gave no numbers.
    """
    scores = logits
    if sampling.temperature > 0:
        scores = _scores(logits, sampling)
        size = scores.shape[1]
        noise = np.stack([g.standard_exponential(size, dtype=np.float32) for g in generators])
        with np.errstate(divide="ignore"):
            scores = scores - np.log(noise)
    best = scores.argmax(axis=1)
    _check(scores[np.arange(len(best)), best])
    return [int(column) for column in best]


def distribution(logits: Array, sampling: SpanSampling) -> Array:
    """The probabilities (N, V'), float32, that `choose` draws by; of temperature 0, all on one."""
    if sampling.temperature == 0:
        best = logits.argmax(axis=1)
        _check(logits[np.arange(len(best)), best])
        made = np.zeros_like(logits)
        made[np.arange(len(best)), best] = 1
        return made
    scores = _scores(logits, sampling)
    top = scores.max(axis=1, keepdims=True)
    _check(top)
    weights = np.exp(scores - top)
    found: Array = weights / weights.sum(axis=1, keepdims=True)
    return found


def _scores(logits: Array, sampling: SpanSampling) -> Array:
    """Logits over the temperature, -inf for what top-k, top-p and min-p leave out."""
    scores: Array = logits / np.float32(sampling.temperature)
    if sampling.top_k is not None and sampling.top_k < scores.shape[1]:
        place = scores.shape[1] - sampling.top_k
        scores = _above(scores, np.partition(scores, place, axis=1)[:, place, None])
    if sampling.top_p < 1:
        scores = _nucleus(scores, sampling.top_p)
    if sampling.min_p > 0:
        least = scores.max(axis=1, keepdims=True) + np.float32(np.log(sampling.min_p))
        scores = _above(scores, least)
    return scores


def _check(best: Array) -> None:
    if np.isnan(best).any():
        raise ValueError(
            "the decoder gave logits that are not numbers; its weights are damaged: "
            "copy or train the model again"
        )


def _above(scores: Array, least: Array) -> Array:
    return np.where(scores < least, np.float32(-np.inf), scores)


def _nucleus(scores: Array, top_p: float) -> Array:
    ordered = -np.sort(-scores, axis=1)
    weights = np.exp(ordered - ordered[:, :1])
    before = np.cumsum(weights, axis=1) - weights
    kept = (before < top_p * weights.sum(axis=1, keepdims=True)).sum(axis=1)
    return _above(scores, ordered[np.arange(len(kept)), kept - 1, None])
