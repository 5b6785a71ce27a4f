"""Published models in torch: the language model inside, and Janus' own head for codes.

In Janus codes have an embedding and a head of their own.
Their ids stand behind those of text; a code's embedding goes through Janus' aligner; its logits
come of the generation head, not of the language model's.

Legend: B rows, L sequence, D width, C codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.models.janus.modeling_janus import JanusVQVAEHead

__all__ = ["CodeHead", "code_head", "embed_ids", "inner_model"]


@dataclass(frozen=True, eq=False)
class CodeHead:
    """The parts of a decoder that belong to codes.

    first: the id of code 0. hidden: from the decoder's last hidden states to what the rows of the
    head are multiplied with. head: rows (C, ...) with a bias.
    """

    first: int
    hidden: nn.Module
    head: nn.Linear
    codes: nn.Embedding
    aligner: nn.Module

    def embed(self, codes: Tensor) -> Tensor:
        """Codes int64 (...) to what the first layer sees, (..., D)."""
        embedded: Tensor = self.aligner(self.codes(codes))
        return embedded


class _Hidden(nn.Module):
    """What `JanusVQVAEHead` does before its last product."""

    def __init__(self, head: JanusVQVAEHead) -> None:
        super().__init__()
        self.projection, self.activation = head.proj_out, head.activation_fn

    def forward(self, hidden: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.projection(hidden))
        return activated


def inner_model(hf: PreTrainedModel) -> Any:
    """The decoder without its head: the language model inside a whole checkpoint, or all of it."""
    for name in ("language_model", "text_model", "backbone_model"):
        inner = getattr(hf.base_model, name, None)
        if isinstance(inner, nn.Module):
            return inner
    return hf.base_model


def code_head(hf: PreTrainedModel) -> CodeHead | None:
    """The head for codes of a decoder of transformers; None where text and codes share theirs."""
    model: Any = hf.base_model
    head = getattr(model, "generation_head", None)
    if head is None:
        return None
    first = int(hf.get_output_embeddings().weight.shape[0])
    return CodeHead(
        first, _Hidden(head), head.vision_head, model.generation_embeddings,
        model.generation_aligner,
    )  # fmt: skip


def embed_ids(hf: PreTrainedModel, ids: Tensor) -> dict[str, Tensor]:
    """Ids int64 (B, L) as the arguments of a decoder's forward: its own ids, or embeddings where
    codes have some of their own."""
    head = code_head(hf)
    if head is None:
        return {"input_ids": ids}
    embedded = hf.get_input_embeddings()(ids.clamp_max(head.first - 1))
    is_code = ids >= head.first
    if bool(is_code.any()):
        of_codes = head.embed(ids[is_code] - head.first)
        embedded = embedded.index_put((is_code,), of_codes.to(embedded.dtype))
    return {"inputs_embeds": embedded}
