"""The texts beside the media that a tokenizer trains on: what its codes are aligned with.

Of a shard's sample it is a member of the same key, of a file the one of the same stem: `.txt`, the
text as it is, or `.json`, every string that stands under "text" (so those of a document's
segments), in their order, a line each.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import log
from pathlib import Path
from typing import Any

from unified_base.files import open_regular, read_bytes
from unified_base.media_source import Where
from unified_base.tar_members import scan_members
from unified_base.text import quoted

__all__ = ["AlignedTexts", "symbols_of", "text_beside", "weighed_words"]

_MAX_TEXT = 1 << 20
_ENDINGS = (".txt", ".json")
# Words are runs of letters, a Chinese character by itself: captions in it have no blanks.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+")


def text_beside(where: Where) -> str | None:
    """The text of the sample that a medium belongs to; None where there is none.

    Raises ValueError for a text that is no UTF-8, no JSON or too long.
    """
    if where.shard:
        return _of_shard(where.shard).get(where.key)
    stem = Path(where.file).with_suffix("")
    for ending in _ENDINGS:
        path = stem.with_suffix(ending)
        if path.is_file():
            return _read(read_bytes(path, "text", _MAX_TEXT), ending, str(path))
    return None


@lru_cache(maxsize=2)  # media come shard by shard
def _of_shard(shard: str) -> dict[str, str]:
    """The texts of a shard by key. What is torn after them, who reads the media has said."""
    texts: dict[str, str] = {}
    with open_regular(shard, "shard") as file:

        def read(offset: int, count: int) -> bytes:
            return os.pread(file.fileno(), count, offset)

        try:
            for member in scan_members(read, 0, os.fstat(file.fileno()).st_size):
                folder, slash, last = member.name.rpartition("/")
                ending = os.path.splitext(last)[1].lower()
                if ending not in _ENDINGS or member.kind != "file":
                    continue
                if member.size > _MAX_TEXT:
                    raise ValueError(
                        f"shard {shard}, member {quoted(member.name)} is {member.size:,} bytes"
                        f" long, expected a text of at most {_MAX_TEXT:,}"
                    )
                data = os.pread(file.fileno(), member.size, member.offset)
                key = folder + slash + last.partition(".")[0]
                texts[key] = _read(data, ending, f"shard {shard}, member {quoted(member.name)}")
        except OSError as error:
            raise ValueError(f"shard {shard} cannot be read: {error}") from None
    return texts


def _read(data: bytes, ending: str, where: str) -> str:
    try:
        text = data.decode("utf-8")
        return text if ending == ".txt" else "\n".join(_strings(json.loads(text)))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is no text: {error}") from None


def _strings(entry: Any) -> Iterator[str]:
    """Every string under "text" in JSON, in order."""
    if isinstance(entry, dict):
        for name, value in entry.items():
            if name == "text" and isinstance(value, str):
                yield value
            else:
                yield from _strings(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from _strings(value)


class AlignedTexts:
    """Texts of media by number, or the part of them that a pattern finds.

    pattern: a regular expression; its first group, or all that it matches, is the text; where it
    matches nothing there is none. None: the whole text.
    """

    def __init__(self, pattern: str | None) -> None:
        self._pattern = None if pattern is None else re.compile(pattern, re.DOTALL)
        self.texts: list[str | None] = []

    def add(self, where: Where) -> None:
        """Add the text of a medium."""
        text = text_beside(where)
        if text is not None and self._pattern is not None:
            match = self._pattern.search(text)
            text = None if match is None else match[1] if match.re.groups else match[0]
        self.texts.append(text or None)

    def __len__(self) -> int:
        return len(self.texts)


def weighed_words(texts: Iterable[str | None], limit: int) -> dict[str, float]:
    """The commonest words of texts, by themselves, with the weight that a word has.

    A weight is the logarithm of texts over texts with the word: what every caption says tells
    nothing (the inverse document frequencies of arXiv:2411.03313).
    """
    counts: Counter[str] = Counter()
    number = 0
    for text in texts:
        number += 1
        counts.update(set(words_of(text)))
    # Ties by the alphabet: the same texts in another order give the same words.
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return {word: log((number + 1) / count) for word, count in sorted(common)}


def words_of(text: str | None) -> list[str]:
    """The words of a text in lower case, in order."""
    return [] if text is None else _WORD.findall(text.lower())


def symbols_of(texts: Sequence[str | None]) -> list[str]:
    """Every character that is in texts, sorted."""
    return sorted({character for text in texts if text is not None for character in text})
