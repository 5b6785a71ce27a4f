"""8-bit weights and rows: quantized as stated, multiplied exactly, the same bits everywhere."""

import numpy as np
import pytest
from llvmlite import binding
from numba import njit

from unified.engine.backends.cpu import int8_dot, int8_tile, matmul
from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.int8_dot import DOT_KINDS, host_dot_kind
from unified.engine.backends.cpu.int8_pack import (
    GROUP,
    LINE,
    pack_int8,
    quantize,
    side_by_side,
    unpack_int8,
)
from unified.engine.backends.cpu.int8_rows import line_bytes, set_line
from unified.engine.backends.cpu.int8_tile import block_lines, matmul_int8, tile_int8

SIZES = [(1, 7, 33), (2, 64, 96), (3, 65, 31), (5, 1, 32), (8, 200, 64), (23, 130, 70)]


def lines_of(x: np.ndarray) -> np.ndarray:
    lines = np.full((len(x), line_bytes(x.shape[1])), 77, np.uint8)
    for row, line in zip(np.ascontiguousarray(x, np.float32), lines):
        set_line(row, line)
    return lines


def product(lines: np.ndarray, packed: np.ndarray, first: int = 0, panels: int = 0) -> np.ndarray:
    panels = panels or len(packed)
    out = np.full((len(lines), panels * PANEL), np.nan, np.float32)
    matmul_int8(np.ascontiguousarray(lines), packed, first, panels, out)
    return out


