"""The weights of a checkpoint, read a few rows at a time and in the type that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unified.engine.backends.cpu.stored import StoredWeight, Weight, to_quantize, widen
from unified_base.files import open_regular
from unified_base.safetensors_files import Tensor, weight_headers
from unified_base.text import quoted

__all__ = ["DTYPES", "StoredTensor", "check_dtype", "narrow", "read_weights", "stored_dtype"]

DTYPES = ("float32", "bfloat16", "float16")
# Of a safetensors header: our name of a type, and how its numbers lie in an array (`Weight`).
_STORED: dict[str, tuple[str, np.dtype[Any]]] = {
    "F32": ("float32", np.dtype("<f4")),
    "BF16": ("bfloat16", np.dtype("<u2")),
    "F16": ("float16", np.dtype("<i2")),
}
_LAYOUT = dict(_STORED.values())


def check_dtype(dtype: str, also: tuple[str, ...] = ()) -> str:
    """A type of weights by its name. Raises ValueError for an unknown one."""
    if not isinstance(dtype, str) or dtype not in (*DTYPES, *also):
        expected = ", ".join((*DTYPES, *also))
        raise ValueError(f"dtype is {quoted(dtype)}, expected one of {expected}")
    return dtype


class StoredTensor:
    """A tensor in a safetensors file, read by slicing its rows: `StoredWeight`.

    shape: of the tensor. dtype: of the arrays that are read, see `Weight`.
    """

    def __init__(self, path: Path, tensor: Tensor, name: str, dtype: str = "auto") -> None:
        """
        Args:
            path: the file.
            tensor: the tensor's entry of the file's header.
            name: of the tensor, for errors.
            dtype: "float32", "bfloat16" or "float16", or "auto": as it is stored.

        Raises:
            ValueError: it is stored as something else than these three.
        """
        where = f"{path}: {name}"
        if tensor.dtype not in _STORED:
            raise ValueError(f"{where} has type {tensor.dtype}, expected F32, F16 or BF16")
        self._where, self._path, self._start = where, path, tensor.start
        self._stored, self._layout = _STORED[tensor.dtype]
        self._dtype = self._stored if dtype == "auto" else dtype
        self.shape = tensor.shape
        self.dtype = _LAYOUT[self._dtype]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Weight:
        """Rows of it, all columns. Raises ValueError where the file has become shorter, or holds
        numbers that are too large for float16."""
        start, stop, step = rows.indices(self.shape[0] if self.shape else 1)
        assert step == 1
        shape = (max(0, stop - start), *self.shape[1:]) if self.shape else ()
        numbers = np.empty(shape, self._layout)
        row_bytes = numbers.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        with open_regular(self._path, "weights") as file:
            file.seek(self._start + start * row_bytes)
            # A view of nothing cannot be cast.
            data = numbers.reshape(-1).data.cast("B") if numbers.size else bytearray()
            if file.readinto(data) != numbers.nbytes:
                raise ValueError(f"{self._path} became shorter while it was read")
        if self._dtype == self._stored:
            return numbers.astype(self.dtype.newbyteorder("="), copy=False)
        return narrow(widen(numbers), self._dtype, self._where)


def narrow(numbers: np.ndarray, dtype: str, where: str) -> Weight:
    """float32 numbers in another type, rounded to the nearest, as `Weight` has it.

    Raises ValueError for finite numbers that are too large for float16: they would be infinite.
    """
    if dtype == "float32":
        return numbers
    if dtype == "float16":
        with np.errstate(over="ignore"):
            halves = numbers.astype(np.float16)
        if np.isinf(halves).sum() != np.isinf(numbers).sum():
            raise ValueError(
                f"{where} has numbers of up to {np.abs(numbers).max():.3g}, which float16 does not"
                " hold; take dtype bfloat16 or float32"
            )
        return halves.view(np.int16)
    import torch  # takes seconds to import, and most models are opened as they are stored

    rounded = torch.from_numpy(np.ascontiguousarray(numbers)).to(torch.bfloat16)
    words: Weight = rounded.view(torch.uint16).numpy()
    return words


def read_weights(
    directory: Path,
    wanted: Callable[[str], bool] = lambda name: True,
    check: Callable[[Mapping[str, Any]], None] = lambda shapes: None,
    dtype: str = "auto",
    name: str = "model.safetensors",
) -> Mapping[str, StoredWeight]:
    """The tensors of a file, or of the shards its index names; their rows yet unread.

    Args:
        directory: the checkpoint's.
        wanted: by a tensor's name; the others are passed over.
        check: called with what has a `shape` for each tensor.
        dtype: that they are read as; "auto": as each is stored; "int8": matrices likewise, to be
            quantized where they are packed.
        name: of the file.

    Raises:
        ValueError: a file is missing, truncated, not safetensors, outside the folder, or holds
            other than float32, float16 or bfloat16 tensors.
    """
    entries = {
        key: (path, tensor)
        for path, header in weight_headers(directory, name).items()
        for key, tensor in header.items()
        if wanted(key)
    }
    check({key: tensor for key, (_, tensor) in entries.items()})
    read_as = "auto" if dtype == "int8" else dtype
    tensors: dict[str, StoredWeight] = {
        key: StoredTensor(path, tensor, key, read_as) for key, (path, tensor) in entries.items()
    }
    return to_quantize(tensors) if dtype == "int8" else tensors


def stored_dtype(directory: Path) -> str:
    """The type that most bytes of a checkpoint's weights have, whatever its config.json says.

    Raises ValueError as `read_weights`; "float32" for weights of none of the types in `DTYPES`.
    """
    sizes: Counter[str] = Counter()
    for header in weight_headers(directory).values():
        for tensor in header.values():
            if tensor.dtype in _STORED:
                sizes[_STORED[tensor.dtype][0]] += tensor.stop - tensor.start
    return sizes.most_common(1)[0][0] if sizes else "float32"
