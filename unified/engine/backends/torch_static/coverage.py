"""Whether a model's modules can be stepped over pages, by what its cache holds."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from unified.engine.backends.stepped_model import SteppedModel, stretching_ropes
from unified.engine.backends.torch_static.paged_cache import LayerShape
from unified_base.foreign import foreign

__all__ = ["layer_shapes"]


@torch.inference_mode()
def layer_shapes(model: SteppedModel) -> list[LayerShape]:
    """What each layer stores of an id.

    Raises ValueError, with the reason, for a model that cannot be stepped over pages: one whose
    layers keep anything but the keys and values of each id, or whose rotary angles depend on the
    longest sequence of a pass.
    """
    if stretching_ropes(model.hf):
        raise ValueError("its rotary positions depend on the length of the sequence")
    ids = torch.tensor([model.trial_rows()[0][:2]], device=model.device)
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
