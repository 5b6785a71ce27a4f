"""Learn when a picture is fetched from an index: from texts whose true picture is known.

For each text a model draws, and the index is searched. The index had the better picture where its
nearest one is nearer to the true picture than the drawing is, by a tower. A logistic classifier
learns to tell so from what is known without the true picture (`fetching.FEATURES`).

Legend: N examples, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unified.matching.fetching import FEATURES, FetchChoice, features_of
from unified.matching.media_index import MediaIndex
from unified_base.media_source import UnreadableMedium, read_media
from unified_tokenizers.alignment_texts import text_beside

__all__ = ["FetchExample", "learn_choice", "texts_with_pictures"]

_PENALTY = 1.0  # on squared weights: a handful of examples does not make a choice that is certain
_ROUNDS = 50
_PARTS = 5  # of the examples, each of which is decided by a choice that learnt from the others


class FetchExample(NamedTuple):
    """A text, what a choice goes by, and whether the index had the better picture."""

    text: str
    features: tuple[float, ...]
    fetch: bool


def texts_with_pictures(paths: Sequence[str], limit: int) -> Iterator[tuple[str, np.ndarray]]:
    """Texts, and the pictures uint8 (H, W, 3) that they stand beside, of shards and folders.

    Raises ValueError for media that cannot be read.
    """
    number = 0
    for medium in read_media(paths, "image"):
        if number == limit:
            return
        if isinstance(medium, UnreadableMedium):
            raise ValueError(str(medium))
        if text := (text_beside(medium.where) or "").strip():
            number += 1
            yield text, medium.array


def learn_choice(
    index: MediaIndex,
    pairs: Iterator[tuple[str, np.ndarray]],
    draw: Callable[[str, int], np.ndarray],
    report: Callable[[int], None] = lambda done: None,
) -> tuple[FetchChoice, list[FetchExample]]:
    """A choice for an index, and what it was learnt from.

    Args:
        index: what is fetched from. It must not hold the true pictures themselves.
        pairs: texts and their true pictures.
        draw: (text, number of the example): what the model draws, uint8 (H, W, 3).
        report: told how many examples there are.

    Raises:
        ValueError: a true picture that is in the index; fewer than 10 examples; or examples of
            which one side is always the better one.
    """
    examples: list[FetchExample] = []
    for text, picture in pairs:
        examples.append(_example(index, text, picture, draw(text, len(examples))))
        report(len(examples))
    number, fetched = len(examples), sum(example.fetch for example in examples)
    if number < 2 * _PARTS:
        raise ValueError(
            f"there are {number} pictures with a text, expected {2 * _PARTS} or more to learn from"
        )
    if fetched in (0, number):
        better = "the index has" if fetched else "the model draws"
        raise ValueError(
            f"in all {number} examples {better} the better picture: there is nothing to choose;"
            " give other examples, or another index"
        )
    features_NF = np.array([example.features for example in examples])
    labels_N = np.array([example.fetch for example in examples])
    right = 0
    for part in range(_PARTS):
        held_N = np.arange(number) % _PARTS == part
        decided = _decide(features_NF[held_N], *_fit(features_NF[~held_N], labels_N[~held_N]))
        right += int((decided == labels_N[held_N]).sum())
    mean_F, scale_F, weights_F, bias = _fit(features_NF, labels_N)
    choice = FetchChoice(
        version=1, index=str(index.folder.resolve()), tower=index.header.fingerprint,
        mean=tuple(mean_F.tolist()), scale=tuple(scale_F.tolist()),
        weights=tuple(weights_F.tolist()), bias=bias, examples=number, fetched=fetched,
        right=right,
    )  # fmt: skip
    return choice, examples


def _example(index: MediaIndex, text: str, picture: np.ndarray, drawn: np.ndarray) -> FetchExample:
    features, hit = features_of(index, text, drawn)
    true_D, drawn_D, hit_D = index.tower.embed_pictures([picture, drawn, hit.read().array])
    (nearest,) = index.search(true_D, 1)
    if np.array_equal(nearest.read().array, picture):
        raise ValueError(
            f"the picture of {text[:60]!r} is itself in the index ({nearest.where}): what is"
            " learnt would be to find it; give texts and pictures that the index does not hold"
        )
    return FetchExample(text, features, bool(hit_D @ true_D > drawn_D @ true_D))


def _fit(
    features_NF: np.ndarray, labels_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(mean, scale, weights, bias) of penalised logistic regression, by Newton's method."""
    mean_F = features_NF.mean(axis=0)
    scale_F = np.maximum(features_NF.std(axis=0), 1e-6)
    scaled = (features_NF - mean_F) / scale_F
    inputs = np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)  # (N, F + 1)
    penalty = np.array([_PENALTY] * len(FEATURES) + [1e-6])  # the bias is free
    weights = np.zeros(inputs.shape[1])
    for _ in range(_ROUNDS):
        shares_N = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (shares_N - labels_N) + penalty * weights
        curvature = (inputs * (shares_N * (1 - shares_N))[:, None]).T @ inputs + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return mean_F, scale_F, weights[:-1], float(weights[-1])


def _decide(
    features_NF: np.ndarray, mean_F: np.ndarray, scale_F: np.ndarray, weights_F: np.ndarray,
    bias: float,
) -> np.ndarray:  # fmt: skip
    """Whether each is fetched, bool (N,)."""
    decided: np.ndarray = ((features_NF - mean_F) / scale_F) @ weights_F + bias > 0
    return decided
