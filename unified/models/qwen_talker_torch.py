"""The modules of Qwen3-Omni's talker, with the weights of transformers' object.

Ids of the engine: the rows of text; <voice>, </voice>, <bos>, <eos> and <end>; then the codes of
one level after another. Rows of what the talker reads (`rows_of`): those of text, those of its own
table (codes of level 0 and what stands beside a text), then the codes of the other levels.

Shape legend: `B` rows of a pass, `T` new positions, `L` rows of a position, `N` positions that are
being filled, `D` width, `K` levels, `C` codes of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from unified.engine.backends.base import Array, OwnPosition, Ranges
from unified.engine.backends.stepped_model import SteppedModel, memory_errors
from unified.engine.backends.torch_positions import NO_ID

__all__ = ["TalkerModel"]

_OURS = 5  # ids between those of text and codes


class TalkerModel(SteppedModel):
    """The talker: a mixture of experts that reads texts beside codes, with its head for the first
    code of a frame; and its code predictor, which writes the others.

    num_ids: of the engine. begin: <bos>. voice: <voice> and </voice>. width: D.
    """

    def __init__(self, hf: Any) -> None:
        """hf: a Qwen3OmniMoeForConditionalGeneration; it is put in evaluation mode."""
        talker = hf.config.talker_config
        self.text_rows = int(hf.thinker.get_input_embeddings().weight.shape[0])
        self.own_rows = int(talker.text_config.vocab_size)
        self.K, self.C = int(talker.num_code_groups), int(talker.code_predictor_config.vocab_size)
        self.first = self.text_rows + _OURS
        self.num_ids = self.first + self.K * self.C
        self.voice = (self.text_rows, self.text_rows + 1)
        self.begin, self.end = self.text_rows + 2, self.text_rows + 3
        self._row_of_end = int(talker.codec_eos_token_id)
        self.width = int(talker.text_config.hidden_size)
        super().__init__(hf)
        self.max_positions = int(talker.text_config.max_position_embeddings)

    @property
    def module(self) -> Any:
        parts: Any = self.hf
        return parts.talker.model

    def _embedding_rows(self) -> int:
        return self.text_rows + self.own_rows + (self.K - 1) * self.C

    def _find_head(self, config: Any) -> Any:
        parts: Any = self.hf
        return parts.talker.codec_head

    def check_sums(self) -> None:
        """See `SteppedModel.check_sums`: positions of several ids are what it was trained on."""

    def cache_bytes(self, max_ids: int) -> int:
        """Bytes of keys and values of so many positions."""
        config = self.hf.config.talker_config.text_config
        heads = config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim
        return int(numbers * self.dtype.itemsize * max_ids)

    def codec_row(self, row: int) -> int:
        """A row of the talker's own table among those that it reads."""
        return self.text_rows + row

    def rows_of(self, position: Sequence[int]) -> list[int]:
        """The rows of a frame's codes, ids of the engine."""
        rows = []
        for level, id in enumerate(position):
            code = id - self.first - level * self.C
            if not 0 <= code < self.C:
                raise ValueError(f"id {id} is not a code of level {level}")
            behind = self.own_rows + (level - 1) * self.C if level else 0
            rows.append(self.text_rows + behind + code)
        return rows

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """Embeddings (B, T, D). ids: int64 (B, T) of texts, or (B, T, L) of positions: a text, a
        row of the talker's table, and those of the other levels."""
        parts: Any = self.hf
        several = ids[..., None] if ids.dim() == 2 else ids
        table = parts.thinker.get_input_embeddings()
        embedded = parts.talker.text_projection(table(several[..., 0]))
        first = self.text_rows
        for level in range(several.shape[-1] - 1):
            own = several[..., level + 1]
            module = parts.talker.model.codec_embedding
            if level:
                module = parts.talker.code_predictor.model.codec_embedding[level - 1]
            of_level = module((own - first).clamp_min(0))
            embedded = embedded + torch.where((own == NO_ID)[..., None], 0, of_level)
            first += self.C if level else self.own_rows
        return {"inputs_embeds": embedded}

    def trial_rows(self) -> list[list[OwnPosition]]:
        """See `SteppedModel.trial_rows`."""
        rows: list[OwnPosition] = [(3 * at) % self.text_rows for at in range(3)]
        rows.append((1, self.codec_row(self.C)))
        for at in range(5):
            codes = [self.first + level * self.C + (5 * at + level) % self.C
                     for level in range(self.K)]  # fmt: skip
            rows.append((7 * at % self.text_rows, *self.rows_of(codes)))
        return [rows, rows[2:6]]

    @torch.inference_mode()
    def logits(self, states: Tensor, ranges: Ranges) -> Tensor:
        """See `SteppedModel.logits`. Raises ValueError for ids that begin no frame and end none."""
        parts = []
        for start, stop in ranges:
            if (start, stop) == (self.end, self.end + 1):
                parts.append((self._row_of_end, self._row_of_end + 1))
            elif self.first <= start and stop <= self.first + self.C:
                parts.append((start - self.first, stop - self.first))
            else:
                raise ValueError(
                    "Qwen3-Omni's talker writes codes and their end, and no text: it does not"
                    f" write id {start}"
                )
        return super().logits(states, tuple(parts))

    def begin_positions(self, hidden_states: Tensor) -> TalkerPositions:
        """See `SteppedModel.begin_positions`."""
        return TalkerPositions(self, hidden_states)


