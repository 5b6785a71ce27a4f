"""Articles of a studio that computes nothing: what is written is known beforehand."""

from __future__ import annotations

import base64
import copy
import io
import math
import struct
import threading
import wave
from collections.abc import Iterator
from typing import Any

from PIL import Image

Row = dict[str, Any]
RATE = 8_000
SIDE = 24

TEXTS = (
    "# The {subject}\n\n> (ben) The {subject} is here.\n",
    "\n\nIt is seen in the first paragraph, which *has* emphasis.\n\n![a {subject}]",
    "\n\n## Home\n\nIt lives in the second section.\n\n- one\n- two",
)


def picture(tone: int, side: int = SIDE) -> bytes:
    """A PNG whose colour a number says."""
    image = Image.new("RGB", (side, side), (tone * 40 % 256, 120, 200 - tone * 30 % 200))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sound(seconds: float = 0.4) -> bytes:
    """16-bit samples of a low tone."""
    number = int(seconds * RATE)
    return b"".join(
        struct.pack("<h", int(6_000 * math.sin(2 * math.pi * 220 * step / RATE)))
        for step in range(number)
    )


def wav(samples: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples)
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class FakeArticles:
    """Articles in memory, each with its versions. texts: of the next that are written, with
    {subject} replaced by the prompt's first sentence."""

    def __init__(self) -> None:
        self.texts: tuple[str, ...] = TEXTS
        self.articles: dict[str, dict[str, Any]] = {}
        self.deleted: dict[str, dict[str, Any]] = {}
        self.media: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self.tone = 0

    # Reading.

    def view(self, id: str) -> dict[str, Any]:
        article = self.articles[id]
        segments = []
        for index, row in enumerate(self.rows(id)):
            view = {"index": index, "alternatives": len(row.get("others", ())), **row}
            view.pop("others", None)
            others = row.get("others", ())
            if others:
                view["alternative_urls"] = [other["url"] for other in others]
            segments.append(view)
        return {
            "id": id, "title": article["title"], "prompt": article["prompt"], "seed": 7,
            "created": 1.0, "updated": article["updated"], "status": article["status"],
            "warnings": [], "segments": segments, "document_url": f"/v1/articles/{id}/document",
            "versions": {
                "undo": article["cursor"] > 0,
                "redo": article["cursor"] + 1 < len(article["versions"]),
                "number": article["cursor"] + 1,
            },
        }  # fmt: skip

    def rows(self, id: str) -> list[Row]:
        article = self.articles[id]
        return article["versions"][article["cursor"]]

    def summaries(self, query: str) -> list[dict[str, Any]]:
        with self.lock:
            views = [self.view(id) for id in reversed(self.articles)]
        return [
            {
                **{key: view[key] for key in ("id", "title", "prompt", "created", "updated",
                                              "status")},
                "pictures": sum(row["kind"] == "image" for row in view["segments"]), "sounds": 1,
                "characters": 200, "thumbnail_url": next(
                    (row["image"]["url"] for row in view["segments"] if row["kind"] == "image"),
                    None,
                ),
            }
            for view in views
            if query.lower() in (view["title"] + view["prompt"]).lower()
        ]  # fmt: skip

    # Changing.

    def begin(self, prompt: str) -> str:
        with self.lock:
            id = f"{len(self.articles) + len(self.deleted) + 1:016x}"
            self.articles[id] = {
                "title": prompt, "prompt": prompt, "status": "writing", "updated": 2.0,
                "versions": [[{"kind": "text", "role": "prompt", "text": prompt}]], "cursor": 0,
            }  # fmt: skip
            return id

    def push(self, id: str, rows: list[Row]) -> None:
        article = self.articles[id]
        article["versions"] = [*article["versions"][: article["cursor"] + 1], rows]
        article["cursor"] += 1

    def move(self, id: str, step: int) -> None:
        self.articles[id]["cursor"] += step

    def stored(self, id: str, kind: str, data: bytes) -> str:
        self.tone += 1
        ending = {"image": "png", "audio": "wav"}[kind]
        name = f"/v1/articles/{id}/media/{self.tone}.{ending}"
        self.media[name] = data
        return name

    # Writing.

    def write(self, id: str, prompt: str) -> Iterator[dict[str, Any]]:
        """The events of an article, which is stored as far as it came."""
        article = self.articles[id]
        yield {"type": "article.created", "id": id, "seed": 7, "prompt": prompt,
               "notes": ["a note of the server"]}  # fmt: skip
        try:
            subject = prompt.partition(". ")[0]
            yield from self.rest(id, self.rows(id), subject, 1)
            article["status"] = "completed"
            article["title"] = f"The {subject}"
        finally:
            if article["status"] == "writing":
                article["status"] = "stopped"
        yield {"type": "article.completed", "id": id, "document_url": "", "warnings": [],
               "seconds": 1.5, "ids": 240}  # fmt: skip

    def rest(self, id: str, rows: list[Row], prompt: str, first: int) -> Iterator[dict[str, Any]]:
        plan = [("text", self.texts[0]), ("audio", ""), ("text", self.texts[1]), ("image", ""),
                *(("text", text) for text in self.texts[2:])]  # fmt: skip
        for index, (kind, text) in enumerate(plan[first - 1 :], first):
            if kind == "text":
                yield from self.text(index, rows, text.replace("{subject}", prompt))
            elif kind == "audio":
                yield from self.sound(id, index, rows, prompt)
            else:
                yield from self.picture(id, index, rows, prompt)
            yield {"type": "progress", "ids": 40 * index, "ids_per_second": 80.0, "seconds": 0.5,
                   "expected_ids": 240}  # fmt: skip

    def text(self, index: int, rows: list[Row], text: str) -> Iterator[dict[str, Any]]:
        yield {"type": "segment.started", "segment": index, "kind": "text", "role": "response"}
        for at in range(0, len(text), 24):
            yield {"type": "segment.text", "segment": index, "delta": text[at : at + 24]}
        self.put(rows, index, {"kind": "text", "role": "response", "text": text})
        yield {"type": "segment.done", "segment": index, "kind": "text", "text": text}

    def picture(self, id: str, index: int, rows: list[Row], alt: str) -> Iterator[dict[str, Any]]:
        data = picture(self.tone)
        yield {"type": "segment.started", "segment": index, "kind": "image", "role": "response",
               "height": SIDE, "width": SIDE, "caption": alt}  # fmt: skip
        for end in range(8, SIDE + 1, 8):
            part = io.BytesIO()
            Image.open(io.BytesIO(data)).crop((0, 0, SIDE, end)).save(part, "PNG")
            yield {"type": "segment.rows", "segment": index, "first": end - 8, "rows": end,
                   "height": SIDE, "width": SIDE, "png": base64_of(part.getvalue())}  # fmt: skip
        url = self.stored(id, "image", data)
        image = {"url": url, "width": SIDE, "height": SIDE, "alt": alt}
        self.put(rows, index, {"kind": "image", "role": "response", "image": image})
        yield {"type": "segment.done", "segment": index, "kind": "image", "image": image}

    def sound(self, id: str, index: int, rows: list[Row], words: str) -> Iterator[dict[str, Any]]:
        words_said = f"The {words} is here."
        yield {"type": "segment.started", "segment": index, "kind": "audio", "role": "response",
               "sample_rate": RATE, "transcript": words_said, "voice": "ben"}  # fmt: skip
        for _ in range(3):
            yield {"type": "segment.sound", "segment": index, "sample_rate": RATE,
                   "pcm16": base64_of(sound(0.2))}  # fmt: skip
        url = self.stored(id, "audio", wav(sound(0.6)))
        audio = {"url": url, "seconds": 0.6, "transcript": words_said, "voice": "ben"}
        self.put(rows, index, {"kind": "audio", "role": "response", "audio": audio})
        yield {"type": "segment.done", "segment": index, "kind": "audio", "audio": audio}

    @staticmethod
    def put(rows: list[Row], index: int, row: Row) -> None:
        rows[index:] = [row, *rows[index + 1 :]] if index < len(rows) else [row]

    def change(self, id: str, index: int, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of PATCH; a change that computes nothing has none."""
        rows = copy.deepcopy(self.rows(id))
        row, action = rows[index], body["action"]
        if action == "choose":
            before, number = copy.deepcopy(row), body["alternative"]
            others = before.pop("others")
            chosen = others[number]
            others[number] = before[before["kind"]]
            rows[index] = {**before, before["kind"]: chosen, "others": others}
        elif action == "edit":
            row["text"] = body["text"]
        elif action == "replace":
            media = row[row["kind"]]
            data = base64.b64decode(body["media"])
            row[row["kind"]] = {**media, "url": self.stored(id, row["kind"], data)}
            row["others"] = [*row.get("others", ()), media]
        else:
            yield {"type": "article.changing", "id": id, "segment": index, "action": action,
                   "rest": False, "notes": []}  # fmt: skip
            yield from self.anew(id, index, rows, body)
        if body.get("then") in ("rewrite", "continue"):
            yield {"type": "article.changing", "id": id, "segment": index, "rest": True}
            del rows[index + 1 :]
            yield from self.rest(id, rows, "zebra", index + 1)
        self.push(id, rows)
        yield {"type": "article.completed", "id": id, "warnings": [], "seconds": 0.2, "ids": 20}

    def anew(
        self, id: str, index: int, rows: list[Row], body: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        row = rows[index]
        if row["kind"] == "text":
            yield from self.text(index, rows, row["text"].replace("second", "rewritten"))
            return
        others = [*row.get("others", ()), row[row["kind"]]]
        make = self.picture if row["kind"] == "image" else self.sound
        yield from make(id, index, rows, "zebra")
        rows[index]["others"] = others