def scales_of(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def packed_of(weight: np.ndarray) -> np.ndarray:
    return pack_int8(weight)


@pytest.mark.parametrize("inputs", [1, 63, 64, 200])
def test_weights_are_quantized_to_the_nearest_within_the_scale_of_their_group(inputs):
    weight = random(inputs, 9, inputs) * np.float32([[10.0**e] for e in range(-5, 4)])
    weight[3] = 0
    q, bits = quantize(weight)
    scales = scales_of(bits)[..., None]
    assert np.abs(q.astype(int)).max() <= 127
    assert not q[:, -1, (inputs - 1) % GROUP + 1 :].any()
    numbers = np.zeros(q.shape, np.float32)
    numbers.reshape(9, -1)[:, :inputs] = weight
    assert (np.abs(q * scales - numbers) <= 0.5001 * scales).all()
    # No scale is wider than bfloat16 makes it.
    largest = np.abs(numbers).max(-1, keepdims=True)
    assert (127 * scales <= largest * (1 + 2**-7)).all()
    assert (127 * scales >= largest).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(number):
    weight = random(0, 40, 70)
    weight[33, 69] = number
    with pytest.raises(ValueError, match="NaN or infinite, which int8 cannot hold"):
        packed_of(weight)


def test_rows_are_quantized_to_the_nearest_within_the_scale_of_their_group():
    x = random(1, 5, 150) * np.float32([[1e-20], [1e-3], [1], [1e9], [1e30]])
    x[2, 64:128] = 0
    fields = lines_of(x).view(LINE)  # (5, 3)
    numbers = np.zeros((5, 3, GROUP), np.float32)
    numbers.reshape(5, -1)[:, :150] = x
    scale = fields["scale"]
    np.testing.assert_array_equal(scale, np.abs(numbers).max(-1) / np.float32(127))
    error = np.abs(fields["q"] * scale[..., None] - numbers)
    assert (error <= 0.5001 * scale[..., None]).all()
    np.testing.assert_array_equal(fields["offset"], -128 * fields["q"].astype(int).sum(-1))
    assert not fields["q"][:, 2, 150 - 128 :].any()


def test_what_is_no_number_in_a_row_is_none_in_its_products_and_harms_no_other_row():
    x, weight = random(2, 4, 100), random(3, 40, 100)
    expected = product(lines_of(x), packed_of(weight))
    x[1, 70], x[2, 3] = np.nan, np.inf
    out = product(lines_of(x), packed_of(weight))
    assert not np.isfinite(out[1:3, :40]).any()
    assert np.isnan(out[1, :40]).all()
    np.testing.assert_array_equal(out[[0, 3]], expected[[0, 3]])


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
def test_products_are_those_of_the_integers_times_both_scales(rows, inputs, outputs):
    x, weight = random(rows, rows, inputs), random(rows + 50, outputs, inputs)
    lines, packed = lines_of(x), packed_of(weight)
    assert packed.shape == (-(-outputs // PANEL), block_lines(inputs), PANEL)
    fields = lines.view(LINE)
    q, bits = quantize(weight)
    sums = np.einsum("ngk,ogk->nog", fields["q"].astype(np.int64), q.astype(np.int64))
    scales = fields["scale"][:, None].astype(np.float64) * scales_of(bits)[None]
    out = product(lines, packed)
    np.testing.assert_allclose(out[:, :outputs], (sums * scales).sum(-1), atol=2e-6 * inputs)
    assert not out[:, outputs:].any()  # zeros behind the last output
    error = np.linalg.norm(out[:, :outputs] - x @ weight.T) / np.linalg.norm(x @ weight.T)
    assert error < 0.02


def test_the_largest_sums_are_exact():
    """All numbers at the ends of their range, with every sign."""
    x = np.ones((4, 3 * GROUP), np.float32) * np.float32([[127], [-127], [127], [-127]])
    weight = np.ones((64, 3 * GROUP), np.float32) * np.float32(127)
    weight[::2] *= -1
    out = product(lines_of(x), packed_of(weight))
    np.testing.assert_array_equal(out, x @ weight.T)


def test_a_rows_product_is_the_same_bits_in_any_company():
    lines, packed = lines_of(random(4, 23, 150)), packed_of(random(5, 130, 150))
    whole = product(lines, packed)
    for count in range(1, 23):
        np.testing.assert_array_equal(product(lines[-count:], packed), whole[-count:])
    np.testing.assert_array_equal(product(lines[3:4], packed, 3, 2), whole[3:4, 96:])


def supported(kind: str) -> bool:
    has = binding.get_host_cpu_features()
    if kind == "avx_vnni":  # the same instruction by another encoding
        return bool(has.get("avxvnni") or (has.get("avx512vnni") and has.get("avx512vl")))
    return not DOT_KINDS[kind][1] or bool(has.get(DOT_KINDS[kind][1]))


@pytest.mark.parametrize("kind", DOT_KINDS)
def test_every_kind_of_instructions_gives_the_same_bits(kind):
    if not supported(kind):
        pytest.skip(f"this processor has no {kind}")
    pair, single, half = tile_int8(2, kind), tile_int8(1, kind), tile_int8(3, kind, PANEL // 2)

    @njit(error_model="numpy", fastmath={"contract"})
    def of(x, w, out, halves):
        pair(x, 0, w, 0, 0, out, 0)
        single(x, 2, w, 0, 0, out, 0)
        for lane in (0, PANEL // 2):
            half(x, 0, w, 0, lane, halves, lane)

    lines, packed = lines_of(random(6, 3, 200)), packed_of(random(7, 32, 200))
    out, halves = (np.full((3, PANEL), np.nan, np.float32) for _ in range(2))
    of(lines, packed, out, halves)
    np.testing.assert_array_equal(out, product(lines, packed))
    np.testing.assert_array_equal(halves, out)


@pytest.mark.parametrize("name", ["matmul_wide", "matmul_narrow"])
def test_products_for_every_number_of_registers_give_the_same_bits(name):
    lines, packed = lines_of(random(4, 23, 150)), packed_of(random(5, 130, 150))
    whole = product(lines, packed)
    for count in (1, 2, 3, 4, 7, 9, 23):
        out = np.full((count, 2 * PANEL), np.nan, np.float32)
        getattr(int8_tile, name)(np.ascontiguousarray(lines[-count:]), packed, 1, 2, out)
        np.testing.assert_array_equal(out, whole[-count:, PANEL : 3 * PANEL])


def test_code_for_a_processor_without_them_uses_no_such_instructions(monkeypatch):
    has = {"avx2", "avx512bw"}
    monkeypatch.setattr(int8_dot, "processor_has", lambda feature: feature in has)
    assert host_dot_kind() == "avx512"
    has.clear()
    assert host_dot_kind() == "portable"


def test_weights_are_packed_a_few_rows_at_a_time(monkeypatch):
    weight, reads = random(8, 203, 7), []

    class Stored:
        shape = weight.shape

        def __getitem__(self, rows):
            reads.append(min(rows.stop, len(weight)) - rows.start)
            return weight[rows]

    monkeypatch.setattr(matmul, "_READ_NUMBERS", 2 * PANEL * 7)
    np.testing.assert_array_equal(pack_int8(Stored()), packed_of(weight))
    assert reads == [64, 64, 64, 11]


def test_weights_of_a_decoder_lie_side_by_side():
    weights = [random(seed, 70, 65) for seed in (1, 2)]
    with side_by_side([w.shape for w in weights] + [(65,)]):
        first, second = (packed_of(w) for w in weights)
        beyond = packed_of(weights[0])
    assert second.ctypes.data == first.ctypes.data + first.nbytes
    for packed in (first, second, beyond, packed_of(weights[0])):
        assert packed.ctypes.data % 64 == 0
    np.testing.assert_array_equal(beyond, first)
    np.testing.assert_array_equal(second, packed_of(weights[1]))


def test_rows_of_a_packed_weight_are_its_quantized_rows():
    weight = random(9, 77, 130)
    rows = np.array([76, 0, 31, 32, 0])
    q, bits = quantize(weight[rows])
    expected = (q * scales_of(bits)[..., None]).reshape(5, -1)[:, :130]
    np.testing.assert_array_equal(unpack_int8(packed_of(weight), rows, 130), expected)
