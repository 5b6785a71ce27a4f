"""Requests that are wrong, and clients that go away: each is answered or let go, and the server
goes on serving."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
import zlib

import pytest

from unified.engine.engine import Engine
from unified.serving.app import build_app
from unified.serving.fair_queue import FairQueue
from unified_base.sounds import encode_wav

DRAW = {"prompt": "a cat"}
WRITE = {"model": "pocket", "messages": [{"role": "user", "content": "The giant panda"}],
         "modalities": ["text", "image", "audio"],
         "audio": {"voice": "ben", "format": "pcm16"}, "stream": True}  # fmt: skip


def _request(server, path, body=None, headers=None, method=None):
    """(status, headers, body as JSON or text) of a request as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    own = {"Content-Type": "application/json"} if data is not None else {}
    connection.request(method or ("GET" if data is None else "POST"), path, data,
                       {**own, **(headers or {})})  # fmt: skip
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    is_json = answer.headers["Content-Type"].startswith("application/json")
    return answer.status, answer.headers, json.loads(text) if is_json else text


# What there is.


def test_health_models_voices_and_metrics(server, client, pocket):
    assert _request(server, "/healthz")[2] == {"status": "ok", "model": "pocket"}
    (model,) = client.models.list().data
    assert model.id == client.models.retrieve("pocket").id == "pocket"
    assert model.tasks["draw"]["sizes"] == "96x96 alone"
    assert model.tasks["reply"]["able"] is False
    voices = _request(server, "/v1/voices")[2]["data"]
    names = pocket.tasks.task("speak").voices
    assert [(voice["id"], voice["default"]) for voice in voices] == [
        (name, name == "ben") for name in names
    ]
    assert {"amy", "ben", "cole"} <= set(names)


def _metrics(server):
    status, headers, text = _request(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            values[name] = float(value)
    return values


def test_metrics_count_what_was_done(server, client, picture_ids):
    before = _metrics(server)
    client.images.generate(prompt="a cat")
    after = _metrics(server)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    path = 'path="/v1/images/generations",status="200"'
    assert grown[f"unified_requests_total{{{path}}}"] == 1
    assert grown['unified_ids_total{modality="image"}'] == picture_ids
    assert grown['unified_documents_total{end="finished"}'] == 1
    assert grown['unified_first_seconds_count{kind="picture"}'] == 1
    assert grown['unified_first_seconds_bucket{kind="picture",le="+Inf"}'] == 1
    assert after["unified_rows_running"] == after["unified_rows_waiting"] == 0


# Requests that are wrong.


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{", {}, 400, "not JSON"),
        (b"[1]", {}, 400, "expected a JSON object"),
        (b'{"prompt": "a", "prompt": "b"}', {}, 400, "twice"),
        (b'{"prompt": "a", "seed": NaN}', {}, 400, "NaN"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, {}, 400, "nested"),
        (b'{"prompt": "a", "seed": ' + b"9" * 5_000 + b"}", {}, 400, "digits"),
        (b'{"prompt": "\xff"}', {}, 400, "not JSON"),
        (b'{"prompt": "a"}', {"Content-Type": "text/plain"}, 415, "application/json"),
        (b'{"prompt": "a\\ud800"}', {}, 400, ""),
        (b'{"prompt": "a", "' + b"k" * 100_000 + b'": 1}', {}, 400, "unknown field"),
        (b"", {"Content-Length": "99999999999"}, 413, "33,554,432 bytes"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(server, body, headers, status, words):
    code, answer_headers, answer = _request(server, "/v1/images/generations", body, headers)
    assert code == status, answer
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert words in answer["error"]["message"]
    assert answer_headers["X-Content-Type-Options"] == "nosniff"


def test_a_body_of_no_known_length_is_counted_while_it_comes(server):
    part = b"x" * (1 << 20)
    most = server.service.limits.max_body // len(part)
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
        connection.sendall(
            b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        try:
            for _ in range(most + 8):
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        except OSError:
            return  # it stopped reading
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_ten_thousand_parts_are_refused(server):
    parts = [{"type": "text", "text": "a"}] * 10_000
    body = {"model": "pocket", "messages": [{"role": "user", "content": parts}]}
    status, _, answer = _request(server, "/v1/chat/completions", body)
    assert (status, answer["error"]["param"]) == (400, "messages")
    assert "10,000" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/v1/nothing", "GET", 404), ("/v1/chat/completions", "GET", 405), ("/%2e%2e/x", "GET", 404),
     ("/v1/models/gpt-4", "GET", 404), ("/healthz", "POST", 405)],
)  # fmt: skip
def test_what_is_not_there_is_told_in_the_schema_s_form(server, path, method, status):
    code, _, answer = _request(server, path, method=method)
    assert (code, answer["error"]["type"]) == (status, "invalid_request_error")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Host": "127.0.0.1.evil.example:80"}, "host_not_allowed"),
        ({"Origin": "https://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Origin": "http://localhost"}, "origin_not_allowed"),  # another port is another origin
    ],
)
def test_pages_of_other_hosts_reach_nothing(server, headers, code):
    status, _, answer = _request(server, "/v1/images/generations", DRAW, headers)
    assert (status, answer["error"]["code"]) == (403, code)


