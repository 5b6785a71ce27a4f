"""The decoder at sampling time: Qwen3 and Llama checkpoints in a few numpy operations a layer.

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


@dataclass(frozen=True)
class SlimConfig:
    """The sizes of a Qwen3 or Llama decoder, from the fields of its Hugging Face config.json."""

    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    ffn_width: int
    vocab_size: int
    max_ids: int
    norm_eps: float
    rope_theta: float
    qk_norm: bool
    tied: bool

    @classmethod
    def covers(cls, config: Mapping[str, Any]) -> bool:
        """Whether the slim path computes this config.json as transformers would."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        layer_types = config.get("layer_types") or []
        return (
            config.get("model_type") in ("qwen3", "llama")
            and rope.get("rope_type", "default") == "default"
            and rope.get("partial_rotary_factor", 1.0) == 1.0
            and config.get("hidden_act") == "silu"
            and not config.get("attention_bias")
            and not config.get("mlp_bias")
            and not config.get("use_sliding_window")
            and all(kind == "full_attention" for kind in layer_types)
        )

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> SlimConfig:
        """Raises ValueError for a config.json outside `covers`, or one that lacks a size."""
        if not cls.covers(config):
            raise ValueError(
                f"the slim decoder does not cover model_type {config.get('model_type')!r} with "
                "these options; load it through GenericDecoder"
            )
        try:
            heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
            rope = config.get("rope_parameters") or {}
            return cls(
                width=width,
                num_layers=int(config["num_hidden_layers"]),
                num_heads=heads,
                num_kv_heads=int(config.get("num_key_value_heads") or heads),
                head_width=int(config.get("head_dim") or width // heads),
                ffn_width=int(config["intermediate_size"]),
                vocab_size=int(config["vocab_size"]),
                max_ids=int(config["max_position_embeddings"]),
                norm_eps=float(config["rms_norm_eps"]),
                rope_theta=float(rope.get("rope_theta") or config.get("rope_theta", 10_000.0)),
                qk_norm=config["model_type"] == "qwen3",
                tied=bool(config.get("tie_word_embeddings", False)),
            )
        except KeyError as missing:
            raise ValueError(f"config.json has no field {missing}") from None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of a checkpoint of these sizes, by its Hugging Face name."""
        D, C = self.width, self.head_width
        q_size, kv_size = self.num_heads * C, self.num_kv_heads * C
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, D),
            "model.norm.weight": (D,),
        }
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab_size, D)
        for i in range(self.num_layers):
            prefix = f"model.layers.{i}."
            shapes |= {
                prefix + "input_layernorm.weight": (D,),
                prefix + "post_attention_layernorm.weight": (D,),
                prefix + "self_attn.q_proj.weight": (q_size, D),
                prefix + "self_attn.k_proj.weight": (kv_size, D),
                prefix + "self_attn.v_proj.weight": (kv_size, D),
                prefix + "self_attn.o_proj.weight": (D, q_size),
                prefix + "mlp.gate_proj.weight": (self.ffn_width, D),
                prefix + "mlp.up_proj.weight": (self.ffn_width, D),
                prefix + "mlp.down_proj.weight": (D, self.ffn_width),
            }
            if self.qk_norm:
                shapes[prefix + "self_attn.q_norm.weight"] = (C,)
                shapes[prefix + "self_attn.k_norm.weight"] = (C,)
        return shapes

    def check(self, weights: Mapping[str, Array]) -> None:
        """Raise ValueError naming missing, unexpected or misshapen tensors."""
        expected = self.shapes()
        found = {name: array.shape for name, array in weights.items()}
        if self.tied:
            found.pop("lm_head.weight", None)  # some writers store the tied head twice
        problems = [f"{name} is missing" for name in expected if name not in found]
        problems += [f"{name} is unexpected" for name in found if name not in expected]
        problems += [
            f"{name} has shape {found[name]}, expected {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise ValueError(f"weights do not fit config.json: {'; '.join(problems[:3])}{more}")


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
    qk_scale: Array  # (H + G, C): query/key norm weights, attention scale on the queries
    out: Array  # E = H C
    gate_up: Array  # E = 2 F; post-attention norm folded in
    down: Array  # E = F


class SlimDecoder:
    """A Qwen3 or Llama decoder for sampling on the CPU, float32.

    Logits agree with transformers' `Qwen3ForCausalLM` and `LlamaForCausalLM` up to rounding. A
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
        H, C, D = config.num_heads, config.head_width, config.width
        # transformers rotates (i, i + C/2); interleaved pairs (2i, 2i + 1) are complex numbers.
        pairs = np.arange(C).reshape(2, C // 2).T.reshape(-1)

        def interleaved(name: str) -> Array:
            weight = weights[f"{prefix}self_attn.{name}_proj.weight"]
            return weight.reshape(-1, C, D)[:, pairs].reshape(-1, D)

        v = weights[prefix + "self_attn.v_proj.weight"]
        qkv = np.concatenate([interleaved("q"), interleaved("k"), v])
        qkv = qkv * weights[prefix + "input_layernorm.weight"]
        gate, up = (weights[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "up"))
        gate_up = np.concatenate([gate, up]) * weights[prefix + "post_attention_layernorm.weight"]
        qk_scale = np.ones((H + config.num_kv_heads, C), np.float32)
        if config.qk_norm:
            qk_scale[:H] = weights[prefix + "self_attn.q_norm.weight"][pairs]
            qk_scale[H:] = weights[prefix + "self_attn.k_norm.weight"][pairs]
        qk_scale[:H] *= C**-0.5
        return _Layer(
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
            power = np.arange(0, config.head_width, 2) / config.head_width
            angle = np.outer(np.arange(max_ids), config.rope_theta**-power)
            self._rotation = np.exp(1j * angle).astype(np.complex64)
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
                heads = (_normed(x_ND, eps) @ layer.qkv).reshape(N, H + 2 * G, C)
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
