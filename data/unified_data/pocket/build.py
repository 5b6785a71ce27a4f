"""Building the pocket world: shards of documents, the same from the same seed.

Kinds of documents: article, text (an article without media: three times as many facts for the
same number of ids), draw, describe, ask, speak, listen, name (to listen to: a subject's name and
nothing more), say (the same, to be spoken), misread (a sentence to be spoken, and a name in it that
was spoken wrong), voices (to listen to: a sentence in any voice but the world's own, word by word
or as a whole; held out are voices, too); see `articles` and `tasks`. What they show is in
`planning`.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from unified_base.processes import in_processes
from unified_base.text import quoted
from unified_base.whole_folder import whole_folder
from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket import tasks
from unified_data.pocket.articles import article_document
from unified_data.pocket.planning import KINDS, SPLITS, plan_documents
from unified_data.pocket.scenes import SIDE, render, render_double
from unified_data.pocket.speech import SAMPLE_RATE, connected, speak, word_by_word
from unified_data.shards import INDEX, ShardInfo, ShardWriter, read_index, write_index

MAX_SCALE = 1_000
MAX_SEED = 2**64 - 1
MAX_WORKERS = 1_024
_WORLD = 4  # raise when the same seed would give other documents

_Job = tuple[str, str, Any, Path | None]
"""Key, kind, what a document is made from, and a font for pictures of twice the side."""
_Parts = tuple[dict[str, Any], dict[str, bytes]]
_GROUP = 16
"""Documents that a process makes at a time."""

Progress = Callable[[str, int, int], None]
"""Called with the kind, the documents done and the documents there are."""


def world_version() -> str:
    """Identifies what the documents depend on: this code's version, the facts and the glyphs."""
    digest = hashlib.sha256()
    folder = resources.files("unified_data.pocket")
    names = [f"subjects/{path.name}" for path in (folder / "subjects").iterdir()]
    names += [path.name for path in folder.iterdir() if path.name.startswith("atlas.")]
    for name in sorted(name for name in names if not name.endswith((".py", ".pyc"))):
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return f"{_WORLD}-{digest.hexdigest()[:12]}"


def build_pocket(
    out_dir: str | Path,
    seed: int = 0,
    scale: float = 1.0,
    only: Sequence[str] | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    double: Path | None = None,
) -> dict[str, Any]:
    """Write the world's shards and their index.json into out_dir; returns the index.

    scale: multiplies the number of documents. At 1 or more `draw` holds every combination of one
    subject at least once. only: the kinds to build, the default all; those built earlier into the
    same folder stay. workers: processes; the result does not depend on it. double: a Noto Color
    Emoji font, to paint `draw`'s pictures at twice the side with; for that kind alone.

    The folder changes as a whole when all is built: a build that is killed leaves it as it was.

    Raises ValueError for an unknown kind, a scale that is not above 0, a folder that cannot be
    written or that another process builds into, and when speech is wanted and espeak-ng is missing.
    """
    kinds = KINDS if only is None else tuple(dict.fromkeys(only))
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds are {list(kinds)}, expected some of {', '.join(KINDS)}")
    if not 0 < scale <= MAX_SCALE or not 1 <= workers <= MAX_WORKERS:
        raise ValueError(
            f"scale is {quoted(scale)} and workers {quoted(workers)}, expected above 0 and at most "
            f"{MAX_SCALE}, and 1 to {MAX_WORKERS}"
        )
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"the seed is {quoted(seed)}, expected 0 to 2^64 - 1")
    if double is not None and kinds != ("draw",):
        raise ValueError(f"pictures of twice the side are of the kind draw alone, not of {kinds}")
    parts = _Build(seed, scale, workers, progress, double)
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
            shards += _build_kind(folder, kind, parts)
        this = {"seed": seed, "scale": scale, "world": world_version()}
        if double is not None:
            this["side"] = 2 * SIDE
        built = {**old["built"], **dict.fromkeys(kinds, this)}
        return write_index(folder, shards, world="pocket", built=built)


class _Build(NamedTuple):
    """How a world is built; see `build_pocket`."""

    seed: int
    scale: float
    workers: int
    progress: Progress | None
    double: Path | None


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


def _build_kind(folder: Path, kind: str, parts: _Build) -> list[ShardInfo]:
    jobs = []
    for split in SPLITS:
        payloads = plan_documents(kind, split, parts.seed, parts.scale)
        jobs += [(split, f"{kind}-{i:06d}", kind, p, parts.double) for i, p in enumerate(payloads)]
    shards: list[ShardInfo] = []
    with closing(_mapped([job[1:] for job in jobs], parts.workers)) as mapped:
        pairs = zip(jobs, mapped)
        done = itertools.count(1)
        for split, group in itertools.groupby(pairs, key=lambda pair: pair[0][0]):
            with ShardWriter(folder, split, kind) as writer:
                for (_, key, *_), (obj, media) in group:
                    writer.write_parts(key, obj, media)
                    if parts.progress is not None:
                        parts.progress(kind, next(done), len(jobs))
            shards += writer.shards
    return shards


def _mapped(jobs: list[_Job], workers: int) -> Generator[_Parts]:
    """What `_make` makes of jobs, in order, in processes; here when there is one worker."""
    if workers == 1:
        yield from map(_make, jobs)
        return
    groups = [jobs[i : i + _GROUP] for i in range(0, len(jobs), _GROUP)]
    method = "fork" if multiprocessing.get_start_method() == "fork" else "spawn"
    results = in_processes(
        _make_all, groups, workers, method=method, ordered=True, name=lambda group: group[0][0],
        advice="was memory short? build again with fewer workers",
    )  # fmt: skip
    with closing(results):
        for _, documents in results:
            yield from documents


def _make_all(group: list[_Job]) -> list[_Parts]:
    return [_make(job) for job in group]


def _make(job: _Job) -> _Parts:
    key, kind, payload, double = job
    if double is not None:
        picture = Image(render_double(payload, double))
        return tasks.draw_document(payload.caption, picture).to_parts(key)
    return _document(kind, payload).to_parts(key)


def _document(kind: str, payload: Any) -> Document:
    if kind in ("article", "text"):
        return article_document(payload)
    if kind == "ask":
        scene, turns = payload
        return tasks.ask_document(Image(render(scene)), turns)
    if kind == "draw":
        return tasks.draw_document(payload.caption, Image(render(payload)))
    if kind == "describe":
        return tasks.describe_document(Image(render(payload)), Text(payload.caption))
    if kind == "misread":
        sentence, misread, voice = payload
        return tasks.speak_document(sentence, voice, Audio(speak(misread, voice), SAMPLE_RATE))
    if kind == "voices":
        sentence, speaker, apart = payload
        waveform = word_by_word(sentence, speaker) if apart else connected(sentence, speaker)
        return tasks.listen_document(Audio(waveform, SAMPLE_RATE), Text(sentence))
    sentence, voice = payload
    sound = Audio(speak(sentence, voice), SAMPLE_RATE)
    if kind in ("speak", "say"):
        return tasks.speak_document(sentence, voice, sound)
    return tasks.listen_document(sound, Text(sentence))


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
