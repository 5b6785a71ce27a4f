"""Articles in all formats: what they say is right in each, and none of it becomes markup."""

from __future__ import annotations

import io
import json
import re
import zipfile
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from exported_articles import CHINESE, DETAILS, HOSTILE, PIXELS, WHOLE, article, hostile, picture
from exported_articles import plain as plain_article
from markdown_it import MarkdownIt

from unified.__main__ import run
from unified.articles import pdf
from unified.articles.article import article_of
from unified.articles.export import export
from unified.articles.language import check_language, language_inside, language_of
from unified.articles.outputs import ARTICLE_FORMATS, save_article
from unified.articles.reader import open_article
from unified_base.html_page import without_forbidden
from unified_base.images import decode_image
from unified_data.document import Document, Slot, Text

XHTML = "{http://www.w3.org/1999/xhtml}"
docx = pytest.importorskip("docx")


def chapter_of(path):
    with zipfile.ZipFile(path) as book:
        return ElementTree.fromstring(book.read("EPUB/article.xhtml"))


def words_of(document):
    """All paragraphs of a DOCX file, without line ends."""
    return [paragraph.text for paragraph in document.paragraphs]


# Languages.


@pytest.mark.parametrize(
    ("text", "language"),
    [("The cat", "en"), ("大熊猫", "zh"), ("大熊猫（giant panda）住在中国", "zh"), ("12 + 3", ""),
     ("The word 猫 means cat", "en"), ("ねこは動物です", "ja"), ("고양이", "ko"), ("Кошка", "und")],
)  # fmt: skip
def test_a_language_is_told_by_the_script(text, language):
    assert language_of(text) == language


def test_a_part_in_another_script_has_a_language_of_its_own():
    assert language_inside("大熊猫", "en") == "zh"
    assert language_inside("The panda", "zh-Hans") == "en"
    assert language_inside("Le panda", "fr") == ""  # Latin letters may be French
    assert language_inside("動物", "ja") == ""
    for tag in ("", "english language", '"><b>', "e", "zh_CN"):
        with pytest.raises(ValueError, match="expected a tag"):
            check_language(tag)


# What each format says.


def test_a_page_and_a_book_have_languages_titles_and_alternatives(tmp_path):
    save_article(tmp_path / "a.html", CHINESE, DETAILS)
    page = (tmp_path / "a.html").read_text("utf-8")
    assert '<html lang="zh">' in page
    assert "<title>大熊猫</title>" in page
    assert '<p lang="en">The giant panda eats' in page
    assert 'alt="一只大熊猫"' in page
    assert 'alt="图 2（无说明）"' in page
    assert "Lily 朗读，1.0 秒" in page
    save_article(tmp_path / "a.epub", CHINESE, DETAILS)
    root = chapter_of(tmp_path / "a.epub")
    assert root.get("lang") == root.get("{http://www.w3.org/XML/1998/namespace}lang") == "zh"
    first, second = root.iter(f"{XHTML}img")
    assert (first.get("alt"), second.get("alt")) == ("一只大熊猫", "图 2（无说明）")
    assert (first.get("width"), first.get("height")) == ("288", "288")
    with zipfile.ZipFile(tmp_path / "a.epub") as book:
        package = book.read("EPUB/package.opf").decode()
        assert np.array_equal(decode_image(book.read("EPUB/media/picture-1.png"), "x"), PIXELS)
    assert "<dc:language>zh</dc:language>" in package
    assert "<dc:title>大熊猫</dc:title>" in package


def test_a_language_that_is_asked_for_stands_everywhere(tmp_path):
    save_article(tmp_path / "a.html", WHOLE, language="fr-CA")
    assert '<html lang="fr-CA">' in (tmp_path / "a.html").read_text("utf-8")
    assert open_article(tmp_path / "a.html").language == "fr-CA"
    with pytest.raises(ValueError, match="expected a tag"):
        save_article(tmp_path / "a.html", WHOLE, language='"><script>')


def test_a_book_reads_its_narrations_aloud(tmp_path):
    save_article(tmp_path / "a.epub", WHOLE, DETAILS)
    with zipfile.ZipFile(tmp_path / "a.epub") as book:
        first = book.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert book.read("mimetype") == b"application/epub+zip"
        overlay = ElementTree.fromstring(book.read("EPUB/article.smil"))
        chapter = ElementTree.fromstring(book.read("EPUB/article.xhtml"))
        names = set(book.namelist())
        package = book.read("EPUB/package.opf").decode()
    smil = "{http://www.w3.org/ns/SMIL}"
    ids = {element.get("id") for element in chapter.iter()}
    pairs = [
        (pair.find(f"{smil}text").get("src"), pair.find(f"{smil}audio"))
        for pair in overlay.iter(f"{smil}par")
    ]
    assert [text for text, _ in pairs] == ["article.xhtml#narration-1", "article.xhtml#narration-2"]
    for text, sound in pairs:
        assert text.partition("#")[2] in ids
        assert f"EPUB/{sound.get('src')}" in names
    assert pairs[0][1].get("clipEnd") == "1.000s"
    assert '<meta property="media:duration">1.227s</meta>' in package


