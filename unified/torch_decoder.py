"""The slim decode path in torch: bfloat16 on the CPU, or any GPU.

The same operations as `unified.decoder`, for weights that numpy cannot hold (bfloat16) or reach (a
GPU). Products run in the weights' own type; norms, rotations, attention and logits in float32.

Legend: as in `unified.decoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unified.decoder import PREFILL_IDS, Array, Ranges
from unified.slim_config import SlimConfig

__all__ = ["TorchDecoder"]


class TorchCache:
    """Keys and values, (layer, row, G, L, C) each, allocated once for the whole budget."""

    def __init__(
        self, config: SlimConfig, rows: int, max_ids: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.num_layers, rows, config.num_kv_heads, max_ids, config.head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.max_ids = max_ids
        self.lengths = [0] * rows

    def fork(self, source: int, target: int, length: int | None = None) -> None:
        length = self.lengths[source] if length is None else length
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]
        self.lengths[target] = length

    def move(self, source: int, target: int) -> None:
        if source != target:
            self.fork(source, target)
        self.clear(source)

    def cut(self, row: int, length: int) -> None:
        assert length <= self.lengths[row]
        self.lengths[row] = length

    def clear(self, row: int) -> None:
        self.lengths[row] = 0


@dataclass(frozen=True)
class _Layer:
    qkv: Tensor  # (E, D), E = (H + 2G) C; input norm folded in
    qkv_bias: Tensor | None
    qk_scale: Tensor  # (H + G, C)
    out: Tensor
    gate_up: Tensor  # post-attention norm folded in
    down: Tensor


class TorchDecoder:
    """A decoder of the Llama family for sampling; see `unified.decoder.SlimDecoder`."""

    def __init__(
        self,
        config: SlimConfig,
        weights: Mapping[str, Tensor],
        dtype: torch.dtype = torch.bfloat16,
        device: str | torch.device = "cpu",
    ) -> None:
        """weights: by their Hugging Face names; ValueError if they do not fit."""
        config.check(weights)
        self.config = config
        self.vocab_size = config.vocab_size
        self.max_ids = config.max_ids
        self.dtype, self.device = dtype, torch.device(device)
        # One query reads keys in float32 six times faster than in bfloat16 on CPUs.
        self.cache_dtype = torch.float32 if self.device.type == "cpu" else dtype
        self.embedding_VD = self._stored(weights["model.embed_tokens.weight"])
        tied = config.tied
        self.head_VD = self.embedding_VD if tied else self._stored(weights["lm_head.weight"])
        self.final_norm_D = weights["model.norm.weight"].float().to(self.device)
        self.layers = [self._layer(i, weights) for i in range(config.num_layers)]
        angles = torch.outer(
            torch.arange(config.max_ids, dtype=torch.float64),
            torch.tensor(config.rope, dtype=torch.float64),
        )
        turns = torch.polar(torch.full_like(angles, config.rope_scale), angles)
        self.rotation = turns.to(torch.complex64).to(self.device)

    def _stored(self, weight: Tensor) -> Tensor:
        return weight.to(self.device, self.dtype).contiguous()

    def _layer(self, index: int, weights: Mapping[str, Tensor]) -> _Layer:
        config, prefix = self.config, f"model.layers.{index}."
        H, C = config.num_heads, config.head_width
        # transformers rotates (i, i + C/2); interleaved pairs (2i, 2i + 1) are complex numbers.
        pairs = torch.arange(C).reshape(2, C // 2).T.reshape(-1)

        def fused(kind: str) -> Tensor:
            q, k, v = (weights[f"{prefix}self_attn.{name}_proj.{kind}"].float() for name in "qkv")
            turned = [
                part.reshape(-1, C, *part.shape[1:])[:, pairs].reshape(part.shape)
                for part in (q, k)
            ]
            return torch.cat([*turned, v])

        qk_scale = torch.ones(H + config.num_kv_heads, C)
        if config.qk_norm:
            qk_scale[:H] = weights[prefix + "self_attn.q_norm.weight"].float()[pairs]
            qk_scale[H:] = weights[prefix + "self_attn.k_norm.weight"].float()[pairs]
        norm, later = (
            weights[f"{prefix}{name}_layernorm.weight"].float()
            for name in ("input", "post_attention")
        )
        gate, up = (weights[f"{prefix}mlp.{name}_proj.weight"].float() for name in ("gate", "up"))
        bias = fused("bias").to(self.device) if config.qkv_bias else None
        return _Layer(
            qkv=self._stored(fused("weight") * norm),
            qkv_bias=bias,
            qk_scale=qk_scale.to(self.device),
            out=self._stored(weights[prefix + "self_attn.o_proj.weight"]),
            gate_up=self._stored(torch.cat([gate, up]) * later),
            down=self._stored(weights[prefix + "mlp.down_proj.weight"]),
        )

    def cache(self, rows: int, max_ids: int) -> TorchCache:
        if max_ids > self.max_ids:
            raise ValueError(
                f"{max_ids} ids asked for, but the decoder has {self.max_ids} positions; "
                "lower max_ids"
            )
        return TorchCache(self.config, rows, max_ids, self.device, self.cache_dtype)

    @torch.inference_mode()
    def feed(self, cache: TorchCache, places: Sequence[int], ids: Sequence[Sequence[int]]) -> Array:
        counts = [len(row) for row in ids]
        if sum(counts) > PREFILL_IDS:
            half = len(ids) // 2
            parts = [(places[:half], ids[:half]), (places[half:], ids[half:])]
            if not half:
                at = range(0, counts[0], PREFILL_IDS)
                parts = [(places, [ids[0][start : start + PREFILL_IDS]]) for start in at]
            return np.concatenate([self.feed(cache, *part) for part in parts])
        x = self._features(cache, places, counts, [id for row in ids for id in row])
        for place, count in zip(places, counts):
            cache.lengths[place] += count
        found: Array = x.cpu().numpy()
        return found

    def _features(
        self, cache: TorchCache, places: Sequence[int], counts: Sequence[int], ids: list[int]
    ) -> Tensor:
        config = self.config
        H, G, C, N = config.num_heads, config.num_kv_heads, config.head_width, len(ids)
        at = [cache.lengths[p] + i for p, n in zip(places, counts) for i in range(n)]
        positions = torch.tensor(at, device=self.device)
        rotation = self.rotation[positions][:, None]
        x = self.embedding_VD[torch.tensor(ids, device=self.device)].float()
        for index, layer in enumerate(self.layers):
            heads = F.linear(_normed(x, config.norm_eps).to(self.dtype), layer.qkv).float()
            if layer.qkv_bias is not None:
                heads = heads + layer.qkv_bias
            heads = heads.view(N, H + 2 * G, C)
            qk = heads[:, : H + G]
            if config.qk_norm:
                qk = _normed(qk, config.norm_eps)
            pairs = torch.view_as_complex((qk * layer.qk_scale).view(N, H + G, C // 2, 2))
            qk = torch.view_as_real(pairs * rotation).view(N, H + G, C)
            mixed = self._attend(cache, index, places, counts, qk, heads[:, H + G :])
            x = x + F.linear(mixed.to(self.dtype), layer.out)
            gate_up = F.linear(_normed(x, config.norm_eps).to(self.dtype), layer.gate_up)
            gate, up = gate_up.chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return _normed(x, config.norm_eps) * self.final_norm_D

    def _attend(
        self,
        cache: TorchCache,
        layer: int,
        places: Sequence[int],
        counts: Sequence[int],
        qk: Tensor,
        v: Tensor,
    ) -> Tensor:
        H, start, parts = self.config.num_heads, 0, []
        for place, count in zip(places, counts):
            past, stop = cache.lengths[place], cache.lengths[place] + count
            keys, values = cache.keys[layer, place], cache.values[layer, place]
            new = slice(start, start + count)
            keys[:, past:stop] = qk[new, H:].transpose(0, 1).to(keys.dtype)
            values[:, past:stop] = v[new].transpose(0, 1).to(values.dtype)
            mask = None
            if count > 1:
                mask = torch.ones(count, stop, dtype=torch.bool, device=self.device).tril(past)
            mixed = F.scaled_dot_product_attention(
                qk[new, :H].transpose(0, 1)[None].to(keys.dtype),
                keys[None, :, :stop],
                values[None, :, :stop],
                attn_mask=mask,
                enable_gqa=True,
            )
            parts.append(mixed[0].transpose(0, 1).reshape(count, -1))
            start += count
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @torch.inference_mode()
    def logits(self, features: Array, ranges: Ranges) -> Array:
        seen = torch.from_numpy(np.ascontiguousarray(features)).to(self.device, self.dtype)
        parts = [F.linear(seen, self.head_VD[start:stop]).float() for start, stop in ranges]
        found: Any = (parts[0] if len(parts) == 1 else torch.cat(parts, -1)).cpu().numpy()
        return found


def _normed(x: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last axis, without its weight, in float32."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
