"""Writing safetensors files where a disk may be full."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from unified_base.disk import FULL, full_disk

__all__ = ["save_tensors"]

_SYSTEM = re.compile(r"\(os error (\d+)\)")


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None,
    name: Path | None = None, advice: str = "",
) -> None:  # fmt: skip
    """Write a safetensors file.

    Args:
        tensors: contiguous, by name.
        name: of the file in errors. advice: see `disk.full_disk`.

    Raises:
        FullDiskError: the disk is full.
    """
    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        number = _SYSTEM.search(str(error))
        if number is None or int(number[1]) not in FULL:
            raise
        raise full_disk(name or path, int(number[1]), advice) from None
