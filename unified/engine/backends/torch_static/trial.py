"""Whether the batched backend gives what a model's own forward gives: by trying, when it opens.

Architectures are many, and devices and versions of torch differ in what their kernels do: a short
trial of every way to run a pass shows what no list could. Shape legend: `T` ids, `D` width.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from unified.engine.backends.base import Position
from unified.engine.backends.stepped_model import SteppedModel
from unified.engine.backends.torch_positions import position_array
from unified.engine.backends.torch_static.paged_cache import PagedCache
from unified_base.foreign import one_line

__all__ = ["check_states", "passes_trial"]


class Tried(Protocol):
    """The decoder that is tried. flash, graphs: see `TorchStaticDecoder`."""

    model: SteppedModel
    vocab_size: int
    flash: bool
    graphs: bool

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> PagedCache: ...

    def forward(
        self, cache: PagedCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> Tensor: ...


def tolerance(dtype: torch.dtype) -> float:
    """What `relative_error` may be: rounding differs between ways to compute the same sums.

    Measured with random weights of every covered family: up to 2e-6 in float32, 0.01 in bfloat16;
    a mask, window or position that is not heeded: 0.1 and more.
    """
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.05


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The middle one of the positions' errors, each over the size of what is expected.

    actual, expected: (T, D). The middle one, since of a mixture of experts a single id may go to
    another expert by rounding alone.
    """
    difference = (actual.float() - expected.float()).norm(dim=-1)
    return float((difference / expected.float().norm(dim=-1).clamp_min(1e-6)).median())


def check_states(decoder: Tried) -> None:
    """Raises ValueError where a decoder's states are not those of its model's own forward."""
    error = _error(decoder)
    if not error <= tolerance(decoder.model.dtype):
        raise ValueError(f"over pages its states differ from its own by {error:.2g} of them")


def passes_trial(decoder: Tried) -> bool:
    """Whether they are; an error, or another outcome, is told by a warning."""
    ways = [name for name in ("flash", "graphs") if getattr(decoder, name)]
    if not ways:
        return False
    try:
        error = _error(decoder)
    except (RuntimeError, TypeError, ValueError, ImportError) as problem:
        reason = one_line(problem)
    else:
        if error <= tolerance(decoder.model.dtype):
            return True
        reason = f"states differ by {error:.2g} of them"
    warnings.warn(f"torch_static runs without {ways[-1]} here: {reason}", stacklevel=3)
    return False


@torch.inference_mode()
def _error(decoder: Tried) -> float:
    """The largest `relative_error` of all ways to run a pass."""
    model, rows = decoder.model, decoder.model.trial_rows()
    own = []
    for row in rows:
        ids = torch.from_numpy(position_array([row])).to(model.device)
        with model.lock:
            outputs = model.module(**model.inputs(ids), use_cache=False)
        own.append(model.states(outputs)[0])
    cache = decoder.new_cache(len(rows) + 1, max(map(len, rows)))
    slots, errors = range(len(rows)), []
    # Prompts of two, and some ids after others.
    for part in (slice(0, 2), slice(2, 4)):
        states = decoder.forward(cache, slots, [row[part] for row in rows])
        errors.append(relative_error(states, torch.cat([whole[part] for whole in own])))
    # Single ids, of both and then of the longer one.
    steps, expected = [], []
    for at in range(4, max(map(len, rows))):
        active = [slot for slot in slots if at < len(rows[slot])]
        steps.append(decoder.forward(cache, active, [[rows[slot][at]] for slot in active]))
        expected += [own[slot][at] for slot in active]
    errors.append(relative_error(torch.cat(steps), torch.stack(expected)))
    # A prompt at once.
    states = decoder.forward(cache, [len(rows)], [rows[0]])
    errors.append(relative_error(states, own[0]))
    return max(errors)
