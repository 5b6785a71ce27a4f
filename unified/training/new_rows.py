"""Training only the rows that an extended language model got for its new ids.

The old rows lie still: they have no gradient, no optimizer state and no second copy in float32. At
168k rows of which 16k are new that is nine tenths of the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unified.training.loss import Head, HeadPart

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["NewRows", "head_of", "merge_new_rows", "split_rows"]

RowTable = nn.Embedding | nn.Linear
"""An embedding or a head: weight (rows, D)."""


class NewRows(nn.Module):
    """A table (embedding or head) whose rows from `first` on are a parameter of their own.

    Its forward is the embedding's: ids (...) -> (..., D), with the embedding's own scale, if any.
    """

    def __init__(self, table: RowTable, first: int) -> None:
        super().__init__()
        self.table = table
        self.first = first
        self.table.requires_grad_(False)
        self.rows = nn.Parameter(table.weight.detach()[first:].clone())
        self.scale = getattr(table, "embed_scale", None)

    def forward(self, ids: Tensor) -> Tensor:
        new = ids >= self.first
        embedded = F.embedding((ids - self.first).clamp_min(0), self.rows)  # (..., D)
        if self.scale is not None:  # as Gemma's embedding does it
            embedded = embedded * torch.as_tensor(self.scale, dtype=embedded.dtype)
        return torch.where(new[..., None], embedded, self.table(ids.clamp_max(self.first - 1)))

    @property
    def parts(self) -> tuple[HeadPart, ...]:
        bias = getattr(self.table, "bias", None)
        old = HeadPart(
            0, self.table.weight[: self.first], None if bias is None else bias[: self.first]
        )
        new = HeadPart(self.first, self.rows, None if bias is None else bias[self.first :])
        return old, new

    @torch.no_grad()
    def merged(self) -> RowTable:
        """The table, its new rows filled in."""
        self.table.weight[self.first :] = self.rows
        return self.table


def split_rows(decoder: PreTrainedModel, first: int) -> None:
    """Freeze a decoder but for its rows from `first` on, those of the head too.

    Raises ValueError for a head that is no table of rows.
    """
    embedding, head = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    if head is None:
        raise ValueError("the decoder has no head; only causal language models can be trained")
    tied = head.weight is embedding.weight
    decoder.requires_grad_(False)
    decoder.set_input_embeddings(NewRows(cast("RowTable", embedding), first))
    if not tied:
        decoder.set_output_embeddings(NewRows(cast("RowTable", head), first))


def merge_new_rows(decoder: PreTrainedModel) -> None:
    """Put the tables back where `split_rows` took them from."""
    embedding, head = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    if isinstance(embedding, NewRows):
        decoder.set_input_embeddings(embedding.merged())
    if isinstance(head, NewRows):
        decoder.set_output_embeddings(head.merged())


def head_of(decoder: PreTrainedModel) -> Head:
    """The rows that make a decoder's logits, whether its new rows are apart or not."""
    embedding, head = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    softcap = getattr(decoder.config, "final_logit_softcapping", None)
    if isinstance(head, NewRows):
        return Head(head.parts, softcap)
    if isinstance(embedding, NewRows):  # tied
        return Head(embedding.parts, softcap)
    return Head((HeadPart(0, head.weight, getattr(head, "bias", None)),), softcap)
