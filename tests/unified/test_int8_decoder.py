"""The CPU decoder with 8-bit weights: the same bits in any company, near the float decoder."""

import numpy as np
import pytest

from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.int8_pack import pack_int8, unpack_int8
from unified.engine.backends.cpu.stored import to_quantize, widen
from unified.engine.backends.cpu.threads import ThreadPool

VOCAB = 77
SIZES = LlamaCpuConfig(
    hidden_size=48, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=8, intermediate_size=70,
    vocab_size=VOCAB, max_position_embeddings=64, norm_eps=1e-6, inv_freq=default_inv_freq(1e4, 8),
    qk_norm=True, tie_word_embeddings=True,
)  # fmt: skip


def narrowed(numbers: np.ndarray, dtype: type) -> np.ndarray:
    """As float32, as bfloat16 (uint16, cut off) or as float16 (int16)."""
    numbers = numbers.astype(np.float32)
    if dtype == np.uint16:
        return (numbers.view(np.uint32) >> 16).astype(np.uint16)
    return numbers.astype(np.float16).view(np.int16) if dtype == np.int16 else numbers


def weights_of(tied: bool, dtype: type = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = LlamaCpuConfig(**{**vars(SIZES), "tie_word_embeddings": tied}).shapes()
    return {
        name: narrowed(rng.normal(1.0 if "norm" in name else 0.0, 0.1, shape), dtype)
        for name, shape in shapes.items()
    }


def decoder(weights, quantized=True) -> LlamaCpuDecoder:
    tied = "lm_head.weight" not in weights
    config = LlamaCpuConfig(**{**vars(SIZES), "tie_word_embeddings": tied})
    if quantized:
        weights = to_quantize(weights)
    return LlamaCpuDecoder(config, weights)


def logits(model, ids, ranges=((0, VOCAB),)):
    return model.logits(model.forward(model.new_cache(1, 40), [0], [ids]), ranges)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_the_same_bits_alone_and_in_a_batch_at_once_and_id_by_id(tied):
    model = decoder(weights_of(tied))
    rng = np.random.default_rng(0)
    rows = [rng.integers(VOCAB, size=n).tolist() for n in (5, 1, 20, 9, 3)]
    every = ((3, 40), (41, VOCAB))
    cache = model.new_cache(5, 30)
    together = model.logits(model.forward(cache, range(5), rows), every)
    at = 0
    for row in rows:
        alone = model.new_cache(1, 30)
        steps = [model.logits(model.forward(alone, [0], [[id]]), every) for id in row]
        np.testing.assert_array_equal(np.concatenate(steps), together[at : at + len(row)])
        at += len(row)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_near_those_of_the_weights_that_were_quantized(tied):
    weights, ids = weights_of(tied), list(range(20))
    exact, quantized = (logits(decoder(weights, q), ids) for q in (False, True))
    assert np.linalg.norm(quantized - exact) < 0.06 * np.linalg.norm(exact)
    # Of the weights alone: those of a float decoder with the numbers that they became.
    rounded = {
        name: w if w.ndim == 1 else unpack_int8(pack_int8(w), np.arange(len(w)), w.shape[1])
        for name, w in weights.items()
    }
    of_rounded = logits(decoder(rounded, False), ids)
    np.testing.assert_array_equal(
        decoder(weights).embed(ids), rounded["model.embed_tokens.weight"][:20]
    )
    assert np.linalg.norm(of_rounded - exact) < 0.05 * np.linalg.norm(exact)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_weights_of_every_type_become_the_same_int8(dtype):
    stored = weights_of(True, dtype)
    wide = {name: widen(w) for name, w in stored.items()}
    both = [logits(decoder(weights), [7, 1, 33]) for weights in (stored, wide)]
    np.testing.assert_array_equal(*both)


def test_more_threads_make_the_same_logits():
    weights, ids = weights_of(True), list(range(37))
    models = [decoder(weights) for _ in range(3)]
    for model, threads in zip(models, (1, 2, 5)):
        model._threads = ThreadPool(threads)
    first, *others = (logits(model, ids) for model in models)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_weights_that_int8_cannot_hold_are_named():
    weights = weights_of(True)
    weights["model.layers.1.mlp.up_proj.weight"][3, 2] = np.inf
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj\.weight has weights th"):
        decoder(weights)
