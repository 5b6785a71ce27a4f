"""Which products a type of packed weights is multiplied by: the one list of them.

Kernels are compiled for one type of weights, that of the empty array `dtype_like` which they are
called with. What is here has the same name for all types, and becomes the function of that type
while it is compiled.

To add a type: a `WeightFormat` in `_FORMATS`, its functions each compiled, in a file of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unified.engine.backends.cpu.bfloat16 import (
    DOTS_SUPPORTED,
    matmul_pairs,
    pack_pairs,
    pairs,
    set_pairs,
    unpack_rows,
)
from unified.engine.backends.cpu.config import PANEL
from unified.engine.backends.cpu.int8_pack import NotFiniteError, pack_int8, unpack_int8
from unified.engine.backends.cpu.int8_rows import line_bytes, set_line
from unified.engine.backends.cpu.int8_tile import block_lines, matmul_int8
from unified.engine.backends.cpu.intrinsics import by_type, compiled
from unified.engine.backends.cpu.matmul import HALF_SUPPORTED, matmul, pack
from unified.engine.backends.cpu.stored import StoredWeight, Weight, widen

__all__ = [
    "INT8", "WeightFormat", "format_of", "input_words", "multiply", "pack_weight", "panel_lines",
    "set_inputs", "stored_format",
]  # fmt: skip


@dataclass(frozen=True)
class WeightFormat:
    """How weights (O, K) of one type are packed and multiplied.

    Attributes:
        name: for people: of the weights, and of the arithmetic where it is another.
        dtype: of packed weights (P, lines, PANEL); no other format has it.
        inputs: of the rows of x as products take them, (N, words).
        words: compiled; words of such a row of K inputs.
        lines: compiled; lines of a panel of K inputs.
        set_row: compiled; (row, out): write a float32 row (K,) into `out` (words,). None where
            products take float32 rows as they are.
        multiply: compiled; (x, w, first, panels, out): out[:, : PANEL panels], float32, = x
            (N, words) times panels [first, first + panels) of w. A row's outputs are the same bits
            whatever rows are computed with it.
        pack: packed weights of stored ones, whose rows are read by slicing.
        rows: (packed, outputs, K): float32 (n, K), the weights of some outputs, for embeddings.
    """

    name: str
    dtype: np.dtype[Any]
    inputs: np.dtype[Any]
    words: Any
    lines: Any
    set_row: Any
    multiply: Any
    pack: Callable[[Any], np.ndarray]
    rows: Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@compiled
def _same(inputs: int) -> int:
    return inputs


def _float_rows(packed: np.ndarray, outputs: np.ndarray, inputs: int) -> np.ndarray:
    return np.ascontiguousarray(widen(packed[outputs // PANEL, :, outputs % PANEL]))


def _float(name: str, dtype: Any, packing: Callable[[Any], np.ndarray] = pack) -> WeightFormat:
    return WeightFormat(
        name, np.dtype(dtype), np.dtype(np.float32), _same, _same, None, matmul, packing,
        _float_rows,
    )  # fmt: skip


_FLOAT32 = _float("float32", np.float32, lambda weight: pack(weight, widen))
_WIDE_BFLOAT16 = _float("bfloat16 in float32", np.uint16)
_WIDE_FLOAT16 = _float("float16 in float32", np.int16)
_BFLOAT16 = WeightFormat(
    "bfloat16", np.dtype(np.uint32), np.dtype(np.uint32), pairs, pairs, set_pairs, matmul_pairs,
    pack_pairs, lambda packed, outputs, inputs: widen(unpack_rows(packed, outputs, inputs)),
)  # fmt: skip
INT8 = WeightFormat(
    "int8", np.dtype(np.uint8), np.dtype(np.uint8), line_bytes, block_lines, set_line, matmul_int8,
    pack_int8, unpack_int8,
)  # fmt: skip
"""Of weights of any type, quantized while they are packed."""
_FORMATS = (_FLOAT32, _WIDE_BFLOAT16, _WIDE_FLOAT16, _BFLOAT16, INT8)
_BY_DTYPE = {format.dtype.name: format for format in _FORMATS}  # numba's names are numpy's


def stored_format(dtype: np.dtype[Any], dots: bool = True) -> WeightFormat:
    """The format for weights of a type (`Weight`, `ToQuantize`) on this processor.

    dots: whether bfloat16 may be multiplied as such; otherwise it is widened to float32.
    """
    if dtype == np.int8:
        return INT8
    if dtype == np.uint16:
        return _BFLOAT16 if dots and DOTS_SUPPORTED else _WIDE_BFLOAT16
    return _WIDE_FLOAT16 if dtype == np.int16 and HALF_SUPPORTED else _FLOAT32


def format_of(array: Any) -> WeightFormat:
    """The format of packed weights, of `dtype_like`, or of numba's type of either."""
    return _BY_DTYPE[str(array.dtype)]


def pack_weight(
    format: WeightFormat, weights: Mapping[str, StoredWeight], name: str
) -> Weight | None:
    """A weight as kernels take it, vectors in float32; None for one that there is not.

    Raises ValueError for one to quantize that is NaN or infinite.
    """
    weight = weights.get(name)
    if weight is None:
        return None
    if weight.ndim == 1:
        return np.ascontiguousarray(widen(weight))
    try:
        return format.pack(weight)  # (O, K) -> (P, lines, PANEL)
    except NotFiniteError as error:
        raise ValueError(f"{name} {error}") from None


@by_type
def input_words(inputs: Any, dtype_like: Any) -> Any:
    """Words of a row of x of so many inputs."""
    words = format_of(dtype_like).words
    return lambda inputs, dtype_like: words(inputs)


@by_type
def panel_lines(inputs: Any, dtype_like: Any) -> Any:
    """Lines of a panel of so many inputs."""
    lines = format_of(dtype_like).lines
    return lambda inputs, dtype_like: lines(inputs)


@by_type
def set_inputs(row: Any, out: Any, dtype_like: Any) -> Any:
    """Write a float32 row (K,) into `out` (words,), as products take it."""
    set_row = format_of(dtype_like).set_row
    return _copy if set_row is None else lambda row, out, dtype_like: set_row(row, out)


def _copy(row: np.ndarray, out: np.ndarray, dtype_like: np.ndarray) -> None:
    for k in range(row.shape[0]):
        out[k] = row[k]


@by_type
def multiply(x: Any, w: Any, first: Any, panels: Any, out: Any) -> Any:
    """out[:, : PANEL panels] = x (N, words) times panels [first, first + panels) of w."""
    product = format_of(w).multiply
    return lambda x, w, first, panels, out: product(x, w, first, panels, out)
