"""Putting an imported document together: text, and media that is proved to be sound.

PNG, JPEG, WebP, FLAC and WAV go into the shard byte for byte once they have been decoded. Other
kinds are stored as what they decode to, without loss: pictures as PNG, sounds as FLAC or WAV.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unified_base.images import decode_image, encode_png
from unified_base.media_source import AUDIO_ENDINGS, IMAGE_ENDINGS
from unified_base.sounds import decode_audio, encode_audio
from unified_base.structured import MAX_JSON
from unified_base.text import quoted, safe
from unified_data.document import Role, Text, check_decoded, common_entries
from unified_data.importers.embedded import Embedded, Name, media_name, shown_name

MAX_SEGMENTS = 4_096
MAX_TOTAL = 512 << 20
"""Bytes of all media of one document as it is stored in the shard."""

_MAX_REASON = 500
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"))


@dataclass(frozen=True)
class Sample:
    """A document as `ShardWriter.write_parts` takes it.

    scaled: sounds brought to full scale. joined: the next document belongs beside it. ignored: how
    often each field of the source was not taken over.
    """

    key: str
    obj: dict[str, Any]
    media: dict[str, bytes]
    scaled: int = 0
    joined: bool = False
    ignored: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """What could not be used, and why, in one line."""

    key: str
    reason: str

    @classmethod
    def because(cls, key: str, error: object) -> Skipped:
        """Of an error, cut to a bounded length: a reason may quote what it complains about."""
        reason = safe(" ".join(str(error).split()))
        return cls(key, reason if len(reason) <= _MAX_REASON else reason[:_MAX_REASON] + " ...")


def make_key(number: int, hint: Any = None) -> str:
    """The key of the document of that number in its source, with the source's own name for it.

    The number makes it unique and keeps the order; of the hint, letters, digits, - and _ stay.
    """
    key = f"{number:09d}"
    if isinstance(hint, str | int) and not isinstance(hint, bool):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(hint)[:200]).strip("-")[:48]
        key += f"-{name}" if name else ""
    return key


def check_weight(value: Any) -> None:
    """Raises ValueError for a record's `weight` other than 1, which no document can hold.

    Turns of a conversation have weights, and the sources of a run have shares.
    """
    try:
        usual = value in (None, "") or float(value) == 1.0
    except (TypeError, ValueError, OverflowError):
        usual = False
    if not usual:
        raise ValueError(
            f"its 'weight' is {quoted(value)}; give weights to the turns, or shares to the sources "
            "of a run"
        )


def media_kind(name: str) -> str | None:
    """ "image" or "audio" by a file name's ending, None for any other."""
    lower = name.lower()
    if lower.endswith(IMAGE_ENDINGS):
        return "image"
    return "audio" if lower.endswith(AUDIO_ENDINGS) else None


