"""Janus on any device, by the object that transformers has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.transformers import TransformersDecoder
from unified.models.code_head import code_head, embed_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["JanusTorchDecoder"]


class JanusTorchDecoder(TransformersDecoder):
    """A decoder whose codes have an embedding and a head of their own, behind the ids of text."""

    def __init__(self, hf: PreTrainedModel) -> None:
        """hf: a JanusForConditionalGeneration; it is put in evaluation mode."""
        super().__init__(hf)
        head = code_head(hf)
        assert head is not None
        assert self._head is not None
        self._code_head = head
        self.vocab_size = head.first + len(head.head.weight)

    def _inputs(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return embed_ids(self.hf, ids)

    @torch.inference_mode()
    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        """See `Decoder.logits`; a range lies on one side of the first code."""
        parts = []
        first, head = self._code_head.first, self._code_head.head
        for start, stop in ranges:
            if stop <= first:
                parts.append(super().logits(hidden_states, ((start, stop),)))
                continue
            assert start >= first
            states = torch.from_numpy(hidden_states).to(head.weight.device, head.weight.dtype)
            rows = slice(start - first, stop - first)
            states = self._code_head.hidden(states)
            codes = torch.nn.functional.linear(states, head.weight[rows], head.bias[rows])
            parts.append(codes.float().cpu().numpy())
        return np.concatenate(parts, axis=-1)
