"""How encoder-decoders of text (T5) read positions in training.

The documents of packed sequences are taken apart: of each, the spans that are seen both ways are
what the encoder reads and all else what the decoder does, one row of a batch for each document.
The decoder's states come back to the places of its positions; those of the encoder's are zeros, and
nothing is predicted from them.

Legend: B sequences, L positions, N documents, S positions of the longest encoder's part, T of the
longest decoder's, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unified.models.text_to_text import head_scale
from unified.training.plain_positions import PlainPositions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TextToTextPositions", "encoded_and_decoded"]


class TextToTextPositions(PlainPositions):
    """Those of a T5 with a head."""

    def __init__(self, decoder: PreTrainedModel) -> None:
        super().__init__(decoder)
        self._inner = _TextToText(decoder)

    @property
    def inner(self) -> nn.Module:
        return self._inner


class _TextToText(nn.Module):
    """Encoder and decoder over the documents of packed sequences."""

    def __init__(self, hf: Any) -> None:
        super().__init__()
        object.__setattr__(self, "hf", hf)  # whose module it is
        self.config = hf.config
        self._scale = head_scale(hf)

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        document_spans: Tensor | None = None,
        spans: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor]:
        """Hidden states (B, L, D) of ids (B, L) or embeddings (B, L, D), behind the head's scale.

        document_spans: int32 (N, 2), where documents begin and end, counted over all B sequences.
        spans: int64 (M, 2), what of them the encoder reads; None: nothing.

        Raises ValueError for a document whose encoder's part is not before all else.
        """
        hf: Any = self.hf
        if inputs_embeds is None:
            inputs_embeds = hf.get_input_embeddings()(input_ids)
        assert document_spans is not None
        flat = inputs_embeds.flatten(0, 1)  # (B L, D)
        documents = [(a, b) for a, b in document_spans.tolist() if a < b]
        parts = encoded_and_decoded(documents, [] if spans is None else spans.tolist())
        states = torch.zeros_like(flat)
        parts = [part for part in parts if part[1]]  # of others nothing is predicted
        if not parts:  # every weight has a gradient all the same
            nothing = sum(parameter.sum() * 0 for parameter in hf.parameters())
            return ((states + nothing).view_as(inputs_embeds),)
        read, read_mask = _gathered(flat, [encoded for encoded, _ in parts])
        read_mask = read_mask.clone()
        read_mask[:, 0] = True  # a document without a part is a zero, which adds nothing
        written, written_mask = _gathered(flat, [decoded for _, decoded in parts])
        encoded = hf.encoder(inputs_embeds=read, attention_mask=read_mask.long())
        outputs = hf.decoder(
            inputs_embeds=written,
            attention_mask=written_mask.long(),
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=read_mask.long(),
            use_cache=False,
        )
        at = torch.tensor([p for _, decoded in parts for p in decoded], device=flat.device)
        of_decoder = outputs.last_hidden_state[written_mask] * self._scale
        states = states.index_copy(0, at, of_decoder.to(states.dtype))
        return (states.view_as(inputs_embeds),)


def encoded_and_decoded(
    documents: Sequence[tuple[int, int]], spans: Sequence[Sequence[int]]
) -> list[tuple[list[int], list[int]]]:
    """The positions of each document that the encoder reads, and those of its decoder.

    Raises ValueError for a document whose encoder's part is not before all else.
    """
    inside = {position for start, stop in spans for position in range(start, stop)}
    parts = []
    for number, (start, stop) in enumerate(documents):
        encoded = [position for position in range(start, stop) if position in inside]
        decoded = [position for position in range(start, stop) if position not in inside]
        if encoded and decoded and encoded[-1] > decoded[0]:
            raise ValueError(
                f"document {number} of a batch has a part for the encoder behind one for the"
                " decoder: such a model answers one prompt; give it documents of one prompt and"
                " one answer, in this order, and sequences as long as they are"
            )
        parts.append((encoded, decoded))
    return parts


def _gathered(flat: Tensor, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of embeddings (N, S, D) of one length, padded with zeros, and what is no padding."""
    length = max(1, *(len(row) for row in rows))
    index = torch.full((len(rows), length), -1, dtype=torch.int64)
    for number, row in enumerate(rows):
        index[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    index = index.to(flat.device)
    mask = index >= 0
    return torch.where(mask[..., None], flat[index.clamp_min(0)], 0), mask
