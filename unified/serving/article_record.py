"""An article of the library: its versions, where it stands among them, and their JSON form.

A version is a document whose media lie in files beside it, and the alternatives of its segments.
Every change makes a version; undo and redo move between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unified_base.text import quoted

__all__ = ["ARTICLE_ID", "MEDIA_NAME", "MOST_VERSIONS", "ArticleRecord", "ArticleVersion",
           "ArticleWishes", "Row"]  # fmt: skip

ARTICLE_ID = re.compile(r"[0-9a-f]{16}")
MEDIA_NAME = re.compile(r"[0-9a-f]{32}\.[a-z0-9]{1,8}")
"""Files of media are named by what they hold."""
MOST_VERSIONS = 50
MOST_ALTERNATIVES = 16
"""Of one segment; the oldest beyond them are left to the versions before."""
STATUSES = ("writing", "completed", "stopped")
_FORM = 1
_TITLE = re.compile(r"#{1,6} +(.+)")
_LONGEST_TITLE = 120

Row = dict[str, Any]
"""A segment in the JSON form of documents, "file" being a name of `MEDIA_NAME`."""


@dataclass(frozen=True)
class ArticleWishes:
    """What was wished for beside the prompt, so that it can be asked again.

    pictures: how many; None: as the model likes. decoder: that draws them.
    """

    pictures: int | None = None
    narration: bool = True
    language: str | None = None
    decoder: str = "vq"


@dataclass(frozen=True)
class ArticleVersion:
    """An article after one of its changes.

    Attributes:
        segments: of the document, the prompt first.
        alternatives: of segments by position, oldest first; the one in the document is not there.
        status: of `STATUSES`.
        warnings: what did not come as it was asked.
        action: what made it, such as "write" or "regenerate".
        seed: that it was sampled with; None: nothing was.
    """

    segments: tuple[Row, ...]
    alternatives: Mapping[int, tuple[Row, ...]] = field(default_factory=dict)
    status: str = "completed"
    warnings: tuple[str, ...] = ()
    action: str = "write"
    seed: int | None = None

    @property
    def title(self) -> str:
        """The first heading of what was written, else its first line; "" where there is none."""
        texts = [row["text"] for row in self.written if row["type"] == "text"]
        lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
        titles = (match[1].strip() for line in lines if (match := _TITLE.fullmatch(line)))
        return next(titles, lines[0] if lines else "")[:_LONGEST_TITLE]

    @property
    def written(self) -> list[Row]:
        """The segments that are no prompt."""
        return [row for row in self.segments if row.get("role") != "prompt"]

    def count(self, kind: str) -> int:
        """How many segments of a kind were written."""
        return sum(row["type"] == kind for row in self.written)

    def with_segment(self, index: int, row: Row, action: str) -> ArticleVersion:
        """A segment replaced; what was there becomes an alternative of it."""
        before = (*self.alternatives.get(index, ()), self.segments[index])[-MOST_ALTERNATIVES:]
        segments = (*self.segments[:index], row, *self.segments[index + 1 :])
        return replace(
            self, segments=segments, alternatives={**self.alternatives, index: before},
            action=action, seed=None, warnings=(),
        )  # fmt: skip

    def choose(self, index: int, number: int) -> ArticleVersion:
        """An alternative in the document, what was there in its stead among the alternatives."""
        row, others = self.segments[index], list(self.alternatives[index])
        chosen, others[number] = others[number], row
        version = self.with_segment(index, chosen, "choose")
        return replace(version, alternatives={**self.alternatives, index: tuple(others)})

    def files(self) -> Iterator[str]:
        """The names of all files of media."""
        for row in (*self.segments, *(row for rows in self.alternatives.values() for row in rows)):
            if "file" in row:
                yield row["file"]

    def to_json(self) -> dict[str, Any]:
        return {
            "segments": list(self.segments),
            "alternatives": {str(index): list(rows) for index, rows in self.alternatives.items()},
            "status": self.status,
            "warnings": list(self.warnings),
            "action": self.action,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, obj: Any) -> ArticleVersion:
        version = cls(
            tuple(obj["segments"]),
            {int(index): tuple(rows) for index, rows in obj["alternatives"].items()},
            obj["status"], tuple(obj["warnings"]), obj["action"], obj["seed"],
        )  # fmt: skip
        bad = [name for name in version.files() if not MEDIA_NAME.fullmatch(name)]
        if bad or version.status not in STATUSES:
            raise ValueError(f"status {quoted(version.status)}, files {quoted(bad)}")
        return version


@dataclass(frozen=True)
class ArticleRecord:
    """All that is stored of an article, its media apart.

    Attributes:
        id: as `ARTICLE_ID`.
        prompt: in the user's words.
        seed: that it was written with first.
        created, updated, deleted: seconds since 1970; deleted is None where it is not.
        versions: oldest first, at most `MOST_VERSIONS`; those behind the cursor were undone.
        cursor: index of the version that it has now.
    """

    id: str
    prompt: str
    wishes: ArticleWishes
    seed: int
    created: float
    updated: float
    versions: tuple[ArticleVersion, ...]
    cursor: int = 0
    deleted: float | None = None

    @property
    def version(self) -> ArticleVersion:
        """The one that it has now."""
        return self.versions[self.cursor]

    @property
    def title(self) -> str:
        """Of the version, else the prompt."""
        return self.version.title or " ".join(self.prompt.split())[:_LONGEST_TITLE]

    @property
    def can_undo(self) -> bool:
        return self.cursor > 0

    @property
    def can_redo(self) -> bool:
        return self.cursor + 1 < len(self.versions)

    def push(self, version: ArticleVersion, now: float) -> ArticleRecord:
        """The article after a change; what was undone before is gone."""
        versions = (*self.versions[: self.cursor + 1], version)[-MOST_VERSIONS:]
        return replace(self, versions=versions, cursor=len(versions) - 1, updated=now)

    def amend(self, version: ArticleVersion, now: float) -> ArticleRecord:
        """The article whose last change has gone on."""
        versions = (*self.versions[: self.cursor], version)
        return replace(self, versions=versions, updated=now)

    def move(self, step: int, now: float) -> ArticleRecord:
        """One version back (-1) or forth (1)."""
        assert 0 <= self.cursor + step < len(self.versions)
        return replace(self, cursor=self.cursor + step, updated=now)

    def files(self) -> set[str]:
        """The names of all files of media."""
        return {name for version in self.versions for name in version.files()}

    def to_json(self) -> dict[str, Any]:
        return {
            "form": _FORM,
            "id": self.id,
            "prompt": self.prompt,
            "wishes": vars(self.wishes).copy(),
            "seed": self.seed,
            "created": self.created,
            "updated": self.updated,
            "deleted": self.deleted,
            "cursor": self.cursor,
            "versions": [version.to_json() for version in self.versions],
        }

    @classmethod
    def from_json(cls, obj: Any, name: str) -> ArticleRecord:
        """The inverse of `to_json`. Raises ValueError, naming the file, for anything else."""
        try:
            if obj["form"] != _FORM or not ARTICLE_ID.fullmatch(obj["id"]):
                raise ValueError(f"form {quoted(obj['form'])}, id {quoted(obj['id'])}")
            record = cls(
                obj["id"], obj["prompt"], ArticleWishes(**obj["wishes"]), obj["seed"],
                float(obj["created"]), float(obj["updated"]),
                tuple(map(ArticleVersion.from_json, obj["versions"])), obj["cursor"],
                obj["deleted"],
            )  # fmt: skip
            _ = record.version
            return record
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(
                f"{name} is no article of the library: {type(error).__name__} {error}"
            ) from None
