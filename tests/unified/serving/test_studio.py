"""The studio beside its articles: the page's files, the playground, the training view, and real
processes of `unified studio` that are killed."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from running_server import running_server

from unified import UnifiedModel
from unified.__main__ import run
from unified.sequence.inspect import inspect_document
from unified.serving.api_errors import ApiError
from unified.serving.article_library import ArticleLibrary
from unified.serving.inline_document import document_of, inline_json
from unified.serving.picture_decoders import PictureDecoders
from unified_base.images import decode_image
from unified_data.document import Document, Image, Slot, Text

CAT = Document((Text("![a cat]", "prompt"), Slot("image", height=96, width=96, role="response")))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from unified_base.training.metric_logger import MetricLogger

    folder = tmp_path_factory.mktemp("runs")
    with MetricLogger(folder / "family" / "first", "", 0, 3, True) as logger:
        for step in range(1, 4):
            logger.scalars(step, {"loss/text": 1.0 / step, "loss/image": float("nan")})
        logger.text(3, "samples/cat/0", "a cat")
        logger.image(3, "samples/cat/1", np.full((4, 4, 3), 9, np.uint8))
        logger.audio(2, "samples/cat/2", np.zeros((1, 80), np.float32), 8_000)
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def ask(pocket, tmp_path_factory, runs):
    """Asks a server: (status, headers, JSON or bytes)."""
    with (
        ArticleLibrary(tmp_path_factory.mktemp("library")) as library,
        running_server(pocket, library=library, runs=runs) as server,
    ):

        def ask(path, body=None):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
            data = None if body is None else json.dumps(body).encode()
            head = {} if data is None else {"Content-Type": "application/json"}
            connection.request("GET" if data is None else "POST", path, data, head)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status, answer.headers, json.loads(content) if is_json else content

        yield ask


# What there is.


def test_what_there_is_to_write_with(ask):
    _, _, told = ask("/v1/studio")
    assert (told["model"], told["write"]["able"]) == ("pocket", True)
    assert told["decoders"] == ["vq", "diffusion", "diffusion-2x"]
    assert "cat" in [subject["name"] for subject in told["subjects"]]
    assert {"html", "md", "json"} <= set(told["export_formats"])


def test_the_page_s_files_may_load_nothing_from_elsewhere(ask):
    for path in ("/studio/", "/studio/nothing.js", "/studio/../app.py", "/studio/%2e%2e/app.py",
                 "/studio/..%2fapp.py", "/studio/.hidden", "/studio//etc/passwd"):  # fmt: skip
        assert ask(path)[0] == 404, path
    status, headers, _ = ask("/")
    if status == 200:  # with the page in place
        (policy,) = headers.get_all("Content-Security-Policy")
        assert policy.startswith("default-src 'self'; ")
        assert "unsafe" not in policy


# The playground.


def test_documents_travel_in_one_piece():
    picture = Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), "response")
    document = Document((*CAT.segments[:1], picture))
    value = inline_json(document)
    assert set(value["segments"][1]) == {"type", "data", "role"}
    assert document_of(json.loads(json.dumps(value)), "document", 9) == document


def test_a_document_s_slots_are_filled_as_the_model_fills_them(ask, pocket):
    body = {"document": inline_json(CAT), "samples": 2, "seed": 4, "temperature": 3.0}
    status, _, content = ask("/v1/playground/complete", body)
    assert status == 200
    told = [json.loads(part.split("data: ", 1)[1]) for part in content.decode().split("\n\n")[:-1]]
    assert told[0] == {"type": "playground.created", "seeds": [4, 5], "notes": []}
    assert told[-1]["type"] == "playground.completed"
    alone = pocket.sample(CAT, 2, 4, temperature=3.0)
    for number, document in enumerate(alone):
        own = [event for event in told if event.get("sample") == number]
        assert own[-1]["type"] == "sample.completed"
        assert document_of(own[-1]["document"], "document", 9) == document
        (done,) = [event for event in own if event["type"] == "segment.done"]
        pixels = decode_image(base64.b64decode(done["image"]["data"]), "x")
        assert (done["segment"], np.array_equal(pixels, document.segments[1].pixels)) == (1, True)


def test_segments_are_numbered_as_they_stand_in_the_whole(ask):
    """Slots with a given picture between them."""
    picture = Image(np.full((96, 96, 3), 255, np.uint8), "response")
    segments = (Text("![a cat]", "prompt"), Slot("image", height=96, width=96, role="response"),
                picture, Slot("text", role="response"))  # fmt: skip
    body = {"document": inline_json(Document(segments)), "seed": 1}
    content = ask("/v1/playground/complete", body)[2].decode()
    told = [json.loads(part.split("data: ", 1)[1]) for part in content.split("\n\n")[:-1]]
    assert [(e["segment"], e["kind"]) for e in told if e["type"] == "segment.done"] == [
        (1, "image"), (3, "text")]  # fmt: skip
    (last,) = [e for e in told if e["type"] == "sample.completed"]
    assert [each["type"] for each in last["document"]["segments"]] == [
        "text", "image", "image", "text"]  # fmt: skip


def test_ids_are_those_of_inspect(ask, pocket):
    picture = Image(np.full((96, 96, 3), 200, np.uint8), "response")
    document = Document((*CAT.segments[:1], picture))
    _, _, told = ask("/v1/playground/inspect", {"document": inline_json(document)})
    assert told["spans"] == inspect_document(document, pocket.sequencer).to_json()["spans"]
    ids = pocket.sequencer.encode(document).ids.tolist()
    assert [entry["id"] for entry in told["ids"]] == ids
    assert {entry["modality"] for entry in told["ids"]} == {"marker", "text", "image"}


def test_what_the_grammar_allows(ask, pocket):
    body = {"document": inline_json(CAT)}
    _, _, told = ask("/v1/playground/allowed", body)
    (block,) = told["blocks"]
    assert [example["text"] for example in block["examples"]] == ["<image>"]
    picture = Image(np.full((96, 96, 3), 200, np.uint8), "response")
    document = Document((*CAT.segments[:1], picture))
    ids = pocket.sequencer.encode(document).ids.tolist()
    state = pocket.grammar.start()
    for position, id in enumerate(ids):
        body = {"document": inline_json(document), "position": position}
        if position % 20 == 0:
            told = ask("/v1/playground/allowed", body)[2]
            assert told["next"] == id
            assert sum(each["ids"] for each in told["blocks"]) == sum(
                stop - start for start, stop in state.allowed()
            )
        state.advance(id)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("complete", {}, "document is missing"),
        ("complete", {"document": {}}, "is no document"),
        ("complete", {"document": {"segments": [{"type": "text", "text": "a"}]}}, "no slot"),
        ("complete", {"document": inline_json(CAT), "samples": 17}, "at most 16"),
        ("complete", {"document": inline_json(CAT), "samples": 0}, ""),
        ("complete", {"document": {"segments": [{"type": "image", "file": "/etc/passwd"}]}},
         "reads no files"),
        ("complete", {"document": {"segments": [{"type": "image", "data": "AAA"}]}}, "cut off"),
        ("complete", {"document": {"segments": [{"type": "image", "data": "AAAA"}]}}, "segment 0"),
        ("complete", {"document": {"segments": [1]}}, "segment 0"),
        ("complete", {"document": {"segments": [{"type": "slot"}] * 129}}, "129 segments"),
        ("complete", {"document": inline_json(CAT), "temprature": 1}, "unknown field"),
        ("inspect", {}, "document or article"),
        ("inspect", {"article": "../../x"}, "there is no article"),
        ("allowed", {"document": inline_json(CAT), "position": 99}, "ids are known"),
        ("allowed", {"document": inline_json(CAT), "position": -1}, ""),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_is_refused(ask, path, body, words):
    status, _, told = ask(f"/v1/playground/{path}", body)
    assert status == (404 if "article" in body else 400), told
    assert words in told["error"]["message"]


# The training view.


def test_runs_are_read_from_what_they_write(ask):
    (listed,) = ask("/v1/runs")[2]["runs"]
    assert listed["name"] == "family/first"
    curves = ask("/v1/runs/family/first/curves")[2]
    assert curves["loss/text"] == [[1, 1.0], [2, 0.5], [3, pytest.approx(1 / 3)]]
    assert curves["loss/image"] == []  # NaN is no JSON
    samples = ask("/v1/runs/family/first/samples")[2]
    assert [(each["step"], each["kind"]) for each in samples] == [
        (3, "text"), (3, "image"), (2, "audio")]  # fmt: skip
    assert samples[0]["text"] == "a cat"
    assert decode_image(base64.b64decode(samples[1]["data"]), "x").shape == (4, 4, 3)
    assert ask("/v1/runs")[2]["runs"][0]["steps"] == 3
    for name in ("..", "family", "..%2f..%2fetc", "empty", "%00"):
        assert ask(f"/v1/runs/{name}/curves")[0] == 404


# The command.


def test_it_is_for_others_with_a_key_alone(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("UNIFIED_API_KEY", raising=False)
    assert run(["studio", "--host", "0.0.0.0"]) == 2
    assert "give --api-key or UNIFIED_API_KEY" in capsys.readouterr().err
    assert run(["studio", "--runs", str(tmp_path / "none")]) == 2
    assert "is no folder of runs" in capsys.readouterr().err


def test_a_library_in_use_is_told(capsys, tmp_path):
    with ArticleLibrary(tmp_path):
        assert run(["studio", "--port", "0", "--library", str(tmp_path)]) == 2
    assert "serves the articles" in capsys.readouterr().err


def test_killed_while_it_writes_it_has_what_was_finished(tmp_path):
    """SIGKILL in the midst of an article, whose picture was told of."""
    library = tmp_path / "library"
    process = subprocess.Popen(
        [sys.executable, "-m", "unified", "studio", "--port", "0", "--library", str(library)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        where = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
        assert where, process.stderr.read()
        body = {"prompt": "The giant panda. Two pictures", "narration": False, "seed": 1}
        request = urllib.request.Request(
            f"{where[0]}v1/articles", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        told = []
        with urllib.request.urlopen(request, timeout=300) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    told.append(json.loads(line.removeprefix(b"data: ")))
                    if told[-1]["type"] == "segment.done" and told[-1]["kind"] == "image":
                        process.send_signal(signal.SIGKILL)
                        break
        process.wait(60)
    finally:
        process.kill()
        process.stderr.close()
        process.wait()
    with ArticleLibrary(library) as again:
        (row,) = again.page("", 9, None)[0]
        record = again.load(row["id"])
        assert (row["id"], row["status"]) == (told[0]["id"], "stopped")
        document = again.document(record.id, record.version.segments)
        done = [event for event in told if event["type"] == "segment.done"]
        assert [event["segment"] for event in done] == list(range(1, len(document)))
        for event in done:
            segment = document.segments[event["segment"]]
            assert isinstance(segment, Text if event["kind"] == "text" else Image)
            assert event["kind"] != "text" or segment.text == event["text"]


# Decoders of pictures.


@pytest.mark.slow
def test_a_diffusion_decoder_is_that_of_the_model(pocket):
    """Its pictures of codes are those that the model draws with it."""
    decoders = PictureDecoders(pocket)
    assert decoders.names == ("vq", "diffusion", "diffusion-2x")
    assert decoders.get("vq") is None
    codes = np.arange(64, dtype=np.int64).reshape(1, 8, 8)
    pixels = decoders.get("diffusion-2x")(codes)
    assert pixels.shape == (192, 192, 3)
    model = UnifiedModel.from_pretrained("pocket", read_weights=False)
    model.use_diffusion(scale=2)
    assert np.array_equal(pixels, model.sequencer.decode_image(codes))
    with pytest.raises(ApiError, match="expected one of vq, diffusion, diffusion-2x"):
        decoders.get("../x")
