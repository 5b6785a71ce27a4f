"""How a decoder reads positions in training: a causal LM, a T5, or a published model in its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unified.models.hf_checkpoint import has_encoder
from unified.training.plain_positions import PlainPositions
from unified.training.positions import Positions
from unified.training.published_positions import PUBLISHED
from unified.training.text_to_text_positions import TextToTextPositions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["positions_of"]


def positions_of(decoder: PreTrainedModel) -> Positions:
    """How a decoder reads and writes positions."""
    if has_encoder({"model_type": decoder.config.model_type}):
        return TextToTextPositions(decoder)
    of_kind = PUBLISHED.get(str(decoder.config.model_type))
    return PlainPositions(decoder) if of_kind is None else of_kind(decoder)