class DocumentBuilder:
    """Takes the segments of one document in order. Every method raises ValueError.

    read: gives the bytes of a media file by the name that the source has for it. A prompt has loss
    0.0; a document without roles has loss 1.0 everywhere.
    """

    def __init__(self, key: str, read: Callable[[str], bytes]) -> None:
        self.key = key
        self._read = read
        self._rows: list[dict[str, Any]] = []
        self._media: dict[str, bytes] = {}
        self._total = self._decoded = self._scaled = 0
        self._ignored: Counter[str] = Counter()

    def ignore(self, name: str, value: Any = True, count: int = 1) -> None:
        """Count a field that is not taken over, where it holds something."""
        if value not in (None, "", [], {}):
            self._ignored[quoted(name).strip("'")] += count

    def ignore_others(
        self, record: Mapping[str, Any], used: Container[str], where: str = ""
    ) -> None:
        """Count the fields of a record that are not among those used. where: before their names."""
        for name, value in record.items():
            if name not in used:
                if name == "weight":
                    check_weight(value)
                self.ignore(f"{where}{name}", value)

    def text(
        self, text: Any, role: Role | None = None, joiner: str = "\n\n", loss: float | None = None
    ) -> None:
        """Add text; beside text of the same role it becomes one segment. Empty text adds none.

        loss: its weight where that is not the role's. Texts of different weights stay apart.
        """
        if text == "":
            return
        Text(text, role)  # checks it
        last = self._rows[-1] if self._rows else {}
        row = self._row({"type": "text", "pieces": [text]}, role, loss)
        if all(last.get(name) == row.get(name) for name in ("type", "role", "loss")):
            last["pieces"] += [joiner, text]
        else:
            self._add(row)

    def add(
        self, kind: str, name: Name, role: Role | None = None, loss: float | None = None
    ) -> None:
        """Add the picture or sound (kind: "image" or "audio") of that name."""
        add = self.image if kind == "image" else self.audio
        add(name, role, loss)

    def image(self, name: Name, role: Role | None = None, loss: float | None = None) -> None:
        """Add the picture of that name."""
        data, name = self._bytes(name)
        pixels = decode_image(data, shown_name(name))
        self._decoded = check_decoded(self._decoded + pixels.nbytes)
        extension = next((e for magic, e in _IMAGES if data.startswith(magic)), None)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            extension = "webp"
        if extension is None:
            extension, data = "png", encode_png(pixels)
        self._add_media("image", extension, data, role, loss)

    def audio(self, name: Name, role: Role | None = None, loss: float | None = None) -> None:
        """Add the sound of that name."""
        data, name = self._bytes(name)
        waveform, rate = decode_audio(data, shown_name(name))
        self._decoded = check_decoded(self._decoded + waveform.nbytes)
        peak = float(np.max(np.abs(waveform)))
        if peak > 1.0:  # floating-point, MP3 and Ogg files can go there
            self._scaled += 1
            extension, data = encode_audio(waveform / np.float32(peak), rate)
        elif data[:4] == b"fLaC":
            extension = "flac"
        elif data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            extension = "wav"
        else:
            extension, data = encode_audio(waveform, rate)
        self._add_media("audio", extension, data, role, loss)

    def mute(self) -> None:
        """Set the loss weight of everything added so far to 0.0: it is context, whoever speaks."""
        for row in self._rows:
            row["loss"] = 0.0

    def __len__(self) -> int:
        """Segments so far."""
        return len(self._rows)

    def sample(self, joined: bool = False) -> Sample:
        """The document; see `Sample`. Raises ValueError where it holds nothing, or too much."""
        if not self._rows:
            raise ValueError("it holds no text, picture or sound")
        for row in self._rows:
            if "pieces" in row:  # after "type", before "role": as documents are written
                pieces = row.pop("pieces")
                rest = {name: row.pop(name) for name in ("role", "loss") if name in row}
                row |= {"text": "".join(pieces)} | rest
        obj = {"segments": self._rows}
        size = len(json.dumps(obj, ensure_ascii=False).encode("utf-8"))
        if size > MAX_JSON:
            raise ValueError(f"its text takes {size:,} bytes, expected at most {MAX_JSON:,}")
        return Sample(self.key, obj, self._media, self._scaled, joined, dict(self._ignored))

    def _bytes(self, name: Name) -> tuple[bytes, Name]:
        """A medium's bytes, and its name for errors."""
        name = media_name(name) if isinstance(name, str) else name
        return (name.data if isinstance(name, Embedded) else self._read(name)), name

    def _add_media(
        self, kind: str, extension: str, data: bytes, role: Role | None, loss: float | None
    ) -> None:
        self._total += len(data)
        if self._total > MAX_TOTAL:
            raise ValueError(f"its media take more than {MAX_TOTAL:,} bytes")
        name = f"{self.key}.{len(self._rows)}.{extension}"
        self._media[name] = data
        self._add(self._row({"type": kind, "file": name}, role, loss))

    def _row(self, row: dict[str, Any], role: Role | None, loss: float | None) -> dict[str, Any]:
        if loss is None:
            loss = 0.0 if role == "prompt" else 1.0
        return row | common_entries(role, loss)

    def _add(self, row: dict[str, Any]) -> None:
        if len(self._rows) >= MAX_SEGMENTS:
            raise ValueError(f"it has more than {MAX_SEGMENTS:,} segments")
        self._rows.append(row)
