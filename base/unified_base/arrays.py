"""Files of numbers (.npy): a header is believed only where the file is as long as it says.

`numpy.load` takes archives for arrays, makes room for what a header claims before it reads, and
meets broken headers with errors of many kinds. The layout is that of NEP 1,
https://numpy.org/neps/nep-0001-npy-format.html.
"""

from __future__ import annotations

import ast
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from unified_base.files import read_bytes
from unified_base.text import quoted

__all__ = ["MAX_ARRAY", "decode_npy", "encode_npy", "read_npy"]

MAX_ARRAY = 256 << 20
"""Bytes of a file of numbers."""
_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: 2, 2: 4, 3: 4}
"""Bytes of the header's length by the format's version."""
_MAX_HEADER = 4_096


def read_npy(path: str | os.PathLike[str], limit: int = MAX_ARRAY) -> np.ndarray:
    """The array of a .npy file of numbers (whole, real or complex) or truth values.

    Raises:
        ValueError: as `read_bytes`; it is no .npy file (an .npz archive is none), holds objects,
            text or records, or is shorter or longer than its header says.
    """
    return decode_npy(read_bytes(path, "array", limit), str(Path(path)))


def decode_npy(data: bytes, name: str) -> np.ndarray:
    """As `read_npy`, from the file's bytes; `name` is for errors."""
    try:
        return _array(data)
    except ValueError as error:
        raise ValueError(f"cannot read array {name}: {error}") from None


def encode_npy(array: np.ndarray) -> bytes:
    """The bytes of a .npy file of numbers."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _array(data: bytes) -> np.ndarray:
    if not data.startswith(_MAGIC):
        kind = "an .npz archive" if data.startswith(b"PK") else "no .npy file"
        raise ValueError(f"it is {kind}; save one array with numpy.save")
    if len(data) < 12 or data[6] not in _LENGTHS:
        raise ValueError("its header is cut off, or of an unknown version")
    start = 8 + _LENGTHS[data[6]]
    end = start + int.from_bytes(data[8:start], "little")
    if end > min(len(data), _MAX_HEADER):
        raise ValueError(f"its header is cut off, or longer than {_MAX_HEADER:,} bytes")
    dtype, by_columns, shape = _header(data[start:end])
    if math.prod(shape) * dtype.itemsize != len(data) - end:
        raise ValueError(
            f"it holds {len(data) - end:,} bytes, its header says {dtype} of shape {quoted(shape)}"
        )
    return np.frombuffer(data, dtype, offset=end).reshape(shape, order="F" if by_columns else "C")


def _header(text: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Type, whether columns come first, and shape."""
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
    # A literal nested deeply ends Python's parser in more ways than one.
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"its header is {quoted(text)}, expected a Python literal") from None
    wanted = {"descr", "fortran_order", "shape"}
    if not isinstance(header, dict) or set(header) != wanted:
        raise ValueError(f"its header is {quoted(header)}, expected {', '.join(sorted(wanted))}")
    kind, by_columns, shape = header["descr"], header["fortran_order"], header["shape"]
    if (
        not isinstance(shape, tuple)
        or len(shape) > 32
        or not all(type(side) is int and side >= 0 for side in shape)
        or type(by_columns) is not bool
    ):
        raise ValueError(
            f"its header says shape {quoted(shape)}, expected a tuple of whole numbers"
        )
    # Numbers alone: "|O" would be pickled objects, a list a record.
    if not isinstance(kind, str) or len(kind) > 6 or kind[:1] not in "<>|=" or "O" in kind:
        raise ValueError(f"it holds {quoted(kind)} (objects are pickled), expected numbers")
    try:
        dtype = np.dtype(kind)
    except TypeError:
        raise ValueError(f"it holds {quoted(kind)}, expected numbers") from None
    if dtype.kind not in "biufc":
        raise ValueError(f"it holds {quoted(kind)}, expected numbers")
    return dtype, by_columns, shape
