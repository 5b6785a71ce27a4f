"""Files of articles from strangers: each fault is one line, nothing hangs, fills memory or acts."""

from __future__ import annotations

import json
import re
import struct
import zipfile

import pytest
from exported_articles import DETAILS, WHOLE, article

from unified.__main__ import run
from unified.articles import reader, zip_file
from unified.articles.outputs import save_article
from unified.articles.reader import open_article

TEXT = article("# A\n\nOne sentence that stands alone.")


@pytest.fixture
def page(tmp_path):
    save_article(tmp_path / "a.html", WHOLE, DETAILS)
    return tmp_path / "a.html"


@pytest.fixture
def book(tmp_path):
    save_article(tmp_path / "a.epub", WHOLE, DETAILS)
    return tmp_path / "a.epub"


def refused(path, message, capsys):
    """The reader names the file, and the command ends with one line and 2."""
    with pytest.raises(ValueError, match=message) as caught:
        open_article(path)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 600
    capsys.readouterr()
    assert run(["export", str(path), "-o", str(path.with_name("out.md"))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not path.with_name("out.md").exists()


def rewritten(path, change):
    """The book with its files changed by `change`: {name: bytes} in, and out."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in change(files).items():
            archive.writestr(name, data)
    return path


def held(path, change):
    """The page with the JSON in it changed."""
    text = path.read_text("utf-8")
    match = re.search(r'<template id="unified-article">(.*?)</template>', text, re.DOTALL)
    changed = change(match[1])
    path.write_text(text[: match.start(1)] + changed + text[match.end(1) :], "utf-8")
    return path


def with_keys(**keys):
    return lambda text: json.dumps({**json.loads(text), **keys})


HELD = {
    "no JSON": (lambda text: text[:-9], "is not JSON"),
    "deep": (lambda text: "[" * 100_000, "nested too deeply"),
    "another version": (with_keys(unified_article=2), "version is 2, expected 1"),
    "a list": (lambda text: "[]", "version is None"),
    "an unknown key": (with_keys(more=1), "'more'"),
    "details of numbers": (with_keys(details={"a": 1}), "details is"),
    "details without end": (
        with_keys(details={str(i): "" for i in range(9_999)}), "9,999 details"),
    "media that are no base64": (
        with_keys(media={"document.0.png": "!"}), "is not base64"),
    "no language": (with_keys(language=None), "language is None"),
    "a language of markup": (with_keys(language="<b>"), "expected a tag"),
    "a segment of no kind": (
        with_keys(document={"segments": [{"type": "script"}]}), "type is 'script'"),
    "a file elsewhere": (
        with_keys(document={"segments": [{"type": "image", "file": "../../etc/passwd"}]}),
        "climbs"),
    "a medium that is not there": (
        with_keys(document={"segments": [{"type": "image", "file": "picture-9"}]}),
        "no medium 'picture-9'"),
    "a number of many digits": (
        with_keys(document={"segments": [{"type": "text", "loss": 10**400}]}), "digits"),
    "a key twice": (lambda text: '{"a": 1, "a": 2}', "stands twice"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HELD)
def test_a_page_whose_document_is_broken(kind, page, capsys):
    change, message = HELD[kind]
    refused(held(page, change), message, capsys)


def test_pages_that_hold_none_or_are_cut_off(page, capsys):
    data = page.read_bytes()
    for content, message in (
        (b"", "holds no document"),
        (b"\x89PNG\r\n\x1a\n" * 99, "holds no document"),
        (b"<template id=" * 200_000, "holds no document"),
        (b'<img id="a" src="' * 200_000, "holds no document"),
        (data[: len(data) // 2], "holds no document"),
        (data[:-60], "is not JSON|cannot be read|holds no document"),
        (data + b'<template id="unified-article">{}</template>', "holds two documents"),
        (data.replace(b"data:image/png;base64,", b"https://x.y/"), "does not lie in the page"),
        (data.replace(b'src="data:image/png;base64,', b'src="data:image/png;base64,*'), "base64"),
        (data.replace(b'src="data:image/png;base64,iVBO', b'src="data:image/png;base64,AAAA'), "0"),
    ):
        page.write_bytes(content)
        refused(page, message, capsys)


def test_a_page_that_a_browser_saved_anew_still_opens(page):
    """Browsers put attributes elsewhere, and end lines as they like."""
    text = page.read_text("utf-8")
    text = re.sub(r'<img (id="[^"]*") (src="[^"]*")', r"<img \2 class=x \1", text)
    page.write_text(text.replace("\n", "\r\n"), "utf-8")
    assert open_article(page).document == WHOLE


def test_a_book_that_is_broken(book, capsys):
    data = book.read_bytes()
    for content, message in (
        (b"", "is no zip file"),
        (b"PK\x03\x04", "is no zip file"),
        (b"x" * 100_000, "is no zip file"),
        (data[: len(data) // 2], "is no zip file"),
        (data.replace(b"IDATx", b"IDATy"), "is a broken zip file"),  # a checksum fails
        (data.replace(b"PK\x01\x02", b"PK\x01\x03"), "is a broken zip file"),
    ):
        book.write_bytes(content)
        refused(book, message, capsys)


def test_a_book_without_its_document_or_media(book, capsys):
    whole = book.read_bytes()
    changes = (
        (lambda files: {"mimetype": b""}, "holds no document"),
        (lambda files: {n: d for n, d in files.items() if "picture-2" not in n}, "has no file"),
        (lambda files: files | {"EPUB/document.json": b"{"}, "is not JSON"),
        (lambda files: files | {"EPUB/media/picture-1.png": b"GIF89a"}, "picture-1.png"),
        (lambda files: files | {"EPUB/media/document.3.flac": b"fLaC"}, "document.3.flac"),
    )
    for change, message in changes:
        book.write_bytes(whole)
        refused(rewritten(book, change), message, capsys)


def test_bombs_are_bounded_before_they_unpack(book, monkeypatch, capsys):
    monkeypatch.setattr(zip_file, "MAX_UNPACKED", 1 << 20)
    rewritten(book, lambda files: files | {"EPUB/media/picture-1.png": bytes(8 << 20)})
    assert book.stat().st_size < 1 << 20
    refused(book, "unpacks to more than", capsys)


def test_a_book_that_lies_about_its_sizes(book, capsys):
    """The table says that a file of 8 MB has 10 bytes; what unpacks counts."""
    rewritten(book, lambda files: files | {"EPUB/document.json": b" " * (8 << 20)})
    data = book.read_bytes()
    book.write_bytes(data.replace(struct.pack("<L", 8 << 20), struct.pack("<L", 10)))
    refused(book, "broken zip file|not JSON", capsys)


def test_a_table_of_many_files_is_refused_unread(book, monkeypatch, capsys):
    monkeypatch.setattr(zip_file, "MAX_TABLE", 500)
    refused(book, "table of files", capsys)


def test_an_encrypted_book_is_refused(book, capsys):
    data = bytearray(book.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := data.find(magic, start)) >= 0:
            data[start + at] |= 1
            start += 4
    book.write_bytes(data)
    refused(book, "encrypted", capsys)


def test_files_beyond_the_limit_are_not_read(page, book, monkeypatch, capsys):
    monkeypatch.setattr(reader, "MAX_ARTICLE", 1_000)
    for path in (page, book):
        refused(path, "expected at most 1,000", capsys)


def test_a_book_by_another_program_holds_no_document(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "b.epub", "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
    refused(tmp_path / "b.epub", "holds no document", capsys)


def test_a_text_alone_goes_round(tmp_path):
    for name in ("a.html", "a.epub"):
        save_article(tmp_path / name, TEXT)
        assert open_article(tmp_path / name).document == TEXT
