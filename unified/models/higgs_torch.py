"""Higgs Audio v2 on any device, by the object that transformers has of it.

Ids of text come first, then the rows of the codes' table, as its head has them: level k's row r is
at `vocab_size + k * codebook_size + r`. A position of codes is read by feed-forward layers and
norms of its own in every layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unified.engine.backends.base import OwnPosition, Ranges
from unified.engine.backends.stepped_model import SteppedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HiggsModel"]


class HiggsModel(SteppedModel):
    """A language model that reads text and codes, and writes codes alone.

    first: the id of the first row of the codes' table. K: codebooks, R: rows of each.
    """

    def __init__(self, hf: PreTrainedModel) -> None:
        """hf: a HiggsAudioV2ForConditionalGeneration; it is put in evaluation mode."""
        config: Any = hf.config
        self.K, self.R = int(config.num_codebooks), int(config.codebook_size)
        super().__init__(hf)
        self.first = int(config.vocab_size)
        self.vocab_size = self.first + self.K * self.R
        self._text_of_codes = int(config.audio_token_id)

    def _find_head(self, config: Any) -> Any:
        return self.hf.audio_lm_head

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """See `SteppedModel.inputs`. ids: int64 (B, T) of text, or (B, T, K) of positions, with
        `NO_ID` behind an id of text."""
        if ids.dim() == 2:
            return {"input_ids": ids}
        of_codes = ids[..., 0] >= self.first  # (B, T)
        offsets = torch.arange(self.K, device=ids.device) * self.R + self.first
        return {
            "input_ids": torch.where(of_codes, self._text_of_codes, ids[..., 0]),
            "audio_input_ids": torch.where(of_codes[..., None], ids - offsets, 0),  # (B, T, K)
            "audio_input_ids_mask": of_codes,
        }

    def check_sums(self) -> None:
        """See `SteppedModel.check_sums`: its positions of codes are what it was trained on."""

    def trial_rows(self) -> list[list[OwnPosition]]:
        """See `SteppedModel.trial_rows`."""
        columns: list[OwnPosition] = [
            tuple(self.first + k * self.R + (7 * at + k) % self.R for k in range(self.K))
            for at in range(5)
        ]
        return [[1, 0, 2, 1, *columns], [2, 1, *columns[1:4]]]

    @torch.inference_mode()
    def logits(self, states: Tensor, ranges: Ranges) -> Tensor:
        """See `SteppedModel.logits`. Raises ValueError for ids of text."""
        if ranges[0][0] < self.first:
            raise ValueError(
                "Higgs Audio's head has no rows for text: it reads texts and writes codes alone"
            )
        shifted = tuple((start - self.first, stop - self.first) for start, stop in ranges)
        return super().logits(states, shifted)
