"""Attention over a paged cache, for any architecture of transformers.

A pass has one row that holds the new ids of all sequences, one after another; everything in a
decoder but attention looks at an id alone, so nothing is padded. transformers calls the function
that is registered here with the queries of the whole row; which sequence an id belongs to, and
where its keys lie, stands in the `PassLayout` of the pass.

Shape legend: `N` sequences, `T` new ids of all of them, `c` of one, `L` ids of its cache, `H` heads
of queries, `G` key-value heads, `R` queries that share keys (H / G heads of every new id), `C`
width of a head, `P` pages of a table, `S` ids of a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from unified.engine.backends.torch_static.paged_cache import PagedCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["FEW", "FlashLayout", "LayerCaches", "PagedModules", "PassLayout", "SameCount", "attend"]

NAME = "unified_paged"

# Arguments that some architectures give to attention and that change what it computes; of others
# (position_ids, use_cache, output_attentions) nothing is wanted.
_UNKNOWN = ("s_aux", "position_bias", "sinks", "head_mask", "alibi")
FEW = 8
"""Sequences with at most so many new ids each attend together, padded to the longest cache, and are
rows of a recorded step."""
# Numbers of scores that attention with a cap keeps at once.
_SCORES = 1 << 26


@dataclass(frozen=True)
class SameCount:
    """Sequences of a pass that have the same number of new ids.

    count: that number, c. rows: the index of their new ids in the pass, int64 (N, c); None where
    they are the whole pass in order. table: their pages, int64 (N, P). lengths: int64 (N,), with
    the new ids. first_page: of a single sequence whose pages lie side by side, which is read in
    place; None: pages are gathered. fresh: of a single sequence that has nothing before these ids.
    until: int64 (N, c), how many keys each new id sees where that is more than those up to its own
    (`both_ways`); None: those.
    """

    count: int
    rows: Tensor | None
    table: Tensor
    lengths: Tensor
    first_page: int | None = None
    fresh: bool = False
    until: Tensor | None = None
    _masks: dict[tuple[int | None, int], Tensor] = field(default_factory=dict)

    def mask(self, length: int, heads: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """0 where a query may look and -inf elsewhere, (N, 1, heads * c, length).

        The same for all layers with the same window, so that it is computed once in a pass.
        """
        mask = self._masks.get((window, heads))
        if mask is None:
            device, count = self.lengths.device, self.count
            at = torch.arange(length, device=device)
            position = (self.lengths - count)[:, None] + torch.arange(count, device=device)
            seen = position + 1 if self.until is None else self.until
            hidden = at >= seen[..., None]  # (N, c, L)
            if window is not None:
                hidden |= at <= position[..., None] - window
            one_head = torch.zeros(hidden.shape, dtype=dtype, device=device)
            one_head.masked_fill_(hidden, float("-inf"))
            mask = one_head.repeat(1, heads, 1)[:, None]
            self._masks[window, heads] = mask
        return mask


@dataclass(frozen=True)
class PassLayout:
    """Where the ids of a pass belong.

    write_at: int64 (T,), page * S + offset of the pool for each new id. groups: all sequences.
    flash: what `varlen_attn` needs, where that is used in their place.
    """

    write_at: Tensor
    groups: Sequence[SameCount]
    flash: FlashLayout | None = None


@dataclass(frozen=True)
class FlashLayout:
    """Arguments of `torch.nn.attention.varlen.varlen_attn`.

    starts: int32 (N + 1,), where the new ids of each sequence begin. lengths: int32 (N,), ids in
    the cache with the new ones. table: int32 (N, P). max_count, max_length: the most of a sequence.
    """

    starts: Tensor
    lengths: Tensor
    table: Tensor
    max_count: int
    max_length: int


class LayerCaches:
    """What the modules of transformers see as their cache: it takes keys and values, by layer."""

    def __init__(self, cache: PagedCache, layout: PassLayout) -> None:
        self.cache, self.layout = cache, layout

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values (1, G, T, C) of the new ids into the pool."""
        for pool, states in (
            (self.cache.keys[layer_idx], key_states),
            (self.cache.values[layer_idx], value_states),
        ):
            flat = pool.view(-1, *pool.shape[2:])  # (P * S, G, C)
            flat.index_copy_(0, self.layout.write_at, states[0].transpose(0, 1))
        # Attention reads the pool; that the keys went through here is known by these.
        return key_states, value_states


