"""The depth decoder in torch; see `depth_config`.

Legend: N positions, K ids of one, D its width, E width of the hidden states, C head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unified.engine.backends.base import Ranges
from unified.engine.backends.depth_config import DepthConfig

__all__ = ["DEPTH_DECODER", "DepthDecoder", "depth_decoder_of"]

DEPTH_DECODER = "depth_decoder"
"""The name of the submodule of a causal LM of transformers that is its depth decoder."""


class DepthDecoder(nn.Module):
    """Hidden states and the first ids of positions to hidden states that predict the next ids.

    Parameters have the names of a Llama's, and `projection.weight` (D, E) of the hidden states;
    matrices of layers are (K, out, in) where every depth has its own.
    """

    row_of_id: Tensor
    inv_freq: Tensor | None

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.input_size, config.hidden_size, bias=False)
        self.embed_tokens = nn.Embedding(config.num_rows, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.num_rows, bias=False)
        self.register_buffer("row_of_id", torch.from_numpy(config.rows), persistent=False)
        scaled = None if config.inv_freq is None else torch.tensor(config.inv_freq)
        self.register_buffer("inv_freq", scaled, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as a Llama's are drawn: normal with a standard deviation of 0.02."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight") or "layernorm" in name:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, hidden_NE: Tensor, ids: Tensor) -> Tensor:
        """Hidden states (N, 1 + k, D) behind the final norm.

        Entry j predicts id j of a position, from `hidden_NE` and its ids before; entry 0 predicts
        nothing, since the first id is the decoder's.

        Args:
            hidden_NE: of the decoder, behind the position before.
            ids: int64 (N, k), 0 <= k < K: the first ids of each position, all with rows.
        """
        first = self.projection(hidden_NE.to(self.projection.weight.dtype))[:, None]  # (N, 1, D)
        x = torch.cat([first, self.embed_tokens(self.row_of_id[ids])], dim=1)  # (N, 1 + k, D)
        cos, sin = self.rotations(x)
        for layer in self.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.norm(x)
        return out

    def logits(self, states: Tensor, ranges: Ranges) -> Tensor:
        """Logits float32 (..., ids of all ranges) of hidden states (..., D)."""
        parts = [
            F.linear(states, self.lm_head.weight[start:stop])
            for start, stop in self.config.to_rows(ranges)
        ]
        return torch.cat(parts, dim=-1).float()

    def step(self, x: Tensor, at: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Hidden states (N, D) behind the final norm, of one input of each position.

        The same as entry `at` of `forward`, from the keys and values of the entries before, which
        grow by those of this one. No shape depends on `at`, so that a step can be recorded.

        Args:
            x: (N, D), `projection` of hidden states for entry 0, then embeddings of ids.
            at: int64 (1,), the entry.
            keys, values: (layers, N, key heads, K, C); finite behind `at`.
        """
        cos, sin = self.rotations(keys[0, :, 0])  # (K, C)
        cos, sin = cos.index_select(0, at), sin.index_select(0, at)
        seen = (torch.arange(self.config.num_ids, device=x.device) <= at)[None]  # (1, K)
        layers: Any = self.layers
        for number, layer in enumerate(layers):
            x = layer.step(x, cos, sin, at, seen, keys[number], values[number])
        out: Tensor = self.norm(x)
        return out

    def rotations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (1 + k, C) of the depths, as a Llama's."""
        if self.inv_freq is None:
            half = self.config.head_dim // 2
            steps = torch.arange(half, device=x.device, dtype=torch.float32) / half
            inv_freq = self.config.rope_theta**-steps
        else:
            inv_freq = self.inv_freq
        angles = torch.arange(x.shape[1], device=x.device)[:, None] * inv_freq
        both = torch.cat([angles, angles], dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


def depth_decoder_of(hf: nn.Module) -> DepthDecoder | None:
    """The depth decoder of a causal LM; None where it has none."""
    module = getattr(hf, DEPTH_DECODER, None)
    return module if isinstance(module, DepthDecoder) else None


class _Linear(nn.Linear):
    """A matrix for all depths: weight (out, in). It takes adapters as any linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def step(self, x: Tensor, at: Tensor) -> Tensor:  # (N, in), (1,) -> (N, out)
        return F.linear(x, self.weight)


class _LinearByDepth(nn.Module):
    """A matrix for each depth: weight (K, out, in)."""

    def __init__(self, inputs: int, outputs: int, num_ids: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_ids, outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:  # (N, k, in) -> (N, k, out)
        return torch.einsum("nki,koi->nko", x, self.weight[: x.shape[1]])

    def step(self, x: Tensor, at: Tensor) -> Tensor:  # (N, in), (1,) -> (N, out)
        return F.linear(x, self.weight.index_select(0, at)[0])


def _linear(config: DepthConfig, inputs: int, outputs: int) -> _Linear | _LinearByDepth:
    """A product with a matrix for all depths, or with one for each."""
    if config.per_level:
        return _LinearByDepth(inputs, outputs, config.num_ids)
    return _Linear(inputs, outputs)


def _step(product: nn.Module, x: Tensor, at: Tensor) -> Tensor:
    """The product of one depth `at`, int64 (1,): (N, in) -> (N, out)."""
    out: Tensor = product.step(x, at) if isinstance(product, _LinearByDepth) else product(x)
    return out


class _Attention(nn.Module):
    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.width, self.shared = config.head_dim, config.num_heads // config.num_kv_heads
        queries, keys = config.num_heads * self.width, config.num_kv_heads * self.width
        self.q_proj = _linear(config, config.hidden_size, queries)
        self.k_proj = _linear(config, config.hidden_size, keys)
        self.v_proj = _linear(config, config.hidden_size, keys)
        self.o_proj = _linear(config, queries, config.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (
            product(x).unflatten(-1, (-1, self.width)).transpose(1, 2)  # (N, heads, k, C)
            for product in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.shared > 1)
        projected: Tensor = self.o_proj(out.transpose(1, 2).flatten(-2))
        return projected

    def step(
        self, x: Tensor, cos: Tensor, sin: Tensor, at: Tensor, seen: Tensor, keys: Tensor,
        values: Tensor,
    ) -> Tensor:  # fmt: skip
        q, k, v = (
            _step(product, x, at).unflatten(-1, (-1, self.width))[:, :, None]  # (N, heads, 1, C)
            for product in (self.q_proj, self.k_proj, self.v_proj)
        )
        keys.index_copy_(2, at, _rotate(k, cos, sin))
        values.index_copy_(2, at, v)
        out = F.scaled_dot_product_attention(
            _rotate(q, cos, sin), keys, values, attn_mask=seen, enable_gqa=self.shared > 1
        )
        return _step(self.o_proj, out.flatten(1), at)


class _MLP(nn.Module):
    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        inner = config.intermediate_size
        self.gate_proj = _linear(config, config.hidden_size, inner)
        self.up_proj = _linear(config, config.hidden_size, inner)
        self.down_proj = _linear(config, inner, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out

    def step(self, x: Tensor, at: Tensor) -> Tensor:
        inner = F.silu(_step(self.gate_proj, x, at)) * _step(self.up_proj, x, at)
        return _step(self.down_proj, inner, at)


class _Layer(nn.Module):
    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.self_attn = _Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = _MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out

    def step(
        self, x: Tensor, cos: Tensor, sin: Tensor, at: Tensor, seen: Tensor, keys: Tensor,
        values: Tensor,
    ) -> Tensor:  # fmt: skip
        x = x + self.self_attn.step(self.input_layernorm(x), cos, sin, at, seen, keys, values)
        out: Tensor = x + self.mlp.step(self.post_attention_layernorm(x), at)
        return out


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in halves, as a Llama's: x (N, heads, k, C)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
