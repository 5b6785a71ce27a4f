"""Whether a model's modules can be stepped over pages: by its cache, and by trying."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from unified.engine.backends.stepped_model import SteppedModel, stretching_ropes
from unified.engine.backends.torch_static.paged_cache import LayerShape
from unified_base.foreign import foreign

__all__ = ["layer_shapes", "relative_error", "tolerance", "trial_rows"]


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


def trial_rows(vocab_size: int) -> list[list[int]]:
    """Two sequences to try a model with, of different lengths, with ids from everywhere."""
    ids = [(17 * number + 3) * max(1, vocab_size // 131) % vocab_size for number in range(14)]
    return [ids[:9], ids[9:]]


@torch.inference_mode()
def layer_shapes(model: SteppedModel) -> list[LayerShape]:
    """What each layer stores of an id.

    Raises ValueError, with the reason, for a model that cannot be stepped over pages: one whose
    layers keep anything but the keys and values of each id, or whose rotary angles depend on the
    longest sequence of a pass.
    """
    if stretching_ropes(model.hf):
        raise ValueError("its rotary positions depend on the length of the sequence")
    ids = torch.tensor([trial_rows(model.vocab_size)[0][:2]], device=model.device)
    with model.lock, foreign("its forward fails"):
        outputs = model.module(**model.inputs(ids), use_cache=True)
    layers: Any = getattr(outputs[model.cache_name], "layers", ())
    kinds = {type(layer) for layer in layers}
    if not kinds or kinds - {DynamicLayer, DynamicSlidingWindowLayer}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise ValueError(f"its cache has layers of other kinds ({names})")
    if any(layer.keys is None or layer.keys.dim() != 4 for layer in layers):
        raise ValueError("some of its layers share what others store")
    return [
        LayerShape(
            layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3], layer.keys.dtype
        )
        for layer in layers
    ]
