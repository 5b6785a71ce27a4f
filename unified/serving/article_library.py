"""Articles in a folder: a JSON file each, its media beside it, and an index that follows them.

    library.sqlite           the index; made anew where it is lost
    articles/ID.json         an article with its versions
    media/ID/HASH.png        its pictures and sounds, named by what they hold

A file is written beside its place and reaches the disk before it gets its name, media before the
article that names them; so whenever the process ends, every article is as its last save left it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
from PIL import Image as PillowImage

from unified.serving.article_record import (
    ARTICLE_ID,
    MEDIA_NAME,
    ArticleRecord,
    ArticleVersion,
    ArticleWishes,
    Row,
)
from unified.serving.library_index import LibraryIndex
from unified_base.atomic import atomic_write
from unified_base.destinations import writing
from unified_base.files import read_bytes
from unified_base.locks import hold_folder
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_data.document import Document, Location, Media, Segment, Text, common_entries

__all__ = ["ArticleLibrary", "NoSuchArticleError", "default_library"]

_log = logging.getLogger(__name__)
_MOST_JSON = 256 << 20  # bytes of an article's file


class NoSuchArticleError(ValueError):
    """There is no article of an id, or it was deleted."""


def default_library() -> Path:
    """The folder of articles among the user's own data (`XDG_DATA_HOME`)."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "unified" / "library"


