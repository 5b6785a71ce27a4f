"""Log probabilities of the text ids that are sampled, with those of others in their place.

They are natural logarithms of the softmax over the ids that the grammar allows there, of the
model's logits after guidance, and before all that only sampling does: repetition penalty,
temperature, top-k, top-p, min-p.

Shape legend: `V'` allowed ids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unified.engine.backends.base import Array, Ranges, id_at

__all__ = ["MOST_LOGPROBS", "TextScore", "certain", "score_of"]

MOST_LOGPROBS = 20
"""Others that can be told beside an id."""


class TextScore(NamedTuple):
    """id: that was sampled, of the vocabulary. logprob: its log probability, 0 where nothing else
    was allowed. top: the likeliest ids in its place, itself perhaps among them, with theirs."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def certain(id: int, number: int) -> TextScore:
    """The score of an id beside which nothing was allowed. number: of others that are wanted."""
    return TextScore(id, 0.0, ((id, 0.0),) if number else ())


def score_of(logits: Array, column: int, ranges: Ranges, number: int) -> TextScore:
    """The score of a column of guided logits (V',), with the `number` likeliest."""
    scores = logits.astype(np.float64)
    scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    number = min(number, len(scores))
    columns = np.argpartition(-scores, number - 1)[:number] if number else np.zeros(0, np.int64)
    best = sorted(columns.tolist(), key=lambda each: (-scores[each], each))
    top = tuple((id_at(each, ranges), float(scores[each])) for each in best)
    return TextScore(id_at(column, ranges), float(scores[column]), top)
