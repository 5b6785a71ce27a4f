"""Requests to a server of articles as they are written, and its events as they come."""

from __future__ import annotations

import http.client
import json

from running_server import RunningServer

from unified.serving.article_library import ArticleLibrary
from unified.serving.inline_document import document_of

ASKED = {"prompt": "The giant panda. One picture", "narration": False, "seed": 3}
"""The article that tests read and change."""


class ArticleApi:
    """A server's articles, and its library."""

    def __init__(self, server: RunningServer, library: ArticleLibrary) -> None:
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

    def index(self, id, kind):
        """Of the first segment of a kind that was written."""
        segments = self.json("GET", f"/v1/articles/{id}")["segments"]
        return next(each["index"] for each in segments
                    if each["kind"] == kind and each["role"] != "prompt")  # fmt: skip


def _events(content):
    told = []
    for part in content.decode().split("\n\n")[:-1]:
        name, data = part.split("\n", 1)
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        told.append(value)
    return told


def of_type(events, kind):
    """Those of a stream's events that have a type."""
    return [event for event in events if event["type"] == kind]
