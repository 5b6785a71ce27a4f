"""MusicGen's decoder, with the weights of transformers' object.

Its layers are transformers' own modules, called one by one: what their forward adds for other uses
(masks of the whole, caches of two kinds) costs more than a small model's sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unified.models.encoder_decoder import Attend, CrossModel
from unified.models.encoder_decoder_cache import CacheShape

__all__ = ["MusicgenModel"]


class MusicgenModel(CrossModel):
    """T5's encoder, and a decoder of parallel heads. Level k's table has a row more than its head,
    of the padding before and behind its codes."""

    def __init__(self, hf: Any) -> None:
        """hf: a MusicgenForConditionalGeneration."""
        config = hf.config.decoder
        super().__init__(
            hf, hf.config.text_encoder.vocab_size, config.num_codebooks, config.vocab_size + 1,
            config.max_position_embeddings,
        )  # fmt: skip
        self.decoder: Any = hf.decoder.model.decoder
        self._heads: Any = hf.decoder.lm_heads
        self._end = hf.config.text_encoder.eos_token_id
        self._project = getattr(hf, "enc_to_dec_proj", None)

    @property
    def shape(self) -> CacheShape:
        config = self.hf.config.decoder
        heads, width = config.num_attention_heads, config.hidden_size
        return CacheShape(
            config.num_hidden_layers, width, heads, width // heads, heads, width // heads
        )

    def text(self, ids: list[int]) -> list[int]:
        """With the token that ends every text of T5."""
        return [*ids, self._end]

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.hf.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states if self._project is None else self._project(states)

    def cross(self, layer: int, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = self.decoder.layers[layer].encoder_attn
        shape = (*states.shape[:2], attention.num_heads, -1)
        return attention.k_proj(states).view(shape), attention.v_proj(states).view(shape)

    def embed(self, rows: Tensor, positions: Tensor) -> Tensor:
        decoder = self.decoder
        summed = sum(table(rows[..., k]) for k, table in enumerate(decoder.embed_tokens))
        embedded: Tensor = summed + decoder.embed_positions.weights[positions]
        return embedded

    def run(
        self,
        layer: int,
        x: Tensor,
        positions: Tensor,
        attend: Attend,
        attend_text: Callable[[Tensor], Tensor],
    ) -> Tensor:
        part = self.decoder.layers[layer]
        own, text = part.self_attn, part.encoder_attn
        shape = (*x.shape[:2], own.num_heads, -1)
        h = part.self_attn_layer_norm(x)
        q, k, v = own.q_proj(h).view(shape), own.k_proj(h).view(shape), own.v_proj(h).view(shape)
        x = x + own.out_proj(attend(q, k, v))
        h = part.encoder_attn_layer_norm(x)
        x = x + text.out_proj(attend_text(text.q_proj(h).view(shape)))
        h = part.final_layer_norm(x)
        outputs: Tensor = x + part.fc2(part.activation_fn(part.fc1(h)))
        return outputs

    def finish(self, x: Tensor) -> Tensor:
        states: Tensor = self.decoder.layer_norm(x)
        return states

    def logits(self, states: Tensor, level: int, start: int, stop: int) -> Tensor:
        weight = self._heads[level].weight[start : min(stop, self.rows - 1)]
        logits = torch.nn.functional.linear(states, weight)
        if (missing := stop - start - len(weight)) > 0:  # the padding's row
            logits = torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)
        return logits
