"""The samples of a source by number. Its shards are checked first, and opened on first use."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from unified.dataloading.pairs_as_tasks import CAPTION_KINDS
from unified.dataloading.source import Source
from unified.dataloading.stored_codes import Stored, StoredCodes, read_stored_codes
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.shard_file import ShardFile
from unified_data.shard_index import INDEX, ShardInfo, count_fault, read_index

__all__ = ["SourceSamples", "allow_open", "find_shards"]

_OTHER_FILES = 200
"""Files that the rest of a process may have open."""


def find_shards(shards: Iterable[str]) -> list[Path]:
    """The tar files that paths name: files, patterns with a `*` in their last part, or folders with
    an index. Those of each are sorted. Raises ValueError where one names none."""
    files: list[Path] = []
    for pattern in shards:
        path = Path(pattern)
        if "*" in path.name:
            matches = sorted(path.parent.glob(path.name))
        elif path.is_dir():
            matches = [path / shard.file for shard in read_index(path)["shards"]]
        else:
            matches = [path]
        missing = [str(match) for match in matches if not match.is_file()]
        if missing or not matches:
            problem = f"no shard {missing[0]}" if missing else f"no shards match {pattern}"
            raise ValueError(f"{problem}; build or import the data first (unified data --help)")
        files += matches
    return files


def allow_open(shards: int) -> None:
    """Let this process have so many shards open at a time.

    Raises ValueError where the system does not allow it.
    """
    try:
        import resource
    except ImportError:  # Windows: it has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = shards + _OTHER_FILES
    if soft in (resource.RLIM_INFINITY, -1) or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ValueError(
            f"the sources have {shards:,} shards, but the system lets a process open {hard:,} "
            "files; make the shards larger, or allow more (ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _why_none(paths: list[Path]) -> str:
    """Why shards of codes hold no samples, as far as the indexes beside them say."""
    skipped = [
        entry
        for folder in sorted({path.parent for path in paths})
        if (folder / INDEX).is_file()
        for entry in read_index(folder).get("left_out", {}).values()
        if isinstance(entry, dict) and isinstance(entry.get("samples"), int)
    ]
    total = sum(entry["samples"] for entry in skipped)
    problem = f"its {len(paths)} shards hold no samples"
    if not total:
        return f"{problem}; build or tokenize them again"
    reason = next((r for entry in skipped for r in entry.get("reasons", [])), "no reason is known")
    return (
        f"{problem}: all {total:,} documents were skipped when they were tokenized, such as"
        f" {reason}; tokenize them again, perhaps with --fit PIXELS"
    )


class SourceSamples:
    """All samples of one source of code shards. Shards are opened when one of theirs is read.

    Raises ValueError for shards that hold documents, or the codes of tokenizers other than those
    the vocabulary was made for.
    """

    def __init__(self, name: str, source: Source, vocabulary: Vocabulary) -> None:
        self._name = name
        self._paths = find_shards(source.shards)
        self._open: dict[int, ShardFile] = {}
        self._stored: list[StoredCodes] = []
        self._captions: list[bool] = []
        counts = []
        folders: dict[Path, tuple[StoredCodes, dict[str, ShardInfo]]] = {}
        for path in self._paths:
            if path.parent not in folders:
                folders[path.parent] = self._folder(path.parent, source, vocabulary)
            stored, known = folders[path.parent]
            info = known.get(path.name)
            self._captions.append(info is not None and info.kind in CAPTION_KINDS)
            self._stored.append(stored)
            count = None if info is None else info.samples
            if count is not None and (fault := count_fault(path, count)):
                raise ValueError(f"source {name}: shard {path}: {fault}")
            counts.append(len(ShardFile(path)) if count is None else count)
        self._ends = list(accumulate(counts))
        if not self._ends[-1]:
            raise ValueError(f"source {name}: {_why_none(self._paths)}")
        self._set_size = source.shots + 1
        if self._ends[-1] % self._set_size:
            raise ValueError(
                f"source {name}: {self._ends[-1]:,} documents are no whole sets of"
                f" {self._set_size} (shots: {source.shots}, and one that is asked); build its"
                " shards in sets"
            )

    def _folder(
        self, folder: Path, source: Source, vocabulary: Vocabulary
    ) -> tuple[StoredCodes, dict[str, ShardInfo]]:
        """What the shards of a folder hold, and what its index says of each."""
        stored = read_stored_codes(folder)
        if stored is None:
            raise ValueError(
                f"source {self._name}: {folder} holds documents, not codes; tokenize them first "
                "(unified data tokenize)"
            )
        stored.check(vocabulary, f"source {self._name}: {folder}")
        if stored.round_trip != source.round_trip:
            raise ValueError(
                f"source {self._name}: the codes in {folder} have round_trip {stored.round_trip}, "
                f"the source says {source.round_trip}"
            )
        if source.fit is not None and stored.fit != source.fit:
            raise ValueError(
                f"source {self._name}: the codes in {folder} have fit {stored.fit}, the source says"
                f" {source.fit}"
            )
        return stored, {shard.file: shard for shard in read_index(folder)["shards"]}

    def __len__(self) -> int:
        """Samples; where the source has shots, the sets of them."""
        return self._ends[-1] // self._set_size

    @property
    def num_shards(self) -> int:
        return len(self._paths)

    def read_set(self, number: int) -> tuple[str, list[list[Stored]]]:
        """The key of what is asked in a sample, and its documents: the shots, then that one.

        Raises ValueError as `read` does.
        """
        first = number * self._set_size
        each = [self.read(first + at) for at in range(self._set_size)]
        return each[-1][0], [segments for _, segments in each]

    def read(self, number: int) -> tuple[str, list[Stored]]:
        """Key and segments of a document. Raises ValueError, naming both, if it is broken."""
        at, shard, inside = self._find(number)
        key, obj, media = shard.parts(inside)
        try:
            return key, self._stored[at].from_parts(key, obj, media)
        except ValueError as error:
            raise ValueError(f"shard {shard.path}, sample {key}: {error}") from None

    def of_captions(self, number: int) -> bool:
        """Whether a sample's shard was imported from captions, as its index says."""
        return self._captions[bisect_right(self._ends, number * self._set_size)]

    def key(self, number: int) -> str:
        """The key of a sample, of which no more is read. Raises ValueError as `read` does."""
        _, shard, inside = self._find(number)
        return shard.key(inside)

    def _find(self, number: int) -> tuple[int, ShardFile, int]:
        """The number of a sample's shard, the shard, and the sample's number in it."""
        at = bisect_right(self._ends, number)
        inside = number - (self._ends[at - 1] if at else 0)
        shard = self._open.get(at)
        if shard is None:
            shard = self._open[at] = ShardFile(self._paths[at], tolerant=True)
        if inside >= len(shard):
            reason = shard.damage or f"it holds {len(shard)} samples, {INDEX} says more"
            raise ValueError(f"shard {shard.path}, sample number {inside}: {reason}")
        return at, shard, inside

    def where(self, number: int, key: str) -> str:
        """A sample in words, for reports."""
        last = (number + 1) * self._set_size - 1
        return f"shard {self._paths[bisect_right(self._ends, last)]}, sample {key}"
