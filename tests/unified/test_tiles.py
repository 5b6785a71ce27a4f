"""bfloat16 dot products: their values, and that a row's are the same bits in any company."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from unified.engine.backends.cpu.bfloat16 import (
    DOTS_SUPPORTED,
    matmul_pairs,
    pack_pairs,
    set_pairs,
    unpack_rows,
)
from unified.engine.backends.cpu.config import PANEL, LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, widen
from unified.engine.backends.cpu.settings import ARITHMETIC
from unified_base.processor import processor_has

ROOT = Path(__file__).parents[2]
VOCAB = 77
# No size is a multiple of two but the width of heads, which rotary positions ask for.
ODD = LlamaCpuConfig(
    hidden_size=35, num_layers=2, num_heads=3, num_kv_heads=3, head_dim=10, intermediate_size=71,
    vocab_size=VOCAB, max_position_embeddings=64, norm_eps=1e-6,
    inv_freq=default_inv_freq(1e4, 10), qk_norm=True, tie_word_embeddings=True,
)  # fmt: skip
EVERY = ((0, VOCAB),)


def bfloat16(numbers: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16, as torch rounds."""
    return torch.from_numpy(numbers).bfloat16().view(torch.uint16).numpy()


def rounded_rows(x: np.ndarray) -> np.ndarray:
    out = np.zeros((len(x), -(-x.shape[1] // 2)), np.uint32)
    for row, pairs in zip(x, out):
        set_pairs(row, pairs)
    return out


def product(x: np.ndarray, packed: np.ndarray, first: int = 0, panels: int = 0) -> np.ndarray:
    panels = panels or len(packed)
    out = np.full((len(x), panels * PANEL), np.nan, np.float32)
    matmul_pairs(np.ascontiguousarray(x), packed, first, panels, out)
    return out


def decoder(arithmetic: str | None = None, config: LlamaCpuConfig = ODD) -> LlamaCpuDecoder:
    rng = np.random.default_rng(5)
    weights = {
        name: bfloat16(rng.normal(1.0 if "norm" in name else 0.0, 0.3, shape).astype(np.float32))
        for name, shape in config.shapes().items()
    }
    return LlamaCpuDecoder(config, weights, arithmetic)


@pytest.mark.parametrize("inputs", [1, 2, 33, 64])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 13, 25])
def test_products_of_pairs_are_products_of_rounded_numbers(rows, inputs):
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, inputs)).astype(np.float32)
    weight = bfloat16(rng.standard_normal((101, inputs)).astype(np.float32))
    out = product(rounded_rows(x), pack_pairs(weight))
    expected = widen(bfloat16(x)).astype(np.float64) @ widen(weight).astype(np.float64).T
    np.testing.assert_allclose(out[:, :101], expected, atol=1e-6 * inputs)
    assert not out[:, 101:].any()  # zeros behind the last output


def test_rows_are_rounded_to_the_nearest_and_to_even_of_two():
    """Ties, what rounds up to infinity, zeros of both signs, subnormals, infinities and NaN."""
    rng = np.random.default_rng(0)
    words = rng.integers(2**32, size=4097, dtype=np.uint32)
    words[:512] = words[:512] & 0xFFFF0000 | 0x8000
    words[512:519] = [0, 2**31, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 1, 0x80000001]
    numbers = words.view(np.float32)
    rounded = rounded_rows(numbers[None]).view(np.uint16)[0, : len(numbers)]
    expected = bfloat16(numbers)
    real = ~np.isnan(numbers)
    np.testing.assert_array_equal(rounded[real], expected[real])
    assert np.isnan(widen(rounded[~real])).all()
    assert (~real).sum() > 10


@pytest.mark.parametrize("inputs", [50, 51])
def test_a_rows_product_is_the_same_bits_in_any_company(inputs):
    rng = np.random.default_rng(1)
    x = rounded_rows(rng.standard_normal((29, inputs)).astype(np.float32))
    packed = pack_pairs(bfloat16(rng.standard_normal((130, inputs)).astype(np.float32)))
    whole = product(x, packed)
    for count in range(1, 29):
        np.testing.assert_array_equal(product(x[-count:], packed), whole[-count:])
    np.testing.assert_array_equal(product(x[3:4], packed, 3, 2), whole[3:4, 96:])


