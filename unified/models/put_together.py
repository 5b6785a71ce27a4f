"""A model trained with its codes in a row, with a depth decoder in the place of most positions.

Vocabulary, embeddings, head and layers stay: only the format changes, and what writes the codes of
a position behind its first is new. It is then trained, alone at first and with all else afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from unified.formats.grammar import Grammar
from unified.formats.together import together_kinds
from unified.models.code_output import (
    OUTPUTS,
    CodesOutput,
    attach_depth_decoder,
    codes_output,
    laid_out,
)
from unified.sequence.sequencer import Sequencer
from unified_base.text import quoted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified.engine.backends.depth_module import DepthDecoder

__all__ = ["begin_from_rows", "put_together"]

# Standard deviation of the rows that a depth decoder begins with. Bits a code of the second and
# third level of the pocket's own sounds (3 levels of 1,000), the rest frozen, after 50 and 200
# steps of 96 of 3,136 frames (AdamW, 0.002; means of two seeds). Picked on 1,029 frames of other
# documents, by the mean of both; measured on 1,253 frames of still others, by which nothing was
# picked:
#
#     projected, 0.02   picked on 5.45 and 4.56   measured on 5.57 and 4.09
#     projected, 0.05             4.89     4.48               4.87     4.00
#     projected, 0.1              4.70     4.57               4.61     4.09
#     projected, 0.2              5.08     5.08               4.94     4.50
#     projected, 0.3              5.74     5.66               5.63     5.08
#     drawn, 0.02                 5.71     4.70               5.82     4.27
#     drawn, 0.1                  5.33     5.08               5.20     4.48
#     drawn, 0.2                  6.14     5.79               5.97     5.12
_SPREAD = 0.1


def put_together(
    sequencer: Sequencer,
    hf: PreTrainedModel,
    codes: str,
    depth: Mapping[str, Any] | None,
    modalities: Collection[str] | None,
) -> tuple[Sequencer, CodesOutput]:
    """See `UnifiedModel.together`; the decoder is given a depth decoder in place."""
    grammar = sequencer.grammar
    if codes not in OUTPUTS:
        raise ValueError(f"codes is {quoted(codes)}, expected depth or heads")
    if hf.device.type == "meta":
        raise ValueError("the model is on device meta, without its weights; move it first")
    if together_kinds(grammar.format):
        raise ValueError(
            f"in format '{grammar.format.name}' codes are together already; take a model whose"
            " codes are in a row"
        )
    several = {span.modality for span in grammar.span_grammars.values() if len(span.blocks) > 1}
    if not several:
        raise ValueError(
            "this model's codes have one level each, so that a position holds one already: there is"
            " nothing to put together"
        )
    chosen = several if modalities is None else set(modalities)
    if not chosen or chosen - several:
        raise ValueError(
            f"found {quoted(sorted(chosen))} to put together, expected some of"
            f" {', '.join(sorted(several))}: this model's media with codes of several levels"
        )
    format, _ = laid_out(grammar.format, dict.fromkeys(sorted(chosen), codes))
    changed = Grammar(format, sequencer.vocabulary)
    declared = codes_output(changed, hf.config, codes, depth)
    assert declared is not None
    if declared.depth is not None:
        begin_from_rows(attach_depth_decoder(hf, declared.depth), hf)
    return sequencer.with_grammar(changed), declared


def begin_from_rows(depth: DepthDecoder, hf: PreTrainedModel) -> None:
    """Begin a depth decoder's embeddings and head with those of the decoder, in fewer dimensions.

    Rows of both tables are projected on the principal axes of all of them, which keeps what codes
    are alike, and scaled to `_SPREAD`.
    """
    import torch

    ids = [id for start, stop in depth.config.ranges for id in range(start, stop)]
    embedding: Any = hf.get_input_embeddings()
    head: Any = hf.get_output_embeddings()
    with torch.no_grad():
        tables = [table.weight[ids].float().cpu() for table in (embedding, head)]  # (R, W) each
        centred = [rows - rows.mean(0) for rows in tables]
        square = sum(rows.T @ rows for rows in centred)  # (W, W), its eigenvalues ascending
        axes = torch.linalg.eigh(square).eigenvectors.T.flip(0)
        axes = axes[: depth.config.hidden_size]  # (d, W), d at most D
        targets = depth.embed_tokens.weight, depth.lm_head.weight
        for target, rows in zip(targets, centred):
            projected = rows @ axes.T  # (R, d)
            spread = projected.square().mean().sqrt()
            if spread > 0:
                target[:, : len(axes)] = (projected * (_SPREAD / spread)).to(target)
