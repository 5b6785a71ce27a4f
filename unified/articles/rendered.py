"""An article as the bytes of one file: HTML, EPUB, DOCX or PDF."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from unified_base.extras import missing_extra
from unified_base.text import counted

if TYPE_CHECKING:
    from unified.articles.article import ArticleContent

__all__ = ["RENDERED", "RenderedArticle", "check_installed", "render_article"]

RENDERED = {
    ".html": "text/html; charset=utf-8",
    ".epub": "application/epub+zip",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pdf": "application/pdf",
}
"""The formats by their extensions, with their media types."""


@dataclass(frozen=True)
class RenderedArticle:
    """A file's bytes, and what to tell the user of it. type: its media type."""

    data: bytes
    type: str
    notes: tuple[str, ...] = ()


def check_installed(extension: str) -> None:
    """Raises ValueError where a library or a program that a format needs is not installed."""
    if extension == ".docx" and find_spec("docx") is None:
        raise missing_extra("writing DOCX", "python-docx", "export")
    if extension == ".pdf" and find_spec("weasyprint") is None:
        from unified.articles.pdf import find_chromium

        if find_chromium() is None:
            raise missing_extra("PDF without Chromium", "weasyprint", "export")


def render_article(article: ArticleContent, extension: str) -> RenderedArticle:
    """An article as a file of a format. extension: of `RENDERED`.

    Pages and books hold the document of the article. Raises ValueError where a library or a program
    that the format needs is not installed.
    """
    kind = RENDERED[extension]
    if extension == ".html":
        from unified.articles.html import page_of

        return RenderedArticle(page_of(article).encode("utf-8"), kind)
    if extension == ".epub":
        from unified.articles.epub import book_of

        return RenderedArticle(book_of(article), kind)
    if extension == ".docx":
        from unified.articles.word_file import word_file_of

        return RenderedArticle(word_file_of(article), kind, _silent(article, "DOCX"))
    from unified.articles.pdf import pdf_of

    data, printer = pdf_of(article)
    return RenderedArticle(data, kind, (f"printed by {printer}", *_silent(article, "PDF")))


def _silent(article: ArticleContent, name: str) -> tuple[str, ...]:
    """A note on the sounds that a format does not hold."""
    number = sum(1 for _ in article.narrations)
    if not number:
        return ()
    return (f"a {name} holds no sound: of {counted(number, 'narration')} the transcript stays",)
