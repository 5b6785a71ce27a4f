"""What the fuzzing starts from, and how it is broken: sound inputs and seeded mutations."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image as PillowImage

Entry = tuple[str, bytes, bytes, str]
"""A member of a tar file: name, content, type flag, target of a link."""

OUTSIDE = "outside"
"""The folder beside the sources, whose files no reader may open."""

EVIL_NAMES = ("/etc/passwd", f"../{OUTSIDE}/secret.png", f"a/../../{OUTSIDE}/secret.png", "pipe:id",
              "http://127.0.0.1:9/x.png", "https://h/p/a.png", "file:///etc/passwd", "", ".", "..",
              "C:\\x.png", "..\\x.png", "a\0b.png", "link.png", "linked/secret.png", "fifo.png",
              "a" * 5000, "\ud800.png", "m", "k.pkl", "k.pth", "k.0.pyd", "k.json", "k.0.png",
              "k.0.codes", "-", "k.0.0.png", "K.JSON", "k.00000000000000000000001.png",
              "d/k.json", "k.json/", "ä.json")  # fmt: skip
EVIL_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, -(2**70), 1e308, float("nan"), float("inf"),
    0.5, "", "x", "\ud800", "\0", "<script>alert(1)</script>", "x" * 70_000, [], {}, [[]], [None],
    {"type": "text"}, {"type": []}, {"segments": []}, "prompt", "response", "image", "any",
    "<image>", "<image><audio>", *EVIL_NAMES)  # fmt: skip
EVIL_TEXTS = (
    b"[" * 200_000, b'{"a":' * 100_000, b"1" * 5_000, b"[" * 999 + b"]" * 999, b"nan", b"",
    b"\xff\xfe[\0]\0", b"null", b'"\\ud800"', b"\xef\xbb\xbf{}", b"{}{}",
)  # fmt: skip
FORMATS = ("pocket", "pocket-together", "musicgen", "dia", "moshi", "csm", "higgs-audio-v2", "emu3",
           "qwen3-omni", "apertus", "mio", "lumina-mgpt", "anygpt")  # fmt: skip
"""Shipped formats that are changed: every kind of item among them."""
EVIL_TYPES = (b"1", b"2", b"3", b"5", b"6", b"7", b"S", b"\0", b"x", b"g", b"L", b"Z")


def sound_media(rng: random.Random) -> dict[str, bytes]:
    """Small pictures and sounds of every kind by file name."""
    noise = np.random.default_rng(rng.getrandbits(32))
    media = {}
    for name, kind, options in (
        ("a.png", "PNG", {}), ("b.jpg", "JPEG", {}), ("c.webp", "WEBP", {"lossless": True}),
        ("d.gif", "GIF", {}), ("e.bmp", "BMP", {}), ("p.png", "PNG", {"mode": "P"}),
        ("t.png", "PNG", {"mode": "RGBA"}), ("i.png", "PNG", {"mode": "I;16"}),
        ("q.jpg", "JPEG", {"progressive": True, "mode": "CMYK"}),
    ):  # fmt: skip
        mode = options.pop("mode", "RGB")
        pixels = noise.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        picture = PillowImage.fromarray(pixels)
        if mode == "I;16":
            picture = PillowImage.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
        elif mode != "RGB":
            picture = picture.convert(mode)
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        media[name] = buffer.getvalue()
    for name, kind, subtype in (
        ("s.flac", "FLAC", "PCM_16"), ("f.wav", "WAV", "FLOAT"), ("w.wav", "WAV", "PCM_16"),
        ("u.wav", "WAV", "IMA_ADPCM"), ("o.ogg", "OGG", "VORBIS"), ("m.mp3", "MP3", None),
        ("x.aiff", "AIFF", "PCM_24"), ("2.wav", "WAV", "PCM_16"),
    ):  # fmt: skip
        wave = noise.uniform(-0.5, 0.5, (90, 2 if name == "2.wav" else 1)).astype(np.float32)
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, 16000, format=kind, subtype=subtype)
        media[name] = buffer.getvalue()
    return media


def sound_entries(media: dict[str, bytes]) -> list[Entry]:
    """Members of a shard of documents."""

    def text(value: str, **more: Any) -> dict[str, Any]:
        return {"type": "text", "text": value, **more}

    rows = {
        "k": [text("naïve 🐼", role="prompt", loss=0.0),
              {"type": "image", "file": "k.1.png", "role": "response"}],
        "l-1": [{"type": "image", "file": "l-1.0.jpg"}, text("a"),
                {"type": "audio", "file": "l-1.2.flac", "loss": 0.5},
                {"type": "slot", "modality": "image", "height": 9, "width": 6}],
        "m": [{"type": "audio", "file": "m.0.wav"}, {"type": "image", "file": "m.1.webp"}],
        "n": [{"type": "audio", "file": "n.0.wav", "words": ["<pad>", "Yes"]}],
    }  # fmt: skip
    sources = {"k.1.png": "a.png", "l-1.0.jpg": "b.jpg", "l-1.2.flac": "s.flac",
               "m.0.wav": "w.wav", "m.1.webp": "c.webp", "n.0.wav": "2.wav"}  # fmt: skip
    entries = []
    for key, segments in rows.items():
        entries.append((f"{key}.json", json.dumps({"segments": segments}).encode(), b"0", ""))
        for segment in segments:
            if "file" in segment:
                name = str(segment["file"])
                entries.append((name, media[sources[name]], b"0", ""))
    return entries


CODES_INDEX = {
    "image": {"fingerprint": "a" * 64, "codebook_sizes": [16, 16], "dtype": "uint16"},
    "audio": {"fingerprint": "b" * 64, "codebook_sizes": [70_000], "dtype": "uint32"},
}


def sound_code_entries() -> list[Entry]:
    """Members of a shard of stored codes, as `CODES_INDEX` describes them."""
    image = np.arange(2 * 3 * 2, dtype="<u2").tobytes()
    audio = np.array([5, 69_999, 7], dtype="<u4").tobytes()
    entries = []
    for key in ("k", "l"):
        rows = [
            {"type": "text", "text": "a", "role": "prompt", "loss": 0.0},
            {"type": "image", "codes": f"{key}.1.codes", "shape": [2, 3, 2], "role": "response"},
            {"type": "audio", "codes": f"{key}.2.codes", "shape": [1, 3]},
        ]
        entries += [
            (f"{key}.json", json.dumps({"segments": rows}).encode(), b"0", ""),
            (f"{key}.1.codes", image, b"0", ""),
            (f"{key}.2.codes", audio, b"0", ""),
        ]
    return entries


def sound_records() -> dict[str, Any]:
    """Two records, or the whole, of the kinds that are JSON or a table."""
    content = [{"type": "text", "content": "x"}, {"type": "image", "image_path": "b.jpg"}]
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "See <image> hear <audio>"},
        {"role": "assistant", "content": [{"type": "text", "text": "yes"}, {"type": "image"}]},
    ]
    return {
        "obelics": {"images": [None, "a.png", None], "texts": ["one", None, "two"]},
        "mmc4": {"text_list": ["One.", "Two."],
                 "image_info": [{"image_name": "c.webp", "matched_text_index": 1}]},
        "comm": {"data_id": "w/1", "title": "T", "summary_info": content, "step_info": [content]},
        "llava": {"id": 7, "image": "a.png", "conversations": turns},
        "sharegpt": {"messages": messages, "images": ["a.png", "d.gif"], "audios": ["o.ogg"]},
        "preferences": {"prompt": messages[:2], "chosen": "<image>yes", "rejected": messages[2:],
                        "images": ["a.png", "d.gif", "b.jpg"], "audios": ["o.ogg"]},
        "pairs": {"id": "p", "text": "a cat", "image": "e.bmp", "audio": "s.flac"},
        "coco": {"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "t.png"}],
                 "annotations": [{"id": 5, "image_id": 1, "caption": "c"},
                                 {"id": 6, "image_id": 2, "caption": "d"}]},
    }  # fmt: skip


def sound_parquet(media: dict[str, bytes], form: int) -> bytes:
    """A Parquet file with media in its rows, in one of three forms."""
    import pyarrow
    import pyarrow.parquet

    picture = {"bytes": media["a.png"], "path": "a.png"}
    sound = {"bytes": media["s.flac"], "path": None}
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    row: dict[str, Any] = (
        {"image": picture, "audio": sound, "text": "a cat", "id": "k", "score": 0.5},
        {"images": [picture, picture], "texts": [{"user": "What?", "assistant": "A cat."}] * 2},
        {"image": picture, "conversations": turns, "id": 7},
    )[form % 3]
    buffer = io.BytesIO()
    table = pyarrow.Table.from_pylist([row] * 4)
    pyarrow.parquet.write_table(table, buffer, row_group_size=2, compression="snappy")
    return buffer.getvalue()


def write_tar(entries: list[Entry], rng: random.Random, extended: bool) -> bytes:
    """A tar file of the members; extended: with pax headers, as other writers make them."""
    buffer = io.BytesIO()
    form = tarfile.PAX_FORMAT if extended else tarfile.USTAR_FORMAT
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content, kind, target in entries:
            member = tarfile.TarInfo(name[:90] if not extended else name)
            member.size, member.type, member.linkname = len(content), kind, target
            if extended and rng.random() < 0.5:
                member.mtime = 1.5
            try:
                tar.addfile(member, io.BytesIO(content))
            except (ValueError, UnicodeError):  # a name that no header holds
                continue
    return buffer.getvalue()


def break_entries(entries: list[Entry], rng: random.Random) -> list[Entry]:
    """Members renamed, retyped, dropped, doubled, swapped, or with broken contents."""
    entries = list(entries)
    for _ in range(rng.choice((1, 1, 2))):
        if not entries:
            return entries
        i = rng.randrange(len(entries))
        name, content, kind, target = entries[i]
        what = rng.randrange(8)
        if what == 0:
            entries[i] = rng.choice((*EVIL_NAMES, f"{name}x", name.upper())), content, kind, target
        elif what == 1:
            entries[i] = name, content, rng.choice(EVIL_TYPES), "/etc/passwd"
        elif what == 2:
            del entries[i]
        elif what == 3:
            entries.insert(rng.randrange(len(entries) + 1), entries[i])
        elif what == 4:
            rng.shuffle(entries)
        elif name.endswith(".json"):
            entries[i] = name, break_json(content, rng), kind, target
        else:
            entries[i] = name, break_media(content, rng), kind, target
    return entries


def break_tar(data: bytes, rng: random.Random) -> bytes:
    """A header's field changed (its checksum set right, mostly), or bytes of the file broken."""
    if rng.random() < 0.4:
        return break_bytes(data, rng)
    mutated = bytearray(data)
    headers = [
        at for at in range(0, len(mutated) - 511, 512) if mutated[at + 257 : at + 262] == b"ustar"
    ]
    if not headers:
        return break_bytes(data, rng)
    at = rng.choice(headers)
    begin, length = rng.choice(((0, 100), (124, 12), (124, 12), (156, 1), (257, 8), (345, 155)))
    evil = rng.choice(EVIL_NAMES).encode("utf-8", "replace")
    value = rng.choice(
        (b"77777777777\0", b"\x80" + b"\0" * 3 + b"\xff" * 8, b"\xff" * 12, b"-1", b"0o17", b"1_0",
         b"", rng.randbytes(length), b"00000001000\0", evil)
    )  # fmt: skip
    mutated[at + begin : at + begin + length] = value[:length].ljust(length, b"\0")
    if rng.random() < 0.9:
        mutated[at + 148 : at + 156] = b" " * 8
        mutated[at + 148 : at + 156] = b"%06o\0 " % sum(mutated[at : at + 512])
    return bytes(mutated)


