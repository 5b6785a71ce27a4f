"""Janus on any device, by the object that transformers has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unified.engine.backends.base import Ranges
from unified.engine.backends.stepped_model import SteppedModel
from unified.models.code_head import code_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["JanusModel"]


class JanusModel(SteppedModel):
    """A model whose codes have an embedding and a head of their own, behind the ids of text."""

    def __init__(self, hf: PreTrainedModel) -> None:
        """hf: a JanusForConditionalGeneration; it is put in evaluation mode."""
        super().__init__(hf)
        head = code_head(hf)
        assert head is not None
        assert self.head is not None
        self._code_head = head
        self.vocab_size = head.first + len(head.head.weight)

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """Embeddings (B, T, D): both kinds are looked up and one is chosen, since a recorded CUDA
        graph has no branches; the codes' aligner is two small products."""
        head = self._code_head
        of_text = self.hf.get_input_embeddings()(ids.clamp_max(head.first - 1))
        of_codes = head.embed((ids - head.first).clamp_min(0)).to(of_text.dtype)
        is_code = (ids >= head.first)[..., None]
        return {"inputs_embeds": torch.where(is_code, of_codes, of_text)}

    @torch.inference_mode()
    def logits(self, states: Tensor, ranges: Ranges) -> Tensor:
        """See `SteppedModel.logits`; a range lies on one side of the first code."""
        parts = []
        first, head = self._code_head.first, self._code_head.head
        for start, stop in ranges:
            if stop <= first:
                parts.append(super().logits(states, ((start, stop),)))
                continue
            assert start >= first
            rows = slice(start - first, stop - first)
            hidden = self._code_head.hidden(states)
            codes = torch.nn.functional.linear(hidden, head.weight[rows], head.bias[rows])
            parts.append(codes.float())
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