class PagedModules:
    """The modules of a model, which attend over pages within `over`.

    For one thread at a time: see `SteppedModel.lock`.
    """

    _caches: ClassVar[dict[int, LayerCaches]] = {}  # of models that run now, by id of a config

    def __init__(self, hf: PreTrainedModel) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(NAME, attend)
        configs = (getattr(module, "config", None) for module in hf.modules())
        self._configs: dict[int, Any] = {
            id(config): config
            for config in configs
            if hasattr(config, "_attn_implementation_internal")
        }

    @classmethod
    def current(cls, config: Any) -> LayerCaches:
        """The caches of the pass that a module with this config is in."""
        return cls._caches[id(config)]

    @contextmanager
    def over(self, caches: LayerCaches) -> Iterator[None]:
        """Within it attention is `attend`; afterwards what it was."""
        before = [config._attn_implementation_internal for config in self._configs.values()]
        try:
            for key, config in self._configs.items():
                # The property would change the configs inside it, which are here by themselves.
                config._attn_implementation_internal = NAME
                self._caches[key] = caches
            yield
        finally:
            for implementation, (key, config) in zip(before, self._configs.items()):
                config._attn_implementation_internal = implementation
                self._caches.pop(key, None)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of transformers' interface: queries (1, H, T, C), result (1, T, H, C).

    key, value: of the new ids, which are in the pool by now.
    """
    if any(others.get(name) is not None for name in _UNKNOWN) or hasattr(module, "sinks"):
        raise ValueError("attention with sinks or biases is not computed over a paged cache")
    caches = PagedModules.current(module.config)
    layout, layer = caches.layout, module.layer_idx
    keys, values = caches.cache.keys[layer], caches.cache.values[layer]  # (P, S, G, C)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries = query[0].transpose(0, 1)  # (T, H, C)
    if layout.flash is not None and softcap is None:
        return _flash(queries, keys, values, layout.flash, scale, sliding_window)[None], None
    outputs = None
    for group in layout.groups:
        rows = queries if group.rows is None else queries[group.rows.flatten()]
        result = _attend_group(rows, keys, values, group, scale, sliding_window, softcap)
        if group.rows is None:
            outputs = result
        else:
            if outputs is None:
                outputs = result.new_empty(queries.shape[0], *result.shape[1:])
            outputs[group.rows.flatten()] = result
    assert outputs is not None
    return outputs[None], None


def _flash(
    queries: Tensor, keys: Tensor, values: Tensor, flash: FlashLayout, scale: float,
    window: int | None,
) -> Tensor:  # fmt: skip
    """All sequences in one call of torch's flash attention over pages (CUDA, half types)."""
    from torch.nn.attention.varlen import varlen_attn

    output: Tensor = varlen_attn(  # type: ignore[assignment]
        queries, keys, values, flash.starts, None, flash.max_count, flash.max_length,
        scale=scale, window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=queries.shape[1] != keys.shape[2], seqused_k=flash.lengths,
        block_table=flash.table,
    )  # fmt: skip
    return output


def _attend_group(
    queries: Tensor, keys: Tensor, values: Tensor, group: SameCount, scale: float,
    window: int | None, softcap: float | None,
) -> Tensor:  # fmt: skip
    """Sequences of c new ids each: queries (N * c, H, C), result (N * c, H, C)."""
    N = len(group.table)
    c, H, C = group.count, *queries.shape[1:]
    pools, G = (keys, values), keys.shape[2]
    # Pages in order: (N, L, G, C), L = P * S, then heads before ids. What lies behind a sequence's
    # last id is masked.
    K, V = (_pages(pool, group).view(N, -1, G, pool.shape[3]).transpose(1, 2) for pool in pools)
    Q = queries.view(N, c, G, H // G, C).permute(0, 2, 3, 1, 4)  # (N, G, H / G, c, C)
    if c <= FEW:
        # The heads that share keys are queries of one head.
        packed = Q.reshape(N, G, H // G * c, C)
        mask = group.mask(K.shape[2], H // G, window, Q.dtype)
        output = _scaled_dot_product(packed, K, V, mask, scale, softcap)
        output = output.view(N, G, H // G, c, -1)
    else:
        # One after another: neither keys nor masks, which are large, are repeated.
        output = _of_heads(Q, K, V, group, scale, window, softcap)
    return output.permute(0, 3, 1, 2, 4).reshape(N * c, H, -1)


def _of_heads(
    Q: Tensor, K: Tensor, V: Tensor, group: SameCount, scale: float,
    window: int | None, softcap: float | None,
) -> Tensor:  # fmt: skip
    """Many new ids: queries and result (N, G, H / G, c, C)."""
    count = group.count
    if group.fresh and softcap is None and (window is None or count <= window):
        K, V, mask = K[:, :, :count], V[:, :, :count], None
    else:
        mask = group.mask(K.shape[2], 1, window, Q.dtype)
    heads = Q.transpose(1, 2).unbind(1)  # H / G times (N, G, c, C)
    return torch.stack([_scaled_dot_product(q, K, V, mask, scale, softcap) for q in heads], 2)


def _scaled_dot_product(
    Q: Tensor, K: Tensor, V: Tensor, mask: Tensor | None, scale: float, softcap: float | None
) -> Tensor:
    """(N, G, R, C); without a mask each query sees the keys up to its own."""
    if softcap is None:
        causal = mask is None
        return scaled_dot_product_attention(Q, K, V, attn_mask=mask, scale=scale, is_causal=causal)
    assert mask is not None
    return _capped(Q, K, V, mask, scale, softcap)


def _pages(pool: Tensor, group: SameCount) -> Tensor:
    """The pages of a group's sequences, in order: (N * P, S, G, C)."""
    if group.first_page is None:
        return pool.index_select(0, group.table.flatten())
    return pool[group.first_page : group.first_page + group.table.shape[1]]


def _capped(Q: Tensor, K: Tensor, V: Tensor, mask: Tensor, scale: float, cap: float) -> Tensor:
    """Attention with scores cap * tanh(score / cap), as Gemma 2 has it: (N, G, R, C).

    A few queries at a time, so that scores stay bounded.
    """
    parts = []
    step = max(1, _SCORES // (Q.shape[0] * Q.shape[1] * K.shape[2]))
    for start in range(0, Q.shape[2], step):
        rows = slice(start, start + step)
        scores = Q[:, :, rows] @ K.transpose(2, 3) * scale
        scores = torch.tanh(scores / cap) * cap + mask[:, :, rows]
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(Q.dtype)
        parts.append(weights @ V)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)
