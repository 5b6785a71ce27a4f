"""A block of ids: a run of the vocabulary, or a table of it, that holds the codes of one thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unified_base.text import quoted

if TYPE_CHECKING:
    from torch import Tensor

TEXT, MARKERS, SIZE = "text", "markers", "size"

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Block:
    """The ids `[start, start + size)`, or those in `table`.

    level: codebook level of a media block, None otherwise.
    fingerprint: of the tokenizer whose codes the block holds (text or media), None if it has none.
    symbols: names of the ids of the markers block, in order.
    table: the id of each code, where they do not count up from `start`, which is the least of them.
    """

    name: str
    start: int
    size: int
    level: int | None = None
    fingerprint: str | None = None
    symbols: tuple[str, ...] | None = None
    table: tuple[int, ...] | None = None

    @classmethod
    def at(cls, name: str, ids: Iterable[int], **fields: Any) -> Block:
        """A block with these ids in the order of its codes."""
        table = tuple(int(id) for id in ids)
        counted = table == tuple(range(table[0], table[0] + len(table)))
        return cls(name, min(table), len(table), table=None if counted else table, **fields)

    @cached_property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Its ids as sorted disjoint ranges [start, stop)."""
        if self.table is None:
            return ((self.start, self.start + self.size),)
        ids = np.sort(np.array(self.table))
        ends = np.flatnonzero(np.diff(ids) != 1)
        starts, stops = ids[np.r_[0, ends + 1]], ids[np.r_[ends, len(ids) - 1]] + 1
        return tuple(zip(starts.tolist(), stops.tolist()))

    @property
    def stop(self) -> int:
        """One more than its largest id."""
        return self.runs[-1][1]

    def id(self, code: int) -> int:
        return self.start + code if self.table is None else self.table[code]

    @cached_property
    def codes(self) -> np.ndarray:
        """Of a block with a table: the code of id - start, -1 where that is another block's."""
        code_of_id = np.full(self.stop - self.start, -1)
        code_of_id[np.array(self.table) - self.start] = np.arange(self.size)
        return code_of_id

    def check(self) -> None:
        """Raises ValueError for what the block alone has wrong."""
        for name, entries in (("symbols", self.symbols), ("ids", self.table)):
            if entries is not None and not len(entries) == len(set(entries)) == self.size:
                raise ValueError(
                    f"block '{self.name}' needs {self.size} distinct {name}, found"
                    f" {quoted(list(entries))}"
                )
        if self.table is not None and self.start != min(self.table):
            raise ValueError(
                f"block '{self.name}' starts at {self.start}, its least id is {min(self.table)}"
            )

    def __str__(self) -> str:
        """Its ids and whose they are, for messages."""
        text = f"'{self.name}' [{self.start}, {self.stop}) fingerprint {self.fingerprint}"
        return text + (f" symbols {' '.join(self.symbols)}" if self.symbols is not None else "")

    def to_json(self) -> dict[str, Any]:
        """Its entries that are set; `read_blocks` is the inverse."""
        fields = {k: v for k, v in asdict(self).items() if v is not None}
        for key in ("symbols", "table"):
            if key in fields:
                fields[key] = list(fields[key])
        return fields


_KINDS = {
    "name": str,
    "start": int,
    "size": int,
    "level": int,
    "fingerprint": str,
    "symbols": list,
    "table": list,
}


MOST_IDS = 1 << 26
"""Ids that a vocabulary of a stranger's may have."""
_MOST = {"start": MOST_IDS, "size": MOST_IDS, "level": 4096}


def read_blocks(entries: Any) -> tuple[Block, ...]:
    """The blocks of a vocabulary's JSON; ValueError for unknown, missing or mistyped entries."""
    if not isinstance(entries, list):
        raise ValueError("blocks of a vocabulary must be a list")
    blocks = []
    for number, fields in enumerate(entries):
        if not isinstance(fields, dict) or not {"name", "start", "size"} <= set(fields):
            raise ValueError(f"block {number} of the vocabulary needs name, start and size")
        for key, value in fields.items():
            if key not in _KINDS or type(value) is not _KINDS[key]:
                raise ValueError(
                    f"block {number} of the vocabulary has {quoted(key)}: {quoted(value)}; expected"
                    " only " + ", ".join(f"{k} ({kind.__name__})" for k, kind in _KINDS.items())
                )
        for key, most in _MOST.items():
            if not 0 <= fields.get(key, 0) <= most:
                raise ValueError(
                    f"block {number} of the vocabulary has {key}: {quoted(fields[key])}, expected 0"
                    f" to {most:,}"
                )
        if not 0 < len(fields["name"]) <= 256:
            raise ValueError(f"block {number} of the vocabulary has name: {quoted(fields['name'])}")
        if not all(type(id) is int and 0 <= id <= MOST_IDS for id in fields.get("table", ())):
            raise ValueError(f"block {number} of the vocabulary has ids outside 0 to {MOST_IDS:,}")
        for key, kind in (("symbols", str), ("table", int)):
            if not all(type(entry) is kind for entry in fields.get(key, ())):
                raise ValueError(
                    f"block {number} of the vocabulary has {key} that are no {kind.__name__}"
                )
        lists = {key: tuple(fields[key]) for key in ("symbols", "table") if key in fields}
        blocks.append(Block(**{**fields, **lists}))
    return tuple(blocks)


def integers(values: ArrayLike | Tensor) -> NDArray[np.int64] | Tensor:
    """`values` as a torch or numpy int64 array; anything but integers is a TypeError."""
    if type(values).__module__.partition(".")[0] == "torch":
        tensor = cast("Tensor", values)
        if tensor.is_floating_point() or tensor.is_complex() or str(tensor.dtype) == "torch.bool":
            raise TypeError(f"codes and ids must be integers, found {tensor.dtype}")
        return tensor.long()
    array = np.asarray(values)
    if array.size == 0 and not isinstance(values, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"codes and ids must be integers, found {array.dtype}")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"code or id {int(array.max())} does not fit into 64 signed bits")
    return array.astype(np.int64)


def first_outside(values: NDArray[np.int64] | Tensor, start: int, stop: int) -> int | None:
    """The first of some integers outside [start, stop), None where all are inside."""
    outside = values[(values < start) | (values >= stop)]
    return int(outside.reshape(-1)[0]) if len(outside) else None


def take(table: ArrayLike, indices: NDArray[np.int64] | Tensor) -> NDArray[np.int64] | Tensor:
    """table[indices] in the kind of `indices`, a numpy or torch array."""
    table = np.asarray(table)
    if isinstance(indices, np.ndarray):
        return table[indices]
    import torch

    return torch.from_numpy(table).to(indices.device)[indices]
