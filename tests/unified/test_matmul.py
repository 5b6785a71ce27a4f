"""Packed products, and the threads that share them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from unified.engine.backends.cpu import matmul as matmul_module
from unified.engine.backends.cpu.bfloat16 import _Pairs, pack_pairs, set_pairs
from unified.engine.backends.cpu.compiling import compile_kernels
from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, widen
from unified.engine.backends.cpu.intrinsics import largest, squares, total
from unified.engine.backends.cpu.matmul import PANEL, matmul, matmul_narrow, matmul_wide, pack
from unified.engine.backends.cpu.threads import ThreadPool
from unified.engine.backends.cpu.tiles import few_registers
from unified.engine.backends.cpu.vectors import exp

VOCAB = 77
SIZES = LlamaCpuConfig(
    hidden_size=48, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=8, intermediate_size=70,
    vocab_size=VOCAB, max_position_embeddings=64, norm_eps=1e-6, inv_freq=default_inv_freq(1e4, 8),
    qk_norm=True, tie_word_embeddings=True,
)  # fmt: skip


def narrowed(numbers: np.ndarray, dtype: type) -> np.ndarray:
    """As float32, as bfloat16 (uint16, cut off) or as float16 (int16)."""
    if dtype == np.uint16:
        return (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype == np.int16:
        return numbers.astype(np.float32).astype(np.float16).view(np.int16)
    return numbers.astype(np.float32)


def decoder(
    dtype: type = np.float32, tied: bool = True, arithmetic: str | None = None
) -> LlamaCpuDecoder:
    rng = np.random.default_rng(5)
    config = LlamaCpuConfig(**{**vars(SIZES), "tie_word_embeddings": tied})
    weights = {
        name: rng.normal(1.0 if "norm" in name else 0.0, 0.3, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    weights = {name: narrowed(weight, dtype) for name, weight in weights.items()}
    return LlamaCpuDecoder(config, weights, arithmetic)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int16])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 7, 1), (2, 33, 65), (3, 16, 31), (5, 1, 32), (8, 64, 100), (13, 19, 96)],
)
def test_packed_products_are_products(rows, inputs, outputs, dtype):
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, inputs)).astype(np.float32)
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    packed = pack(weight := narrowed(weight, dtype))
    out = np.full((rows, len(packed) * PANEL), np.nan, np.float32)
    matmul(x, packed, 0, len(packed), out)
    expected = x.astype(np.float64) @ widen(weight).astype(np.float64).T
    np.testing.assert_allclose(out[:, :outputs], expected, atol=1e-5 * inputs)
    assert not out[:, outputs:].any()  # zeros behind the last output


def test_float16_of_every_kind_is_widened_exactly():
    """Subnormals, the largest, zeros and infinities among them."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.int16)
    halves = halves[~np.isnan(halves.view(np.float16))].reshape(-1, 1)
    out = np.empty((1, -(-len(halves) // PANEL) * PANEL), np.float32)
    matmul(np.ones((1, 1), np.float32), pack(halves), 0, out.shape[1] // PANEL, out)
    np.testing.assert_array_equal(out[0, : len(halves)], widen(halves)[:, 0])


def test_weights_are_packed_a_few_rows_at_a_time(monkeypatch):
    """Of a file, say, of which no second copy is to be in memory."""
    weight = np.random.default_rng(6).standard_normal((203, 7)).astype(np.float32)
    reads = []

    class Stored:
        shape = weight.shape

        def __getitem__(self, rows):
            reads.append(min(rows.stop, len(weight)) - rows.start)
            return weight[rows]

    monkeypatch.setattr(matmul_module, "_READ_NUMBERS", 2 * PANEL * 7)
    np.testing.assert_array_equal(pack(Stored()), pack(weight))
    assert reads == [64, 64, 64, 11]


def test_a_rows_product_is_the_same_bits_in_any_company():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((23, 50)).astype(np.float32)
    packed = pack(rng.standard_normal((130, 50)).astype(np.float32))

    def of(rows: np.ndarray, first: int, panels: int) -> np.ndarray:
        out = np.empty((len(rows), panels * PANEL), np.float32)
        matmul(np.ascontiguousarray(rows), packed, first, panels, out)
        return out

    whole = of(x, 0, 5)
    for count in range(1, 23):
        np.testing.assert_array_equal(of(x[-count:], 0, 5), whole[-count:])
    np.testing.assert_array_equal(of(x[3:4], 3, 2), whole[3:4, 96:])


@pytest.mark.parametrize("product", [matmul_wide, matmul_narrow])
def test_products_for_every_number_of_registers_give_the_same_bits(product):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((23, 283)).astype(np.float32)
    packed = pack(rng.standard_normal((130, 294)).astype(np.float32))
    whole = np.empty((23, 2 * PANEL), np.float32)
    matmul(x, packed, 1, 2, whole, 11)
    for count in (1, 2, 3, 4, 5, 6, 7, 9, 13, 23):
        out = np.full((count, 2 * PANEL), np.nan, np.float32)
        product(np.ascontiguousarray(x[-count:]), packed, 1, 2, out, 11)
        np.testing.assert_array_equal(out, whole[-count:])


def test_products_of_pairs_with_few_registers_are_products_and_the_same_bits_in_any_company():
    product = few_registers(_Pairs(), 4)
    rng = np.random.default_rng(8)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((13, 301), (70, 301)))
    packed = pack_pairs(narrowed(weight, np.uint16))
    words = np.zeros((13, packed.shape[1]), np.uint32)
    for row, out in zip(x, words):
        set_pairs(row, out)
    whole = np.empty((13, 3 * PANEL), np.float32)
    product(words, packed, 0, 3, whole)
    rounded = widen(np.ascontiguousarray(words).view(np.uint16)[:, :301])
    expected = rounded.astype(np.float64) @ widen(narrowed(weight, np.uint16)).astype(np.float64).T
    np.testing.assert_allclose(whole[:, :70], expected, atol=1e-4)
    for count in range(1, 13):
        out = np.full((count, 3 * PANEL), np.nan, np.float32)
        product(words[-count:], packed, 0, 3, out)
        np.testing.assert_array_equal(out, whole[-count:])


def test_exp_is_exact_to_two_units_and_keeps_what_is_no_number():
    x = np.linspace(-87, 88, 10_001).astype(np.float32)
    actual = np.array([exp(number) for number in x])
    np.testing.assert_allclose(actual, np.exp(x.astype(np.float64)), rtol=2.4e-7)
    assert np.isnan(exp(np.float32(np.nan)))
    assert 0 < exp(np.float32(-np.inf)) < 1e-37


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int16])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_the_same_bits_alone_and_in_a_batch_at_once_and_id_by_id(dtype, tied):
    model = decoder(dtype, tied)
    rng = np.random.default_rng(0)
    rows = [rng.integers(VOCAB, size=n).tolist() for n in (5, 1, 17, 9, 3)]
    every, cache = ((3, 40), (41, VOCAB)), model.new_cache(5, 20)
    together = model.logits(model.forward(cache, range(5), rows), every)
    at = 0
    for row in rows:
        alone = model.new_cache(1, 20)
        steps = [model.logits(model.forward(alone, [0], [[id]]), every) for id in row]
        np.testing.assert_array_equal(np.concatenate(steps), together[at : at + len(row)])
        at += len(row)
    whole = model.logits(model.forward(model.new_cache(1, 20), [0], rows[:1]), ((0, VOCAB),))
    np.testing.assert_array_equal(whole[:, 41:], together[:5, 37:])


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_narrow_weights_compute_what_their_float32_copies_do(dtype):
    narrow = decoder(dtype, arithmetic="float32")
    rng = np.random.default_rng(5)
    wide = LlamaCpuDecoder(SIZES, {
        name: widen(narrowed(rng.normal(1.0 if "norm" in name else 0.0, 0.3, shape), dtype))
        for name, shape in SIZES.shapes().items()
    })  # fmt: skip
    ids = [[4, 9, 76, 0]]
    both = [m.logits(m.forward(m.new_cache(1, 9), [0], ids), ((0, VOCAB),)) for m in (narrow, wide)]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_more_threads_make_the_same_logits(threads):
    alone, shared = decoder(), decoder()
    alone._threads, shared._threads = ThreadPool(1), ThreadPool(threads)
    rng = np.random.default_rng(2)
    rows = [rng.integers(VOCAB, size=n).tolist() for n in (30, 2, 11)]
    caches = alone.new_cache(3, 64), shared.new_cache(3, 64)
    for _ in range(30):
        both = [m.forward(c, range(3), rows) for m, c in zip((alone, shared), caches)]
        np.testing.assert_array_equal(*both)
        rows = [rng.integers(VOCAB, size=1).tolist() for _ in rows]


def test_callers_at_once_do_not_disturb_each_other():
    model, ids = decoder(), list(range(40))
    model._threads = ThreadPool(3)
    expected = model.forward(model.new_cache(1, 64), [0], [ids])
    wrong = []

    def sample() -> None:
        for _ in range(20):
            cache = model.new_cache(1, 64)
            states = np.concatenate([model.forward(cache, [0], [[id]]) for id in ids])
            if not np.array_equal(states, expected):
                wrong.append(states)

    callers = [threading.Thread(target=sample) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_slots_of_different_lengths_give_the_same_bits_and_free_memory_serves_others():
    model = decoder()
    cache, ids = model.new_cache(), [3, 1, 4, 1, 5]
    expected = model.forward(model.new_cache(1, 20), [0], [ids])
    short, long = cache.allocate(5), cache.allocate(60)
    assert [cache.slot(n).max_ids for n in (short, long)] == [PANEL, 2 * PANEL]
    together = model.forward(cache, [long, short], [ids, ids])
    np.testing.assert_array_equal(together, np.concatenate([expected, expected]))
    cache.copy_prefix(long, short, 3)
    np.testing.assert_array_equal(model.forward(cache, [short], [ids[3:]]), expected[3:])
    address = cache.slot(long).address
    assert address % 64 == 0
    cache.free(long)
    assert cache.lengths == [5, 0]
    again = cache.allocate(55)
    assert (again, cache.slot(again).address) == (long, address)
    np.testing.assert_array_equal(model.forward(cache, [again], [ids]), expected)
    held = cache.slot(short).memory.nbytes + cache.slot(long).memory.nbytes
    assert model.cache_bytes(5) + model.cache_bytes(60) == held
    del cache
    assert model.new_cache(1, 64).slot(0).address == address
    with pytest.raises(ValueError, match="lower max_ids"):
        model.new_cache(1, SIZES.max_position_embeddings + 1)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_memory_of_a_cache_with_what_is_no_number_serves_no_other():
    model = decoder()
    expected = model.forward(model.new_cache(1, 40), [0], [[3, 1, 4]])
    embed = model.embed
    model.embed = lambda ids: np.full_like(embed(ids), np.nan)
    broken = model.new_cache(1, 40)
    model.forward(broken, [0], [list(range(20))])
    del broken
    model.embed = embed
    np.testing.assert_array_equal(model.forward(model.new_cache(1, 40), [0], [[3, 1, 4]]), expected)


def test_folds_are_those_of_numpy():
    rng = np.random.default_rng(3)
    for length in (0, 1, 15, 16, 17, 100):
        line = rng.standard_normal(length + 5).astype(np.float32)
        sums, norms, tops = folds(line, length)
        np.testing.assert_allclose(sums, line[:length].sum(dtype=np.float64), atol=1e-5)
        np.testing.assert_allclose(norms, np.square(line[:length]).sum(), rtol=1e-5)
        assert tops == max(line[:length], default=-np.inf)


@njit
def folds(line, length):
    return total(line, length), squares(line, length), largest(line, length)


@pytest.mark.slow
def test_what_is_compiled_now_and_what_was_kept_give_the_same_bits(tmp_path):
    """In processes of their own, which compile, and then load what was compiled."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_matmul as tests; "
        "m = tests.decoder(); found = m.forward(m.new_cache(1, 40), [0], [list(range(37))]); "
        "sys.stdout.write(found.tobytes().hex())"
    )
    results = []
    for seed in ("1", "2"):  # of hashes: the order of sets
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program, str(Path(__file__).parent)]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        results.append(run.stdout)
    assert results[0] == results[1]
    assert list(tmp_path.rglob("*.nbi"))


def test_kernels_are_compiled_ahead():
    compile_kernels()
