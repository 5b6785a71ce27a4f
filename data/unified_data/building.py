"""Building a world: shards of documents, kind by kind, the same from the same seed.

A world says which documents there are (`plan`) and makes one of them (`make`); processes, shards,
the index and progress are here.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from unified_base.processes import in_processes
from unified_base.text import quoted
from unified_base.whole_folder import whole_folder
from unified_data.document import Document
from unified_data.shards import INDEX, ShardInfo, ShardWriter, read_index, write_index

__all__ = ["MAX_SCALE", "Progress", "WorldPlan", "build_shards", "files_digest", "progress_bar"]

MAX_SCALE = 1_000
MAX_SEED = 2**64 - 1
MAX_WORKERS = 1_024
_GROUP = 16
"""Documents that a process makes at a time."""

Progress = Callable[[str, int, int], None]
"""Called with the kind, the documents done and the documents there are."""
_Parts = tuple[dict[str, Any], dict[str, bytes]]


@dataclass(frozen=True)
class WorldPlan:
    """What a world is made of.

    name: of the world, for its index. kinds: every kind of document. splits: in the order of
    shards. plan: of a kind, a split, a seed and a scale the payload of each document. make: of a
    kind and a payload the document; a function of a module, called in other processes.
    """

    name: str
    kinds: tuple[str, ...]
    splits: tuple[str, ...]
    plan: Callable[[str, str, int, float], Sequence[Any]]
    make: Callable[[str, Any], Document]


def build_shards(
    world: WorldPlan,
    out_dir: str | Path,
    seed: int,
    scale: float,
    only: Sequence[str] | None,
    workers: int,
    progress: Progress | None,
    built: dict[str, Any],
) -> dict[str, Any]:
    """Write a world's shards and their index.json into out_dir; returns the index.

    scale: multiplies the number of documents. only: the kinds to build, None for all; those built
    earlier into the same folder stay. workers: processes; the result does not depend on it.
    built: what the index says of each kind beside the seed and the scale.

    The folder changes as a whole when all is built: a build that is killed leaves it as it was.

    Raises ValueError for an unknown kind, numbers out of range, and a folder that cannot be
    written, that another process builds into, or that holds no world.
    """
    kinds = world.kinds if only is None else tuple(dict.fromkeys(only))
    if not kinds or not set(kinds) <= set(world.kinds):
        raise ValueError(f"kinds are {list(kinds)}, expected some of {', '.join(world.kinds)}")
    if not 0 < scale <= MAX_SCALE or not 1 <= workers <= MAX_WORKERS:
        raise ValueError(
            f"scale is {quoted(scale)} and workers {quoted(workers)}, expected above 0 and at most "
            f"{MAX_SCALE}, and 1 to {MAX_WORKERS}"
        )
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"the seed is {quoted(seed)}, expected 0 to 2^64 - 1")
    stale: set[str] = set()
    with whole_folder(out_dir, INDEX, keep=lambda name: name not in stale) as folder:
        old = _index_of(Path(out_dir))
        shards: list[ShardInfo] = []
        for shard in old["shards"]:
            if shard.kind not in kinds:
                shards.append(shard)
            else:
                stale |= {shard.file, f"{shard.file}.sums"}
        for kind in kinds:
            shards += _build_kind(world, folder, kind, seed, scale, workers, progress)
        this = {"seed": seed, "scale": scale, **built}
        return write_index(
            folder, shards, world=world.name, built={**old["built"], **dict.fromkeys(kinds, this)}
        )


def _index_of(folder: Path) -> dict[str, Any]:
    """What was built into a folder before. Raises ValueError where that is no world."""
    if not (folder / INDEX).exists():
        return {"shards": [], "built": {}}
    old = read_index(folder)
    before = old.get("built")
    if not isinstance(before, dict):
        raise ValueError(
            f"{folder / INDEX} is of no world ('built' is {quoted(before)}); give another folder"
        )
    return old


def _build_kind(
    world: WorldPlan,
    folder: Path,
    kind: str,
    seed: int,
    scale: float,
    workers: int,
    progress: Progress | None,
) -> list[ShardInfo]:
    jobs: list[tuple[str, str, Any]] = []  # split, key, payload
    for split in world.splits:
        payloads = world.plan(kind, split, seed, scale)
        jobs += [(split, f"{kind}-{i:06d}", payload) for i, payload in enumerate(payloads)]
    shards: list[ShardInfo] = []
    make = _Maker(world.make, kind)
    with closing(_mapped(make, [job[1:] for job in jobs], workers)) as mapped:
        pairs = zip(jobs, mapped)
        done = itertools.count(1)
        for split, group in itertools.groupby(pairs, key=lambda pair: pair[0][0]):
            with ShardWriter(folder, split, kind) as writer:
                for (_, key, _), (obj, media) in group:
                    writer.write_parts(key, obj, media)
                    if progress is not None:
                        progress(kind, next(done), len(jobs))
            shards += writer.shards
    return shards


@dataclass(frozen=True)
class _Maker:
    """Makes groups of documents of a kind; travels to other processes."""

    make: Callable[[str, Any], Document]
    kind: str

    def __call__(self, group: list[tuple[str, Any]]) -> list[_Parts]:
        return [self.make(self.kind, payload).to_parts(key) for key, payload in group]


def _mapped(make: _Maker, jobs: list[tuple[str, Any]], workers: int) -> Generator[_Parts]:
    """The documents of jobs, in order, made in processes; here when there is one worker."""
    if workers == 1:
        for job in jobs:
            yield from make([job])
        return
    groups = [jobs[i : i + _GROUP] for i in range(0, len(jobs), _GROUP)]
    method = "fork" if multiprocessing.get_start_method() == "fork" else "spawn"
    results = in_processes(
        make, groups, workers, method=method, ordered=True, name=lambda group: group[0][0],
        advice="was memory short? build again with fewer workers",
    )  # fmt: skip
    with closing(results):
        for _, documents in results:
            yield from documents


def files_digest(root: Traversable, names: Iterable[str]) -> str:
    """Twelve hex digits that change with the names or contents of a package's data files."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A `Progress` that draws one bar for each kind on stderr."""
    from rich import progress

    from unified_base.terminal import console

    columns = (
        progress.TextColumn("{task.description:<9}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console(stderr=True)) as bars:
        rows: dict[str, Any] = {}

        def report(kind: str, done: int, total: int) -> None:
            if kind not in rows:
                rows[kind] = bars.add_task(kind, total=total)
            bars.update(rows[kind], completed=done)

        yield report