def test_the_names_of_this_machine_are_answered(server):
    own = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    assert _request(server, "/v1/models", headers=own)[0] == 200
    assert _request(server, "/v1/models", headers={"Host": "[::1]:80"})[0] == 200


def test_a_form_that_is_broken_is_refused(server):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for body, words in [
        (b"--x\r\nno form", "form"),
        (b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\npocket\r\n--x--\r\n', "file"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"y" * 70_000
         + b"\r\n--x--\r\n", "form"),
        (b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\npocket\r\n'
         b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nother\r\n--x--\r\n', "twice"),
    ]:  # fmt: skip
        status, _, answer = _request(server, "/v1/audio/transcriptions", body, form)
        assert status == 400
        assert words in answer["error"]["message"]
    status, _, _ = _request(server, "/v1/audio/transcriptions", {"model": "pocket"})
    assert status == 415


def test_a_picture_that_swells_is_refused_before_it_is_decoded(client, refused, server):
    """30,000 x 30,000 pixels in a few kilobytes."""
    import base64
    import struct

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (30_000 * 3_751 // 100), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    refused(
        lambda: client.chat.completions.create(model="pocket", messages=messages),
        "messages[0].content[0].image_url.url", "pixels",
    )  # fmt: skip


# Keys.


def _call(app, headers, path="/v1/models"):
    """The status that an ASGI application answers a GET with."""
    statuses = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
             "query_string": b"", "headers": raw, "http_version": "1.1", "scheme": "http",
             "root_path": "", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
             "asgi": {"version": "3.0"}}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return statuses[0]


def test_with_a_key_nothing_but_health_is_told_without_it(server):
    app = build_app(server.service, "0.0.0.0", "s3cret")
    assert _call(app, {"host": "any.example"}) == 401
    assert _call(app, {"host": "any.example", "authorization": "Bearer s3cre"}) == 401
    assert _call(app, {"host": "any.example", "authorization": "Basic s3cret"}) == 401
    assert _call(app, {"host": "any.example", "authorization": "Bearer s3cret"}) == 200
    assert _call(app, {"host": "any.example"}, "/healthz") == 200
    assert _call(app, {"host": "any.example"}, "/metrics") == 401


# The queue.


def test_requests_take_turns_and_a_full_queue_refuses():
    order = []

    async def one_row(ticket, name):
        async with ticket.row():
            order.append(name)
            await asyncio.sleep(0)

    async def both():
        queue = FairQueue(max_rows=1, max_queue=6)
        large, small = queue.enter(5), queue.enter(2)
        with pytest.raises(Exception, match="1 more do not fit") as refusal:
            queue.enter(1)
        assert refusal.value.status == 429
        assert int(refusal.value.headers["Retry-After"]) >= 1
        await asyncio.gather(
            *[one_row(large, "large") for _ in range(5)], *[one_row(small, "small") for _ in "ab"]
        )
        assert queue.running == queue.waiting == 0
        queue.enter(7).leave()

    asyncio.run(both())
    assert order == ["large", "large", "small", "large", "small", "large", "large"]


