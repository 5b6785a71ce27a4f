"""From one file of an article to another: what `unified export` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unified.articles.language import check_language
from unified.articles.outputs import check_article_file, save_article
from unified.articles.reader import open_article

__all__ = ["export"]


def export(
    source: str | Path,
    output: str | Path,
    details: Mapping[str, str] | None = None,
    language: str | None = None,
) -> tuple[str, ...]:
    """Write the article of a file as another file.

    Args:
        source: a document (.json), or a page or book that holds one (.html, .epub).
        output: .html, .md, .json, .epub, .docx or .pdf.
        details: names and values to stand at its end; None: those of the source.
        language: as BCP 47 has it; None: that of the source, or told by the text.

    Returns:
        What to tell the user; see `save_article`.

    Raises:
        ValueError: as `open_article` and `save_article` do.
    """
    output = Path(output)
    check_article_file(output)
    if language is not None:
        check_language(language)
    stored = open_article(source)
    chosen = stored.details if details is None else details
    return save_article(output, stored.document, chosen, language or stored.language)
