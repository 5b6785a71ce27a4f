"""The page of samples: what is in the shard, escaped, with nothing from elsewhere."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from unified_data import show
from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.shards import CorruptSample, ShardWriter, write_index
from unified_data.show import render_samples, show_shards

EVIL = "<script>alert(1)</script>\"'&\x00\u202e<img src=http://x/y onerror=z>"


def sample(key="k"):
    document = Document(
        (
            Text(EVIL, "prompt", 0.0),
            Image(np.zeros((5, 7, 3), np.uint8), "response"),
            Audio(np.zeros((1, 8000), np.float32), 16000, "response", 0.5),
            Slot("image", 9, 6),
        )
    )
    obj, media = document.to_parts(key)
    return key, document, media, obj


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_text_is_shown_and_never_acts():
    page = Tags(render_samples([sample(), CorruptSample("<b>.tar", "", EVIL)], EVIL))
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "p", "main", "article",
        "h2", "h3", "section", "figure", "figcaption", "img", "audio", "b",
    }  # fmt: skip
    assert page.text.count("<script>alert(1)</script>\"'&\ufffd\ufffd<img src=") == 4
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes


def test_the_policy_allows_this_style_and_nothing_remote():
    page = render_samples([sample()], "x")
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    assert "url(" not in style
    assert "@import" not in style


def test_media_is_there_byte_for_byte_with_sizes_and_roles():
    key, document, media, obj = sample()
    page = render_samples([(key, document, media, obj)], "x")
    for data in media.values():
        assert base64.b64encode(data).decode() in page
    assert '<section class="prompt"><h3>prompt</h3>' in page
    assert '<section class="response"><h3>response</h3>' in page
    assert "7x5, png, " in page
    assert "0.50 s, 16000 Hz, flac, " in page
    assert "image 6x9 goes here" in page
    assert page.count("loss weight") == 1
    assert "loss weight 0.5" in page


def test_a_page_has_room_for_so_much_media_and_text(monkeypatch):
    monkeypatch.setattr(show, "MAX_PAGE", 1)
    monkeypatch.setattr(show, "_MAX_TEXT", 5)
    page = render_samples([sample()], "x")
    assert "base64," not in page
    assert page.count("not shown, the page is full") == 2
    assert "... " in page
    assert "alert" not in page


@pytest.fixture
def folder(tmp_path):
    with ShardWriter(tmp_path, "train", "x", max_samples=4) as writer:
        for i in range(11):
            writer.write(f"k{i:02d}", Document((Text(f"text {i}"),)))
    write_index(tmp_path, writer.shards)
    return tmp_path


def shown_keys(path):
    return re.findall(r"<h2>(.*?)</h2>", path.read_text("utf-8"))


def test_the_seed_draws_samples_once_each_in_order(folder, tmp_path):
    page = tmp_path / "page.html"
    assert show_shards(folder, page, 5, seed=1) == 5
    keys, first = shown_keys(page), page.read_bytes()
    assert keys == sorted(set(keys))
    assert len(keys) == 5
    show_shards(folder, page, 5, seed=1)
    assert page.read_bytes() == first
    show_shards(folder, page, 5, seed=2)
    assert shown_keys(page) != keys
    assert show_shards(folder, page, 100) == 11
    assert show_shards(folder / "train-x-00002.tar", page, 100) == 3
    assert shown_keys(page) == ["k08", "k09", "k10"]


def test_broken_samples_are_shown_as_broken(folder, tmp_path):
    path = folder / "train-x-00000.tar"
    data = path.read_bytes()
    data = data.replace(b'"text":"text 0"', b'"TEXT":"text 0"')
    path.write_bytes(data[: data.index(b"k02.json") + 300])
    (folder / "train-x-00001.tar").unlink()
    show_shards(folder, tmp_path / "page.html", 100)
    assert shown_keys(tmp_path / "page.html") == [
        "k00", "k01", "train-x-00000.tar", "train-x-00001.tar", "k08", "k09", "k10"
    ]  # fmt: skip
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<b>Broken.</b>") == 3
    assert "text segment lacks" in page
    assert "was it cut off?" in page


def test_there_must_be_something_to_show(tmp_path):
    with ShardWriter(tmp_path, "train", "x") as writer:
        pass
    write_index(tmp_path, writer.shards)
    with pytest.raises(ValueError, match="has no samples to show"):
        show_shards(tmp_path, tmp_path / "page.html")
    write_index(tmp_path, writer.shards, codes={})
    with pytest.raises(ValueError, match="stored codes; show the documents"):
        show_shards(tmp_path, tmp_path / "page.html")
