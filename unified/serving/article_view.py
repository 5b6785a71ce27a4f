"""Articles as clients read them: JSON of what is stored, and the blocks of its texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unified.serving.article_library import ArticleLibrary
from unified.serving.article_record import ArticleRecord, Row

__all__ = ["blocks_of", "described", "media_url", "segment_view", "summary_of", "view_of"]

_APART = re.compile(r"\n[ \t]*\n\s*|\Z")
_LIST = re.compile(r"(?:[-*+]|\d+[.)]) ")
_CAPTION = re.compile(r"!\[(.*)\](?:\(.*\))?", re.DOTALL)
_QUOTE = re.compile(r"> *(?:\((\w+)\) )?(.*)", re.DOTALL)


def blocks_of(text: str) -> list[dict[str, Any]]:
    """The blocks of a text, apart by empty lines: {"block", "text", "start", "stop"}, the last two
    in characters of the text.

    block: "title", "heading", "paragraph", "list", "caption" or "narration" (what is said in the
    sound behind it).
    """
    blocks = []
    start = len(text) - len(text.lstrip())
    for match in _APART.finditer(text, start):
        part = text[start : match.start()]
        if part.strip():
            stop = start + len(part.rstrip())
            blocks.append(
                {"block": _kind(part), "text": text[start:stop], "start": start, "stop": stop}
            )
        start = match.end()
    return blocks


def _kind(part: str) -> str:
    if part.startswith("#"):
        return "title" if part.startswith("# ") else "heading"
    if _CAPTION.match(part):
        return "caption"
    if part.startswith(">"):
        return "narration"
    return "list" if _LIST.match(part) else "paragraph"


def media_url(id: str, index: int, row: Row, alternative: int | None = None) -> str:
    """Where a segment's picture or sound is served; another content has another address."""
    ending = "png" if row["type"] == "image" else "wav"
    which = "" if alternative is None else f"&alternative={alternative}"
    return f"/v1/articles/{id}/media/{index}.{ending}?v={row['file'][:8]}{which}"


def summary_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An article of the list. entry: its row of the index."""
    thumbnail = None
    if entry["thumbnail"] is not None:
        row = {"type": "image", "file": entry["thumbnail_file"]}
        thumbnail = media_url(entry["id"], entry["thumbnail"], row)
    names = ("id", "title", "prompt", "created", "updated", "status", "pictures", "sounds",
             "characters")  # fmt: skip
    return {**{name: entry[name] for name in names}, "thumbnail_url": thumbnail}


def view_of(library: ArticleLibrary, record: ArticleRecord) -> dict[str, Any]:
    """An article whole; it looks into files of media."""
    version = record.version
    return {
        "id": record.id,
        "title": record.title,
        "prompt": record.prompt,
        "wishes": vars(record.wishes).copy(),
        "seed": record.seed,
        "created": record.created,
        "updated": record.updated,
        "status": version.status,
        "warnings": list(version.warnings),
        "versions": {
            "undo": record.can_undo,
            "redo": record.can_redo,
            "number": record.cursor + 1,
            "count": len(record.versions),
            "action": version.action,
            "seed": version.seed,
        },
        "segments": [
            segment_view(
                library, record.id, version.segments, index, version.alternatives.get(index, ())
            )
            for index in range(len(version.segments))
        ],
        "document_url": f"/v1/articles/{record.id}/document",
    }


def segment_view(
    library: ArticleLibrary,
    id: str,
    rows: Sequence[Row],
    index: int,
    alternatives: Sequence[Row] = (),
) -> dict[str, Any]:
    """A segment of an article."""
    row = rows[index]
    view: dict[str, Any] = {
        "index": index,
        "kind": row["type"],
        "role": row.get("role"),
        "alternatives": len(alternatives),
    }
    if row["type"] == "text":
        blocks = blocks_of(row["text"])
        view |= {"text": row["text"], "blocks": blocks}
        if len(blocks) == 1:
            view["block"] = blocks[0]["block"]
    elif row["type"] in ("image", "audio"):
        size = library.media_size(id, row)
        view[row["type"]] = {"url": media_url(id, index, row), **size, **described(rows, index)}
        if alternatives:
            view["alternative_urls"] = [
                media_url(id, index, other, number) for number, other in enumerate(alternatives)
            ]
    return view


def described(rows: Sequence[Row], index: int) -> dict[str, str]:
    """The words that stand right before a picture ("alt") or a sound ("transcript", "voice")."""
    before = rows[index - 1] if index else {}
    blocks = blocks_of(before.get("text", "")) if before.get("role") != "prompt" else []
    last = blocks[-1] if blocks else {"block": "", "text": ""}
    if rows[index]["type"] == "image":
        # A model's caption may stand on the last line of a paragraph.
        match = _CAPTION.fullmatch(last["text"].rpartition("\n")[2])
        return {"alt": match[1] if match else ""}
    match = _QUOTE.match(last["text"]) if last["block"] == "narration" else None
    if match is None:
        return {"transcript": "", "voice": ""}
    return {"transcript": match[2].split("\n")[0].strip(), "voice": match[1] or ""}
