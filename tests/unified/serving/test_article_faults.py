"""Requests for articles that are wrong, clients that vanish, and a disk that takes no more."""

from __future__ import annotations

import base64
import json
import socket
import time
import zlib

import numpy as np
import pytest
from article_api import ASKED

from unified_base.images import encode_png

# Refused.


def _bomb():
    """A PNG of 40,000 x 40,000 pixels in a few bytes."""
    data = bytearray(encode_png(np.zeros((1, 1, 3), np.uint8)))
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return base64.b64encode(bytes(data)).decode()


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"prompt": "x", "pictres": 1}, "pictres", "unknown field"),
        ({}, "prompt", "missing"),
        ({"prompt": ""}, "prompt", ""),
        ({"prompt": "A zyzzyva"}, "prompt", ""),
        ({"prompt": "The cat", "model": "gpt-4"}, "model", "pocket"),
        ({"prompt": "The cat", "seed": -1}, "seed", ""),
        ({"prompt": "The cat", "pictures": 65}, "pictures", ""),
        ({"prompt": "The cat", "language": "xx"}, "language", "leave it out"),
        ({"prompt": "The cat", "decoder": "best"}, "decoder", "vq, diffusion"),
        ({"prompt": 7}, "prompt", ""),
    ],
)
def test_an_article_that_cannot_be_is_refused_by_name(api, body, param, words):
    number = len(api.json("GET", "/v1/articles?limit=200")["articles"])
    code, _, content = api.request("POST", "/v1/articles", body)
    error = json.loads(content)["error"]
    assert code == (404 if param == "model" else 400)
    assert error["param"] == param
    assert words in error["message"]
    assert len(api.json("GET", "/v1/articles?limit=200")["articles"]) == number


@pytest.mark.parametrize(
    ("kind", "body", "param", "words"),
    [
        ("text", {"action": "burn"}, "action", "regenerate, choose, edit, replace"),
        ("text", {"action": "edit"}, "text", "missing"),
        ("text", {"action": "edit", "text": "a", "thn": "x"}, "thn", "unknown field"),
        ("text", {"action": "edit", "text": "a", "then": "x"}, "then", ""),
        ("text", {"action": "edit", "text": " \n"}, "text", "empty"),
        ("text", {"action": "edit", "text": "a" * 100_001}, "text", "100000"),
        ("text", {"action": "regenerate", "block": 99}, "block", "less than"),
        ("text", {"action": "replace", "media": "AAAA"}, "action", "is a text"),
        ("text", {"action": "regenerate", "temperature": -1}, "temperature", ""),
        ("image", {"action": "edit", "text": "a"}, "action", "is a picture"),
        ("image", {"action": "regenerate", "block": 0}, "block", "no text"),
        ("image", {"action": "replace", "media": "AAA"}, "media", "cut off"),
        ("image", {"action": "replace", "media": "AAAA"}, "media", ""),
        ("image", {"action": "replace", "media": "https://example.org/x.png"}, "media", "fetches"),
        ("image", {"action": "replace", "media": "file:///etc/passwd"}, "media", "fetches"),
        ("image", {"action": "replace", "media": _bomb()}, "media", "pixels"),
        ("image", {"action": "choose", "alternative": 0}, "alternative", "has 0"),
        ("image", {"action": "choose", "alternative": -1}, "alternative", ""),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_is_refused_by_name(api, written, kind, body, param, words):
    before = api.document(written)
    path = f"/v1/articles/{written}/segments/{api.index(written, kind)}"
    error = api.json("PATCH", path, body, status=400)["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert api.document(written) == before


def test_the_prompt_and_what_is_not_there_cannot_be_changed(api, written):
    path = f"/v1/articles/{written}/segments"
    regenerate = {"action": "regenerate"}
    assert "prompt" in api.json("PATCH", f"{path}/0", regenerate, 400)["error"]["message"]
    for index in ("99", "-1", "x", "1.5", "9" * 40):
        error = api.json("PATCH", f"{path}/{index}", regenerate, 404)["error"]
        assert error["code"] == "segment_not_found"


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "0123456789abcde%2f",
        "0" * 16,
        "A" * 16,
        "%00" * 16,
    ],
)
def test_ids_are_no_paths(api, path):
    for method, rest, body in (("GET", "", None), ("GET", "/document", None),
                               ("GET", "/media/1.png", None), ("DELETE", "", None),
                               ("POST", "/export", {"format": "html"})):  # fmt: skip
        status, _, content = api.request(method, f"/v1/articles/{path}{rest}", body)
        assert status in (404, 405), content
        assert b"root:" not in content


def test_media_that_are_not_there(api, written):
    index = api.index(written, "image")
    for name in (f"{index}.wav", f"{index + 1}.png", "..%2f..%2fx.png", "99.png", "1.svg",
                 f"{index}.png?alternative=0", f"{index}.png?alternative=-1"):  # fmt: skip
        error = api.json("GET", f"/v1/articles/{written}/media/{name}", status=404)["error"]
        assert error["code"] in ("media_not_found", None)
    error = api.json("GET", f"/v1/articles/{written}/media/{index}.png?x=1", status=400)["error"]
    assert error["param"] == "x"
    for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("q=a&q=b", "q")):
        assert api.json("GET", f"/v1/articles?{query}", status=400)["error"]["param"] == param