def test_a_row_that_nobody_waits_for_any_more_goes_to_the_next():
    async def run():
        queue = FairQueue(max_rows=1, max_queue=4)
        first, second, third = (queue.enter(1) for _ in range(3))
        async with first.row():
            waiting = asyncio.create_task(_hold(second))
            last = asyncio.create_task(_hold(third))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            second.leave()
            assert (queue.running, queue.waiting) == (1, 1)
        await last
        assert (queue.running, queue.waiting) == (0, 0)

    async def _hold(ticket):
        async with ticket.row():
            await asyncio.sleep(0)

    asyncio.run(run())


def test_a_full_server_says_when_to_come_again(server):
    queue = server.service.queue
    server.service.queue = FairQueue(max_rows=1, max_queue=0)
    ticket = server.service.queue.enter(1)
    try:
        status, headers, answer = _request(server, "/v1/images/generations", DRAW)
        assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(headers["Retry-After"]) >= 1
        ticket.leave()
        assert _request(server, "/v1/images/generations", DRAW)[0] == 200
        server.service.queue.closing = "the end"
        assert _request(server, "/healthz")[0] == 503
        assert _request(server, "/v1/images/generations", DRAW)[0] == 503
    finally:
        server.service.queue = queue


# Clients that go away.


def _leave(server, path, body, until):
    """Send a request, wait for some bytes of the answer, and close the connection.

    body: of JSON; or bytes, a form.
    """
    media_type = "application/json"
    if isinstance(body, bytes):
        data, media_type = body, "multipart/form-data; boundary=x"
    else:
        data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        received = b""
        while until not in received:
            part = connection.recv(4096)
            assert part, received
            received += part


def _wait_for(condition):
    for _ in range(3_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to pass")


LONG = "The giant panda is a shy bear found wild only in China. " * 2
SPEECH = {"model": "pocket", "input": LONG, "response_format": "pcm"}
RESPONSE = {"model": "pocket", "input": "The giant panda", "stream": True}


@pytest.mark.parametrize(
    ("path", "body", "until"),
    [
        ("/v1/chat/completions", WRITE, b'"content":'),
        ("/v1/responses", RESPONSE, b"output_text.delta"),
        ("/v1/audio/speech", SPEECH, b"\r\n\r\n"),
        ("/v1/audio/speech", {**SPEECH, "stream_format": "sse"}, b"audio.delta"),
    ],
)
def test_a_client_that_leaves_a_stream_frees_its_row(server, path, body, until):
    _leaves_a_stream(server, path, body, until)


def test_a_client_that_leaves_its_transcript_frees_its_row(server, monkeypatch):
    """A transcript is short: steps take a while longer here, so that it is left before its end."""
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda engine: (time.sleep(0.02), step(engine))[1])
    sound = server.service.model.speak("The giant panda is a shy bear of China.", seed=1)
    fields = ((b"model", b"pocket"), (b"stream", b"true"), (b"seed", b"1"))
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % field
        for field in fields
    )
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    form += b"Content-Type: audio/wav\r\n\r\n" + encode_wav(*sound) + b"\r\n--x--\r\n"
    _leaves_a_stream(server, "/v1/audio/transcriptions", form, b"text.delta")


def _leaves_a_stream(server, path, body, until):
    before = server.service.model.engine.counters
    _leave(server, path, body, until)
    engine, queue = server.service.model.engine, server.service.queue
    _wait_for(lambda: engine.counters.cancelled + engine.counters.finished
              == before.cancelled + before.finished + 1)  # fmt: skip
    after = engine.counters
    assert (after.cancelled, after.active) == (before.cancelled + 1, 0)
    # Within a step: no pass follows the one in which it left.
    assert engine.counters.passes == after.passes
    _wait_for(lambda: queue.running == queue.waiting == 0)
    assert _metrics(server)["unified_clients_left_total"] >= 1


def test_a_client_that_leaves_before_its_answer_frees_all_its_rows(server):
    engine, queue = server.service.model.engine, server.service.queue
    before = engine.counters
    data = json.dumps({**DRAW, "n": 16}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
        connection.sendall(
            b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        _wait_for(lambda: engine.counters.active > 0)
    _wait_for(lambda: queue.running == queue.waiting == 0)
    _wait_for(lambda: engine.counters.active == engine.counters.queued == 0)
    assert engine.counters.cancelled > before.cancelled
    assert _request(server, "/v1/images/generations", DRAW)[0] == 200
