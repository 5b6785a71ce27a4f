"""Articles and documents as files: `save_article` is the way to all of an article's formats.

What belongs together is written together (see `unified_base.together`): an error or Ctrl-C leaves
nothing half-written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unified.articles.rendered import RENDERED, check_installed, render_article
from unified_base.atomic import PendingFile
from unified_base.destinations import output_file
from unified_base.together import Bundle, write_bundles, write_together

# Whether a file can be written is asked first, and before anything heavy is loaded.
if TYPE_CHECKING:
    from unified_data.document import Document

__all__ = ["ARTICLE_FORMATS", "check_article_file", "check_format", "check_writable", "numbered",
           "prepare_article_file", "save_article", "save_documents", "write_together"]  # fmt: skip

ARTICLE_FORMATS = (".html", ".md", ".json", *(each for each in RENDERED if each != ".html"))
"""Extensions of the files that articles are written to."""


def check_format(path: Path, formats: tuple[str, ...], what: str) -> None:
    """Raises ValueError where the file's extension is not one of `formats`, or it is no file."""
    output_file(path)
    if path.suffix.lower() not in formats:
        raise ValueError(
            f"cannot tell the format of {path} from {path.suffix or 'no extension'!r}; "
            f"{what} is written as {', '.join(formats)}"
        )


def check_article_file(path: Path) -> None:
    """Raises ValueError, before there is an article, where it cannot be written to `path`: another
    extension, a library or program that is missing, or a file that cannot be written."""
    check_format(path, ARTICLE_FORMATS, "an article")
    check_installed(path.suffix.lower())
    check_writable(path)


def prepare_article_file(path: Path) -> None:
    """Load what writing an article to `path` needs, while somebody else makes the article."""
    import unified.articles.article

    if path.suffix.lower() == ".html":
        import unified.articles.html  # noqa: F401


def check_writable(path: Path) -> None:
    """Raises ValueError where a file cannot be written: found out before the work, not after."""
    PendingFile(path).discard()


def numbered(path: Path, count: int) -> list[Path]:
    """`path` itself for one file; PATH-1, PATH-2, ... for several."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, count + 1)]


def save_article(
    path: Path,
    document: Document,
    details: Mapping[str, str] | None = None,
    language: str | None = None,
) -> tuple[str, ...]:
    """Write an article as its extension says, one of `ARTICLE_FORMATS`.

    .md has its media in STEM-media/, .json has them beside it. Pages (.html) and books (.epub) hold
    the document, and open as one again (`unified.articles.reader`).

    Args:
        path: the file.
        document: whose response is the article.
        details: names and values to stand at its end, such as model and seed.
        language: as BCP 47 has it; None: told by the text.

    Returns:
        What to tell the user: what the format cannot hold, and what printed a PDF.

    Raises:
        ValueError: another extension, a document with slots or of next to nothing, a format whose
            library or program is not installed, or a place that cannot be written to.
    """
    from unified.articles.article import article_of
    from unified.articles.blocks import check_substance

    check_format(path, ARTICLE_FORMATS, "an article")
    check_substance(document)
    article = article_of(document, details, language)
    suffix = path.suffix.lower()
    if suffix == ".json":
        save_documents({path: document})
    elif suffix == ".md":
        from unified.articles.markdown_file import markdown_of

        write_bundles([markdown_of(article, path)])
    else:
        rendered = render_article(article, suffix)
        write_together({path: rendered.data})
        return rendered.notes
    return ()


def save_documents(documents: Mapping[Path, Document]) -> None:
    """Write documents as JSON, their media beside them as STEM.POSITION.EXTENSION, all or none.

    Raises ValueError for a place that cannot be written to.
    """
    write_bundles([_json(path, document) for path, document in documents.items()])


def _json(path: Path, document: Document) -> Bundle:
    obj, media = document.to_parts(path.stem)

    def render(names: Mapping[str, str]) -> bytes:
        rows = [
            {**row, "file": names[row["file"]]} if "file" in row else row for row in obj["segments"]
        ]
        text = json.dumps({**obj, "segments": rows}, ensure_ascii=False, indent=1) + "\n"
        return text.encode("utf-8")

    return Bundle(path, media, render)