class TalkerPositions:
    """`PositionCodes` of the code predictor: a small Qwen3 whose input 0 is the hidden state, and
    input j the embedding of code j - 1, which predicts code j."""

    def __init__(self, model: TalkerModel, hidden_states: Tensor) -> None:
        """hidden_states: (N, D), before the positions."""
        parts: Any = model.hf
        self._model, self._talker = model, parts.talker
        self._predictor = parts.talker.code_predictor
        N, config = len(hidden_states), self._predictor.config
        self._heads = config.num_attention_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        shape = (config.num_hidden_layers, N, config.num_key_value_heads, model.K, self._head_dim)
        self._keys, self._values = (hidden_states.new_zeros(shape) for _ in range(2))
        self._hidden_ND = hidden_states
        self._states_ND = hidden_states.new_zeros(N, config.hidden_size)
        self._ids: list[list[int]] = [[] for _ in range(N)]
        self._read = [0] * N  # inputs, the hidden state among them

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """See `PositionCodes.append`."""
        for row, id in zip(rows, ids):
            self._ids[row].append(id)

    @torch.inference_mode()
    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """See `PositionCodes.logits`."""
        model = self._model
        with memory_errors(), model.lock:
            while behind := [row for row in rows if self._read[row] <= len(self._ids[row])]:
                number = min(self._read[row] for row in behind)
                self._read_one([row for row in behind if self._read[row] == number], number)
            states = self._states_ND[list(rows)]
            parts = []
            for start, stop in ranges:
                level, code = divmod(start - model.first, model.C)
                if not 0 < level < model.K or code + stop - start > model.C:
                    raise ValueError(f"ids {start} to {stop - 1} are not codes of one level")
                weight = self._predictor.lm_head[level - 1].weight[code : code + stop - start]
                parts.append(linear(states, weight))
            logits: Array = torch.cat(parts, -1).float().cpu().numpy()
            return logits

    def _read_one(self, rows: list[int], number: int) -> None:
        """Read the input of this number of some rows."""
        model, device = self._model, self._hidden_ND.device
        at = torch.tensor(rows, device=device)
        if number:
            first = model.first + (number - 1) * model.C
            codes = torch.tensor([[self._ids[row][number - 1] - first] for row in rows])
            table = self._talker.model.codec_embedding
            if number > 1:
                table = self._predictor.model.codec_embedding[number - 2]
            x = table(codes.to(device))  # (n, 1, D)
        else:
            x = self._hidden_ND[at][:, None]
        inner = self._predictor.model
        turns = inner.rotary_emb(x, torch.full((1, 1), number, device=device))
        for layer, keys, values in zip(inner.layers, self._keys, self._values):
            x = x + self._attend(layer, x, turns, at, number, keys, values)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self._states_ND[at] = inner.norm(x)[:, 0]
        for row in rows:
            self._read[row] += 1

    def _attend(
        self,
        layer: Any,
        x: Tensor,
        turns: tuple[Tensor, Tensor],
        at: Tensor,
        number: int,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        """What a layer's attention gives to inputs (n, 1, D).

        turns: cosine and sine (1, 1, C) of this place. at: int64 (n,), rows. keys, values: (N, key
        heads, K, head width), of all inputs so far.
        """
        n, attention, y = len(x), layer.self_attn, layer.input_layernorm(x)
        query = attention.q_norm(attention.q_proj(y).view(n, -1, self._head_dim))
        key = attention.k_norm(attention.k_proj(y).view(n, -1, self._head_dim))
        keys[at, :, number] = _turned(key, *turns)
        values[at, :, number] = attention.v_proj(y).view(n, -1, self._head_dim)
        repeats = self._heads // keys.shape[1]
        seen_keys, seen_values = (
            cache[at, :, : number + 1].repeat_interleave(repeats, 1) for cache in (keys, values)
        )
        out = scaled_dot_product_attention(
            _turned(query, *turns)[:, :, None], seen_keys, seen_values
        )
        attended: Tensor = attention.o_proj(out.reshape(n, 1, -1))
        return attended


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions of queries or keys (n, H, C). cos, sin: (1, 1, C)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
