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
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket import tasks
from unified_data.pocket.articles import article_document
from unified_data.pocket.planning import KINDS, SPLITS, plan_documents
from unified_data.pocket.scenes import SIDE, render, render_double
from unified_data.pocket.speech import SAMPLE_RATE, connected, speak, word_by_word
from unified_data.shards import INDEX, ShardInfo, ShardWriter, read_index, write_index

_WORLD = 4  # raise when the same seed would give other documents

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

    Raises ValueError for an unknown kind, a scale that is not above 0, a folder that cannot be
    written, and when speech is wanted and espeak-ng is missing.
    """
    kinds = KINDS if only is None else tuple(dict.fromkeys(only))
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds are {list(kinds)}, expected some of {', '.join(KINDS)}")
    if not scale > 0 or workers < 1:
        raise ValueError(f"scale is {scale} and workers {workers}, expected above 0 and at least 1")
    if double is not None and kinds != ("draw",):
        raise ValueError(f"pictures of twice the side are of the kind draw alone, not of {kinds}")
    folder = Path(out_dir)
    old = read_index(folder) if (folder / INDEX).exists() else {"shards": [], "built": {}}
    shards: list[ShardInfo] = [shard for shard in old["shards"] if shard.kind not in kinds]
    for kind in kinds:
        shards += _build_kind(folder, kind, seed, scale, workers, progress, double)
    current = {shard.file for shard in shards}
    for shard in old["shards"]:
        if shard.file not in current:
            (folder / shard.file).unlink(missing_ok=True)
    this = {"seed": seed, "scale": scale, "world": world_version()}
    if double is not None:
        this["side"] = 2 * SIDE
    built = {**old["built"], **dict.fromkeys(kinds, this)}
    return write_index(folder, shards, world="pocket", built=built)


def _build_kind(
    folder: Path,
    kind: str,
    seed: int,
    scale: float,
    workers: int,
    progress: Progress | None,
    double: Path | None,
) -> list[ShardInfo]:
    jobs = []
    for split in SPLITS:
        payloads = plan_documents(kind, split, seed, scale)
        jobs += [(split, f"{kind}-{i:06d}", kind, p, double) for i, p in enumerate(payloads)]
    shards: list[ShardInfo] = []
    with _mapper(workers) as mapped:
        made = zip(jobs, mapped(_make, [job[1:] for job in jobs]))
        done = itertools.count(1)
        for split, group in itertools.groupby(made, key=lambda pair: pair[0][0]):
            with ShardWriter(folder, split, kind) as writer:
                for (_, key, *_), (obj, media) in group:
                    writer.write_parts(key, obj, media)
                    if progress is not None:
                        progress(kind, next(done), len(jobs))
            shards += writer.shards
    return shards


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Any]]:
    """An ordered map over processes; here when there is one worker."""
    if workers == 1:
        yield map
        return
    # Ctrl-C is the parent's to handle: it ends the pool.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.get_context().Pool(workers, signal.signal, ignore) as pool:
        yield lambda function, items: pool.imap(function, items, chunksize=16)
        # Let the workers end by themselves: a pool that is terminated was seen to wait for ever.
        pool.close()
        pool.join()


def _make(job: tuple[str, str, Any, Path | None]) -> tuple[dict[str, Any], dict[str, bytes]]:
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
        sentence, said, voice = payload
        return tasks.speak_document(sentence, voice, Audio(speak(said, voice), SAMPLE_RATE))
    if kind == "voices":
        sentence, speaker, apart = payload
        said = word_by_word(sentence, speaker) if apart else connected(sentence, speaker)
        return tasks.listen_document(Audio(said, SAMPLE_RATE), Text(sentence))
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