def test_pages_of_others_cannot_write_or_read(api, written):
    for method, path, body in (("POST", "/v1/articles", ASKED), ("GET", "/v1/articles", None),
                               ("DELETE", f"/v1/articles/{written}", None)):  # fmt: skip
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert api.request(method, path, body, headers)[0] == 403
    assert api.request("POST", "/v1/articles", b"{}", {"Content-Type": "text/plain"})[0] == 415


# Faults.


def _begin(api, path, body, until):
    """A connection whose answer has come so far as an event."""
    connection = socket.create_connection(("127.0.0.1", api.server.port), timeout=300)
    data = json.dumps(body).encode()
    method = "PATCH" if "segments" in path else "POST"
    head = (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n")  # fmt: skip
    connection.sendall(head.encode() + data)
    content = b""
    while until not in content:
        part = connection.recv(1 << 16)
        assert part, content
        content += part
    return connection, content


def _settled(api):
    """All rows are free, and nothing is stored any more."""
    until = time.monotonic() + 60
    while api.server.service.queue.running or api.server.service._live:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_client_that_vanishes_frees_its_row_and_finds_what_was_finished(api):
    body = {**ASKED, "seed": 21, "prompt": "The giant panda. Two pictures"}
    connection, content = _begin(api, "/v1/articles", body, b'"kind":"image","image"')
    id = json.loads(content.split(b"data: ", 1)[1].split(b"\n")[0])["id"]
    connection.close()
    _settled(api)
    until = time.monotonic() + 60
    while (view := api.json("GET", f"/v1/articles/{id}"))["status"] == "writing":
        assert time.monotonic() < until
    assert view["status"] == "stopped"
    # What came behind the picture before the server knew may be there, too.
    kinds = [each["kind"] for each in view["segments"]]
    at = kinds.index("image")
    assert kinds[at - 1] == "text"
    # A change that is broken off leaves the article as it was; one that goes on is a version.
    index = view["segments"][at]["index"]
    change = {"action": "regenerate", "temperature": 20.0}
    path = f"/v1/articles/{id}/segments/{index}"
    connection, _ = _begin(api, path, change, b"segment.rows")
    busy = api.json("PATCH", path, change, status=409)
    assert busy["error"]["code"] == "article_busy"
    connection.close()
    _settled(api)
    again = api.json("GET", f"/v1/articles/{id}")
    assert again["segments"] == view["segments"]


def test_a_disk_that_takes_no_more_is_told_and_the_server_goes_on(api, article):
    """The folder of media is no folder any more: what would be written there cannot be."""
    before = api.document(article)
    folder = api.library.folder / "media" / article
    index = api.index(article, "image")
    aside = folder.with_name("aside")
    body = {"action": "replace", "media": base64.b64encode(encode_png(
        np.zeros((8, 8, 3), np.uint8))).decode()}  # fmt: skip
    folder.rename(aside)
    try:
        answer = api.json("PATCH", f"/v1/articles/{article}/segments/{index}", body, status=507)
        assert answer["error"]["code"] == "not_saved"
    finally:
        aside.rename(folder)
    assert api.document(article) == before
    api.json("PATCH", f"/v1/articles/{article}/segments/{index}", body)