def test_packed_rows_are_read_back():
    weight = bfloat16(np.random.default_rng(2).standard_normal((40, 7)).astype(np.float32))
    outputs = np.array([39, 0, 31, 32])
    np.testing.assert_array_equal(unpack_rows(pack_pairs(weight), outputs, 7), weight[outputs])


def test_logits_of_odd_sizes_are_the_same_bits_alone_in_a_batch_and_id_by_id():
    """More rows than a thread makes ready for itself, so that all threads share them."""
    model = decoder()
    rng = np.random.default_rng(0)
    rows = [rng.integers(VOCAB, size=n).tolist() for n in (5, 1, 17, 9, 3)]
    together = model.logits(model.forward(model.new_cache(5, 20), range(5), rows), EVERY)
    at = 0
    for row in rows:
        alone = model.new_cache(1, 20)
        steps = [model.logits(model.forward(alone, [0], [[id]]), EVERY) for id in row]
        np.testing.assert_array_equal(np.concatenate(steps), together[at : at + len(row)])
        at += len(row)


def test_bfloat16_and_float32_arithmetic_differ_by_rounding():
    """Weights are the same; rows of x have 8 bits in one of them. Logits are of size 3 here."""
    ids = [np.random.default_rng(3).integers(VOCAB, size=40).tolist()]
    logits = [
        m.logits(m.forward(m.new_cache(1, 40), [0], ids), EVERY)
        for m in (decoder("auto"), decoder("float32"))
    ]
    assert np.abs(logits[1]).max() > 2
    np.testing.assert_allclose(*logits, atol=0.15)
    assert np.abs(logits[0] - logits[1]).mean() < 0.02
    assert np.any(logits[0] != logits[1]) == DOTS_SUPPORTED


def test_arithmetic_is_that_of_the_argument_or_of_the_environment(monkeypatch):
    monkeypatch.setenv(ARITHMETIC, "float32")
    assert decoder().arithmetic == decoder("float32").arithmetic == "bfloat16 in float32"
    expected = "bfloat16" if DOTS_SUPPORTED else "bfloat16 in float32"
    assert decoder("auto").arithmetic == expected
    monkeypatch.delenv(ARITHMETIC)
    assert decoder().arithmetic == expected
    monkeypatch.setenv(ARITHMETIC, "int4")
    with pytest.raises(
        ValueError, match="UNIFIED_CPU_ARITHMETIC is 'int4', expected auto or float32"
    ):
        decoder()
    with pytest.raises(ValueError, match=r"^arithmetic is 'int8', expected auto or float32"):
        decoder("int8")


@pytest.mark.skipif(not processor_has("avx512bf16"), reason="this processor has no such products")
def test_processors_without_dot_products_multiply_pairs_in_float32(tmp_path):
    """In a process whose code is compiled for one without them."""
    program = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1]); import test_tiles as tests\n"
        "assert not tests.DOTS_SUPPORTED; rng = np.random.default_rng(7)\n"
        "x = tests.rounded_rows(rng.standard_normal((3, 33)).astype(np.float32))\n"
        "w = tests.pack_pairs(tests.bfloat16(rng.standard_normal((40, 33)).astype(np.float32)))\n"
        "np.save(sys.argv[2], tests.product(x, w))"
    )
    features = ",".join(f"+{name}" for name in ("avx", "avx2", "fma", "f16c"))
    environment = {
        **os.environ, "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }  # fmt: skip
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path / "out.npy")]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    rng = np.random.default_rng(7)
    x = rounded_rows(rng.standard_normal((3, 33)).astype(np.float32))
    weight = bfloat16(rng.standard_normal((40, 33)).astype(np.float32))
    here = product(x, pack_pairs(weight))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), here, atol=1e-5)
