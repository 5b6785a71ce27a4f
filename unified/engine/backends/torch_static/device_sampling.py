"""Choosing ids on the device: `unified.engine.sampler`'s law in torch, and noise by counter.

The noise of a choice is a function of the request's seed and of how many ids it had chosen before:
nothing is kept between steps, so a row draws the same whatever shares its batch, on every device.
Ids differ from those that numpy's generators give for the same seed; their distribution does not.

Shape legend: `N` choices, `V` ids that the grammar allows, `B` blocks of `_BLOCK` columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unified.engine.backends.base import Ranges
from unified.engine.backends.device_choice import DeviceChoice
from unified.engine.backends.torch_static.layouts import to_device
from unified.engine.sampler import MEDIA, UNCONDITIONAL, Guidance, SpanSampling

__all__ = [
    "choose_columns",
    "guide_on_device",
    "noise_keys",
    "penalize_on_device",
    "sample_ids",
]

# Columns that are drawn among at once: a race of blocks, then of the columns of one.
_BLOCK = 256
# SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the golden ratio's odd step, and its mixer.
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MOST = 1 - 2.0**-24  # the largest float32 below 1
NOT_A_NUMBER = -1
"""The column of a row whose logits are damaged."""


def sample_ids(
    choices: Sequence[DeviceChoice],
    logits_of: Callable[[Tensor, Ranges], Tensor],
    device: torch.device,
) -> list[int]:
    """An id for each choice. All work is queued on the device; one copy to the host ends it.

    logits_of: logits float32 (n, V) of rows int64 (n,) of the hidden states, over ranges.

    Raises ValueError where the logits of a row are not numbers.
    """
    groups: dict[tuple[Ranges, SpanSampling], list[int]] = {}
    for index, choice in enumerate(choices):
        groups.setdefault((choice.ranges, choice.sampling), []).append(index)
    results = []
    for (ranges, sampling), indices in groups.items():
        own = [choices[index] for index in indices]
        results.append(_ids_of_group(own, ranges, sampling, logits_of, device))
    ids = [0] * len(choices)
    order = [index for indices in groups.values() for index in indices]
    for index, id in zip(order, torch.cat(results).tolist()):
        ids[index] = id
    if min(ids) < 0:
        raise ValueError(
            "the decoder gave logits that are not numbers; its weights are damaged: "
            "copy or train the model again"
        )
    return ids


def _ids_of_group(
    choices: Sequence[DeviceChoice],
    ranges: Ranges,
    sampling: SpanSampling,
    logits_of: Callable[[Tensor, Ranges], Tensor],
    device: torch.device,
) -> Tensor:
    """Ids int64 (N,) of choices among the same ids with the same parameters."""
    conditions = sampling.guidance.conditions
    penalized = [_columns(choice.penalized, ranges) for choice in choices]
    counts = [len(columns) for columns in penalized]
    rows, keys, bounds, of, columns = to_device(
        [
            np.array([choice.rows for choice in choices], np.int64).T,  # (conditions + 1, N)
            noise_keys([c.seed for c in choices], [c.number for c in choices]),
            np.array(ranges, np.int64),
            np.repeat(np.arange(len(choices)), counts),
            np.concatenate(penalized),
        ],
        device,
    )
    full, *others = logits_of(rows.flatten(), ranges).view(*rows.shape, -1)
    logits = guide_on_device(sampling.guidance, full, dict(zip(conditions, others)))
    if sum(counts):
        logits = penalize_on_device(logits, of, columns, sampling.repetition_penalty)
    chosen = choose_columns(logits, sampling, keys)
    # From columns to ids: which range one falls in, and where that begins.
    sizes = bounds[:, 1] - bounds[:, 0]
    ends = sizes.cumsum(0)
    which = torch.searchsorted(ends, chosen.clamp_min(0), right=True)
    ids = chosen + (bounds[:, 0] - ends + sizes)[which]
    return torch.where(chosen < 0, NOT_A_NUMBER, ids)


def _columns(ids: Sequence[int], ranges: Ranges) -> NDArray[np.int64]:
    """Columns of logits over `ranges` of those ids that are in them."""
    every, columns, before = np.array(ids, np.int64), [], 0
    for start, stop in ranges:
        columns.append(every[(every >= start) & (every < stop)] + (before - start))
        before += stop - start
    return np.concatenate(columns)


def noise_keys(seeds: Sequence[int], counters: Sequence[int]) -> NDArray[np.int64]:
    """Where the noise of each choice begins, int64 (N,).

    seeds: 0 to 2^63 - 1. counters: ids that the request has chosen before.
    """
    seed, counter = np.array(seeds, np.uint64), np.array(counters, np.uint64)
    return _mixed(_mixed(seed * np.uint64(_STEP)) + counter * np.uint64(_STEP)).view(np.int64)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


def _signed(number: int) -> int:
    """The int64 of the same bits."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits with zeros on the left: torch repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def exponential(keys: Tensor, number: int) -> Tensor:
    """Exponential noise float32 (N, number), above 0: a function of keys int64 (N,) alone."""
    index = torch.arange(1, number + 1, device=keys.device)
    z = keys[:, None] + index * _signed(_STEP)  # int64 wraps around, as unsigned numbers would
    z = (z ^ _shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(_SECOND)
    z = _shifted(z ^ _shifted(z, 31), 32)
    # Uniform with full precision near 0, where the least noise and so the winner comes from.
    uniform = z.float() * 2.0**-32 + 2.0**-33
    return -torch.log1p(-uniform.clamp_max(_MOST))


def guide_on_device(guidance: Guidance, logits: Tensor, others: Mapping[str, Tensor]) -> Tensor:
    """Guided logits (N, V): see `unified.engine.sampler.guide`."""
    conditions = guidance.conditions
    if not conditions:
        return logits
    scale = guidance.scale + (guidance.formula == "show-o")
    base = others[conditions[-1]]
    guided = base + scale * (logits - base)
    ruled_out = logits.isneginf() | base.isneginf()
    if conditions == (UNCONDITIONAL, MEDIA):
        unconditional = others[UNCONDITIONAL]
        guided = guided + unconditional + guidance.image_scale * (base - unconditional) - base
        ruled_out |= unconditional.isneginf()
    # An id that a condition rules out (-inf) has no guided logit: the full prompt's holds.
    return torch.where(ruled_out, logits, guided)


def penalize_on_device(logits: Tensor, rows: Tensor, columns: Tensor, penalty: float) -> Tensor:
    """Logits (N, V), those at (rows, columns) int64 divided by `penalty` if positive, else
    multiplied."""
    penalized = logits[rows, columns]
    penalized = torch.where(penalized > 0, penalized / penalty, penalized * penalty)
    return logits.index_put((rows, columns), penalized)


def choose_columns(logits: Tensor, sampling: SpanSampling, keys: Tensor) -> Tensor:
    """A column int64 (N,) for each row of logits float32 (N, V); -1 where they are damaged.

    keys: int64 (N,) of `noise_keys`, on the same device. A row is damaged where its largest logit
    is no finite number.
    """
    top = logits.amax(1, keepdim=True)
    if sampling.temperature == 0:
        columns = logits.argmax(1)
    else:
        columns = _draw(torch.exp(_scores(logits, top, sampling)), keys)
    return torch.where(top[:, 0].isfinite(), columns, NOT_A_NUMBER)


def _scores(logits: Tensor, top: Tensor, sampling: SpanSampling) -> Tensor:
    """Distances below the largest over the temperature, (N, V); -inf for what is cut off."""
    scores = (logits - top) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[1]:
        least = scores.topk(sampling.top_k, dim=1).values[:, -1:]
        scores = _above(scores, least)
    if sampling.top_p < 1:
        scores = _above(scores, _nucleus(scores, sampling.top_p))
    if sampling.min_p > 0:
        scores = _above(scores, float(np.log(np.float32(sampling.min_p))))
    return scores


def _above(scores: Tensor, least: Tensor | float) -> Tensor:
    return scores.masked_fill(scores < least, float("-inf"))


def _nucleus(scores: Tensor, top_p: float) -> Tensor:
    """The least of the likeliest scores that hold `top_p` of the probability, (N, 1)."""
    ordered = scores.sort(dim=1, descending=True).values
    sums = torch.exp(ordered).to(_widest(scores)).cumsum(1)  # (N, V)
    enough = (sums < top_p * sums[:, -1:]).sum(1, keepdim=True)
    return ordered.gather(1, enough.clamp_max(scores.shape[1] - 1))


def _widest(tensor: Tensor) -> torch.dtype:
    """The type for sums: Apple's devices have no float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _draw(weights: Tensor, keys: Tensor) -> Tensor:
    """A column int64 (N,) for each row of weights (N, V), as likely as its share of the sum.

    As `unified.engine.sampler.draw`: a race of the blocks' sums, then of a block's columns, each
    weight over its own noise.
    """
    N, V = weights.shape
    if V <= _BLOCK:
        return _race(weights, exponential(keys, V))
    blocks = torch.nn.functional.pad(weights, (0, -V % _BLOCK)).view(N, -1, _BLOCK)  # (N, B, _)
    sums = blocks.sum(2, dtype=_widest(weights))
    # Of both races at once, since each of its dozen launches takes more than the numbers do.
    noise = exponential(keys, sums.shape[1] + _BLOCK)
    winner = _race(sums, noise[:, :-_BLOCK])
    runners = blocks[torch.arange(N, device=weights.device), winner]
    return winner * _BLOCK + _race(runners, noise[:, -_BLOCK:])


def _race(weights: Tensor, noise: Tensor) -> Tensor:
    return (weights / noise).argmax(1)
