"""Which of the forms that data sets have on the hub a Parquet file has, by its columns.

A form says which columns are read, and makes of a row the record that an importer of that kind
takes. What is not read is counted for every row that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unified_base.structured import parse_json
from unified_base.text import quoted

__all__ = ["FORMS", "Columns", "Form", "choose_form", "class_names"]

FORMS = ("auto", "pairs", "llava", "sharegpt", "obelics", "preferences")

_IMAGES = ("image", "images", "img", "jpg", "jpeg", "png", "webp", "picture")
_AUDIOS = ("audio", "audios", "flac", "wav", "mp3", "speech", "sound")
_TEXTS = ("text", "caption", "captions", "txt", "transcription", "transcript", "sentence",
          "sentences", "description", "label", "labels")  # fmt: skip
_TURNS = ("messages", "conversations", "conversation")
_NAMES = ("id", "data_id", "__key__")
# Columns that an importer takes or refuses by what is in them, by its kind.
_SEEN = {
    "sharegpt": ("system", "tools", "functions", "video", "videos", "weight"),
    "preferences": ("system", "tools", "videos", "weight"),
    "obelics": ("weight",),
    "pairs": ("weight",),
}

Record = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """What is known of a file's columns. kinds: each one's Arrow type, as text; classes: the names
    of class numbers by column."""

    kinds: Mapping[str, str]
    classes: Mapping[str, list[str]] = field(default_factory=dict)

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of several names that is a column, whatever its case."""
        lower = {name.lower(): name for name in reversed(list(self.kinds))}
        return next((lower[name] for name in names if name in lower), None)


@dataclass(frozen=True)
class Form:
    """How rows are read. kind: the importer whose records they become; roles: column by field of
    the record; convert: what becomes of a record, one for each document or pair of documents."""

    kind: str
    roles: Mapping[str, str]
    convert: Callable[[Record], list[Record]] = lambda record: [record]

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(self.roles.values()))

    def __str__(self) -> str:
        parts = (
            f"{column} as {name}" if column != name else column
            for name, column in self.roles.items()
        )
        return f"{self.kind} ({', '.join(parts)})"


