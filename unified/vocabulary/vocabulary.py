"""The unified id space: blocks of ids for text, markers, sizes and every codebook.

A *code* is an index inside one block, an *id* an index in the whole vocabulary. This is the only
file that adds an offset: everything else converts through `Vocabulary.to_ids` and `from_ids`.

Blocks of our own stand one after another behind the text. Published models may keep theirs among
the rows of their text tokenizer, at ids in any order (Chameleon's codes); what a block holds there
is text no more.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unified.vocabulary.block import (
    MARKERS,
    MOST_IDS,
    SIZE,
    TEXT,
    Block,
    Ranges,
    first_outside,
    integers,
    read_blocks,
    take,
)
from unified_base.text import quoted

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Block", "Ranges", "Vocabulary", "VocabularyMismatchError"]


class VocabularyMismatchError(ValueError):
    """Two vocabularies that had to be the same are not."""


@dataclass(frozen=True)
class Vocabulary:
    """The manifest of blocks, in declared order, text first.

    text_size: true length of the text tokenizer. text_rows: rows reserved for it (>= text_size);
    the rows between are padding of the checkpoint and are never encoded, allowed or decoded.
    literals: the text ids of texts that a format writes itself, digits above all.
    """

    blocks: tuple[Block, ...]
    text_size: int
    text_rows: int
    literals: tuple[tuple[str, tuple[int, ...]], ...] = ()

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
        end = 0
        seen: set[str] = set()
        for block in self.blocks:
            if block.name in seen:
                raise ValueError(f"block '{block.name}' is declared twice")
            block.check()
            inside = bool(seen) and block.start >= 0 and block.stop <= self.text_rows
            if block.size < 1 or not (inside or block.runs == ((end, end + block.size),)):
                raise ValueError(
                    f"block '{block.name}' has ids [{block.start}, {block.stop}), expected at "
                    f"least one id from {end} on: blocks are contiguous in declared order"
                    " (or lie among the rows of text)"
                )
            seen.add(block.name)
            end = end if inside else block.stop
            if end > MOST_IDS:
                raise ValueError(f"block '{block.name}' ends at {end:,}, expected {MOST_IDS:,}")
        for text, ids in self.literals:
            if not ids or not all(self.is_text(id) for id in ids):
                raise ValueError(
                    f"the literal {quoted(text)} has ids {quoted(list(ids))}, which are not text's"
                )
        for (_, stop, before), (start, _, after) in pairwise(self._segments):
            if start < stop:
                raise ValueError(f"blocks '{before.name}' and '{after.name}' share id {start}")

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
        others: Mapping[str, tuple[Sequence[int], str]] | None = None,
    ) -> Vocabulary:
        """Lay the blocks out as text, markers, size, image.0.., audio.0.., and other modalities'.

        max_grid: the largest height or width of a grid, in codes. image, audio: the tokenizer's
        (codebook_sizes, fingerprint), or None where there is no such tokenizer; others: those of
        other modalities by name.
        """
        symbols = tuple(markers)
        blocks = [Block(TEXT, 0, text_rows, fingerprint=text_fingerprint)]
        blocks.append(Block(MARKERS, text_rows, len(symbols), symbols=symbols))
        blocks.append(Block(SIZE, blocks[-1].stop, max_grid))
        for modality, tokenizer in {"image": image, "audio": audio, **(others or {})}.items():
            sizes, fingerprint = ((), None) if tokenizer is None else tokenizer
            for level, size in enumerate(sizes):
                start = blocks[-1].stop
                blocks.append(Block(f"{modality}.{level}", start, int(size), level, fingerprint))
        return cls(tuple(blocks), text_size, text_rows)

    @cached_property
    def size(self) -> int:
        """Number of ids, padded text rows included: the rows of the embedding."""
        return max(block.stop for block in self.blocks)

    @cached_property
    def text_ranges(self) -> Ranges:
        """The ids of text: those of its tokenizer that no other block holds."""
        ranges, at = [], 0
        for start, stop, _ in self._segments:
            if at < min(start, self.text_size):
                ranges.append((at, min(start, self.text_size)))
            at = max(at, stop)
        return (*ranges, (at, self.text_size)) if at < self.text_size else tuple(ranges)

    @cached_property
    def _segments(self) -> list[tuple[int, int, Block]]:
        """The runs of all blocks but text, sorted: (start, stop, block)."""
        runs = [(start, stop, block) for block in self.blocks[1:] for start, stop in block.runs]
        return sorted(runs, key=lambda run: run[:2])

    @cached_property
    def _by_name(self) -> dict[str, Block]:
        return {block.name: block for block in self.blocks}

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _, _ in self._segments]

    @cached_property
    def _markers(self) -> dict[str, int]:
        return {
            symbol: block.id(code)
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
        """The codebook blocks of a modality or kind of span, by level; () if it has none."""
        return tuple(b for b in self.blocks if b.name.rpartition(".")[0] == modality)

    def id_range(self, name: str) -> tuple[int, int]:
        """The ids [start, stop) of a block other than text.

        Raises ValueError where they are not one range.
        """
        runs = self.block(name).runs
        if len(runs) > 1:
            raise ValueError(f"the ids of block '{name}' are {len(runs)} ranges, expected one")
        return runs[0]

    def marker(self, name: str) -> int:
        """The id of a marker."""
        try:
            return self._markers[name]
        except KeyError:
            raise ValueError(
                f"the vocabulary has no marker '{name}'; it has {', '.join(self._markers)}"
            ) from None

    def symbol(self, id: int) -> str:
        """The name of a marker's id."""
        return self._symbols[id]

    @cached_property
    def _symbols(self) -> dict[int, str]:
        return {id: symbol for symbol, id in self._markers.items()}

    def literal(self, text: str) -> tuple[int, ...]:
        """The ids of a text that a format writes itself."""
        ids = dict(self.literals).get(text)
        if ids is None:
            raise ValueError(
                f"the vocabulary has not recorded the ids of {text!r}; it has"
                f" {', '.join(repr(text) for text, _ in self.literals) or 'none'}"
            )
        return ids

    def block_of(self, id: int) -> Block:
        if not 0 <= id < self.size:
            raise ValueError(f"id {id} is outside the vocabulary of {self.size} ids")
        return self.segment_of(id)[2]

    def segment_of(self, id: int) -> tuple[int, int, Block]:
        """(start, stop, block): the ids around this one that belong to its block, too."""
        at = bisect_right(self._starts, id) - 1
        if at >= 0 and id < self._segments[at][1]:
            return self._segments[at]
        start = self._segments[at][1] if at >= 0 else 0
        following = self._segments[at + 1 : at + 2]
        return start, following[0][0] if following else self.text_rows, self.blocks[0]

    def describe(self, id: int) -> str:
        """An id in words, for error messages and inspection; works for any integer."""
        if not 0 <= id < self.size:
            return f"id {id} (outside the vocabulary of {self.size} ids)"
        block = self.block_of(id)
        code = id - block.start if block.table is None else int(block.codes[id - block.start])
        if block.symbols is not None:
            return f"{block.symbols[code]} (id {id})"
        if block.name == TEXT and code >= self.text_size:
            return f"id {id} (a padded row of block {block.name})"
        return f"{block.name} code {code} (id {id})"

    @overload
    def to_ids(self, block_name: str, codes: int) -> int: ...

    @overload
    def to_ids(self, block_name: str, codes: Tensor) -> Tensor: ...

    @overload
    def to_ids(self, block_name: str, codes: ArrayLike) -> NDArray[np.int64]: ...

    def to_ids(self, block_name: str, codes: int | Tensor | ArrayLike) -> Any:
        """Codes of a block -> ids: an int, or a numpy or torch integer array of the same shape.

        Raises ValueError naming value, block and range for a code outside the block (for text:
        outside the text tokenizer's true length, or an id that is another block's) and TypeError
        for codes that are not integers.
        """
        block = self.block(block_name)
        usable = self.text_size if block_name == TEXT else block.size
        if type(codes) is int:
            if not 0 <= codes < usable or (block_name == TEXT and not self.is_text(codes)):
                raise self._bad_code(codes, block, usable)
            return block.id(codes)
        codes = integers(codes)
        bad = first_outside(codes, 0, usable)
        if bad is None and block_name == TEXT:
            bad = self._first_other(codes)
        if bad is not None:
            raise self._bad_code(bad, block, usable)
        return codes + block.start if block.table is None else take(block.table, codes)

    @overload
    def from_ids(self, block_name: str, ids: int) -> int: ...

    @overload
    def from_ids(self, block_name: str, ids: Tensor) -> Tensor: ...

    @overload
    def from_ids(self, block_name: str, ids: ArrayLike) -> NDArray[np.int64]: ...

    def from_ids(self, block_name: str, ids: int | Tensor | ArrayLike) -> Any:
        """Ids of a block -> codes: the inverse of `to_ids`, with the same checks."""
        block = self.block(block_name)
        stop = self.text_size if block_name == TEXT else block.stop
        if type(ids) is int:
            inside = block.start <= ids < stop
            if inside and block.table is not None:
                code = int(block.codes[ids - block.start])
                inside = code >= 0
            elif inside:
                code = ids - block.start
                inside = block_name != TEXT or self.is_text(ids)
            if not inside:
                raise self._bad_id(ids, block, stop)
            return code
        ids = integers(ids)
        bad = first_outside(ids, block.start, stop)
        if bad is None and block_name == TEXT:
            bad = self._first_other(ids)
        if bad is None and block.table is not None:
            codes = take(block.codes, ids - block.start)
            if not len(codes) or codes.min() >= 0:
                return codes
            bad = int(ids[codes < 0].reshape(-1)[0])
        if bad is not None:
            raise self._bad_id(bad, block, stop)
        return ids - block.start

    def is_text(self, id: int) -> bool:
        """Whether an id is the text tokenizer's and no other block's."""
        return 0 <= id < self.text_size and self._text_mask[id] == 1

    @cached_property
    def _text_mask(self) -> bytes:
        mask = bytearray(self.text_size)
        for start, stop in self.text_ranges:
            mask[start:stop] = b"\1" * (stop - start)
        return bytes(mask)

    def _first_other(self, values: NDArray[np.int64] | Tensor) -> int | None:
        """The first of some ids of the text tokenizer that another block holds."""
        if len(self.text_ranges) == 1 and self.text_ranges[0] == (0, self.text_size):
            return None
        text = take(np.frombuffer(self._text_mask, np.uint8).astype(np.int64), values)
        others = values[text == 0]
        return int(others.reshape(-1)[0]) if len(others) else None

    def _bad_code(self, code: int, block: Block, usable: int) -> ValueError:
        if block.name == TEXT and 0 <= code < usable:
            return ValueError(f"{self.describe(code)} is outside block 'text': no text holds it")
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
        blocks = [block.to_json() for block in self.blocks]
        obj = {"text_size": self.text_size, "text_rows": self.text_rows, "blocks": blocks}
        if self.literals:
            obj["literals"] = {text: list(ids) for text, ids in self.literals}
        return obj

    @classmethod
    def from_json(cls, obj: Any) -> Vocabulary:
        """The inverse of `to_json`; strict: unknown, missing or mistyped entries are ValueError."""
        keys = {"text_size", "text_rows", "blocks"}
        if not isinstance(obj, dict) or not keys <= set(obj) <= keys | {"literals"}:
            raise ValueError(
                "a vocabulary must be an object with text_size, text_rows and blocks, found "
                + (f"keys {quoted(sorted(obj))}" if isinstance(obj, dict) else type(obj).__name__)
            )
        blocks = read_blocks(obj["blocks"])
        for key in ("text_size", "text_rows"):
            if type(obj[key]) is not int:
                raise ValueError(
                    f"{key} of the vocabulary must be an integer, found {quoted(obj[key])}"
                )
        literals = obj.get("literals", {})
        if not isinstance(literals, dict) or not all(
            isinstance(ids, list) and ids and all(type(id) is int for id in ids)
            for ids in literals.values()
        ):
            raise ValueError(
                f"literals of the vocabulary must map texts to ids, found {quoted(literals)}"
            )
        pairs = tuple((text, tuple(ids)) for text, ids in literals.items())
        return cls(blocks, obj["text_size"], obj["text_rows"], pairs)

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
            where = f"first differing block: {differing[0]} against {differing[1]}"
        elif len(self.blocks) != len(other.blocks):
            longer = max(self.blocks, other.blocks, key=len)
            extra = longer[min(len(self.blocks), len(other.blocks))]
            where = f"first differing block: {extra} exists in only one of them"
        else:
            where = f"first differing block: 'text' holds {self.text_size} against "
            where += f"{other.text_size} text ids"
        raise VocabularyMismatchError(
            f"vocabulary {self.hash[:16]} is not vocabulary {other.hash[:16]}; {where}"
        )