class ArticleLibrary:
    """A folder of articles, held by this process alone; a context manager. Any thread may use it.

    keep_deleted: seconds for which what was deleted can be restored.
    """

    keep_deleted = 7 * 86_400.0

    def __init__(self, folder: Path) -> None:
        """Opens the folder, which is made if it is not there.

        Raises ValueError: it cannot be written to, or another process serves it.
        """
        self.folder = folder
        self._articles, self._media = folder / "articles", folder / "media"
        self._lock = threading.Lock()
        self._unindexed: set[str] = set()
        self._sizes: dict[tuple[str, str], dict[str, Any]] = {}
        self._closing = ExitStack()
        with ExitStack() as opening:
            opening.enter_context(hold_folder(folder, "serves the articles"))
            try:
                for path in (self._articles, self._media):
                    path.mkdir(exist_ok=True)
            except OSError as error:
                raise ValueError(f"cannot make {path}: {error.strerror}") from None
            self._index = LibraryIndex(folder / "library.sqlite")
            opening.callback(self._index.close)
            self._follow_files()
            self.purge(time.time() - self.keep_deleted)
            self._closing = opening.pop_all()

    def close(self) -> None:
        """Let others have the folder; any number of times."""
        self._closing.close()

    def __enter__(self) -> ArticleLibrary:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Articles.

    def create(
        self, prompt: str, wishes: ArticleWishes, seed: int, version: ArticleVersion
    ) -> ArticleRecord:
        """A new article, which is stored. Raises ValueError where the disk takes no more."""
        now = time.time()
        record = ArticleRecord(self._new_id(), prompt, wishes, seed, now, now, (version,))
        self.save(record)
        return record

    def _new_id(self) -> str:
        """An id that nobody has, and its folder for media."""
        with self._lock:
            id = secrets.token_hex(8)
            while (self._media / id).exists() or self._path(id).exists():
                id = secrets.token_hex(8)
            with writing(self._media / id):
                (self._media / id).mkdir()
        return id

    def save(self, record: ArticleRecord) -> None:
        """Store an article as it is now; it is on disk when this returns.

        Raises ValueError where the disk takes no more; what was stored before stays.
        """
        text = json.dumps(record.to_json(), ensure_ascii=False, separators=(",", ":"))
        atomic_write(self._path(record.id), text.encode("utf-8"))
        self._index_article(record)

    def load(self, id: str, deleted: bool = False) -> ArticleRecord:
        """The article of an id. deleted: also such as can still be restored.

        Raises NoSuchArticleError, and ValueError for a file that is damaged.
        """
        path = self._path(id)
        try:
            obj = read_json(path, limit=_MOST_JSON)
        except ValueError:
            if not path.exists():
                raise _missing(id) from None
            raise
        record = ArticleRecord.from_json(obj, path.name)
        if record.id != id:
            raise ValueError(f"{path.name} holds the article {record.id}")
        if record.deleted is not None and not deleted:
            raise _missing(id)
        return record

    def page(
        self, query: str, limit: int, before: str | None
    ) -> tuple[list[Mapping[str, Any]], bool]:
        """See `LibraryIndex.page`."""
        for id in tuple(self._unindexed):
            try:
                self._index_article(self.load(id, deleted=True))
            except ValueError:  # it is gone by now
                self._unindexed.discard(id)
        return self._index.page(query, limit, before)

    def duplicate(self, record: ArticleRecord) -> ArticleRecord:
        """A copy of an article's present version, stored under an id of its own."""
        version, now = replace(record.version, action="duplicate"), time.time()
        copy = replace(
            record, id=self._new_id(), created=now, updated=now, versions=(version,), cursor=0
        )
        for name in set(version.files()):
            atomic_write(self._media / copy.id / name, self.media(record.id, name))
        self.save(copy)
        return copy

    def purge(self, deleted_before: float) -> None:
        """Remove for good what was deleted before a time."""
        for id in self._index.deleted_before(deleted_before):
            self._path(id).unlink(missing_ok=True)
            shutil.rmtree(self._media / id, ignore_errors=True)
            self._index.drop([id])

    # Documents and media.

    def rows(self, id: str, segments: Sequence[Segment]) -> list[Row]:
        """Segments in their JSON form, their media stored. Raises ValueError as `save` does."""
        rows: list[Row] = []
        for segment in segments:
            common = common_entries(segment.role, segment.loss)
            if isinstance(segment, Text):
                rows.append({"type": "text", "text": segment.text, **common})
                continue
            assert isinstance(segment, Media), type(segment)
            if isinstance(segment, Location):
                rows.append({"type": segment.modality, **segment.to_entries(), **common})
                continue
            ending, data = segment.to_file()
            name = f"{hashlib.sha256(data).hexdigest()[:32]}.{ending}"
            path = self._media / id / name
            if not path.exists():
                atomic_write(path, data)
            rows.append({"type": segment.modality, "file": name, **common})
        return rows

    def document(self, id: str, rows: Sequence[Row]) -> Document:
        """The document of such rows. Raises ValueError for media that are lost or damaged."""
        return Document.from_parts({"segments": list(rows)}, lambda name: self.media(id, name))

    def media(self, id: str, name: str) -> bytes:
        """The bytes of one of an article's files of media."""
        assert ARTICLE_ID.fullmatch(id)
        assert MEDIA_NAME.fullmatch(name)
        return read_bytes(self._media / id / name, "media file")

    def media_size(self, id: str, row: Row) -> dict[str, Any]:
        """{"width", "height"} of a picture, {"seconds"} of a sound, as its file's head says; {} for
        a file that is lost."""
        if (id, row["file"]) not in self._sizes:
            try:
                self._sizes[id, row["file"]] = _size_of(row["type"], self.media(id, row["file"]))
            except ValueError as error:
                _log.warning("%s", error)
                return {}
        return self._sizes[id, row["file"]]

    def collect(self, record: ArticleRecord) -> None:
        """Remove files of media that no version of an article names any more."""
        named = record.files()
        for path in (self._media / record.id).glob("*.*"):
            if MEDIA_NAME.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)

    # The index.

    def _path(self, id: str) -> Path:
        if not ARTICLE_ID.fullmatch(id):
            raise _missing(id)
        return self._articles / f"{id}.json"

    def _index_article(self, record: ArticleRecord) -> None:
        try:
            self._index.put(record, _stamp(self._path(record.id)))
            self._unindexed.discard(record.id)
        except (sqlite3.Error, OSError) as error:  # a full disk: the article itself is stored
            _log.warning("the index does not follow article %s yet: %s", record.id, error)
            self._unindexed.add(record.id)

    def _follow_files(self) -> None:
        """Bring the index in line with the articles' files. What was being written when the last
        process ended has stopped."""
        stamps = self._index.stamps()
        files = {path.stem: path for path in self._articles.glob("*.json")}
        self._index.drop(set(stamps) - set(files))
        for folder in self._media.iterdir():  # of articles that never came to be stored
            if ARTICLE_ID.fullmatch(folder.name) and folder.name not in files:
                shutil.rmtree(folder, ignore_errors=True)
        for id, path in files.items():
            if not ARTICLE_ID.fullmatch(id) or stamps.get(id) == _stamp(path):
                continue
            try:
                record = self.load(id, deleted=True)
            except ValueError as error:
                _log.warning("an article is left out of the library: %s", error)
                self._index.drop([id])
                continue
            self._index_article(record)
        for row in self._index.page("", len(files) + 1, None)[0]:
            if row["status"] == "writing":
                self._stop(row["id"])

    def _stop(self, id: str) -> None:
        record = self.load(id, deleted=True)
        warning = "the server ended while this was written; what was finished by then is here"
        version = replace(record.version, status="stopped", warnings=(warning,))
        self.save(record.amend(version, record.updated))


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _missing(id: str) -> NoSuchArticleError:
    return NoSuchArticleError(f"there is no article {quoted(id)}; GET /v1/articles lists them")


def _size_of(kind: str, data: bytes) -> dict[str, Any]:
    try:
        if kind == "image":
            with PillowImage.open(io.BytesIO(data)) as picture:
                return {"width": picture.width, "height": picture.height}
        about = soundfile.info(io.BytesIO(data))
        return {"seconds": round(about.frames / about.samplerate, 3)}
    except (OSError, soundfile.LibsndfileError) as error:
        raise ValueError(f"a media file is damaged: {error}") from None
