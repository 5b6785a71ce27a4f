"""An index of pictures: what is in folders and shards, found by a text or by a picture.

    index = MediaIndex.open("runs/index", tower)
    for hit in index.search_text("a fox", 5): print(hit.score, hit.where)

A folder with `index.json`, and for every shard or group of files a part: vectors (safetensors,
float16) and where each medium lies (JSON). Search is exact, over all vectors, by usearch. Vectors
of another tower mean nothing to this one: an index names the fingerprint of its own.

Legend: N media, D width of a tower's vectors.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from unified.matching.tower import Tower
from unified_base.config import parse_config
from unified_base.extras import missing_extra
from unified_base.foreign import foreign
from unified_base.media_source import Medium, Where, read_again
from unified_base.safetensors_files import read_header
from unified_base.structured import read_json
from unified_base.text import quoted

__all__ = ["MARKER", "Hit", "IndexHeader", "IndexPart", "MediaIndex", "entries_path", "open_search",
           "vectors_path"]  # fmt: skip

MARKER = "index.json"
_MOST_ENTRIES = 1 << 30  # bytes of a part's list


@dataclass(frozen=True)
class IndexPart:
    """A shard's or some files' share. name: of its two files; rows: media in it; broken: media that
    could not be read."""

    name: str
    rows: int
    broken: int = 0


@dataclass(frozen=True)
class IndexHeader:
    """What index.json holds.

    Attributes:
        version: of this form.
        modality: of the media.
        tower: its folder as it was called when the index was built.
        fingerprint: of the tower.
        width: D.
        parts: in the order of the sources.
    """

    version: int
    modality: str
    tower: str
    fingerprint: str
    width: int
    parts: tuple[IndexPart, ...]

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError(f"version is {self.version}, expected 1: a later unified reads it")

    @property
    def rows(self) -> int:
        """N of all parts."""
        return sum(part.rows for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Hit(NamedTuple):
    """A medium that was found. score: the cosine, -1 to 1."""

    where: Where
    score: float

    def to_json(self) -> dict[str, Any]:
        """As `--json` gives it."""
        at = self.where
        return {
            "score": round(self.score, 6), "file": at.file, "shard": at.shard or None,
            "key": at.key or None,
        }  # fmt: skip

    def read(self) -> Medium:
        """The medium. Raises ValueError where it is no longer there as it was."""
        return read_again(self.where, "image")


class MediaIndex:
    """An index that was built (`build_index.build_index`); see `open`."""

    def __init__(self, folder: Path, header: IndexHeader, tower: Tower) -> None:
        self.folder, self.header, self.tower = folder, header, tower
        self._parts = [_read_part(folder, part, header) for part in header.parts]

    @classmethod
    def open(cls, folder: str | os.PathLike[str], tower: Tower | None = None) -> Self:
        """The index in a folder.

        tower: that it was built with; None: the one in the folder that it names.

        Raises:
            ValueError: no index, or one by another tower; files that are torn; usearch missing.
        """
        open_search()
        path = Path(folder)
        header = cls.read_header(path)
        tower = Tower.from_pretrained(header.tower) if tower is None else tower
        if tower.fingerprint != header.fingerprint:
            raise ValueError(
                f"the index {path} was built by a tower with the fingerprint {header.fingerprint},"
                f" this one has {tower.fingerprint}: their vectors cannot be compared; give the"
                " tower that it was built with, or build the index anew"
            )
        return cls(path, header, tower)

    @staticmethod
    def read_header(folder: Path) -> IndexHeader:
        """What index.json says. Raises ValueError where there is none, or none that can be read."""
        file = folder / MARKER
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {MARKER}: it is no index, or its building was stopped; run"
                " `unified index` (again)"
            )
        return parse_config(IndexHeader, read_json(file, _MOST_ENTRIES), str(file))

    def __len__(self) -> int:
        return self.header.rows

    def search_text(self, text: str, count: int = 10) -> list[Hit]:
        """The media that fit a text best, the best first. Raises ValueError for too long a text."""
        return self.search(self.tower.embed_texts([text])[0], count)

    def search_picture(self, pixels: np.ndarray, count: int = 10) -> list[Hit]:
        """The media most like a picture, uint8 (H, W, 3), the likest first."""
        return self.search(self.tower.embed_pictures([pixels])[0], count)

    def search(self, vector_D: np.ndarray, count: int = 10) -> list[Hit]:
        """The media nearest to a vector of length one, float (D,); equal scores in their order."""
        if count < 1:
            raise ValueError(f"count is {count}, expected at least 1")
        query_D = vector_D.astype(np.float16)
        candidates: list[tuple[float, int, int]] = []
        for number, (vectors_ND, _) in enumerate(self._parts):
            rows, scores = _nearest(vectors_ND, query_D, min(count, len(vectors_ND)))
            candidates += [(-score, number, row) for score, row in zip(scores, rows)]
        return [
            Hit(self._parts[number][1][row], -negative)
            for negative, number, row in sorted(candidates)[:count]
        ]


def open_search() -> Any:
    """`usearch.index`. Raises ValueError, with what to do, where usearch is not installed."""
    try:
        from usearch import index
    except ImportError:
        raise missing_extra("search in an index", "usearch", "search") from None
    return index


def _nearest(
    vectors_ND: np.ndarray, query_D: np.ndarray, count: int
) -> tuple[list[int], list[float]]:
    """Rows and cosines of the nearest, all rows looked at."""
    if not count:
        return [], []
    usearch = open_search()
    matches = usearch.search(
        vectors_ND, query_D[None], count, usearch.MetricKind.IP, exact=True, threads=1
    )
    rows = [int(key) for key in matches.keys]
    return rows, [1 - float(distance) for distance in matches.distances]


def vectors_path(folder: Path, name: str) -> Path:
    """The file of a part's vectors."""
    return folder / f"{name}.safetensors"


def entries_path(folder: Path, name: str) -> Path:
    """The file that says where a part's media lie."""
    return folder / f"{name}.json"


def _read_part(
    folder: Path, part: IndexPart, header: IndexHeader
) -> tuple[np.ndarray, list[Where]]:
    """Vectors float16 (N, D), mapped into memory, and where each medium lies.

    Raises ValueError for files that are torn, or of other sizes than index.json says.
    """
    path = vectors_path(folder, part.name)
    if Path(part.name).name != part.name:
        raise ValueError(
            f"{folder / MARKER}: a part is called {quoted(part.name)}, expected a name"
        )
    tensor = read_header(path).get("vectors")
    shape = (part.rows, header.width)
    if tensor is None or tensor.dtype != "F16" or tensor.shape != shape:
        raise ValueError(f"{path} does not hold the {part.rows:,} vectors that {MARKER} says; build"
                         " the index again")  # fmt: skip
    vectors = np.zeros(shape, np.float16)
    if part.rows:
        vectors = np.memmap(path, np.float16, "r", tensor.start, shape)
    listed = entries_path(folder, part.name)
    rows = read_json(listed, _MOST_ENTRIES, list)
    if len(rows) != part.rows:
        raise ValueError(f"{listed} has {len(rows):,} entries, expected {part.rows:,}")
    with foreign(f"{listed} is not a list of media"):
        return vectors, [Where(*row) for row in rows]
