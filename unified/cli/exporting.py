"""The command that turns an article's file into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unified.cli.media import ARTICLE_FILES
from unified.cli.terminal import AsJson, note, result


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A document (.json), or an article that holds one (.html, .epub)."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help=ARTICLE_FILES),
    ],
    language: Annotated[
        str | None,
        typer.Option(
            "--language", metavar="TAG", help="Of the article: en, zh, ... (default: by its text)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """An article as a page, Markdown, a document, a book (EPUB), a Word file or PDF."""
    from unified.articles.export import export as export_file

    notes = export_file(source, output, language=language)
    for line in notes:
        note(line)
    result({"path": str(output), "notes": list(notes)}, as_json, str(output))
