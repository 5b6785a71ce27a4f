"""Importers by the name of their kind: ours, registered ones, and those of other distributions.

    [project.entry-points."unified.importers"]
    my-kind = "my_package.module:read"

What an importer of others yields is checked as a shard is when it is read, before it is written: a
sample that would not open becomes a `Skipped`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from unified_base.foreign import foreign
from unified_base.text import quoted
from unified_data.importers.builder import Sample, Skipped
from unified_data.shards import document_of

__all__ = ["GROUP", "KINDS", "Read", "importer", "register_importer"]

GROUP = "unified.importers"
"""The group of entry points: NAME = "package.module:read"."""

Read = Callable[[Path, Path | None], Iterator[Sample | Skipped]]
"""read(source, images): the documents of a source; images: the folder its media lie in."""

KINDS = {
    "obelics": "JSONL: parallel `images` and `texts`, one of the two at each place",
    "mmc4": "JSONL: `text_list`, and `image_info` with `image_name` and `matched_text_index`",
    "comm": "JSON or JSONL: `title`, `summary_info` and `step_info` of texts and pictures",
    "llava": "JSON or JSONL: `image`, and `conversations` with <image>",
    "sharegpt": "JSON or JSONL: `messages` with <image> and <audio>, `images`, `audios`",
    "coco": "JSON of captions: `images` and `annotations`",
    "folder": "pictures and sounds, each beside a .txt of the same name",
    "webdataset": "tar files: .txt or .json with .jpg, .png, .webp, .flac, .wav",
    "pairs": "CSV or JSONL: `text` with `image` or `audio` or both",
    "preferences": "JSON or JSONL: `prompt`, `chosen` and `rejected`, texts or messages",
    "parquet": "Parquet: rows of the forms above, with media in them (needs pyarrow)",
}
"""The kinds of this package."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")  # which becomes part of the shards' file names
_registered: dict[str, Read] = {}


def register_importer(kind: str, read: Read) -> None:
    """Let `unified data import KIND` and `import_shards` read a kind with `read`.

    Raises ValueError for a name that no shard can bear or that is another importer's, and for what
    cannot be called.
    """
    if not isinstance(kind, str) or not _NAME.fullmatch(kind):
        raise ValueError(
            f"the kind of an importer is {quoted(kind)}, expected at most 48 lower-case letters, "
            "digits, - and _"
        )
    if kind in KINDS:
        raise ValueError(f"the kind {kind!r} is one of this package's; give yours another name")
    if _registered.get(kind, read) is not read:
        raise ValueError(f"the kind {kind!r} is registered already, by another importer")
    if not callable(read):
        raise ValueError(
            f"the importer of {kind!r} is {quoted(read)}, expected read(source, images)"
        )
    _registered[kind] = read


def importer(kind: str) -> Read:
    """The reader of a kind, built in or of others.

    Raises ValueError for a kind that is not there, one that two distributions bring, or whose
    module cannot be imported.
    """
    if kind in KINDS:
        read: Read = import_module(f"unified_data.importers.{kind}").read
        return read
    if kind in _registered:
        return _CheckedImporter(kind, _registered[kind])
    if (point := _entry_point(kind)) is not None:
        with foreign(f"cannot import the importer {point.value} of entry point {point.name!r}"):
            read = point.load()
        if not _NAME.fullmatch(kind) or not callable(read):
            raise ValueError(
                f"the entry point {point.name!r} = {point.value} in the group {GROUP!r} is no "
                "importer: a name of lower-case letters, digits, - and _, and read(source, images)"
            )
        return _CheckedImporter(kind, read)
    others = {*_registered, *(point.name for point in entry_points(group=GROUP))}
    known = ", ".join([*KINDS, *sorted(others)])
    raise ValueError(
        f"there is no kind {quoted(kind)} to import, expected one of {known}; an importer of "
        f"others is an entry point in the group {GROUP!r}"
    )


def _entry_point(kind: str) -> EntryPoint | None:
    points = {point.value: point for point in entry_points(group=GROUP, name=kind)}
    if len(points) > 1:
        raise ValueError(
            f"{len(points)} installed packages have an entry point {kind!r} in the group "
            f"{GROUP!r}: {', '.join(sorted(points))}; uninstall all but one"
        )
    return next(iter(points.values()), None)


class _CheckedImporter:
    """An importer of others, whose samples are read back before they are handed on."""

    def __init__(self, kind: str, read: Read) -> None:
        self._kind, self._read = kind, read

    def __call__(self, source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
        for result in self._read(source, images):
            if isinstance(result, Sample):
                try:
                    document_of(result.key, result.obj, result.media)
                except ValueError as error:
                    yield Skipped.because(result.key, error)
                    continue
            elif not isinstance(result, Skipped):
                raise ValueError(
                    f"the importer of {self._kind!r} yielded {quoted(result)}, expected a Sample or"
                    " a Skipped"
                )
            yield result
