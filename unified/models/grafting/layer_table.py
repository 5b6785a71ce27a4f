"""What can be put into the layers of a language model, by name."""

from __future__ import annotations

from typing import Any

from unified.models.grafting.layer_grafts import (
    AdaptionPrompts,
    LayerGraft,
    VisualExpert,
    layers_of_model,
)
from unified.models.grafting.modality_grafts import GatedCrossAttention, ModalityAdapters
from unified_base.text import quoted

__all__ = ["LAYER_GRAFTS", "make_layer_graft"]

LAYER_GRAFTS: dict[str, Any] = {
    kind.name: kind
    for kind in (VisualExpert, AdaptionPrompts, GatedCrossAttention, ModalityAdapters)
}
"""By name."""


def make_layer_graft(name: str, hf: Any, **options: Any) -> LayerGraft:
    """Modules for a language model, not installed yet.

    Raises ValueError for an unknown name or option, and a model whose layers are not like Llama's.
    """
    if name not in LAYER_GRAFTS:
        raise ValueError(f"layers is {quoted(name)}, expected one of {', '.join(LAYER_GRAFTS)}")
    kind = LAYER_GRAFTS[name]
    if unknown := sorted(set(options) - set(kind.defaults)):
        takes = ", ".join(kind.defaults) or "none"
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {takes}")
    for option, value in options.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{option} of {name} is {quoted(value)}, expected at least 1")
    layers_of_model(hf)
    graft: LayerGraft = kind(hf, **options)
    return graft
