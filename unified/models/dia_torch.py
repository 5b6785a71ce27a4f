"""Dia's decoder, with the weights of transformers' object; see `unified.models.musicgen_torch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unified.models.encoder_decoder import Attend, CrossModel
from unified.models.encoder_decoder_cache import CacheShape

__all__ = ["DiaModel"]


class DiaModel(CrossModel):
    """An encoder of bytes, and a decoder of parallel heads over nine levels."""

    scale = 1.0

    def __init__(self, hf: Any) -> None:
        """hf: a DiaForConditionalGeneration."""
        config = hf.config.decoder_config
        super().__init__(
            hf, hf.config.encoder_config.vocab_size, config.num_channels, config.vocab_size,
            config.max_position_embeddings,
        )  # fmt: skip
        self.decoder: Any = hf.model.decoder

    @property
    def shape(self) -> CacheShape:
        config = self.hf.config.decoder_config
        return CacheShape(
            config.num_hidden_layers, config.hidden_size, config.num_key_value_heads,
            config.head_dim, config.cross_num_key_value_heads, config.cross_head_dim,
        )  # fmt: skip

    def text(self, ids: list[int]) -> list[int]:
        return ids

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.hf.model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    def cross(self, layer: int, states: Tensor) -> tuple[Tensor, Tensor]:
        attention = self.decoder.layers[layer].cross_attention
        shape = (*states.shape[:2], -1, attention.head_dim)
        return attention.k_proj(states).view(shape), attention.v_proj(states).view(shape)

    def embed(self, rows: Tensor, positions: Tensor) -> Tensor:
        embedded: Tensor = self.decoder.embeddings(rows)
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
        own, text = part.self_attention, part.cross_attention
        shape = (*x.shape[:2], -1, own.head_dim)
        h = part.pre_sa_norm(x)
        q, k, v = own.q_proj(h).view(shape), own.k_proj(h).view(shape), own.v_proj(h).view(shape)
        cos, sin = self.decoder.rotary_emb(x, position_ids=positions)
        x = x + own.o_proj(attend(_turned(q, cos, sin), _turned(k, cos, sin), v))
        h = part.pre_ca_norm(x)
        queries = text.q_proj(h).view(*x.shape[:2], -1, text.head_dim)
        x = x + text.o_proj(attend_text(queries))
        outputs: Tensor = x + part.mlp(part.pre_mlp_norm(x))
        return outputs

    def finish(self, x: Tensor) -> Tensor:
        states: Tensor = self.decoder.norm(x)
        return states

    def logits(self, states: Tensor, level: int, start: int, stop: int) -> Tensor:
        first = level * self.rows
        weight = self.hf.logits_dense.weight[first + start : first + stop]
        return torch.nn.functional.linear(states, weight)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions of queries or keys (B, c, H, C). cos, sin: (B, c, C)."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos[:, :, None] + turned * sin[:, :, None]
