"""What becomes of a document on its way to ids: its order, its prompt, its weights, and noise.

All that is drawn follows from the seed, the source, the epoch and the number of the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unified.dataloading.laid import Laid
from unified.dataloading.layout import Layout
from unified.dataloading.order import draw
from unified.dataloading.source import Source
from unified.dataloading.stored_codes import Stored
from unified_data.document import Text

__all__ = ["Draws", "num_given", "reverse", "transform"]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one sample in one epoch, each in [0, 1) but for the seed of its noise.

    None of these is drawn for held-out documents: `Draws()` changes nothing that chance decides.
    """

    order: float = 1.0
    drop: float = 1.0
    alone: float = 1.0
    noise: int | None = None

    @classmethod
    def of(cls, seed: int, source: str, epoch: int, sample: int) -> Draws:
        bits = draw("sample", seed, source, epoch, sample)
        order, drop, alone = ((bits >> at & (1 << 32) - 1) / 2**32 for at in (0, 32, 64))
        return cls(order, drop, alone, bits >> 128)


def num_given(segments: Sequence[Stored]) -> int:
    """How many segments stand before the last response; 0 where there is no prompt."""
    roles = [segment.role for segment in segments]
    if not any(roles):
        return 1 if len(segments) == 2 else 0
    at = len(roles)
    while at and roles[at - 1] != "response":
        at -= 1
    while at and roles[at - 1] == "response":
        at -= 1
    return at


def reverse(segments: Sequence[Stored]) -> list[Stored] | None:
    """The response as prompt and the prompt as response, None where there are not just these two.

    The weights of the loss stay: what becomes the response has the weight of what was the first
    segment of the response.
    """
    given = num_given(segments)
    prompt, response = segments[:given], segments[given:]
    kinds = {segment.role for segment in prompt}, {segment.role for segment in response}
    if kinds not in (({"prompt"}, {"response"}), ({None}, {None})):
        return None
    first, then = prompt[0], response[0]
    return [
        *(_as(segment, first) for segment in response),
        *(_as(segment, then) for segment in prompt),
    ]


def _as(segment: Stored, other: Stored) -> Stored:
    role: Any = other.role
    return replace(segment, role=role, loss=other.loss)


def _weighted(segments: Sequence[Stored], loss: str) -> Sequence[Stored]:
    if loss == "document":
        return segments
    given = num_given(segments)
    if any(segment.role for segment in segments):
        asked = [segment.role == "response" for segment in segments]
    else:
        asked = [index >= given for index in range(len(segments))]
    return [
        replace(segment, loss=1.0 if loss == "all" or wanted else 0.0)
        for segment, wanted in zip(segments, asked)
    ]


def transform(
    layout: Layout, segments: Sequence[Stored], source: Source, draws: Draws
) -> tuple[Laid, np.ndarray, bool]:
    """A stored document as its source wants it.

    Returns its ids, what is shown of them (int32, the same array where there is no noise), and
    whether it was to be reversed but could not.
    """
    kept_order = False
    if source.orders == "reversed" or (source.orders == "both" and draws.order < 0.5):
        turned = reverse(segments)
        kept_order = turned is None
        segments = segments if turned is None else turned
    segments = _weighted(segments, source.loss)
    given, without = 0, ""
    if draws.drop < source.drop_prompt:
        given = num_given(segments)
        prompt = segments[:given]
        both = len({isinstance(segment, Text) for segment in prompt}) == 2
        without = "" if not given else "text" if both and draws.alone < 0.5 else "prompt"
    laid = layout.lay(segments, source.weight, source.media_loss, given, without)
    shown = laid.ids
    if source.noise and draws.noise is not None:
        shown = _noisy(laid, source.noise, draws.noise)
    return laid, shown, kept_order


def _noisy(laid: Laid, share: float, seed: int) -> np.ndarray:
    """Ids with some codes replaced by others of the same document and codebook."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    shown = laid.ids.copy()
    levels: dict[tuple[str, int], list[np.ndarray]] = {}
    for kind, start, places in laid.codes:
        for level, inside in enumerate(places):
            levels.setdefault((kind, level), []).append(inside + start)
    for found in levels.values():
        block = np.concatenate(found)
        chosen = block[rng.random(len(block)) < share]
        shown[chosen] = laid.ids[rng.choice(block, len(chosen))]
    return shown
