"""Types of KV caches: how keys and values are stored, and multiplied.

A slot's memory holds the keys of all heads of all layers, then their values. Of a head: keys (L /
PANEL, lines of C, PANEL), packed as a weight (L, C) is, and values (C / PANEL, lines of L, PANEL),
packed as a weight (C, L) is. Kernels are compiled for one type, that of the empty array `kv_like`.

float32; or uint32: pairs of bfloat16 as in `bfloat16`, of neighbouring numbers of a key, and of
neighbouring ids of a value. Half the bytes to read; and twice the products an instruction where the
processor multiplies bfloat16, with queries and probabilities rounded to it.

Shape legend: see `kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray

from unified.engine.backends.cpu.bfloat16 import (
    matmul_pairs,
    pairs,
    rounded,
    set_pairs,
)
from unified.engine.backends.cpu.intrinsics import by_type, compiled, pointer, word
from unified.engine.backends.cpu.matmul import PANEL, matmul

__all__ = [
    "KV_FORMATS", "KvFormat", "keys_of", "kv_product", "kv_row", "kv_words", "store_key",
    "store_value", "values_of",
]  # fmt: skip

_WORD = 4  # bytes


@dataclass(frozen=True)
class KvFormat:
    """How keys and values of one type are stored and multiplied.

    Attributes:
        dtype: of words in memory and of rows; 32 bits. No other format has it.
        words: compiled; words of so many numbers: of a row of queries or probabilities as products
            take it, and lines of a panel.
        set_row: compiled; (row, out): such a row of float32 numbers.
        multiply: compiled; see `matmul`.
        store_key, store_value: compiled; see the functions of these names.
    """

    dtype: np.dtype[Any]
    words: Any
    set_row: Any
    multiply: Any
    store_key: Any
    store_value: Any


@compiled
def _same(numbers: int) -> int:
    return numbers


@compiled
def _copy(row: np.ndarray, out: np.ndarray) -> None:
    for k in range(row.shape[0]):
        out[k] = row[k]


@compiled
def _store_key(keys: np.ndarray, position: int, key: np.ndarray) -> None:
    lines = keys[position // PANEL]  # (C, PANEL)
    column = position % PANEL
    for c in range(key.shape[0]):
        lines[c, column] = key[c]


@compiled
def _store_value(values: np.ndarray, position: int, value: np.ndarray) -> None:
    C = value.shape[0]
    for panel in range(values.shape[0]):
        line = values[panel, position]
        part = value[panel * PANEL : min(C, (panel + 1) * PANEL)]
        for c in range(part.shape[0]):
            line[c] = part[c]


@compiled
def _store_key_pairs(keys: np.ndarray, position: int, key: np.ndarray) -> None:
    lines = keys[position // PANEL]  # (C / 2, PANEL)
    column = position % PANEL
    for c in range(key.shape[0] // 2):
        low, high = rounded(word(key[2 * c])), rounded(word(key[2 * c + 1]))
        lines[c, column] = low | high << np.uint32(16)


@compiled
def _store_value_pairs(values: np.ndarray, position: int, value: np.ndarray) -> None:
    """An even position clears its neighbour, which is stored later."""
    C = value.shape[0]
    for panel in range(values.shape[0]):
        line = values[panel, position // 2]
        part = value[panel * PANEL : min(C, (panel + 1) * PANEL)]
        if position % 2:
            for c in range(part.shape[0]):
                high = rounded(word(part[c])) << np.uint32(16)
                line[c] = line[c] & np.uint32(0xFFFF) | high
        else:
            for c in range(part.shape[0]):
                line[c] = rounded(word(part[c]))


_FLOAT32 = KvFormat(np.dtype(np.float32), _same, _copy, matmul, _store_key, _store_value)
_BFLOAT16 = KvFormat(
    np.dtype(np.uint32), pairs, set_pairs, matmul_pairs, _store_key_pairs, _store_value_pairs
)
KV_FORMATS = {"float32": _FLOAT32, "bfloat16": _BFLOAT16}
"""By the names that people have for them."""
_BY_DTYPE = {format.dtype.name: format for format in KV_FORMATS.values()}


def _of(array: Any) -> KvFormat:
    return _BY_DTYPE[str(array.dtype)]


@by_type
def kv_words(numbers: Any, kv_like: Any) -> Any:
    """Words of so many neighbouring numbers: of a row, and lines of a panel."""
    words = _of(kv_like).words
    return lambda numbers, kv_like: words(numbers)


@by_type
def kv_row(row: Any, out: Any) -> Any:
    """Write a float32 row (K,) into `out` (words,), as products take it."""
    set_row = _of(out).set_row
    return lambda row, out: set_row(row, out)


@by_type
def kv_product(x: Any, w: Any, first: Any, panels: Any, out: Any, start: Any) -> Any:
    """out[:, : PANEL panels] = x (N, words) times panels [first, first + panels) of w, whose lines
    are taken from `start` on."""
    product = _of(w).multiply
    return lambda x, w, first, panels, out, start: product(x, w, first, panels, out, start)


@by_type
def store_key(keys: Any, position: Any, key: Any) -> Any:
    """Store a float32 key (C,) at a position among those of a head."""
    store = _of(keys).store_key
    return lambda keys, position, key: store(keys, position, key)


@by_type
def store_value(values: Any, position: Any, value: Any) -> Any:
    """Store a float32 value (C,) at a position among those of a head.

    Neighbouring positions of a panel may share words: they are stored in order, by one thread.
    """
    store = _of(values).store_value
    return lambda values, position, value: store(values, position, value)


@compiled
def keys_of(address: int, L: int, C: int, head: int, kv_like: np.ndarray) -> np.ndarray:
    """Keys (L / PANEL, lines, PANEL) of a head in those of a slot; heads count through all layers.

    address: of the slot's memory. L: the ids that it holds, whole panels.
    """
    lines = kv_words(C, kv_like)
    start = address + _WORD * head * L * lines
    return carray(pointer(start, kv_like), (L // PANEL, lines, PANEL))


@compiled
def values_of(
    address: int, L: int, C: int, head: int, heads: int, kv_like: np.ndarray
) -> np.ndarray:
    """Values (C / PANEL, lines, PANEL) of a head; they follow the keys of all `heads` heads."""
    lines, panels = kv_words(L, kv_like), -(-C // PANEL)
    address += _WORD * heads * L * kv_words(C, kv_like)
    start = address + _WORD * head * panels * lines * PANEL
    return carray(pointer(start, kv_like), (panels, lines, PANEL))