def test_the_same_article_gives_the_same_book(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for name in ("a", "b"):
        save_article(tmp_path / f"{name}.epub", WHOLE, DETAILS)
    assert (tmp_path / "a.epub").read_bytes() == (tmp_path / "b.epub").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.epub") as book:
        assert b"1970-01-01T00:00:00Z" in book.read("EPUB/package.opf")


def test_a_word_file_has_styles_pictures_and_lists_that_begin_anew(tmp_path):
    notes = save_article(tmp_path / "a.docx", WHOLE, DETAILS)
    assert notes == ("a DOCX holds no sound: of 2 narrations the transcript stays",)
    document = docx.Document(str(tmp_path / "a.docx"))
    styles = {paragraph.text: paragraph.style.name for paragraph in document.paragraphs}
    assert styles["The giant panda"] == "Title"
    assert (styles["Home"], styles["Food"]) == ("Heading 1", "Heading 2")
    assert (styles["A bear & more."], styles["a giant panda"]) == ("Quote", "Caption")
    assert styles["dot"] == "List Bullet"
    numbers = [p._element.pPr.numPr.numId.val for p in document.paragraphs
               if p.style.name == "List Number"]  # fmt: skip
    assert numbers[0] == numbers[1] != numbers[2]  # one, two; then 1 again
    first, second = document.inline_shapes
    assert (first.width.inches, first.height.inches) == (3.0, 3.0)
    assert (second.width.inches, second.height.inches) == (3.0, 2.0)
    assert first._inline.docPr.get("descr") == "a giant panda"
    assert second._inline.docPr.get("descr") == "Picture 2, without a caption"
    assert (document.core_properties.title, document.core_properties.language) == (
        "The giant panda", "en",
    )  # fmt: skip


def test_a_large_picture_fits_on_a_page_of_word(tmp_path):
    large = np.zeros((3000, 900, 3), np.uint8)
    save_article(tmp_path / "a.docx", article("# A", picture().__class__(large, role="response")))
    document = docx.Document(str(tmp_path / "a.docx"))
    section, (shape,) = document.sections[0], document.inline_shapes
    assert shape.height < section.page_height - section.top_margin - section.bottom_margin
    assert abs(shape.height / shape.width - 3000 / 900) < 0.01


def test_json_and_markdown_stay_as_they_were(tmp_path):
    assert save_article(tmp_path / "a.json", WHOLE) == save_article(tmp_path / "a.md", WHOLE) == ()
    assert open_article(tmp_path / "a.json").document == WHOLE
    text = (tmp_path / "a.md").read_text("utf-8")
    assert "![Picture 2, without a caption](a-media/picture-2.png)" in text


# Nothing becomes markup.


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, sorted(name for name, _ in attributes if name != "lang")))


def tree(element):
    """Names of elements and attributes, nested as they are."""
    names = sorted(name for name in element.attrib if not name.endswith("lang"))
    return element.tag, names, [tree(child) for child in element]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Of a hostile and of a plain article of the same shape, the files of each format."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (document, details) in (("hostile", hostile()), ("plain", plain_article())):
        for extension in (".html", ".epub", ".docx", ".md", ".json"):
            save_article(folder / f"{name}{extension}", document, details)
    return folder


def test_no_text_becomes_markup_of_a_page(pairs):
    pages = [(pairs / f"{name}.html").read_text("utf-8") for name in ("hostile", "plain")]
    assert Tags(pages[0]).tags == Tags(pages[1]).tags
    assert not re.search(r"<script|<svg|javascript:[^b]", pages[0])


def test_no_text_becomes_markup_of_a_book(pairs):
    with (
        zipfile.ZipFile(pairs / "hostile.epub") as bad,
        zipfile.ZipFile(pairs / "plain.epub") as ok,
    ):
        assert sorted(bad.namelist()) == sorted(ok.namelist())
        for name in ("article.xhtml", "nav.xhtml", "package.opf", "article.smil"):
            roots = [ElementTree.fromstring(book.read(f"EPUB/{name}")) for book in (bad, ok)]
            assert tree(roots[0]) == tree(roots[1]), name
        text = "".join(ElementTree.fromstring(bad.read("EPUB/article.xhtml")).itertext())
    assert HOSTILE[0] in text


def test_no_text_becomes_markup_of_a_word_file(pairs):
    documents = [docx.Document(str(pairs / f"{name}.docx")) for name in ("hostile", "plain")]
    assert [p.style.name for p in documents[0].paragraphs] == [
        p.style.name for p in documents[1].paragraphs
    ]
    assert "w:hyperlink" not in documents[0].element.xml
    assert f"x{HOSTILE[0]}" in words_of(documents[0])


