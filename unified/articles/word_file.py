"""An article as a Word file (DOCX), by python-docx (extra `export`).

Styles are those of Word: a title, headings, lists, quotes, captions. Pictures lie in it exactly
(PNG) with their alternative texts. A DOCX holds no sound: of a narration its transcript stays.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from unified.articles.article import ArticleContent, NamedBlock, drawn_size
from unified.articles.blocks import Figure, Heading, Listing, Narration, Quote
from unified.articles.times import time_of_export
from unified_base.extras import missing_extra
from unified_base.html_page import without_forbidden
from unified_base.images import encode_png

__all__ = ["word_file_of"]

_EMU = 9_525  # of a CSS pixel (1/96 inch): English metric units
_HIGHEST = 0.6  # of a page that a picture takes at most
_MOST_TITLE = 255  # characters of a title among a file's properties
_REGIONS = {"en": "en-US", "zh": "zh-CN", "ja": "ja-JP", "ko": "ko-KR"}
_EAST_ASIAN = ("zh", "ja", "ko")


def word_file_of(article: ArticleContent) -> bytes:
    """The bytes of an article's DOCX file.

    Raises ValueError where python-docx is not installed.
    """
    try:
        import docx
    except ImportError:
        raise missing_extra("writing DOCX", "python-docx", "export") from None
    document = docx.Document()
    _set_properties(document, article)
    section = document.sections[0]
    # A template may leave lengths out; python-docx's own has them all.
    width, left, right = (
        int(each or 0) for each in (section.page_width, section.left_margin, section.right_margin)
    )
    height, top, bottom = (
        int(each or 0) for each in (section.page_height, section.top_margin, section.bottom_margin)
    )
    room = (width - left - right, int(_HIGHEST * (height - top - bottom)))
    writer = _Writer(document, article, room)
    for named in article.blocks:
        writer.add(named)
    writer.add_details()
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def _set_properties(document: Any, article: ArticleContent) -> None:
    from docx.oxml.ns import qn
    from docx.oxml.parser import OxmlElement

    properties = document.core_properties
    title = without_forbidden(article.title)
    cut = len(title) > _MOST_TITLE
    properties.title = title[: _MOST_TITLE - 1] + "…" if cut else title
    properties.language = article.language
    properties.author = without_forbidden(article.details.get("Model", ""))[:_MOST_TITLE]
    properties.comments = ""
    when = datetime.fromtimestamp(time_of_export(), UTC).replace(tzinfo=None)
    properties.created = properties.modified = when
    defaults = document.styles.element.find(f"{qn('w:docDefaults')}/{qn('w:rPrDefault')}")
    _set_language(defaults.find(qn("w:rPr")), article.language)
    theme = document.settings.element.find(qn("w:themeFontLang"))
    if theme is None:
        theme = OxmlElement("w:themeFontLang")
        document.settings.element.append(theme)
    _set_tag(theme, article.language)


def _set_language(run_properties: Any, language: str) -> None:
    """The language of what properties of a run stand for."""
    from docx.oxml.ns import qn
    from docx.oxml.parser import OxmlElement

    element = run_properties.find(qn("w:lang"))
    if element is None:
        element = OxmlElement("w:lang")
        run_properties.append(element)
    _set_tag(element, language)


def _set_tag(element: Any, language: str) -> None:
    """Word has one language for Latin letters and one for East Asian ones, side by side."""
    from docx.oxml.ns import qn

    name = "w:eastAsia" if language.split("-")[0].lower() in _EAST_ASIAN else "w:val"
    element.set(qn(name), _REGIONS.get(language, language))


class _Writer:
    """Puts an article's blocks behind each other into a document. room: EMU (width, height)."""

    def __init__(self, document: Any, article: ArticleContent, room: tuple[int, int]) -> None:
        self._document = document
        self._article = article
        self._room = room
        self._has_title = False

    def add(self, named: NamedBlock) -> None:
        """Add a block."""
        block, language = named.block, named.language
        if isinstance(block, Heading):
            self._add_text(block.text, self._heading_style(block.level), language)
        elif isinstance(block, Listing):
            numbering = self._new_numbering() if block.numbered else None
            for item in block.items:
                style = "List Number" if block.numbered else "List Bullet"
                paragraph = self._add_text(item, style, language)
                if numbering is not None:
                    self._number(paragraph, numbering)
        elif isinstance(block, Figure):
            self._add_figure(named, block)
        elif isinstance(block, Narration):
            if block.transcript:
                quote = self._add_text(block.transcript, "Quote", language)
                quote.paragraph_format.keep_with_next = True
            seconds = block.audio.waveform.shape[1] / block.audio.sample_rate
            self._add_text(self._article.words.about_sound(block.voice, seconds), "Caption")
        else:
            self._add_text(block.text, "Quote" if isinstance(block, Quote) else "Normal", language)

    def add_details(self) -> None:
        """Add what stands at the article's end."""
        details = self._article.details
        if details:
            self._add_text(self._article.words.by_one_model, "Caption")
        for name, value in details.items():
            self._add_text(f"{name}{self._article.words.separator}{value}", "Caption")

    def _heading_style(self, level: int) -> str:
        """The first heading of level 1 is the title, and what stands below it one level higher."""
        if level == 1 and not self._has_title:
            self._has_title = True
            return "Title"
        return f"Heading {max(1, level - 1)}"

    def _add_text(self, text: str, style: str, language: str = "") -> Any:
        paragraph = self._document.add_paragraph(style=style)
        run = paragraph.add_run(without_forbidden(text))
        if language:
            _set_language(run._element.get_or_add_rPr(), language)
        return paragraph

    def _add_figure(self, named: NamedBlock, figure: Figure) -> None:
        from docx.enum.text import WD_ALIGN_PARAGRAPH
        from docx.shared import Emu

        width, height = (_EMU * side for side in drawn_size(figure))
        scale = min(1.0, self._room[0] / width, self._room[1] / height)
        paragraph = self._document.add_paragraph()
        picture = paragraph.add_run().add_picture(
            io.BytesIO(encode_png(figure.image.pixels)),
            Emu(max(1, int(scale * width))), Emu(max(1, int(scale * height))),
        )  # fmt: skip
        about = picture._inline.docPr
        about.set("name", named.name)
        about.set("descr", without_forbidden(self._article.alternative(named)))
        paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
        if figure.caption:
            paragraph.paragraph_format.keep_with_next = True
            caption = self._add_text(figure.caption, "Caption", named.language)
            caption.alignment = WD_ALIGN_PARAGRAPH.CENTER

    def _new_numbering(self) -> int:
        """A numbering that begins with 1: lists of one style count on from each other."""
        from docx.oxml.ns import qn

        style = self._document.styles["List Number"].element
        number = style.find(f"{qn('w:pPr')}/{qn('w:numPr')}/{qn('w:numId')}")
        numbering = self._document.part.numbering_part.element
        abstract = numbering.num_having_numId(number.val).abstractNumId.val
        anew = numbering.add_num(abstract)
        anew.add_lvlOverride(ilvl=0).add_startOverride(1)
        return int(anew.numId)

    def _number(self, paragraph: Any, numbering: int) -> None:
        properties = paragraph._element.get_or_add_pPr().get_or_add_numPr()
        properties.get_or_add_ilvl().val = 0
        properties.get_or_add_numId().val = numbering
