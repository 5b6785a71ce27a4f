"""The unified id space: contiguous blocks of ids for text, markers, sizes and every codebook.

A *code* is an index inside one block, an *id* an index in the whole vocabulary. This is the only
file that adds an offset: everything else converts through `Vocabulary.to_ids` and `from_ids`.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

TEXT, MARKERS, SIZE = "text", "markers", "size"


class VocabularyMismatchError(ValueError):
    """Two vocabularies that had to be the same are not."""


@dataclass(frozen=True)
class Block:
    """A contiguous range of ids `[start, start + size)`.

    level: codebook level of a media block, None otherwise.
    fingerprint: of the tokenizer whose codes the block holds (text or media), None if it has none.
    symbols: names of the ids of the markers block, in order.
    """

    name: str
    start: int
    size: int
    level: int | None = None
    fingerprint: str | None = None
    symbols: tuple[str, ...] | None = None

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Vocabulary:
    """The manifest of blocks, in declared order, text first.

    text_size: true length of the text tokenizer. text_rows: rows reserved for it (>= text_size);
    the rows between are padding of the checkpoint and are never encoded, allowed or decoded.
    """

    blocks: tuple[Block, ...]
    text_size: int
    text_rows: int

    def __post_init__(self) -> None:
        if not self.blocks or self.blocks[0].name != TEXT:
            raise ValueError("the first block of a vocabulary must be 'text'")
        if not 0 < self.text_size <= self.text_rows:
            raise ValueError(
                f"text_size must be in 1..text_rows, found {self.text_size} of {self.text_rows}"
            )
        if self.blocks[0].size != self.text_rows:
            raise ValueError(
                f"block 'text' has {self.blocks[0].size} rows, text_rows says {self.text_rows}"
            )
        start, seen = 0, set()
        for block in self.blocks:
            if block.name in seen:
                raise ValueError(f"block '{block.name}' is declared twice")
            if block.start != start or block.size < 1:
                raise ValueError(
                    f"block '{block.name}' has ids [{block.start}, {block.stop}), expected at "
                    f"least one id from {start} on: blocks are contiguous in declared order"
                )
            if block.symbols is not None and (
                len(block.symbols) != block.size or len(set(block.symbols)) != block.size
            ):
                raise ValueError(
                    f"block '{block.name}' needs {block.size} distinct symbols, "
                    f"found {list(block.symbols)}"
                )
            seen.add(block.name)
            start = block.stop

    @classmethod
    def build(
        cls,
        text_size: int,
        text_rows: int,
        markers: Iterable[str],
        max_grid: int,
        image: tuple[Sequence[int], str] | None = None,
        audio: tuple[Sequence[int], str] | None = None,
        text_fingerprint: str | None = None,
    ) -> Vocabulary:
        """Lay the blocks out as text, markers, size, image.0.., audio.0...

        max_grid: the largest height or width of a grid, in codes. image, audio: the tokenizer's
        (codebook_sizes, fingerprint), or None where there is no such tokenizer.
        """
        symbols = tuple(markers)
        declared: list[tuple[str, int, int | None, str | None, tuple[str, ...] | None]] = [
            (TEXT, text_rows, None, text_fingerprint, None),
            (MARKERS, len(symbols), None, None, symbols),
            (SIZE, max_grid, None, None, None),
        ]
        for modality, tokenizer in (("image", image), ("audio", audio)):
            if tokenizer is not None:
                sizes, fingerprint = tokenizer
                for level, size in enumerate(sizes):
                    declared.append((f"{modality}.{level}", int(size), level, fingerprint, None))
        blocks, start = [], 0
        for name, size, block_level, block_fingerprint, block_symbols in declared:
            blocks.append(Block(name, start, size, block_level, block_fingerprint, block_symbols))
            start += size
        return cls(tuple(blocks), text_size, text_rows)

    @property
    def size(self) -> int:
        """Number of ids, padded text rows included: the rows of the embedding."""
        return self.blocks[-1].stop

    @cached_property
    def _by_name(self) -> dict[str, Block]:
        return {block.name: block for block in self.blocks}

    @cached_property
    def _starts(self) -> list[int]:
        return [block.start for block in self.blocks]

    @cached_property
    def _markers(self) -> dict[str, int]:
        return {
            symbol: block.start + code
            for block in self.blocks
            for code, symbol in enumerate(block.symbols or ())
        }

    def block(self, name: str) -> Block:
        try:
            return self._by_name[name]
        except KeyError:
            raise ValueError(
                f"the vocabulary has no block '{name}'; it has {', '.join(self._by_name)}"
            ) from None

    def levels(self, modality: str) -> tuple[Block, ...]:
        """The codebook blocks of one modality ("image", "audio"), by level; () if it has none."""
        return tuple(b for b in self.blocks if b.name.rpartition(".")[0] == modality)

    def id_range(self, name: str) -> tuple[int, int]:
        """The ids [start, stop) of a block that may occur in a sequence (padded rows left out)."""
        block = self.block(name)
        return block.start, block.start + self._usable(block)

    def marker(self, name: str) -> int:
        """The id of a marker."""
        try:
            return self._markers[name]
        except KeyError:
            raise ValueError(
                f"the vocabulary has no marker '{name}'; it has {', '.join(self._markers)}"
            ) from None

    def block_of(self, id: int) -> Block:
        if not 0 <= id < self.size:
            raise ValueError(f"id {id} is outside the vocabulary of {self.size} ids")
        return self.blocks[bisect_right(self._starts, id) - 1]

    def describe(self, id: int) -> str:
        """An id in words, for error messages and inspection; works for any integer."""
        if not 0 <= id < self.size:
            return f"id {id} (outside the vocabulary of {self.size} ids)"
        block = self.block_of(id)
        code = id - block.start
        if block.symbols is not None:
            return f"{block.symbols[code]} (id {id})"
        if code >= self._usable(block):
            return f"id {id} (a padded row of block {block.name})"
        return f"{block.name} code {code} (id {id})"

    def to_ids(self, block_name: str, codes: Any) -> Any:
        """Codes of a block -> ids: an int, or a numpy or torch integer array of the same shape.

        Raises ValueError naming value, block and range for a code outside the block (for text:
        outside the text tokenizer's true length) and TypeError for codes that are not integers.
        """
        block = self.block(block_name)
        usable = self._usable(block)
        if type(codes) is int:
            if 0 <= codes < usable:
                return block.start + codes
            raise self._bad_code(codes, block, usable)
        codes = _integers(codes)
        bad = _first_outside(codes, 0, usable)
        if bad is not None:
            raise self._bad_code(bad, block, usable)
        return codes + block.start

    def from_ids(self, block_name: str, ids: Any) -> Any:
        """Ids of a block -> codes: the inverse of `to_ids`, with the same checks."""
        block = self.block(block_name)
        stop = block.start + self._usable(block)
        if type(ids) is int:
            if block.start <= ids < stop:
                return ids - block.start
            raise self._bad_id(ids, block, stop)
        ids = _integers(ids)
        bad = _first_outside(ids, block.start, stop)
        if bad is not None:
            raise self._bad_id(bad, block, stop)
        return ids - block.start

    def _usable(self, block: Block) -> int:
        return self.text_size if block.name == TEXT else block.size

    def _bad_code(self, code: int, block: Block, usable: int) -> ValueError:
        return ValueError(
            f"code {code} is outside block '{block.name}', which holds codes 0..{usable - 1}; "
            f"was it made by another tokenizer?"
        )

    def _bad_id(self, id: int, block: Block, stop: int) -> ValueError:
        return ValueError(
            f"{self.describe(id)} is outside block '{block.name}', "
            f"which holds ids {block.start}..{stop - 1}"
        )

    def to_json(self) -> dict[str, Any]:
        blocks = []
        for block in self.blocks:
            fields = {k: v for k, v in asdict(block).items() if v is not None}
            if block.symbols is not None:
                fields["symbols"] = list(block.symbols)
            blocks.append(fields)
        return {"text_size": self.text_size, "text_rows": self.text_rows, "blocks": blocks}

    @classmethod
    def from_json(cls, obj: Any) -> Vocabulary:
        """The inverse of `to_json`; strict: unknown, missing or mistyped entries are ValueError."""
        if not isinstance(obj, dict) or set(obj) != {"text_size", "text_rows", "blocks"}:
            raise ValueError(
                "a vocabulary must be an object with text_size, text_rows and blocks, found "
                + (f"keys {sorted(obj)}" if isinstance(obj, dict) else type(obj).__name__)
            )
        known = {
            "name": str,
            "start": int,
            "size": int,
            "level": int,
            "fingerprint": str,
            "symbols": list,
        }
        blocks = []
        if not isinstance(obj["blocks"], list):
            raise ValueError("blocks of a vocabulary must be a list")
        for number, fields in enumerate(obj["blocks"]):
            if not isinstance(fields, dict) or not {"name", "start", "size"} <= set(fields):
                raise ValueError(f"block {number} of the vocabulary needs name, start and size")
            for key, value in fields.items():
                if key not in known or type(value) is not known[key]:
                    raise ValueError(
                        f"block {number} of the vocabulary has {key}: {value!r}; "
                        "expected only "
                        + ", ".join(f"{k} ({kind.__name__})" for k, kind in known.items())
                    )
            symbols = fields.get("symbols")
            if symbols is not None and not all(isinstance(s, str) for s in symbols):
                raise ValueError(f"block {number} of the vocabulary has symbols that are no text")
            blocks.append(
                Block(**{**fields, "symbols": tuple(symbols) if symbols is not None else None})
            )
        for key in ("text_size", "text_rows"):
            if type(obj[key]) is not int:
                raise ValueError(f"{key} of the vocabulary must be an integer, found {obj[key]!r}")
        return cls(tuple(blocks), obj["text_size"], obj["text_rows"])

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the canonical JSON: equal exactly when the vocabularies are."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def check_same(self, other: Vocabulary) -> None:
        """Raise VocabularyMismatchError, naming hashes and the first differing block, if unlike."""
        if self.hash == other.hash:
            return
        pairs = zip(self.blocks, other.blocks)
        differing = next(((a, b) for a, b in pairs if a != b), None)
        if differing is not None:
            where = f"first differing block: {_show(differing[0])} against {_show(differing[1])}"
        elif len(self.blocks) != len(other.blocks):
            longer = max(self.blocks, other.blocks, key=len)
            extra = longer[min(len(self.blocks), len(other.blocks))]
            where = f"first differing block: {_show(extra)} exists in only one of them"
        else:
            where = f"first differing block: 'text' holds {self.text_size} against "
            where += f"{other.text_size} text ids"
        raise VocabularyMismatchError(
            f"vocabulary {self.hash[:16]} is not vocabulary {other.hash[:16]}; {where}"
        )


def _show(block: Block) -> str:
    text = f"'{block.name}' [{block.start}, {block.stop}) fingerprint {block.fingerprint}"
    return text + (f" symbols {' '.join(block.symbols)}" if block.symbols is not None else "")


def _integers(values: Any) -> Any:
    """`values` as a torch or numpy int64 array; anything but integers is a TypeError."""
    if type(values).__module__.partition(".")[0] == "torch":
        if values.is_floating_point() or values.is_complex() or str(values.dtype) == "torch.bool":
            raise TypeError(f"codes and ids must be integers, found {values.dtype}")
        return values.long()
    array = np.asarray(values)
    if array.size == 0 and not isinstance(values, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"codes and ids must be integers, found {array.dtype}")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"code or id {int(array.max())} does not fit into 64 signed bits")
    return array.astype(np.int64)


def _first_outside(values: Any, start: int, stop: int) -> int | None:
    outside = values[(values < start) | (values >= stop)]
    return int(outside.reshape(-1)[0]) if len(outside) else None