def test_no_text_becomes_markup_of_markdown(pairs):
    def kinds(name, options):
        text = (pairs / f"{name}.md").read_text("utf-8")
        for token in MarkdownIt(options).parse(text):
            yield token.type
            yield from (child.type for child in token.children or () if child.type not in QUIET)

    QUIET = ("text", "text_special")
    for options in ("commonmark", "gfm-like"):
        try:
            assert [*kinds("hostile", options)] == [*kinds("plain", options)]
        except ModuleNotFoundError:  # "gfm-like" needs a package for addresses
            assert options != "commonmark"


def test_hostile_texts_come_back_as_they_were(pairs):
    document, details = hostile()
    for extension in (".html", ".epub"):
        stored = open_article(pairs / f"hostile{extension}")
        assert stored.document == document
        assert stored.details == details


# From file to file.


def test_pages_and_books_open_as_documents(tmp_path):
    for name in ("a.html", "a.epub"):
        save_article(tmp_path / name, WHOLE, DETAILS)
        stored = open_article(tmp_path / name)
        assert (stored.document, stored.details, stored.language) == (WHOLE, DETAILS, "en")


def test_the_command_goes_round(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_article(tmp_path / "a.html", WHOLE, DETAILS)
    for source, output in (("a.html", "b.epub"), ("b.epub", "c.html"), ("c.html", "d.json")):
        assert run(["export", source, "-o", output]) == 0
        assert capsys.readouterr().out.strip() == output
    assert (tmp_path / "c.html").read_bytes() == (tmp_path / "a.html").read_bytes()
    assert open_article(tmp_path / "d.json").document == WHOLE
    assert run(["export", "d.json", "-o", "e.docx", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["notes"] == [captured.err.strip().removeprefix("note: ")]


def test_what_cannot_be_exported_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    slots = Document((Text("# A"), Slot("image")))
    (tmp_path / "slots.json").write_text(json.dumps(slots.to_parts("slots")[0]))
    save_article(tmp_path / "a.md", WHOLE)
    (tmp_path / "other.html").write_text("<html><body>Hello</body></html>")
    for arguments, message in (
        (("slots.json", "-o", "a.html"), "slots still to be filled"),
        (("a.md", "-o", "a.html"), "expected one of .json, .html, .htm, .epub"),
        (("none.json", "-o", "a.html"), "cannot read"),
        (("slots.json", "-o", "a.odt"), ".html, .md, .json, .epub, .docx, .pdf"),
        (("other.html", "-o", "a.epub"), "holds no document"),
        (("none.json", "-o", "a.html", "--language", "<b>"), "expected a tag"),
    ):
        assert run(["export", *arguments]) == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1, errors
        assert message in errors[0]


def test_a_missing_library_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("unified.articles.rendered.find_spec", lambda name: None)
    monkeypatch.setattr("unified.articles.pdf._PROGRAMS", ())
    for name, library in (("a.docx", "python-docx"), ("a.pdf", "weasyprint")):
        with pytest.raises(ValueError, match=rf"needs {library}.*unified-tokens\[export\]"):
            export(tmp_path / "none.json", tmp_path / name)


# PDF.


def check_pdf(data):
    assert data.startswith(b"%PDF-1.")
    assert data.rstrip().endswith(b"%%EOF")
    for forbidden in (b"/URI", b"/JavaScript", b"/Launch", b"/EmbeddedFile"):
        assert forbidden not in data


@pytest.mark.skipif(pdf.find_chromium() is None, reason="no Chromium")
def test_pdf_by_chromium(tmp_path):
    document, details = hostile()
    notes = save_article(tmp_path / "a.pdf", document, details)
    assert notes[0] == "printed by Chromium"
    assert "transcript stays" in notes[1]
    data = (tmp_path / "a.pdf").read_bytes()
    check_pdf(data)
    assert b"/Lang (en)" in data
    assert b"/StructTreeRoot" in data  # tagged, for screen readers


def test_pdf_by_weasyprint(tmp_path, monkeypatch):
    pytest.importorskip("weasyprint")
    monkeypatch.setattr(pdf, "_PROGRAMS", ())
    notes = save_article(tmp_path / "a.pdf", CHINESE, DETAILS)
    assert notes[0] == "printed by WeasyPrint"
    check_pdf((tmp_path / "a.pdf").read_bytes())


def test_where_chromium_fails_weasyprint_prints(tmp_path, monkeypatch):
    pytest.importorskip("weasyprint")
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(pdf, "_PROGRAMS", (str(broken),))
    assert pdf.pdf_of(article_of(article("# A\n\nOne sentence.")))[1] == "WeasyPrint"


def test_all_formats_are_tested_here():
    assert set(ARTICLE_FORMATS) == {".html", ".md", ".json", ".epub", ".docx", ".pdf"}


def test_nothing_of_the_forbidden_stays():
    assert without_forbidden("a\x00b\ud800\u202e") == "a\ufffdb\ufffd\ufffd"
    assert io.StringIO(without_forbidden("é大\n")).read() == "é大\n"
