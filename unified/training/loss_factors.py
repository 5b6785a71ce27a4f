"""Factors on the loss of ids: by their modality, and by their codebook level.

Legend: M modalities, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from unified.formats.grammar import MODALITIES, Grammar
from unified_base.text import counted, quoted

__all__ = ["level_factors", "modality_factors"]


def modality_factors(weights: Mapping[str, float]) -> np.ndarray:
    """A factor for the number of each modality: float32 (M,)."""
    factors = np.ones(len(MODALITIES), np.float32)
    for modality, factor in weights.items():
        factors[MODALITIES[modality]] = factor
    return factors


def level_factors(weights: Mapping[str, Sequence[float]], grammar: Grammar) -> np.ndarray | None:
    """A factor for each id, from those of modalities' codebook levels: float32 (V,); None of none.

    Raises ValueError for a modality without codes, or another number of levels than it has.
    """
    if not weights:
        return None
    factors = np.ones(grammar.vocabulary.size, np.float32)
    for modality, of_levels in weights.items():
        spans = [span for span in grammar.span_grammars.values() if span.modality == modality]
        if not spans:
            raise ValueError(
                f"level_weights has {quoted(modality)}, but format '{grammar.format.name}' has no"
                " such spans"
            )
        for span in spans:
            if len(of_levels) != len(span.blocks):
                raise ValueError(
                    f"level_weights has {counted(len(of_levels), 'weight')} for {modality}, whose"
                    f" {span.kind} spans have {counted(len(span.blocks), 'level')}"
                )
            for block, factor in zip(span.blocks, of_levels):
                for start, stop in block.runs:
                    factors[start:stop] = factor
    return factors
