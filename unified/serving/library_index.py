"""The index of a library: what the list of articles needs, in SQLite, made anew from the files."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unified.serving.article_record import ArticleRecord

__all__ = ["LibraryIndex"]

_log = logging.getLogger(__name__)
_SCHEMA = 1
_CREATE = """
CREATE TABLE IF NOT EXISTS articles (
  id TEXT PRIMARY KEY, stamp TEXT NOT NULL, title TEXT NOT NULL, prompt TEXT NOT NULL,
  words TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, status TEXT NOT NULL,
  pictures INTEGER NOT NULL, sounds INTEGER NOT NULL, characters INTEGER NOT NULL,
  thumbnail INTEGER, thumbnail_file TEXT, deleted REAL
);
CREATE INDEX IF NOT EXISTS by_created ON articles (created DESC, id DESC);
"""
_COLUMNS = ("id", "stamp", "title", "prompt", "words", "created", "updated", "status", "pictures",
            "sounds", "characters", "thumbnail", "thumbnail_file", "deleted")  # fmt: skip
_MOST_WORDS = 100_000  # characters of an article that are searched


class LibraryIndex:
    """Rows of articles by id. All of it can be had from the articles' files; any thread may use it.

    A file that is no database, or that is damaged, is put away and made anew, empty.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError where nothing can be stored there."""
        self._path, self._lock = path, threading.Lock()
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            _log.warning("%s is made anew: %s", path, error)
            self._remove()
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as again:
                raise ValueError(f"cannot make the index {path}: {again}") from None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")  # the files say what is lost
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            (state,) = connection.execute("PRAGMA quick_check").fetchone()
            if schema not in (0, _SCHEMA) or state != "ok":
                raise sqlite3.DatabaseError(f"schema {schema}, check: {state}")
            connection.executescript(_CREATE)
            connection.execute(f"PRAGMA user_version={_SCHEMA}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _remove(self) -> None:
        for ending in ("", "-wal", "-shm"):
            Path(f"{self._path}{ending}").unlink(missing_ok=True)

    def stamps(self) -> dict[str, str]:
        """The stamp of every article's file as it was when its row was written, by id."""
        with self._lock:
            rows = self._connection.execute("SELECT id, stamp FROM articles").fetchall()
        return {row["id"]: row["stamp"] for row in rows}

    def put(self, record: ArticleRecord, stamp: str) -> None:
        """Write an article's row."""
        values = _values(record, stamp)
        names = ", ".join(_COLUMNS)
        marks = ", ".join(f":{name}" for name in _COLUMNS)
        with self._lock:
            self._connection.execute(
                f"INSERT OR REPLACE INTO articles ({names}) VALUES ({marks})", values
            )

    def drop(self, ids: Iterable[str]) -> None:
        """Forget articles."""
        with self._lock:
            self._connection.executemany("DELETE FROM articles WHERE id = ?", [(i,) for i in ids])

    def deleted_before(self, time: float) -> list[str]:
        """Ids of articles that were deleted before a time."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT id FROM articles WHERE deleted < ?", (time,)
            ).fetchall()
        return [row["id"] for row in rows]

    def page(
        self, query: str, limit: int, before: str | None
    ) -> tuple[list[Mapping[str, Any]], bool]:
        """(articles, whether there are more), the newest first.

        Args:
            query: words that all stand in the title, the prompt or the texts; "": every article.
            limit: of articles.
            before: id of the article behind which the page begins; None: the first page.
        """
        where, values = ["deleted IS NULL"], []
        for word in query.casefold().split():
            where.append("words LIKE ? ESCAPE '\\'")
            escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            values.append(f"%{escaped}%")
        if before is not None:
            where.append("(created, id) < (SELECT created, id FROM articles WHERE id = ?)")
            values.append(before)
        command = (
            f"SELECT * FROM articles WHERE {' AND '.join(where)}"
            " ORDER BY created DESC, id DESC LIMIT ?"
        )
        with self._lock:
            rows = self._connection.execute(command, (*values, limit + 1)).fetchall()
        return [dict(row) for row in rows[:limit]], len(rows) > limit

    def close(self) -> None:
        """Any number of times."""
        with self._lock:
            self._connection.close()


def _values(record: ArticleRecord, stamp: str) -> dict[str, Any]:
    version = record.version
    texts = [row["text"] for row in version.written if row["type"] == "text"]
    pictures = [index for index, row in enumerate(version.segments) if row["type"] == "image"]
    words = "\n".join((record.title, record.prompt, *texts)).casefold()
    first = pictures[0] if pictures else None
    return {
        "id": record.id, "stamp": stamp, "title": record.title, "prompt": record.prompt,
        "words": words[:_MOST_WORDS], "created": record.created, "updated": record.updated,
        "status": version.status, "pictures": version.count("image"),
        "sounds": version.count("audio"), "characters": sum(map(len, texts)), "thumbnail": first,
        "thumbnail_file": None if first is None else version.segments[first]["file"],
        "deleted": record.deleted,
    }  # fmt: skip
