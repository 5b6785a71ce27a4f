"""Articles as pages and files: whole, self-contained, and never markup of the model's making."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.articles.blocks import Figure, Heading, Narration, Paragraph, Quote, read_blocks
from unified.articles.html import render_page
from unified.articles.outputs import check_format, check_writable, save_article, write_together
from unified_base.images import decode_image
from unified_data.document import Audio, Document, Image, Slot, Text

rng = np.random.default_rng(3)
PIXELS = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
WAVE = (rng.integers(-9000, 9000, (1, 1601)) / 32768).astype(np.float32)


def article(*segments, prompt="Write: x."):
    told = tuple(Text(s, role="response") if isinstance(s, str) else s for s in segments)
    return Document((Text(prompt, role="prompt"), *told))


PANDA = article(
    "# The giant panda\n\n> (ben) A bear & more.\n",
    Audio(WAVE, 16_000, role="response"),
    "\n\n![a giant panda]",
    Image(PIXELS, role="response"),
    "\n\n## Home\n\nIt lives in China.\nIn hills.\n\n![two giant pandas]",
    Image(PIXELS[:64], role="response"),
    "\n\n## Food\n\nBamboo.",
)


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.attributes if name == tag]


def test_blocks_join_captions_and_transcripts_with_their_media():
    heading, narration, first, home, text, second, food, bamboo = read_blocks(PANDA)
    assert heading == Heading(1, "The giant panda")
    assert isinstance(narration, Narration)
    assert (narration.transcript, narration.voice) == ("A bear & more.", "ben")
    assert isinstance(first, Figure)
    assert first.caption == "a giant panda"
    assert (home, text) == (Heading(2, "Home"), Paragraph("It lives in China.\nIn hills."))
    assert isinstance(second, Figure)
    assert second.caption == "two giant pandas"
    assert (food, bamboo) == (Heading(2, "Food"), Paragraph("Bamboo."))


def test_what_breaks_the_convention_is_kept_as_text():
    document = article(Image(PIXELS, role="response"), "![lost]\n\n> quote\n\n####### no")
    figure, lost, quote, no = read_blocks(document)
    assert isinstance(figure, Figure)
    assert figure.caption == ""
    assert (lost, quote, no) == (Paragraph("![lost]"), Quote("quote"), Paragraph("####### no"))


def test_a_document_without_roles_is_shown_whole_and_slots_are_refused():
    assert read_blocks(Document((Text("# A"),))) == (Heading(1, "A"),)
    with pytest.raises(ValueError, match="slots"):
        read_blocks(Document((Text("# A"), Slot("any"))))


def test_the_page_holds_the_exact_pictures_and_sound():
    page = Reader(render_page(PANDA, {"Seed": "0"}))
    first, second = page.of("img")
    assert first["alt"] == "a giant panda"
    assert (first["width"], first["height"]) == ("288", "288")
    assert (second["width"], second["height"]) == ("288", "192")
    kind, _, content = first["src"].partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(decode_image(base64.b64decode(content), "x"), PIXELS)
    (player,) = page.of("audio")
    assert "controls" in player
    kind, _, content = player["src"].partition(",")
    assert kind == "data:audio/wav;base64"
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")
    assert rate == 16_000
    assert np.array_equal(wave, WAVE[0])
    words = "".join(page.words)
    for text in ("A bear & more.", "a giant panda", "It lives in China.", "Bamboo.", "Seed"):
        assert text in words
    assert "Write: x." not in words  # the prompt is no part of the article
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") == 2


def test_the_page_is_self_contained_and_forbids_everything_else():
    text = render_page(PANDA, {"Seed": "0"})
    page = Reader(text)
    policy = next(m["content"] for m in page.of("meta") if "http-equiv" in m)
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script" not in policy
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", text)
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    assert text == render_page(PANDA, {"Seed": "0"})


HOSTILE = st.text(
    st.sampled_from("<>&\"'/=!-[]()#> \n\x00\x1b`ab") | st.characters(codec="utf-8"), max_size=60
) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>", "<!--", "]]>",
     "&lt;b&gt;", "](javascript:alert(1))", "</blockquote><audio autoplay src=//x>"]
)  # fmt: skip


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
@settings(deadline=None, max_examples=120)
def test_no_text_can_become_markup(title, spoken, caption, body, name):
    def page(title, spoken, caption, body, name):
        title, spoken, caption, body = (" ".join(t.split()) for t in (title, spoken, caption, body))
        segments = (
            f"# x{title}\n\n> (ben) x{spoken}\n", Audio(WAVE[:, :9], 16_000, role="response"),
            f"\n\n![x{caption}]", Image(PIXELS[:2, :2], role="response"), f"\n\nx{body}",
        )  # fmt: skip
        return Reader(render_page(article(*segments), {"Prompt": name}))

    hostile, plain = page(title, spoken, caption, body, name), page("t", "s", "c", "b", "n")
    assert hostile.tags == plain.tags
    # But for `lang` of what is written in another script.
    names, expected = (
        [sorted(set(attributes) - {"lang"}) for _, attributes in page.attributes]
        for page in (hostile, plain)
    )
    assert names == expected
    forbidden = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]"
    assert re.sub(forbidden, "\ufffd", " ".join(body.split())) in "".join(hostile.words)


def test_markdown_has_its_media_beside_it(tmp_path):
    save_article(tmp_path / "a b.md", PANDA, {"Seed": "0"})
    text = (tmp_path / "a b.md").read_text()
    assert "# The giant panda" in text
    assert "> A bear \\& more." in text
    assert "![a giant panda](a%20b-media/picture-1.png)" in text
    assert np.array_equal(
        decode_image((tmp_path / "a b-media/picture-2.png").read_bytes(), "x"), PIXELS[:64]
    )
    assert sorted(p.name for p in (tmp_path / "a b-media").iterdir()) == [
        "narration-1.wav", "picture-1.png", "picture-2.png",
    ]  # fmt: skip


def test_markdown_escapes_html_and_links(tmp_path):
    save_article(
        tmp_path / "x.md",
        article("# <b>\n\n[a](javascript:b) in a text of its own\n\n1. one\n\n- two"),
    )
    text = (tmp_path / "x.md").read_text()
    assert text == ("# \\<b\\>\n\n\\[a\\](javascript:b) in a text of its own\n\n1. one\n\n- two\n")


def test_json_gives_the_document_back(tmp_path):
    save_article(tmp_path / "p.json", PANDA)
    obj = json.loads((tmp_path / "p.json").read_text())
    assert Document.from_json(obj, tmp_path) == PANDA


def test_html_is_one_file(tmp_path):
    save_article(tmp_path / "p.HTML", PANDA)
    assert [p.name for p in tmp_path.iterdir()] == ["p.HTML"]


@pytest.mark.parametrize("name", ["p.odt", "p", "p.html.gz"])
def test_an_unknown_extension_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.html, \.md, \.json"):
        save_article(tmp_path / name, PANDA)
    with pytest.raises(ValueError, match="written as"):
        check_format(tmp_path / name, (".png",), "a picture")


def test_places_that_cannot_be_written_to_are_found_out_early(tmp_path):
    check_writable(tmp_path / "x.html")
    assert list(tmp_path.iterdir()) == []  # the trial leaves nothing
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none/x.html", tmp_path / "file/x.html", tmp_path):
        with pytest.raises(ValueError, match="cannot write"):
            check_writable(path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_files_that_belong_together_appear_together_or_not_at_all(tmp_path, monkeypatch, error):
    (tmp_path / "old.md").write_text("old")
    paths = [tmp_path / "old.md", tmp_path / "m/1.png", tmp_path / "m/2.png"]
    real, calls = type(tmp_path).write_bytes, []

    def write_bytes(path, data):
        calls.append(path)
        if len(calls) == 3:
            raise error
        return real(path, data)

    monkeypatch.setattr(type(tmp_path), "write_bytes", write_bytes)
    with pytest.raises((KeyboardInterrupt, ValueError)):
        write_together(dict.fromkeys(paths, b"new"))
    assert [p.name for p in tmp_path.iterdir()] == ["old.md"]
    assert (tmp_path / "old.md").read_text() == "old"
    monkeypatch.undo()
    write_together(dict.fromkeys(paths, b"new"))
    assert all(path.read_bytes() == b"new" for path in paths)