def choose_form(columns: Columns, asked: str = "auto") -> Form:
    """The form of a file. Raises ValueError where its columns are of none, or not of the one asked
    for."""
    if asked not in FORMS:
        raise ValueError(f"there is no form {quoted(asked)}, expected one of {', '.join(FORMS)}")
    for name, look in _LOOKS.items():
        kind = "llava" if (name, asked) == ("sharegpt", "llava") else name
        if asked in ("auto", kind) and (form := look(columns, kind)) is not None:
            named = columns.first(_NAMES)
            seen = _SEEN.get(name, ())
            more = {column: column for column in seen if column in columns.kinds}
            more |= {} if named is None else {"id": named}
            return Form(form.kind, {**more, **form.roles}, form.convert)
    wanted = "any form that is known" if asked == "auto" else f"the form {asked}"
    raise ValueError(
        f"its columns are {quoted(list(columns.kinds), 300)}, which is not {wanted}; see --as"
    )


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of class numbers by column, as Hugging Face's datasets writes them into a file.

    Raises ValueError where that is there and no JSON of this form.
    """
    text = metadata.get(b"huggingface")
    if text is None:
        return {}
    value = parse_json(text, "its huggingface metadata")
    info = value.get("info") if isinstance(value, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    if not isinstance(features, dict):
        return {}
    names = {}
    for column, feature in features.items():
        listed = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(listed, list) and feature.get("_type") == "ClassLabel":
            if not all(isinstance(name, str) for name in listed):
                raise ValueError(f"the class names of column {quoted(column)} are no texts")
            names[column] = listed
    return names


def _preferences(columns: Columns, kind: str) -> Form | None:
    roles = {name: name for name in ("chosen", "rejected") if name in columns.kinds}
    if len(roles) < 2:
        return None
    prompt = columns.first(("prompt", "question", *_TURNS))
    roles |= {} if prompt is None else {"prompt": prompt}
    return Form(kind, {**roles, **_media(columns)}, _media_first)


def _sharegpt(columns: Columns, kind: str) -> Form | None:
    turns = columns.first(_TURNS)
    if turns is None:
        return None
    return Form(kind, {"conversations": turns, **_media(columns)}, _parsed)


def _cauldron(columns: Columns, kind: str) -> Form | None:
    """The Cauldron: `images`, and `texts` of what a user and an assistant say."""
    texts = columns.first(("texts",))
    if texts is None or "struct" not in columns.kinds[texts]:
        return None
    return Form(kind, {"texts": texts, **_media(columns)}, _said_about)


def _obelics(columns: Columns, kind: str) -> Form | None:
    roles = {name: name for name in ("images", "texts") if name in columns.kinds}
    return Form(kind, roles) if len(roles) == 2 else None


def _pairs(columns: Columns, kind: str) -> Form | None:
    text, media = columns.first(_TEXTS), _media(columns)
    if text is None or not media:
        return None
    if columns.kinds[text] in ("int64", "int32", "int16", "int8"):
        if text not in columns.classes:
            raise ValueError(
                f"column {quoted(text)} has class numbers, and the file does not name the classes"
            )
        names = columns.classes[text]
        return Form(kind, {"text": text, **media}, lambda record: _class(record, names))
    return Form(kind, {"text": text, **media}, _captions)


_LOOKS: dict[str, Callable[[Columns, str], Form | None]] = {
    "preferences": _preferences,
    "sharegpt": lambda columns, kind: _sharegpt(columns, kind) or _cauldron(columns, kind),
    "obelics": _obelics,
    "pairs": _pairs,
}


def _media(columns: Columns) -> dict[str, str]:
    chosen = {"image": columns.first(_IMAGES), "audio": columns.first(_AUDIOS)}
    return {name: column for name, column in chosen.items() if column is not None}


def _parsed(record: Record) -> list[Record]:
    """Turns that are a JSON text, as some files have them, as values."""
    turns = record.get("conversations")
    if isinstance(turns, str):
        record["conversations"] = parse_json(turns, "the text in 'conversations'")
    return [record]


def _class(record: Record, names: list[str]) -> list[Record]:
    number = record.get("text")
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise ValueError(f"its class is {quoted(number)}, expected 0 to {len(names) - 1}")
    return [{**record, "text": names[number]}]


def _captions(record: Record) -> list[Record]:
    """One record for each of several captions, which may be objects with a text."""
    text = record.get("text")
    if not isinstance(text, list):
        return [record]
    if not text:
        raise ValueError("it has no caption")
    texts = [
        next((part[name] for name in ("raw", "caption", "text") if name in part), part)
        if isinstance(part, dict)
        else part
        for part in text
    ]
    return [{**record, "text": caption} for caption in texts]


def _said_about(record: Record) -> list[Record]:
    """What is said about pictures, which come first."""
    turns: list[Record] = []
    texts = record.pop("texts", None)
    if not isinstance(texts, list):
        raise ValueError("its 'texts' are no list")
    for number, text in enumerate(texts):
        if not isinstance(text, dict) or not {"user", "assistant"} <= set(text):
            raise ValueError(f"text {number} is not of a user and an assistant")
        others = {name: value for name, value in text.items() if name not in ("user", "assistant")}
        turns += [
            {"role": "user", "content": text["user"], **others},
            {"role": "assistant", "content": text["assistant"]},
        ]
    record["conversations"] = turns
    return _before(record, turns)


def _media_first(record: Record) -> list[Record]:
    """The media of a prompt that is a text without places come before it."""
    prompt = record.get("prompt")
    texts = [record.get(name) for name in ("prompt", "chosen", "rejected")]
    if not all(isinstance(text, str) for text in texts) or "<image>" in "".join(map(str, texts)):
        return [record]
    record["prompt"] = [{"role": "user", "content": prompt}]
    return _before(record, record["prompt"])


def _before(record: Record, turns: list[Record]) -> list[Record]:
    """Put the media of a record before the text of its first turn."""
    parts: list[Record] = []
    for kind in ("image", "audio"):
        names = record.pop(kind, None)
        for name in names if isinstance(names, list) else [names]:
            parts += [] if name is None else [{"type": kind, kind: name}]
    if parts and turns:
        turns[0]["content"] = [*parts, {"type": "text", "text": turns[0]["content"]}]
    return [record]
