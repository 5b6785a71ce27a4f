"""Safetensors files of strangers: the header judged before anything of the tensors is read.

A file is 8 bytes of the header's length, the header (JSON: name -> dtype, shape, data_offsets), and
the tensors one after another, without gaps.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from unified_base.files import open_regular
from unified_base.structured import parse_json, read_json
from unified_base.text import quoted

__all__ = ["Tensor", "check_weights", "read_header", "read_tensor", "shard_names", "weight_headers"]

_MAX_HEADER = 32 << 20
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_MAX_AXES = 16


class Tensor(NamedTuple):
    """Of a header: the tensor's type, its shape, and where its bytes are in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors that a safetensors file holds, by name.

    Raises:
        ValueError: no regular file, or one whose header is too long, is not JSON, or does not
            describe the bytes behind it: unknown types, shapes of another size, gaps, overlaps.
    """
    with open_regular(path, "weights") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        where = f"{Path(path)} is not a whole safetensors file"
        if size < 10 or length > size - 8:
            raise ValueError(f"{where}: it has {size:,} bytes; copy or train it again")
        if length > _MAX_HEADER:
            raise ValueError(f"{where}: its header says {length:,} bytes, at most {_MAX_HEADER:,}")
        header = parse_json(file.read(length), f"the header of {Path(path)}", _MAX_HEADER)
    if not isinstance(header, dict):
        raise ValueError(f"{where}: its header is {quoted(header)}, expected an object")
    begin = 8 + length
    tensors = {
        name: _tensor(entry, begin, f"{where}: {quoted(name)}")
        for name, entry in header.items()
        if name != "__metadata__"
    }
    at = begin
    for name, tensor in sorted(tensors.items(), key=lambda pair: (pair[1].start, pair[1].stop)):
        if tensor.start != at:
            raise ValueError(f"{where}: {quoted(name)} lies at {tensor.start}, expected {at}")
        at = tensor.stop
    if at != size:
        raise ValueError(f"{where}: its tensors end at {at:,}, it has {size:,} bytes; copy or"
                         " train it again")  # fmt: skip
    return tensors


def _tensor(entry: Any, begin: int, where: str) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} is {quoted(entry)}, expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"{where} has dtype {quoted(dtype)}, expected one such as F32 or BF16")
    if not _whole(shape) or len(shape) > _MAX_AXES:
        raise ValueError(f"{where} has shape {quoted(shape)}, expected a list of sizes")
    if not _whole(offsets) or len(offsets) != 2:
        raise ValueError(f"{where} has data_offsets {quoted(offsets)}, expected two places")
    if offsets[1] - offsets[0] != math.prod(shape) * _BITS[dtype] / 8:
        raise ValueError(
            f"{where} has shape {quoted(shape)} of {dtype}, but {offsets[1] - offsets[0]:,} bytes"
        )
    return Tensor(dtype, tuple(shape), begin + offsets[0], begin + offsets[1])


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**48 for value in values
    )


def read_tensor(path: str | os.PathLike[str], tensor: Tensor) -> bytes:
    """The bytes of one tensor of `read_header`. ValueError where the file has become shorter."""
    with open_regular(path, "weights") as file:
        file.seek(tensor.start)
        data = file.read(tensor.stop - tensor.start)
    if len(data) != tensor.stop - tensor.start:
        raise ValueError(f"{Path(path)} became shorter while it was read")
    return data


def shard_names(index: str | os.PathLike[str]) -> dict[str, str]:
    """The `weight_map` of an index: tensor -> the file beside the index that holds it.

    Raises:
        ValueError: an index of another form, or a name that is no safetensors file in the folder of
            the index (an absolute path, "..", a link that leaves it).
    """
    path = Path(index)
    names = read_json(path).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{path}: weight_map is {quoted(names)}, expected tensors and their files")
    for tensor, name in names.items():
        if (
            not isinstance(name, str)
            or not name.endswith(".safetensors")
            or not 12 < len(name) < 256
            or not name.isprintable()
            or set(name) & set("/\\:")
        ):
            raise ValueError(
                f"{path}: weight_map.{quoted(tensor, 40)} is {quoted(name)}, expected a safetensors"
                " file beside it"
            )
    for name in sorted(set(names.values())):
        _check_inside(path.parent, name)
    return names


def _check_inside(folder: Path, name: str) -> None:
    """Raises ValueError for a link out of the folder; the hub's cache keeps files beside it."""
    root = folder.resolve()
    if folder.absolute().parent.name == "snapshots":
        root = folder.absolute().parent.parent.resolve()
    try:
        target = (folder / name).resolve()
    except (OSError, RuntimeError):  # a loop
        raise ValueError(f"cannot read weights {folder / name}: it is a loop of links") from None
    if not target.is_relative_to(root):
        raise ValueError(f"{folder / name} is a link out of its folder, to {quoted(str(target))}")


def weight_headers(
    folder: str | os.PathLike[str], name: str = "model.safetensors"
) -> dict[Path, dict[str, Tensor]]:
    """The headers of a checkpoint's weights by file: of `name`, or of the files in its index.

    Raises:
        ValueError: as `shard_names` and `read_header`; a file that is missing; a tensor that is not
            in the file that the index names.
    """
    path = Path(folder)
    index = path / f"{name}.index.json"
    if not os.path.lexists(index):
        _check_there(path, name)
        return {path / name: read_header(path / name)}
    files = shard_names(index)
    headers: dict[Path, dict[str, Tensor]] = {}
    for shard in sorted(set(files.values())):
        _check_there(path, shard)
        headers[path / shard] = read_header(path / shard)
    for tensor, shard in files.items():
        if tensor not in headers[path / shard]:
            raise ValueError(f"{path / shard} has no {quoted(tensor)}, which {index} names in it")
    return {
        file: {tensor: entry for tensor, entry in header.items() if files.get(tensor) == file.name}
        for file, header in headers.items()
    }


def _check_there(folder: Path, name: str) -> None:
    if not os.path.lexists(folder / name):
        raise ValueError(f"{folder} has no {name}: the checkpoint is incomplete")


def check_weights(folder: str | os.PathLike[str], *names: str) -> int:
    """How many numbers a folder's weights hold, whatever file of `names` they are in.

    Raises:
        ValueError: as `weight_headers`; none of these files is there.
    """
    path = Path(folder)
    for name in names:
        if os.path.lexists(path / name) or os.path.lexists(path / f"{name}.index.json"):
            headers = weight_headers(path, name)
            return sum(
                math.prod(tensor.shape) for header in headers.values() for tensor in header.values()
            )
    raise ValueError(f"{path} has no {' nor '.join(names)}: the checkpoint is incomplete")
