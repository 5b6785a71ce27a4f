"""The decoder at sampling time: checkpoints of the Llama family in a few numpy operations a layer.

Legend: `N` rows stepping now, `T` new ids of one row, `L` cache length, `H` query heads,
`G` key/value heads, `R` = H/G, `C` head width, `D` width, `E` fused width, `V` vocabulary.

`transformers.generate` spends most of a small model's time outside the matrix products. Here the
query/key/value and the gate/up projections are fused, norms and the attention scale are folded
into the weights that follow them, rotary pairs are interleaved so that a rotation is one complex
product, caches are static, and the head multiplies only the rows which the grammar allows now: a
slice of its weight, never a copy.

Why numpy and not torch: a small model's step is bound by reading its weights once. For one row
and the pocket sizes (35 MB of weights, two cores of an AVX-512 EPYC) all products of a step took
3.3 ms with torch's `linear`, 1.7-2.3 ms with bfloat16 weights, 1.1 ms through numpy's OpenBLAS with
float32 weights stored (in, out); it is also ahead for 2 to 300 rows. So float32 is computed
throughout, and sampling does not wait for torch to be imported. A second BLAS thread gained
nothing on idle cores and made a step 12 times slower on busy ones: products run on one.

Architectures outside `SlimConfig.covers` run through `unified.generic_decoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from unified.slim_config import SlimConfig

Array = NDArray[np.float32]
Ranges = tuple[tuple[int, int], ...]

# Longer prompts are fed in pieces, so that attention scores stay small.
PREFILL_IDS = 512


class Cache(Protocol):
    """What a decoder keeps of the rows of one batch; `lengths[row]` ids are in it."""

    lengths: list[int]

    def fork(self, source: int, target: int, length: int | None = None) -> None:
        """Make row `target` a copy of row `source`, or of its first ids: prompts that begin alike
        are read once. See `cut`."""

    def cut(self, row: int, length: int) -> None:
        """Forget all ids of a row but the first; all, where those alone cannot be told apart."""

    def move(self, source: int, target: int) -> None:
        """Put row `source` in the place of row `target`, which is finished."""

    def clear(self, row: int) -> None:
        """Make `row` empty, for another sequence."""


class Decoder(Protocol):
    """What sampling asks of a decoder. Rows step together; each has a length of its own."""

    vocab_size: int
    max_ids: int  # positions

    def cache(self, rows: int, max_ids: int) -> Any:
        """A Cache for `rows` rows of at most `max_ids` ids; ValueError past the positions."""

    def feed(self, cache: Any, places: Sequence[int], ids: Sequence[Sequence[int]]) -> Array:
        """Feed one or more ids to each of some rows. Returns features (T, D), one line an id: all
        those of the first row, then those of the next."""

    def logits(self, features: Array, ranges: Ranges) -> Array:
        """float32 (N, sum of range lengths): the logits of the ids in `ranges`, in that order."""


class StaticCache:
    """Keys and values, (layer, row, G, L, C) each, allocated once for the whole budget."""

    def __init__(self, config: SlimConfig, rows: int, max_ids: int) -> None:
        shape = (config.num_layers, rows, config.num_kv_heads, max_ids, config.head_width)
        # Zeros cost nothing until touched, and what a ragged batch masks has to be finite.
        self.keys = np.zeros(shape, np.float32)
        self.values = np.zeros(shape, np.float32)
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

    def clear(self, row: int) -> None:
        self.lengths[row] = 0

    def cut(self, row: int, length: int) -> None:
        assert length <= self.lengths[row]
        self.lengths[row] = length


@dataclass(frozen=True)
class _Layer:
    qkv: Array  # E = (H + 2G) C; input norm folded in
    qkv_bias: Array | None  # (E,)
    qk_scale: Array  # (H + G, C): query/key norm weights, attention scale on the queries
    out: Array  # E = H C
    gate_up: Array  # E = 2 F; post-attention norm folded in
    down: Array  # E = F


class SlimDecoder:
    """A decoder of the Llama family for sampling on the CPU, float32.

    Logits agree with transformers' Llama, Mistral, Qwen2 and Qwen3 up to rounding. A
    row's logits do not depend on the rest of its batch, again up to rounding: a product with one
    row and a product with many add in another order.
    """

    def __init__(self, config: SlimConfig, weights: Mapping[str, Array]) -> None:
        """weights: float32, by their Hugging Face names; ValueError if they do not fit."""
        config.check(weights)
        self.config = config
        self.vocab_size = config.vocab_size
        self.max_ids = config.max_ids
        self.embedding_VD = weights["model.embed_tokens.weight"]
        self.head_VD = self.embedding_VD if config.tied else weights["lm_head.weight"]
        # The last norm stays a product of its own: a tied head with it folded in were a copy.
        self.final_norm_D = weights["model.norm.weight"]
        self.layers = [self._layer(i, weights) for i in range(config.num_layers)]
        self._rotation = np.ones((0, config.head_width // 2), np.complex64)
        self._blas = ThreadpoolController().select(internal_api="openblas")

    def _layer(self, index: int, weights: Mapping[str, Array]) -> _Layer:
        config, prefix = self.config, f"model.layers.{index}."
        H, C = config.num_heads, config.head_width
        # transformers rotates (i, i + C/2); interleaved pairs (2i, 2i + 1) are complex numbers.
        pairs = np.arange(C).reshape(2, C // 2).T.reshape(-1)

        def fused(kind: str) -> Array:
            q, k, v = (weights[f"{prefix}self_attn.{name}_proj.{kind}"] for name in "qkv")
            turned = [
                part.reshape(-1, C, *part.shape[1:])[:, pairs].reshape(part.shape)
                for part in (q, k)
            ]
            return np.concatenate([*turned, v])

        qkv = fused("weight")
        qkv = qkv * weights[prefix + "input_layernorm.weight"]
        gate, up = (weights[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "up"))
        gate_up = np.concatenate([gate, up]) * weights[prefix + "post_attention_layernorm.weight"]
        qk_scale = np.ones((H + config.num_kv_heads, C), np.float32)
        if config.qk_norm:
            qk_scale[:H] = weights[prefix + "self_attn.q_norm.weight"][pairs]
            qk_scale[H:] = weights[prefix + "self_attn.k_norm.weight"][pairs]
        qk_scale[:H] *= C**-0.5
        return _Layer(
            qkv_bias=fused("bias") if config.qkv_bias else None,
            qkv=np.ascontiguousarray(qkv.T),
            qk_scale=qk_scale,
            out=np.ascontiguousarray(weights[prefix + "self_attn.o_proj.weight"].T),
            gate_up=np.ascontiguousarray(gate_up.T),
            down=np.ascontiguousarray(weights[prefix + "mlp.down_proj.weight"].T),
        )

    def cache(self, rows: int, max_ids: int) -> StaticCache:
        config = self.config
        if max_ids > config.max_ids:
            raise ValueError(
                f"{max_ids} ids asked for, but the decoder has {config.max_ids} positions; "
                "lower max_ids"
            )
        if max_ids > len(self._rotation):
            angle = np.outer(np.arange(max_ids), config.rope)
            self._rotation = (config.rope_scale * np.exp(1j * angle)).astype(np.complex64)
        return StaticCache(config, rows, max_ids)

    def feed(
        self, cache: StaticCache, places: Sequence[int], ids: Sequence[Sequence[int]]
    ) -> Array:
        counts = [len(row) for row in ids]
        assert counts
        assert min(counts) > 0
        if sum(counts) > PREFILL_IDS:
            half = len(ids) // 2
            parts = [(places[:half], ids[:half]), (places[half:], ids[half:])]
            if not half:
                at = range(0, counts[0], PREFILL_IDS)
                parts = [(places, [ids[0][start : start + PREFILL_IDS]]) for start in at]
            return np.concatenate([self.feed(cache, *part) for part in parts])
        assert all(cache.lengths[p] + n <= cache.max_ids for p, n in zip(places, counts))
        groups = _groups(places, counts, cache.lengths)
        width = self.config.num_heads * self.config.head_width

        def attend(layer: int, q_THC: Array, k_TGC: Array, v_TGC: Array) -> Array:
            mixed = np.empty((len(q_THC), width), np.float32)
            for group in groups:
                at, keys, values = group.ids, cache.keys[layer], cache.values[layer]
                if group.past is None:
                    mixed[at] = _attend_one(group, q_THC[at], k_TGC[at], v_TGC[at], keys, values)
                else:
                    mixed[at] = _attend_row(group, q_THC[at], k_TGC[at], v_TGC[at], keys, values)
            return mixed

        flat = [id for row in ids for id in row]
        positions = np.concatenate(
            [np.arange(cache.lengths[p], cache.lengths[p] + n) for p, n in zip(places, counts)]
        )
        features = self._run(flat, self._rotation[positions][:, None], attend)
        for place, count in zip(places, counts):
            cache.lengths[place] += count
        return features

    def _run(
        self,
        ids: Sequence[int],
        rotation: NDArray[np.complex64],
        attend: Callable[[int, Array, Array, Array], Array],
    ) -> Array:
        config, eps = self.config, self.config.norm_eps
        N, H, G, C = len(ids), config.num_heads, config.num_kv_heads, config.head_width
        x_ND = self.embedding_VD[np.asarray(ids)]
        # Overflow: exp of a very negative gate, where the quotient is 0.
        with self._blas.limit(limits=1), np.errstate(over="ignore"):
            for index, layer in enumerate(self.layers):
                heads = _normed(x_ND, eps) @ layer.qkv
                if layer.qkv_bias is not None:
                    heads += layer.qkv_bias
                heads = heads.reshape(N, H + 2 * G, C)
                qk = heads[:, : H + G]
                if config.qk_norm:
                    qk = _normed(qk, eps)
                qk = ((qk * layer.qk_scale).view(np.complex64) * rotation).view(np.float32)
                mixed = attend(index, qk[:, :H], qk[:, H:], heads[:, H + G :])
                x_ND = x_ND + mixed @ layer.out
                gate_up = _normed(x_ND, eps) @ layer.gate_up
                gate, up = gate_up[:, : config.ffn_width], gate_up[:, config.ffn_width :]
                x_ND += (gate / (1 + np.exp(-gate)) * up) @ layer.down
        return _normed(x_ND, eps) * self.final_norm_D

    def logits(self, features: Array, ranges: Ranges) -> Array:
        with self._blas.limit(limits=1):
            parts = [features @ self.head_VD[start:stop].T for start, stop in ranges]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


class _Group(NamedTuple):
    """Rows whose attention is computed together. ids: theirs, among all that are fed.

    past None: rows [first, first + N) that take one id each; at: (N,), where it goes; stop: one
    more than the last of these. Otherwise row `first`, ids from `past` to `stop`.
    mask: -inf where an id sees none, broadcast over heads; None where all are seen.
    """

    ids: slice
    first: int
    past: int | None
    stop: int
    at: NDArray[np.int64] | None
    mask: Array | None


def _groups(places: Sequence[int], counts: Sequence[int], lengths: Sequence[int]) -> list[_Group]:
    """Rows with one new id whose places follow each other are one group, every other its own."""
    found: list[_Group] = []
    row = start = 0
    while row < len(places):
        place, count = places[row], counts[row]
        end = row + 1
        while count == 1 and end < len(places) and counts[end] == 1:
            if places[end] != place + end - row:
                break
            end += 1
        if end - row > 1:
            at = np.array([lengths[p] for p in places[row:end]])
            stop = int(at.max()) + 1
            mask = np.where(np.arange(stop) > at[:, None], np.float32(-np.inf), np.float32(0))
            ids = slice(start, start + end - row)
            found.append(_Group(ids, place, None, stop, at, mask[:, None, None]))
        else:
            past, stop = lengths[place], lengths[place] + count
            later = None
            if count > 1:
                seen = np.arange(stop) <= np.arange(past, stop)[:, None]
                later = np.where(seen, np.float32(0), np.float32(-np.inf))
            found.append(_Group(slice(start, start + count), place, past, stop, None, later))
        start += sum(counts[row:end])
        row = end
    return found


def _attend_one(
    group: _Group, q_NHC: Array, k_NGC: Array, v_NGC: Array, keys: Array, values: Array
) -> Array:
    """Attention of several rows, one new id each; keys and values (row, G, L, C) get theirs."""
    N, G, C = k_NGC.shape
    rows, stop = slice(group.first, group.first + N), group.stop
    keys[rows][np.arange(N), :, group.at] = k_NGC
    values[rows][np.arange(N), :, group.at] = v_NGC
    scores = q_NHC.reshape(N, G, -1, C) @ keys[rows, :, :stop].swapaxes(2, 3)
    assert group.mask is not None
    scores += group.mask
    return (_softmax(scores) @ values[rows, :, :stop]).reshape(N, -1)


def _attend_row(
    group: _Group, q_THC: Array, k_TGC: Array, v_TGC: Array, keys: Array, values: Array
) -> Array:
    """Attention of one row's T new ids."""
    T, G, C = k_TGC.shape
    past, stop = group.past, group.stop
    keys, values = keys[group.first], values[group.first]
    keys[:, past:stop] = k_TGC.swapaxes(0, 1)
    values[:, past:stop] = v_TGC.swapaxes(0, 1)
    q_GRTC = q_THC.reshape(T, G, -1, C).transpose(1, 2, 0, 3)
    keys_GCL = keys[:, :stop].swapaxes(1, 2)
    scores = (q_GRTC.reshape(G, -1, C) @ keys_GCL).reshape(G, -1, T, stop)
    if group.mask is not None:
        scores += group.mask
    weights = _softmax(scores).reshape(G, -1, stop)
    mixed_GRTC = (weights @ values[:, :stop]).reshape(G, -1, T, C)
    return mixed_GRTC.transpose(2, 0, 1, 3).reshape(T, -1)


def _normed(x: Array, eps: float) -> Array:
    """RMSNorm over the last axis, without its weight (Zhang and Sennrich, arXiv:1910.07467)."""
    mean_square = np.einsum("...d,...d->...", x, x) / np.float32(x.shape[-1])
    return x * (1 / np.sqrt(mean_square + np.float32(eps)))[..., None]


def _softmax(scores: Array) -> Array:
    """Softmax over the last axis, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
