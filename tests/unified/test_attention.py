"""Attention by blocks of ids: its values, its bits in any company, and caches in bfloat16."""

import itertools

import numpy as np
import pytest

from unified.engine.backends.cpu.attention import BLOCK
from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.heads import PART_IDS
from unified.engine.backends.cpu.settings import CACHE_DTYPE
from unified.engine.backends.cpu.threads import ThreadPool

VOCAB, LONG = 50, 2 * PART_IDS + 77
CONFIG = LlamaCpuConfig(
    hidden_size=24, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=6, intermediate_size=33,
    vocab_size=VOCAB, max_position_embeddings=LONG, norm_eps=1e-6,
    inv_freq=default_inv_freq(1e4, 6), qk_norm=True, tie_word_embeddings=True,
)  # fmt: skip
EVERY = ((0, VOCAB),)
IDS = np.random.default_rng(0).integers(VOCAB, size=LONG).tolist()


def decoder(cache_dtype: str | None, threads: int = 1) -> LlamaCpuDecoder:
    rng = np.random.default_rng(5)
    weights = {
        name: rng.normal(1.0 if "norm" in name else 0.0, 0.4, shape).astype(np.float32)
        for name, shape in CONFIG.shapes().items()
    }
    model = LlamaCpuDecoder(CONFIG, weights, cache_dtype=cache_dtype)
    model._threads = ThreadPool(threads)
    return model


def logits(model: LlamaCpuDecoder, *parts: list[int]) -> np.ndarray:
    """Of ids that are fed part by part."""
    cache = model.new_cache(1, LONG)
    return np.concatenate(
        [model.logits(model.forward(cache, [0], [part]), EVERY) for part in parts]
    )


def plain_logits(ids: list[int]) -> np.ndarray:
    """In float64, without a cache, blocks or panels."""
    rng = np.random.default_rng(5)
    w = {
        name: rng.normal(1.0 if "norm" in name else 0.0, 0.4, shape).astype(np.float32)
        .astype(np.float64) for name, shape in CONFIG.shapes().items()
    }  # fmt: skip
    H, G, C = CONFIG.num_heads, CONFIG.num_kv_heads, CONFIG.head_dim

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + CONFIG.norm_eps) * weight

    def turn(x: np.ndarray) -> np.ndarray:
        angles = np.outer(np.arange(len(ids)), CONFIG.inv_freq)[:, None]  # (L, 1, C/2)
        a, b = x[..., : C // 2], x[..., C // 2 :]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = w["model.embed_tokens.weight"][ids]
    future = np.triu(np.ones((len(ids), len(ids)), bool), 1)
    for layer in range(CONFIG.num_layers):

        def of(name: str, layer: int = layer) -> np.ndarray:
            return w[f"model.layers.{layer}.{name}.weight"]

        h = norm(x, of("input_layernorm"))
        q, k, v = ((h @ of(f"self_attn.{part}_proj").T).reshape(len(ids), -1, C) for part in "qkv")
        q, k = turn(norm(q, of("self_attn.q_norm"))), turn(norm(k, of("self_attn.k_norm")))
        k, v = (np.repeat(part, H // G, axis=1) for part in (k, v))
        scores = np.einsum("qhc,khc->hqk", q, k) / np.sqrt(C)
        scores[:, future] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khc->qhc", shares, v).reshape(len(ids), -1)
        x = x + attended @ of("self_attn.o_proj").T
        h = norm(x, of("post_attention_layernorm"))
        gate = h @ of("mlp.gate_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ of("mlp.up_proj").T)) @ of("mlp.down_proj").T
    return norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


@pytest.mark.parametrize(("cache_dtype", "most", "mean"), [
    ("float32", 2e-4, 1e-5), ("bfloat16", 0.5, 0.02),
])  # fmt: skip
def test_logits_over_several_blocks_are_those_of_plain_attention(cache_dtype, most, mean):
    ids = IDS[: 2 * BLOCK + 100]
    expected = plain_logits(ids)
    errors = np.abs(logits(decoder(cache_dtype), ids) - expected)
    assert np.abs(expected).max() > 5
    assert errors.max() < most
    assert errors.mean() < mean


@pytest.mark.parametrize("cache_dtype", ["float32", "bfloat16"])
def test_logits_are_the_same_bits_fed_at_once_in_parts_and_by_any_threads(cache_dtype):
    """Long sequences are cut into parts where threads share few heads, short ones are not."""
    alone, shared = decoder(cache_dtype), decoder(cache_dtype, threads=3)
    whole = logits(alone, IDS)
    cuts = [0, 1, 4, BLOCK - 1, BLOCK + 1, BLOCK + 2, PART_IDS + 5, LONG - 20]
    parts = [IDS[a:b] for a, b in itertools.pairwise(cuts)] + [[id] for id in IDS[cuts[-1] :]]
    for model in (alone, shared):
        np.testing.assert_array_equal(logits(model, *parts), whole)
    np.testing.assert_array_equal(logits(shared, IDS), whole)


@pytest.mark.parametrize("cache_dtype", ["float32", "bfloat16"])
def test_sequences_of_all_lengths_do_not_change_each_other(cache_dtype):
    """Pairs of ids share words of a bfloat16 cache: odd lengths, forks and cuts among them."""
    model = decoder(cache_dtype, threads=3)
    lengths = [PART_IDS + 3, 7, BLOCK + 31, 2]
    cache = model.new_cache(5, LONG)
    for slot, length in enumerate(lengths):
        model.forward(cache, [slot], [IDS[slot : slot + length]])
    cache.copy_prefix(2, 4, BLOCK + 5)
    cache.truncate(0, PART_IDS + 1)
    lengths[0], starts = PART_IDS + 1, [0, 1, 2, 3, 2]
    lengths.append(BLOCK + 5)
    for _ in range(3):
        new = [IDS[40:43], [5], [6, 7], [8], [9]]
        together = model.logits(model.forward(cache, range(5), new), EVERY)
        at = 0
        for slot, ids in enumerate(new):
            before = IDS[starts[slot] : starts[slot] + lengths[slot]]
            row = logits(model, before, ids)[-len(ids) :]
            np.testing.assert_array_equal(together[at : at + len(ids)], row)
            at += len(ids)
        for slot, length in enumerate(lengths):
            cache.truncate(slot, length)


def test_a_bfloat16_cache_takes_half_the_bytes(monkeypatch):
    assert 2 * decoder("bfloat16").cache_bytes(100) == decoder("float32").cache_bytes(100)
    with pytest.raises(ValueError, match=r"cache_dtype is 'int4', expected float32 or bfloat16"):
        decoder("int4")
    monkeypatch.setenv(CACHE_DTYPE, "bfloat16")
    assert decoder(None).cache_dtype == "bfloat16"
    assert decoder("float32").cache_dtype == "float32"
