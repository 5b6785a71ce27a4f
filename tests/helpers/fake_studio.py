"""A server of the studio's page without a model, out of the standard library.

It speaks what unified/serving says of articles, the playground and runs; what it writes is that of
`studio_articles`. A real one stands in test_studio_end_to_end.py.
"""

from __future__ import annotations

import json
import mimetypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from studio_articles import FakeArticles, base64_of, picture, sound, wav

PAGE = Path(__file__).parents[2] / "unified" / "serving" / "studio"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: data:;"
    " style-src 'self'; script-src 'self'; connect-src 'self'; object-src 'none';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FACTS = {
    "model": "pocket", "version": "0", "languages": ["en", "zh"], "voices": ["ben"],
    "decoders": ["vq", "diffusion"], "subjects": [{"name": "panda", "zh": "熊猫"}, {"name": "cat"}],
    "export_formats": ["html", "json"], "limits": {"samples": 4},
}  # fmt: skip
IDS = [
    {"position": 0, "id": 5, "block": "markers", "modality": None, "text": "<text>"},
    {"position": 1, "id": 70, "block": "text", "modality": "text", "text": " a"},
    {"position": 2, "id": 300, "block": "image_codes", "modality": "image", "code": 4},
    {"position": 3, "id": 900, "block": "audio_codes", "modality": "audio", "code": 9},
]


class FakeStudio(FakeArticles):
    """What the handler serves.

    Attributes:
        delay: seconds between two events.
        asked: (method, path, body) of every request but those for files.
        gone: set when a client left in the middle of a stream.
        facts, runs: that are told.
        key: that clients must bring; None: none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.delay = 0.0
        self.asked: list[tuple[str, str, Any]] = []
        self.gone = threading.Event()
        self.facts: dict[str, Any] = dict(FACTS)
        self.key: str | None = None
        self.run = "first"

    def play(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        samples = body.get("samples", 1)
        yield {"type": "playground.created", "seeds": list(range(samples)), "notes": []}
        for number in range(samples):
            rows: list[dict[str, Any]] = []
            for event in self.picture("f" * 16, 1, rows, "a cat"):
                if event["type"] == "segment.done":
                    event = {**event, "image": {"data": base64_of(picture(number)), "width": 24,
                                                "height": 24}}  # fmt: skip
                yield {**event, "sample": number}
            yield {"type": "sample.completed", "sample": number, "document": body["document"],
                   "warnings": [], "ids": 9, "seed": number}  # fmt: skip
        yield {"type": "playground.completed", "seconds": 0.1, "ids": 9 * samples}

    def samples(self) -> list[dict[str, Any]]:
        return [
            {"tag": "samples/cat", "step": 20, "kind": "image", "data": base64_of(picture(1))},
            {"tag": "samples/cat", "step": 10, "kind": "text", "text": "# The cat"},
            {"tag": "samples/cat", "step": 20, "kind": "audio", "data": base64_of(wav(sound()))},
        ]


@contextmanager
def fake_studio() -> Iterator[tuple[FakeStudio, str]]:
    """(what is served, its address) while the block runs."""
    studio = FakeStudio()

    class Handler(_Handler):
        pass

    Handler.studio = studio
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield studio, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    studio: FakeStudio
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/" or path.startswith("/studio/"):
            self._file(PAGE / ("index.html" if path == "/" else unquote(path[8:])))
        else:
            self._api()

    def do_POST(self) -> None:
        self._api()

    def do_PATCH(self) -> None:
        self._api()

    def do_DELETE(self) -> None:
        self._api()

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._json({"error": {"message": "no file"}}, 404)
            return
        kind = {".js": "text/javascript", ".json": "application/json"}.get(path.suffix)
        self._send(path.read_bytes(), kind or mimetypes.guess_type(path.name)[0] or "text/plain",
                   headers={"content-security-policy": POLICY})  # fmt: skip

    def _send(
        self, data: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-content-type-options", "nosniff")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            for event in events:
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
                time.sleep(self.studio.delay)
        except (BrokenPipeError, ConnectionResetError):
            self.studio.gone.set()
        finally:
            events.close()  # type: ignore[attr-defined]
        self.close_connection = True

    def _api(self) -> None:
        studio, parts = self.studio, urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        studio.asked.append((self.command, parts.path, body))
        if studio.key and self.headers.get("authorization") != f"Bearer {studio.key}":
            self._json({"error": {"message": "a key is needed", "code": "invalid_api_key"}}, 401)
            return
        names = parts.path.removeprefix("/v1/").split("/")
        try:
            getattr(self, f"_{names[0]}")(names[1:], body, parse_qs(parts.query))
        except (KeyError, AttributeError, IndexError) as error:
            self._json({"error": {"message": f"there is no {parts.path}: {error!r}"}}, 404)

    def _studio(self, names: list[str], body: Any, query: Any) -> None:
        self._json(self.studio.facts)

    def _runs(self, names: list[str], body: Any, query: Any) -> None:
        if not names:
            self._json({"runs": [{"name": self.studio.run, "steps": 20, "updated": 5.0}]})
        elif names[-1] == "curves":
            values = [[0, 3.0], [10, 2.0], [20, 1.5]]
            self._json({"loss/text": values, "loss/image": values, "lr": values})
        else:
            self._json(self.studio.samples())

    def _playground(self, names: list[str], body: Any, query: Any) -> None:
        if names[0] == "complete":
            self._stream(self.studio.play(body))
        elif names[0] == "inspect":
            self._json({"length": len(IDS), "ids": IDS, "error": None, "spans": []})
        else:
            blocks = [{"name": "text", "ids": 256, "examples": [IDS[1]]}]
            self._json({"position": body["position"], "expects": "text", "blocks": blocks})

    def _articles(self, names: list[str], body: Any, query: Any) -> None:
        studio, method = self.studio, self.command
        if not names:
            if method == "GET":
                articles = studio.summaries(query.get("q", [""])[0])
                self._json({"articles": articles, "more": False})
            else:
                id = studio.begin(body["prompt"])
                self._stream(studio.write(id, body["prompt"]))
            return
        id, *rest = names
        if rest[:1] == ["media"]:
            data = studio.media[urlsplit(self.path).path]
            self._send(data, "image/png" if self.path.endswith(".png") else "audio/wav")
        elif rest == ["restore"]:
            studio.articles[id] = studio.deleted.pop(id)
            self._json(studio.view(id))
        elif method == "DELETE":
            studio.deleted[id] = studio.articles.pop(id)
            self._json({"deleted": True, "undo_until": 9.0})
        elif rest == ["duplicate"]:
            copied = studio.begin(studio.articles[id]["prompt"])
            studio.articles[copied].update(
                title=studio.articles[id]["title"], status="completed",
                versions=[studio.rows(id)],
            )  # fmt: skip
            self._json(studio.view(copied))
        elif rest == ["export"]:
            name = {"content-disposition": f'attachment; filename="a.{body["format"]}"'}
            self._send(b"a file", "application/octet-stream", headers=name)
        elif rest[:1] == ["segments"]:
            self._change(id, int(rest[1]), body)
        elif rest in (["undo"], ["redo"]):
            studio.move(id, -1 if rest == ["undo"] else 1)
            self._json(studio.view(id))
        else:
            self._json(studio.view(id))

    def _change(self, id: str, index: int, body: Any) -> None:
        events = self.studio.change(id, index, body)
        if body["action"] == "regenerate" or body.get("then") in ("rewrite", "continue"):
            self._stream(events)
        else:
            list(events)
            self._json(self.studio.view(id))
