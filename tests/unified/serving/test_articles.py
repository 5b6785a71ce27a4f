"""/v1/articles with the shipped model: articles that are written, changed segment by segment, read
in every form, and what is refused."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from running_server import running_server

from unified.serving.article_library import ArticleLibrary
from unified.serving.inline_document import document_of
from unified_base.images import decode_image, encode_png
from unified_base.sounds import encode_wav
from unified_data.document import Audio, Document, Image, Slot, Text

ASKED = {"prompt": "The giant panda. One picture", "narration": False, "seed": 3}


class _Api:
    """Requests to a server as they are written."""

    def __init__(self, server, library):
        self.server, self.library, self.desk = server, library, server.desk

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=300)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        own = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, {**own, **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    def json(self, method, path, body=None, status=200):
        code, _, content = self.request(method, path, body)
        assert code == status, content
        return json.loads(content)

    def events(self, method, path, body):
        code, headers, content = self.request(method, path, body)
        assert (code, headers["Content-Type"].partition(";")[0]) == (200, "text/event-stream")
        return _events(content)

    def change(self, id, index, **body):
        return self.events("PATCH", f"/v1/articles/{id}/segments/{index}", body)

    def document(self, id):
        value = self.json("GET", f"/v1/articles/{id}/document")
        return document_of(value, "document", 1_000)

    def copy(self, id):
        return self.json("POST", f"/v1/articles/{id}/duplicate")["id"]


def _events(content):
    told = []
    for part in content.decode().split("\n\n")[:-1]:
        name, data = part.split("\n", 1)
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        told.append(value)
    return told


def _of(events, kind):
    return [event for event in events if event["type"] == kind]


@pytest.fixture(scope="module")
def api(pocket, tmp_path_factory):
    with (
        ArticleLibrary(tmp_path_factory.mktemp("articles")) as library,
        running_server(pocket, library=library) as server,
    ):
        yield _Api(server, library)


@pytest.fixture(scope="module")
def told(api):
    """The events of one article."""
    return api.events("POST", "/v1/articles", ASKED)


@pytest.fixture(scope="module")
def written(api, told):
    """Its id; no test changes it."""
    return told[0]["id"]


@pytest.fixture
def article(api, written):
    """The id of a copy."""
    return api.copy(written)


def _index(api, id, kind):
    segments = api.json("GET", f"/v1/articles/{id}")["segments"]
    return next(each["index"] for each in segments
                if each["kind"] == kind and each["role"] != "prompt")  # fmt: skip


# Written.


def test_an_article_is_what_the_model_writes_by_itself(api, told, written, pocket):
    alone = pocket.write(ASKED["prompt"], audio=False, seed=3)
    assert api.document(written) == alone
    assert told[0]["type"] == "article.created"
    assert told[0]["seed"] == 3
    assert told[-1]["type"] == "article.completed"
    for index, segment in enumerate(alone.segments[1:], 1):
        kinds = [e["type"] for e in told if e.get("segment") == index]
        assert (kinds[0], kinds[-1]) == ("segment.started", "segment.done")
        if isinstance(segment, Text):
            deltas = [e["delta"] for e in _of(told, "segment.text") if e["segment"] == index]
            assert "".join(deltas) == segment.text
            assert len(deltas) > 3
    rows = _of(told, "segment.rows")
    assert [(e["first"], e["rows"]) for e in rows] == [(0, 24), (24, 48), (48, 72), (72, 96)]
    assert decode_image(base64.b64decode(rows[0]["png"]), "rows").shape == (24, 96, 3)
    view = api.json("GET", f"/v1/articles/{written}")
    assert (view["status"], view["title"], view["seed"]) == ("completed", "The giant panda", 3)
    (entry,) = api.json("GET", "/v1/articles?q=Panda&limit=1")["articles"]
    assert entry["pictures"] == 1
    assert api.request("GET", entry["thumbnail_url"])[0] == 200


def test_narration_is_told_while_it_is_spoken_and_served_as_wav(api):
    told = api.events("POST", "/v1/articles", {"prompt": "The cat. No pictures", "seed": 1})
    (done,) = [e for e in _of(told, "segment.done") if e["kind"] == "audio"]
    joined = b"".join(base64.b64decode(e["pcm16"]) for e in _of(told, "segment.sound"))
    assert len(_of(told, "segment.sound")) > 1
    assert done["audio"]["transcript"]
    status, headers, content = api.request("GET", done["audio"]["url"])
    assert (status, headers["Content-Type"]) == (200, "audio/wav")
    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    assert samples.tobytes() == joined
    assert rate == _of(told, "segment.sound")[0]["sample_rate"]
    head = api.request("GET", done["audio"]["url"], headers={"Range": "bytes=4-9"})
    assert (head[0], head[2], head[1]["Content-Range"]) == (
        206, content[4:10], f"bytes 4-9/{len(content)}")  # fmt: skip
    late = api.request("GET", done["audio"]["url"], headers={"Range": f"bytes={len(content)}-"})
    assert late[0] == 416


def test_whole_it_is_the_article_itself(api, written):
    view = api.json("POST", "/v1/articles", {**ASKED, "stream": False})
    assert view["status"] == "completed"
    assert api.document(view["id"]) == api.document(written)


def test_a_picture_of_another_decoder_is_read_at_the_model_s_own_size(api, article):
    """A decoder to twice the side stands in for the diffusion decoder, which takes long to load."""
    api.desk.decoders._redraw["diffusion-2x"] = lambda codes: np.zeros((192, 192, 3), np.uint8)
    record = api.library.load(article)
    api.library.save(replace(record, wishes=replace(record.wishes, decoder="diffusion-2x")))
    index = _index(api, article, "image")
    api.change(article, index, action="regenerate", seed=11)
    segment = api.json("GET", f"/v1/articles/{article}")["segments"][index]
    assert (segment["image"]["width"], segment["alternatives"]) == (192, 1)
    api.change(article, index + 1, action="regenerate", seed=5)
    assert api.document(article).segments[index].pixels.shape == (192, 192, 3)


# Changed.


def test_a_picture_anew_leaves_the_rest_and_its_seed_repeats_it(api, article, written, pocket):
    before = api.document(article)
    index = _index(api, article, "image")
    body = {"action": "regenerate", "seed": 4, "temperature": 20.0}
    told = api.change(article, index, **body)
    assert told[0] == {
        "type": "article.changing", "id": article, "segment": index, "seed": 4,
        "action": "regenerate", "rest": False, "notes": [],
    }  # fmt: skip
    after = api.document(article)
    others = [i for i in range(len(before)) if i != index]
    assert [after.segments[i] for i in others] == [before.segments[i] for i in others]
    assert after.segments[index] != before.segments[index]
    other = api.copy(written)
    api.change(other, index, **body)
    assert api.document(other) == after
    slot = Slot("image", height=96, width=96, role="response")
    request = pocket.request("write", text="The giant panda", settings={"image.temperature": 20.0})
    asked = Document((*before.segments[:index], slot))
    assert (
        pocket.generate(asked, 1, 4, request.sampling)[0].segments[index] == after.segments[index]
    )
    # The one before is an alternative, and comes back.
    segment = api.json("GET", f"/v1/articles/{article}")["segments"][index]
    assert segment["alternatives"] == 1
    content = api.request("GET", segment["alternative_urls"][0])[2]
    assert np.array_equal(decode_image(content, "x"), before.segments[index].pixels)
    path = f"/v1/articles/{article}/segments/{index}"
    api.json("PATCH", path, {"action": "choose", "alternative": 0})
    assert api.document(article) == before


def test_a_block_of_a_text_anew_leaves_the_others(api, article):
    segments = api.json("GET", f"/v1/articles/{article}")["segments"]
    index, text, blocks = (segments[-1][name] for name in ("index", "text", "blocks"))
    number = next(i for i, each in enumerate(blocks) if each["block"] == "paragraph")
    start, stop = blocks[number]["start"], blocks[number]["stop"]
    own = {"action": "edit", "text": f"{text[:start]}My own words.{text[stop:]}"}
    api.json("PATCH", f"/v1/articles/{article}/segments/{index}", own)
    told = api.change(article, index, action="regenerate", block=number, seed=2)
    after = api.json("GET", f"/v1/articles/{article}")["segments"][index]
    assert "My own words." not in after["text"]
    assert after["text"].startswith(text[:start])
    assert after["text"].endswith(text[stop:])
    assert len(after["blocks"]) == len(blocks)
    (begun,) = _of(told, "segment.started")
    deltas = "".join(event["delta"] for event in _of(told, "segment.text"))
    assert begun["text"] == text[:start]
    assert deltas.strip() == after["blocks"][number]["text"]


def test_the_same_once_more_is_no_version(api, article):
    index = _index(api, article, "text")
    seed = {"action": "regenerate", "seed": 8}
    api.change(article, index, **seed)
    number = api.json("GET", f"/v1/articles/{article}")["versions"]["number"]
    told = api.change(article, index, **seed)
    assert "the same came out again" in told[-1]["warnings"][0]
    assert api.json("GET", f"/v1/articles/{article}")["versions"]["number"] == number


def test_an_edited_text_is_kept_or_gone_on_from(api, article, pocket):
    before = api.document(article)
    index = _index(api, article, "text")
    path = f"/v1/articles/{article}/segments/{index}"
    text = "# The giant panda\n\n## Food\n\nIt eats bamboo."
    api.json("PATCH", path, {"action": "edit", "text": text})
    edited = api.document(article)
    assert edited.segments[index].text == text
    assert edited.segments[index + 1 :] == before.segments[index + 1 :]
    told = api.change(article, index, action="edit", text=text, then="rewrite", seed=6)
    assert told[0]["rest"] is True
    rewritten = api.document(article)
    assert rewritten.segments[index].text.startswith(text)
    assert sum(isinstance(segment, Image) for segment in rewritten) == 1
    # It is what the model makes of that document.
    request = pocket.request("write", text=ASKED["prompt"], sounds=0)
    given = (*before.segments[:index], Text(text, "response"), *request.document.segments[-1:])
    (alone,) = pocket.generate(Document(given), 1, 6, request.sampling)
    joined = "".join(s.text for s in alone.segments[index:] if isinstance(s, Text))
    ours = "".join(s.text for s in rewritten.segments[index:] if isinstance(s, Text))
    assert ours == joined
    # And back, and forth.
    for step, document in (("undo", edited), ("undo", before), ("redo", edited),
                           ("redo", rewritten)):  # fmt: skip
        api.json("POST", f"/v1/articles/{article}/{step}")
        assert api.document(article) == document
    refused = api.json("POST", f"/v1/articles/{article}/redo", status=409)
    assert refused["error"]["code"] == "nothing_to_redo"


def test_an_own_picture_is_gone_on_from(api, article):
    index = _index(api, article, "image")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    media = base64.b64encode(encode_png(pixels)).decode()
    told = api.change(article, index, action="replace", media=media, then="continue", seed=1)
    assert "fitted into 96x96" in told[0]["notes"][0]
    document = api.document(article)
    assert np.array_equal(document.segments[index].pixels, pixels)  # as it was brought
    assert len(document) > index + 1
    before = document
    path = f"/v1/articles/{article}/segments/{index}"
    url = f"data:image/png;base64,{media}"
    view = api.json("PATCH", path, {"action": "replace", "media": url})
    assert view["segments"][index]["alternatives"] == 1
    assert api.document(article) == before


def test_what_was_deleted_comes_back(api, article):
    answer = api.json("DELETE", f"/v1/articles/{article}")
    assert answer["deleted"] is True
    assert answer["undo_until"] > time.time()
    refused = api.json("GET", f"/v1/articles/{article}", status=404)
    assert refused["error"]["code"] == "article_not_found"
    assert api.json("POST", f"/v1/articles/{article}/restore")["id"] == article
    assert api.json("GET", f"/v1/articles/{article}")["status"] == "completed"


def test_a_file_of_an_article(api, written):
    path = f"/v1/articles/{written}/export"
    status, headers, content = api.request("POST", path, {"format": "html"})
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Disposition"].startswith('attachment; filename="The-giant-panda.html"')
    assert b"The giant panda" in content
    refused = api.json("POST", path, {"format": "exe"}, status=400)
    assert refused["error"]["param"] == "format"


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
    path = f"/v1/articles/{written}/segments/{_index(api, written, kind)}"
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
    index = _index(api, written, "image")
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
    assert [each["kind"] for each in view["segments"]][-2:] == ["text", "image"]
    # A change that is broken off leaves the article as it was; one that goes on is a version.
    index = view["segments"][-1]["index"]
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
    index = _index(api, article, "image")
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


def test_a_sound_of_ones_own(api):
    told = api.events("POST", "/v1/articles", {"prompt": "The cat. No pictures", "seed": 1})
    id = told[0]["id"]
    index = _index(api, id, "audio")
    sound = Audio(np.sin(np.arange(4_000, dtype=np.float32) / 9)[None] * 0.5, 8_000)
    media = base64.b64encode(encode_wav(sound.waveform, 8_000)).decode()
    told = api.change(id, index, action="replace", media=media, then="continue", seed=1)
    assert any("resampled from 8,000" in note for note in told[0]["notes"])
    segment = api.json("GET", f"/v1/articles/{id}")["segments"][index]
    assert segment["audio"]["seconds"] == 0.5
