"""Articles and documents as files: HTML, Markdown with a folder of media, JSON with media beside.

What belongs together is written together: every file is written beside its destination first, then
all are renamed into place, so an error or Ctrl-C leaves nothing half-written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from unified_base.atomic import atomic_path
from unified_data.document import Document

__all__ = ["ARTICLE_FORMATS", "check_format", "check_writable", "document_files", "numbered",
           "save_article", "write_together"]  # fmt: skip

ARTICLE_FORMATS = (".html", ".md", ".json")


class _Probed(Exception):  # noqa: N818  not an error: it ends a trial
    pass


def check_format(path: Path, formats: tuple[str, ...], what: str) -> None:
    """Raises ValueError where the file's extension is not one of `formats`."""
    if path.suffix.lower() not in formats:
        raise ValueError(
            f"cannot tell the format of {path} from {path.suffix or 'no extension'!r}; "
            f"{what} is written as {', '.join(formats)}"
        )


def check_writable(path: Path) -> None:
    """Raises ValueError where a file cannot be written: found out before the work, not after."""
    try:
        with atomic_path(path):
            raise _Probed
    except _Probed:
        pass


def numbered(path: Path, count: int) -> list[Path]:
    """`path` itself for one file; PATH-1, PATH-2, ... for several."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, count + 1)]


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files so that all of them appear or none does; the first one appears last.

    Folders that are missing one level deep are made, and removed again on failure. A file that
    was there before is replaced.

    Raises ValueError as `atomic_path` does.
    """
    new = [path for path in files if not path.exists()]
    folders = [folder for folder in {path.parent for path in files} if not folder.exists()]
    try:
        for folder in folders:
            try:
                folder.mkdir()
            except OSError as error:
                raise ValueError(f"cannot make folder {folder}: {error.strerror}") from None
        with ExitStack() as stack:
            for path, data in files.items():
                partial = stack.enter_context(atomic_path(path))
                try:
                    partial.write_bytes(data)
                except OSError as error:
                    raise ValueError(f"cannot write {path}: {error.strerror}") from None
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        for folder in folders:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def save_article(path: Path, document: Document, details: Mapping[str, str] | None = None) -> None:
    """Write an article as its extension says: .html, .md (media in STEM-media/) or .json.

    details: names and values for the footer of a page. Raises ValueError for another extension, a
    document with slots, or a place that cannot be written to.
    """
    check_format(path, ARTICLE_FORMATS, "an article")
    suffix = path.suffix.lower()
    if suffix == ".json":
        write_together(document_files(path, document))
    elif suffix == ".html":
        from unified.page import render_page

        write_together({path: render_page(document, details).encode("utf-8")})
    else:
        text, media = _markdown(document, details or {}, f"{path.stem}-media")
        files = {path: text.encode("utf-8")}
        write_together(files | {path.parent / name: data for name, data in media.items()})


def document_files(path: Path, document: Document) -> dict[Path, bytes]:
    """The files of a document saved at `path`: the JSON, its media as STEM.POSITION.EXTENSION."""
    obj, media = document.to_parts(path.stem)
    text = json.dumps(obj, ensure_ascii=False, indent=1) + "\n"
    files = {path: text.encode("utf-8")}
    return files | {path.parent / name: data for name, data in media.items()}


def _markdown(
    document: Document, details: Mapping[str, str], folder: str
) -> tuple[str, dict[str, bytes]]:
    """The Markdown text of an article, and its media by name (FOLDER/picture-1.png, ...)."""
    from unified.blocks import Figure, Heading, Narration, Quote, read_blocks
    from unified_base.images import encode_png
    from unified_base.sounds import encode_wav

    parts: list[str] = []
    media: dict[str, bytes] = {}
    pictures = narrations = 0
    for block in read_blocks(document):
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Figure):
            pictures += 1
            name = f"{folder}/picture-{pictures}.png"
            media[name] = encode_png(block.image.pixels)
            parts.append(f"![{_plain(block.caption)}]({quote(name)})")
        elif isinstance(block, Narration):
            narrations += 1
            name = f"{folder}/narration-{narrations}.wav"
            media[name] = encode_wav(block.audio.waveform, block.audio.sample_rate)
            if block.transcript:
                parts.append(_quoted(block.transcript))
            voice = f" ({_plain(block.voice)})" if block.voice else ""
            parts.append(f"[Listen{voice}]({quote(name)})")
        elif isinstance(block, Quote):
            parts.append(_quoted(block.text))
        else:
            parts.append(_plain(block.text))
    if details:
        parts.append("---")
        parts.append("  \n".join(f"{_plain(k)}: {_plain(v)}" for k, v in details.items()))
    return "\n\n".join(parts) + "\n", media


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in _plain(text).split("\n"))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: what could become markup or HTML is escaped."""
    text = re.sub(r"([\\`*_\[\]<>&])", r"\\\1", text)
    text = re.sub(r"^(\s*)([#+\-=|~])", r"\1\\\2", text, flags=re.MULTILINE)
    return re.sub(r"^(\s*\d+)([.)])", r"\1\\\2", text, flags=re.MULTILINE)
