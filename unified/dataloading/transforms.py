"""What becomes of a document on its way to ids: its order, its prompt, its weights, and noise.

All that is drawn follows from the seed, the source, the epoch and the number of the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unified.dataloading.layout import Layout
from unified.dataloading.order import draw
from unified.dataloading.pairs_as_tasks import lay_out_by_task
from unified.dataloading.source import Source
from unified.dataloading.stored_codes import Stored
from unified.dataloading.tokenized_document import TokenizedDocument
from unified.sequence.infilling import INFILL_ROLES, with_random_gap
from unified.tasks.shots import num_prompt_segments
from unified.tasks.task_table import Tasks
from unified_data.document import Text

__all__ = ["Draws", "num_prompt_segments", "reverse", "transform"]

_WRITTEN = ("response", "middle", "call")  # roles of what a model writes


@dataclass(frozen=True)
class Draws:
    """The random numbers of one sample in one epoch, each in [0, 1) but for the seed of its noise.

    `Draws()`, for validation, is what leaves a document as it is.
    """

    order: float = 1.0
    drop: float = 1.0
    alone: float = 1.0
    infill: float = 1.0
    noise: int | None = None

    @classmethod
    def of(cls, seed: int, source: str, epoch: int, sample: int) -> Draws:
        bits = draw("sample", seed, source, epoch, sample)
        order, drop, alone, infill = (
            (bits >> shift & (1 << 32) - 1) / 2**32 for shift in (0, 32, 64, 96)
        )
        return cls(order, drop, alone, infill, bits >> 128)

    def rng(self, purpose: int) -> np.random.Generator:
        """Numbers of one purpose, 0, 1, ...; where nothing is random there are none to be had."""
        assert self.noise is not None
        return np.random.Generator(np.random.Philox(key=self.noise, counter=purpose << 128))


def reverse(segments: Sequence[Stored]) -> list[Stored] | None:
    """The response as prompt and the prompt as response, None where there are not just these two.

    The weights of the loss stay: what becomes the response has the weight of what was the first
    segment of the response.
    """
    split = num_prompt_segments(segments)
    prompt, response = segments[:split], segments[split:]
    kinds = {segment.role for segment in prompt}, {segment.role for segment in response}
    if kinds not in (({"prompt"}, {"response"}), ({None}, {None})):
        return None
    first, then = prompt[0], response[0]
    return [
        *(_like(segment, first) for segment in response),
        *(_like(segment, then) for segment in prompt),
    ]


def _like(segment: Stored, other: Stored) -> Stored:
    """A segment with the role and the loss weight of another."""
    return replace(segment, role=other.role, loss=other.loss)  # type: ignore[arg-type]


def _weighted(segments: Sequence[Stored], split: int, loss: str) -> Sequence[Stored]:
    """The segments with loss weights as `Source.loss` says. split: how many are the prompt."""
    if loss == "document":
        return segments
    if any(segment.role for segment in segments):
        wanted = [segment.role in _WRITTEN for segment in segments]
    else:
        wanted = [index >= split for index in range(len(segments))]
    return [
        replace(segment, loss=1.0 if loss == "all" or counts else 0.0)
        for segment, counts in zip(segments, wanted)
    ]


def transform(
    layout: Layout,
    segments: Sequence[Stored],
    source: Source,
    draws: Draws,
    tasks: Tasks | None = None,
    image_stride: int | None = None,
    shots: Sequence[Sequence[Stored]] = (),
) -> tuple[TokenizedDocument, np.ndarray, bool]:
    """A stored document as its source wants it.

    Args:
        layout: of the model.
        segments: of the document.
        source: that it is of.
        draws: what is random about it.
        tasks: of the model, by which a pair is laid out; None: as it is.
        image_stride: see `pairs_as_tasks.lay_out_by_task`.
        shots: documents that are read before it (`Source.shots`), in its order and by its task.

    Returns:
        Its ids; what the decoder reads of them (int32, the same array where there is no noise); and
        whether it was to be reversed but could not.
    """
    segments, split, not_reversed = _in_order(segments, source, draws, tasks, image_stride)
    segments = _weighted(segments, split, source.loss)
    if draws.infill < source.infill and draws.noise is not None:
        filled_in = with_random_gap(segments, draws.rng(1))
        if filled_in is not None:
            segments = filled_in
            split = sum(segment.role not in INFILL_ROLES for segment in segments)
    if shots:
        numbers = [*range(len(shots))]
        if draws.noise is not None:
            numbers = draws.rng(2).permutation(len(shots)).tolist()
        before = [
            replace(segment, loss=0.0)
            for number in numbers
            for segment in _in_order(shots[number], source, draws, tasks, image_stride)[0]
        ]
        segments, split = [*before, *segments], len(before) + split
    num_dropped, without = 0, ""
    if draws.drop < source.drop_prompt:
        num_dropped = split
        both = len({isinstance(segment, Text) for segment in segments[:split]}) == 2
        without = "" if not split else "text" if both and draws.alone < 0.5 else "prompt"
    document = layout.encode(segments, source.weight, source.media_loss, num_dropped, without)
    input_ids = document.ids
    if source.noise and draws.noise is not None:
        input_ids = _noisy(document, source.noise, draws.noise)
    return document, input_ids, not_reversed


def _in_order(
    segments: Sequence[Stored],
    source: Source,
    draws: Draws,
    tasks: Tasks | None,
    image_stride: int | None,
) -> tuple[Sequence[Stored], int, bool]:
    """A document in its order and layout, how many segments are its prompt, and whether it was to
    be reversed but could not."""
    not_reversed = False
    if source.orders == "reversed" or (source.orders == "both" and draws.order < 0.5):
        reversed_segments = reverse(segments)
        not_reversed = reversed_segments is None
        segments = segments if reversed_segments is None else reversed_segments
    split = num_prompt_segments(segments)
    by_task = None if tasks is None else lay_out_by_task(segments, split, tasks, image_stride)
    if by_task is not None:
        segments, split = by_task
    return segments, split, not_reversed


def _noisy(document: TokenizedDocument, share: float, seed: int) -> np.ndarray:
    """Ids with some codes replaced by others of the same document and codebook."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    input_ids = document.ids.copy()
    by_codebook: dict[tuple[str, int], list[np.ndarray]] = {}
    for kind, start, offsets_by_level in document.codes:
        for level, offsets in enumerate(offsets_by_level):
            by_codebook.setdefault((kind, level), []).append(offsets + start)
    for parts in by_codebook.values():
        positions = np.concatenate(parts)
        chosen = positions[rng.random(len(positions)) < share]
        input_ids[chosen] = document.ids[rng.choice(positions, len(chosen))]
    return input_ids
