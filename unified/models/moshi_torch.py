"""Moshi on any device, by the object that transformers has of it.

Ids are those of `moshi_decoder`. Shape legend: `B` rows of a pass, `T` new positions, `L` ids of a
position, `N` positions that are being filled, `E` width of the main transformer, `D` of the depth
decoder, `K` codebooks of a voice, `C` codes of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from unified.engine.backends.base import Array, OwnPosition, Ranges
from unified.engine.backends.stepped_model import SteppedModel, memory_errors
from unified.engine.backends.torch_positions import NO_ID
from unified.models.moshi_decoder import MoshiSizes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["MoshiModel"]


class MoshiModel(SteppedModel):
    """The main transformer, which reads whole positions, with its head for the text of the next.

    The codes of Moshi's voice are those of the checkpoint's own depth decoder.
    """

    def __init__(self, hf: PreTrainedModel) -> None:
        """hf: a MoshiForConditionalGeneration; it is put in evaluation mode."""
        self.sizes = MoshiSizes.from_hf(hf.config.to_dict())
        super().__init__(hf)

    @property
    def module(self) -> Any:
        parts: Any = self.hf
        return parts.decoder.model

    def _embedding_rows(self) -> int:
        return self.sizes.vocab_size

    def _find_head(self, config: Any) -> Any:
        parts: Any = self.hf
        return parts.decoder.lm_head

    def check_sums(self) -> None:
        """See `SteppedModel.check_sums`: positions of several ids are what it was trained on."""

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """Embeddings (B, T, E): the sum of those of a position's ids, each from the table of its
        place. ids: int64 (B, T) of texts, or (B, T, L) of positions."""
        parts: Any = self.hf
        sizes, several = self.sizes, ids[..., None] if ids.dim() == 2 else ids
        embedded = parts.decoder.model.embed_tokens(several[..., 0])
        for level in range(several.shape[-1] - 1):
            own = several[..., level + 1]
            codes = own - (sizes.first + level * sizes.codebook_size)
            # A marker stands before all codes; where there is no id, any row does.
            rows = torch.where(codes < 0, sizes.codebook_size, codes)
            of_level = parts.embed_tokens[level](rows)
            embedded = embedded + torch.where((own == NO_ID)[..., None], 0, of_level)
        return {"inputs_embeds": embedded}

    def trial_rows(self) -> list[list[OwnPosition]]:
        """See `SteppedModel.trial_rows`."""
        sizes = self.sizes
        first, levels = sizes.first, range(2 * sizes.num_codebooks)
        begin = tuple(sizes.texts + at for at in range(1 + len(levels)))
        rows: list[OwnPosition] = [begin]
        for at in range(6):
            codes = ((7 * at + level) % sizes.codebook_size for level in levels)
            own = (first + level * sizes.codebook_size + code for level, code in zip(levels, codes))
            rows.append(((31 * at + 1) % sizes.texts, *own))
        return [rows, [begin, *rows[3:5]]]

    def begin_positions(self, hidden_states: Tensor) -> MoshiTorchPositions:
        """See `SteppedModel.begin_positions`."""
        return MoshiTorchPositions(self, hidden_states)


class MoshiTorchPositions:
    """`PositionCodes` of Moshi's depth decoder: input j is the sum of an embedding of id j and the
    hidden state's projection for j, and predicts id j + 1."""

    def __init__(self, model: MoshiModel, hidden_states: Tensor) -> None:
        """hidden_states: (N, E), before the positions."""
        parts: Any = model.hf
        self._sizes, self._depth = model.sizes, parts.depth_decoder
        self._lock = model.lock
        self._hidden_NE = hidden_states
        N, config = len(hidden_states), model.sizes.depth
        shape = (config.num_layers, N, config.num_kv_heads, config.num_ids, config.head_dim)
        self._keys, self._values = (hidden_states.new_zeros(shape) for _ in range(2))
        self._states_ND = hidden_states.new_zeros(N, config.hidden_size)
        self._ids: list[list[int]] = [[] for _ in range(N)]
        self._read = [0] * N

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """See `PositionCodes.append`."""
        for row, id in zip(rows, ids):
            self._ids[row].append(id)

    @torch.inference_mode()
    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """See `PositionCodes.logits`; of the codes of Moshi's voice."""
        with memory_errors(), self._lock:
            while behind := [row for row in rows if self._read[row] < len(self._ids[row])]:
                number = min(self._read[row] for row in behind)
                self._read_one([row for row in behind if self._read[row] == number], number)
            states = self._states_ND[list(rows)]
            weight = self._depth.lm_heads.weight.flatten(0, 1)  # (K C, D)
            parts = [linear(states, weight[a:b]) for a, b in self._sizes.depth.to_rows(ranges)]
            logits: Array = torch.cat(parts, -1).float().cpu().numpy()
            return logits

    def _read_one(self, rows: list[int], number: int) -> None:
        """Read the input of this number of some rows."""
        depth, device = self._depth, self._states_ND.device
        placed = [self._sizes.row(self._ids[row][number]) for row in rows]
        if {level for level, _ in placed} != {number - 1}:
            raise ValueError(f"an id is not one of place {number} of a position")
        table = depth.embed_tokens[number - 1] if number else depth.text_embed_tokens
        at, index = torch.tensor(rows, device=device), torch.tensor([number], device=device)
        x = table(torch.tensor([[row] for _, row in placed], device=device))  # (n, 1, D)
        x = x + depth.input_projections(self._hidden_NE[at][:, None], index)
        for layer, keys, values in zip(depth.layers, self._keys, self._values):
            x = x + self._attend(layer, x, at, index, keys, values)
            x = x + layer.mlp(layer.post_attention_layernorm(x), index)
        self._states_ND[at] = x[:, 0]
        for row in rows:
            self._read[row] += 1

    def _attend(
        self, layer: Any, x: Tensor, at: Tensor, index: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """What a layer's attention gives to inputs (n, 1, D), which nothing turns.

        at: int64 (n,), rows. keys, values: (N, key heads, K, head width), of all inputs so far.
        """
        config, n, number = self._sizes.depth, len(x), int(index)
        attention, y = layer.self_attn, layer.input_layernorm(x)
        query, key, value = (
            projection(y, index).view(n, -1, config.head_dim)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        keys[at, :, number], values[at, :, number] = key, value
        repeats = config.num_heads // config.num_kv_heads
        seen_keys, seen_values = (
            cache[at, :, : number + 1].repeat_interleave(repeats, 1) for cache in (keys, values)
        )
        out = scaled_dot_product_attention(query[:, :, None], seen_keys, seen_values)
        attended: Tensor = attention.o_proj(out.reshape(n, 1, -1), index)
        return attended
