"""How CSM and Higgs Audio v2 read and write positions in training, as transformers' objects.

Both read texts and write codes alone: texts and markers have no rows in their heads, and no loss.

Legend: B sequences, L positions, T = B L, M positions of several ids, E width of the hidden states,
D that of CSM's depth decoder, V ids of text, K codebooks, C codes of each, R rows of each in the
published tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unified.models.csm_decoder import CsmSizes
from unified.training.loss import Head, HeadPart
from unified.training.positions import Depth, Positions
from unified.training.several_ids import DeeperBatch
from unified.vocabulary.block import Ranges

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PUBLISHED", "CsmPositions", "HiggsPositions", "is_published"]


def _columns(input_ids: Tensor, deeper: DeeperBatch | None) -> tuple[Tensor, Tensor]:
    """(the positions of several ids int64 (M,), counted over all sequences; all ids of each, int64
    (M, K)). Formats of these models have as many in each."""
    if deeper is None:
        none = input_ids.new_zeros(0)
        return none, none[:, None]
    (several,) = deeper.several
    return several.at, torch.cat([input_ids.flatten()[several.at, None], several.ids], dim=1)


class CsmPositions:
    """A backbone over texts and frames, its head for the first code of a frame, and the published
    depth decoder for the others. Ids are those of `unified.models.csm_decoder`."""

    def __init__(self, decoder: PreTrainedModel) -> None:
        self._csm: Any = decoder
        self._sizes = sizes = CsmSizes.from_hf(decoder.config.to_dict())
        self.writes: Ranges | None = ((sizes.text_rows, sizes.vocab_size),)

    @property
    def inner(self) -> nn.Module:
        backbone: nn.Module = self._csm.backbone_model
        return backbone

    def inputs(self, input_ids: Tensor, deeper: DeeperBatch | None) -> dict[str, Tensor]:
        """A text's embedding, or the sum of a frame's. Both tables are read in any case, as FSDP2
        needs it."""
        sizes = self._sizes
        at, ids_MK = _columns(input_ids, deeper)
        codes = (ids_MK - sizes.text_rows).clamp_min(0)
        rows = codes // sizes.codebook_size * sizes.codebook_rows + codes % sizes.codebook_size
        table = self._csm.backbone_model.embed_tokens.embed_audio_tokens
        of_codes = table(rows).sum(1)  # (M, E)
        of_text = self._csm.embed_text_tokens(input_ids.flatten().clamp_max(sizes.text_rows - 1))
        embedded_TE = of_text.index_put((at,), of_codes.to(of_text.dtype))
        return {"inputs_embeds": embedded_TE.view(*input_ids.shape, -1)}

    def trial_ids(self, number: int) -> Tensor:
        return torch.arange(3, 3 + number) % self._sizes.text_rows

    def head(self) -> Head:
        weight = self._csm.lm_head.weight[: self._sizes.codebook_size]
        return Head((HeadPart(self._sizes.text_rows, weight),))

    @property
    def depth(self) -> Depth | None:
        return _CsmDepth(self._csm.depth_decoder, self._sizes)


class _CsmDepth:
    """The published depth decoder, which looks ids up in the backbone's table of codes."""

    def __init__(self, module: Any, sizes: CsmSizes) -> None:
        self._module, self._sizes = module, sizes
        self.num_ids, self.any_id = sizes.num_codebooks, sizes.text_rows
        # Behind the codes of the first codebook, which the backbone's head writes.
        self._first = sizes.text_rows + sizes.codebook_size

    def check(self, ranges: Ranges) -> None:
        start, stop = ranges[0][0], ranges[-1][1]
        if start < self._first or stop > self._sizes.vocab_size:
            raise ValueError(
                f"the depth decoder has rows of ids {self._first} to {self._sizes.vocab_size - 1},"
                f" found ids {start} to {stop - 1} behind the first of a position"
            )

    def states(self, hidden_ME: Tensor, ids: Tensor) -> Tensor:
        sizes = self._sizes
        codes = (ids - sizes.text_rows).clamp_min(0) % sizes.codebook_size
        # In the place of the first entry's embedding stands the hidden state.
        codes = nn.functional.pad(codes, (1, 0))
        outputs = self._module.model(
            input_ids=codes, backbone_last_hidden_state=hidden_ME, use_cache=False
        )
        states: Tensor = outputs.last_hidden_state[:, 1:]
        return states

    def head(self) -> Head:
        weight = self._module.codebooks_head.weight[:, :, : self._sizes.codebook_size]
        return Head((HeadPart(self._first, weight.transpose(1, 2).flatten(0, 1)),))


class HiggsPositions:
    """A language model with tables, feed-forward layers and a head for codes of eight levels, which
    come late by their level. Ids are those of `unified.models.higgs_torch`."""

    depth: Depth | None = None

    def __init__(self, decoder: PreTrainedModel) -> None:
        self._higgs: Any = decoder
        config: Any = decoder.config
        self._first = int(config.vocab_size)
        self._num_codebooks, self._rows = int(config.num_codebooks), int(config.codebook_size)
        self._text_of_codes = int(config.audio_token_id)
        self.writes: Ranges | None = (
            (self._first, self._first + self._num_codebooks * self._rows),
        )

    @property
    def inner(self) -> nn.Module:
        model: nn.Module = self._higgs.model
        return model

    def inputs(self, input_ids: Tensor, deeper: DeeperBatch | None) -> dict[str, Tensor]:
        """As its processor gives them: a placeholder for each column of codes."""
        B, L = input_ids.shape
        at, ids_MK = _columns(input_ids, deeper)
        codes_TK = input_ids.new_zeros(B * L, self._num_codebooks)
        if len(at):
            offsets = torch.arange(self._num_codebooks, device=input_ids.device) * self._rows
            codes_TK[at] = ids_MK - offsets - self._first
        is_codes = torch.zeros(B * L, dtype=torch.bool, device=input_ids.device)
        is_codes[at] = True
        is_codes = is_codes.view(B, L)
        return {
            "input_ids": torch.where(is_codes, self._text_of_codes, input_ids),
            "audio_input_ids": codes_TK.view(B, L, -1),
            "audio_input_ids_mask": is_codes,
        }

    def trial_ids(self, number: int) -> Tensor:
        return torch.arange(3, 3 + number) % self._first

    def head(self) -> Head:
        return Head((HeadPart(self._first, self._higgs.audio_lm_head.weight),))


PUBLISHED: dict[str, Callable[[Any], Positions]] = {
    "csm": CsmPositions,
    "higgs_audio_v2": HiggsPositions,
}
"""By model_type."""


def is_published(decoder: PreTrainedModel) -> bool:
    """Whether a decoder reads and writes positions in a published way of its own."""
    return str(decoder.config.model_type) in PUBLISHED