def break_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes set, cut off, put in, repeated or taken out."""
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        i = rng.randrange(len(mutated) + 1)
        j = min(len(mutated), i + rng.choice((1, 4, 50, 512, 4096)))
        what = rng.randrange(7)
        if what <= 1 and i < len(mutated):
            mutated[i] ^= 1 << rng.randrange(8)
        elif what == 2:
            mutated[i:j] = bytes(rng.choice((0, 0x7F, 0x80, 0xFF)) for _ in range(min(8, j - i)))
        elif what == 3:
            del mutated[i:]
        elif what == 4:
            mutated[i:i] = rng.randbytes(rng.choice((1, 3, 512)))
        elif what == 5:
            mutated[i:i] = mutated[i:j]
        else:
            del mutated[i:j]
    return bytes(mutated)


def break_media(data: bytes, rng: random.Random) -> bytes:
    """Bytes broken, or a header that claims another size: huge, or nothing at all."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.4:
        sides = [rng.choice((0, 1, 7, 3_000, 60_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
        header = b"IHDR" + struct.pack(">II", *sides) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    if data[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.4:
        chunks, at = [data[:8]], 8
        broken = rng.randrange(5)  # one of its chunks, with a checksum that fits
        while at + 12 <= len(data):
            (length,) = struct.unpack(">I", data[at : at + 4])
            body = data[at + 4 : at + 8 + length]
            if len(chunks) == broken + 1:
                kind = rng.choice((body[:4], body[:4], b"tRNS", b"PLTE", b"zTXt", b"iCCP", b"acTL"))
                body = kind + break_bytes(body[4:], rng)
            chunks.append(struct.pack(">I", len(body) - 4) + body)
            chunks.append(struct.pack(">I", zlib.crc32(body)))
            at += length + 12
        return b"".join(chunks)
    if data[:4] == b"fLaC" and rng.random() < 0.4:
        mutated = bytearray(data)  # STREAMINFO: sample rate, channels, bits and number of samples
        fields = b"\x03\xe8\x00\xff" + b"\xff" * 4
        mutated[18:26] = rng.randbytes(8) if rng.random() < 0.5 else fields
        return bytes(mutated)
    if data[:4] == b"RIFF" and rng.random() < 0.4:
        mutated = bytearray(data)
        at = rng.choice((4, 16, 20, 22, 24, 28, 32, 34, 40))
        mutated[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\0\0\0\x7f", rng.randbytes(4)))
        return bytes(mutated)
    return break_bytes(data, rng)


def break_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one or two of its parts replaced, taken out, doubled or put elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2))):
        places: list[tuple[Any, Any]] = []
        waiting = [value]
        while waiting:
            node = waiting.pop()
            for at in node if isinstance(node, dict) else range(len(node)):
                places.append((node, at))
                if isinstance(node[at], dict | list):
                    waiting.append(node[at])
        if not places:
            return rng.choice(EVIL_VALUES)
        node, at = rng.choice(places)
        what = rng.randrange(5)
        if what == 0:
            del node[at]
        elif what == 1 and isinstance(node, dict):
            names = (
                "x",
                "role",
                "loss",
                "file",
                "type",
                "id",
                "text",
                "weight",
                "refusal",
                "caption",
                "until",
                "together",
                "streams",
            )
            node[rng.choice(names)] = node[at]
        elif what == 1:
            node.insert(at, copy.deepcopy(node[at]))
        elif what == 2:
            node[at] = copy.deepcopy(rng.choice(places)[0]) if rng.random() < 0.5 else [node[at]]
        else:
            node[at] = copy.deepcopy(rng.choice(EVIL_VALUES))
    return value


def break_json(text: bytes, rng: random.Random) -> bytes:
    """The text of a JSON value, broken as a value or as bytes."""
    what = rng.random()
    if what < 0.05:
        return rng.choice(EVIL_TEXTS)
    if what < 0.25:
        return break_bytes(text, rng)
    try:
        return json.dumps(break_value(json.loads(text), rng)).encode()
    except (ValueError, RecursionError):
        return break_bytes(text, rng)


def make_folder(folder: Path, media: dict[str, bytes]) -> None:
    """Media in FOLDER/m, with a link, a named pipe and a secret outside that must not be read."""
    (folder / "m").mkdir()
    (folder / OUTSIDE).mkdir()
    for name, data in media.items():
        (folder / "m" / name).write_bytes(data)
    (folder / OUTSIDE / "secret.png").write_bytes(media["a.png"])
    os.symlink(folder / OUTSIDE / "secret.png", folder / "m" / "link.png")
    os.symlink(folder / OUTSIDE, folder / "m" / "linked")
    os.mkfifo(folder / "m" / "fifo.png")
