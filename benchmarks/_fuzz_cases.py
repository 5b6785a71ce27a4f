"""The cases of the fuzzing: broken inputs made one after the other, and the readers they go to."""

from __future__ import annotations

import json
import os
import random
import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _fuzz_inputs as inputs
import yaml

from unified.dataloading.stored_codes import StoredCodes
from unified.formats.columns import example_vocabulary
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.formats.page import page
from unified.formats.parser import parse_format, write_format
from unified_data.check import check_shards
from unified_data.document import Document
from unified_data.importers import KINDS, Sample, importer
from unified_data.importers.builder import DocumentBuilder
from unified_data.shard_file import ShardFile
from unified_data.shards import (
    CorruptSample,
    ShardInfo,
    document_of,
    read_samples,
    read_shards,
    write_index,
)
from unified_data.show import render_samples


class Cases:
    """Makes and reads one case after the other in a folder of its own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        rng = random.Random(seed)
        self._media = inputs.sound_media(rng)
        inputs.make_folder(folder, self._media)
        self._entries = inputs.sound_entries(self._media)
        self._code_entries = inputs.sound_code_entries()
        self._records = inputs.sound_records()
        self.target = "?"
        self._readers: dict[str, Callable[[random.Random], str]] = {
            "shard": self._shard,
            "codes": self._codes,
            "document": self._document,
            "media": self._one_medium,
            "index": self._index,
            "format": self._format,
            **{f"import {kind}": self._import(kind) for kind in KINDS if _can_import(kind)},
        }
        self._names = [*self._readers, *["shard"] * 4, "document", "media", "codes", "format"]

    def run(self, case: int) -> tuple[str, str]:
        """Target and reason of a case; the reason is empty where it was accepted."""
        rng = random.Random(f"{self._seed}:{case}")
        self.target = rng.choice(self._names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.target, self._readers[self.target](rng)

    def _shard(self, rng: random.Random) -> str:
        path = self._tar(self._entries, rng)
        strict = _refusal(lambda: list(read_shards(path)))
        samples = list(read_samples(path))
        broken = [sample for sample in samples if isinstance(sample, CorruptSample)]
        assert bool(strict) == bool(broken), f"strict: {strict!r}, tolerant: {broken[:1]}"
        if rng.random() < 0.1:
            report = check_shards(path)
            assert bool(report["broken"]) == bool(broken), report["faults"]
        if not broken and rng.random() < 0.2:
            with ShardFile(path) as shard:
                parts = [shard.parts(i) for i in range(len(shard))]
            page = render_samples([(k, document_of(k, o, m), m, o) for k, o, m in parts], "x")
            assert "<script" not in page
        return strict

    def _codes(self, rng: random.Random) -> str:
        about: Any = inputs.CODES_INDEX
        if rng.random() < 0.2:
            about = inputs.break_value(about, rng)
        path = self._tar(self._code_entries, rng)

        def read() -> None:
            stored = StoredCodes.from_json({"codes": about}, "index.json")
            with ShardFile(path) as shard:
                for i in range(len(shard)):
                    stored.from_parts(*shard.parts(i))
            check_shards(path, read_codes=stored.from_parts)

        return _refusal(read)

    def _format(self, rng: random.Random) -> str:
        """A shipped format, changed; one that is still sound keeps its word: what is sampled under
        it reads back, position by position."""
        name = rng.choice(inputs.FORMATS)
        entries = inputs.break_value(yaml.safe_load(load_format(name).source), rng)

        def read() -> None:
            format = parse_format(write_format(entries))
            page(format)
            grammar = Grammar(format, example_vocabulary(format))
            state, ids = grammar.start(Limits(max_ids=rng.choice([20, 60, 400]))), []
            while not state.finished:
                start, stop = rng.choice(state.allowed())
                ids.append(rng.randrange(start, stop))
                state.advance(ids[-1])
            segments = grammar.parse(ids)
            laid = grammar.serialize(segments)
            assert grammar.parse(laid.ids) == segments, ids

        return _refusal(read)

    def _document(self, rng: random.Random) -> str:
        media = {name: data for name, data, *_ in self._entries if not name.endswith(".json")}
        text = rng.choice([data for name, data, *_ in self._entries if name.endswith(".json")])
        obj = inputs.break_value(json.loads(text), rng)
        if rng.random() < 0.3:
            name = rng.choice(list(media))
            media[name] = inputs.break_media(media[name], rng)

        def read(name: str) -> bytes:
            if name not in media:
                raise ValueError(f"there is no {name[:20]!r}")
            return media[name]

        return _refusal(lambda: Document.from_parts(obj, read))

    def _one_medium(self, rng: random.Random) -> str:
        name = rng.choice(list(self._media))
        data = inputs.break_media(self._media[name], rng)
        builder = DocumentBuilder("k", lambda _: data)
        add = builder.audio if rng.random() < 0.5 else builder.image

        def read() -> None:
            add(name)
            sample = builder.sample()
            document_of(sample.key, sample.obj, sample.media)

        return _refusal(read)

    def _index(self, rng: random.Random) -> str:
        folder = self._folder / "shards"
        folder.mkdir(exist_ok=True)
        data = inputs.write_tar(self._entries, rng, False)
        (folder / "train-x-00000.tar").write_bytes(data)
        write_index(folder, [ShardInfo("train-x-00000.tar", "train", "x", 3, len(data))])
        path = folder / "index.json"
        path.write_bytes(inputs.break_json(path.read_bytes(), rng))
        return _refusal(lambda: list(read_shards(folder)))

    def _import(self, kind: str) -> Callable[[random.Random], str]:
        def read(rng: random.Random) -> str:
            source, images = self._source(kind, rng)
            reasons = []

            def run() -> None:
                for result in importer(kind)(source, images):
                    if isinstance(result, Sample):
                        document_of(result.key, result.obj, result.media)
                    else:
                        assert len(result.reason) < 600
                        reasons.append(result.reason)

            return _refusal(run) or (reasons[0] if reasons else "")

        return read

    def _source(self, kind: str, rng: random.Random) -> tuple[Path, Path | None]:
        """A broken source of a kind, and the folder of its media."""
        if kind == "folder":
            source = self._folder / "pairs"
            shutil.rmtree(source, ignore_errors=True)
            source.mkdir()
            name = rng.choice(list(self._media))
            (source / name).write_bytes(inputs.break_media(self._media[name], rng))
            text = inputs.break_bytes("eine Katze 🐈".encode(), rng)
            (source / (name.rpartition(".")[0] + ".txt")).write_bytes(text)
            if rng.random() < 0.1:
                os.symlink(self._folder / inputs.OUTSIDE / "secret.png", source / "z.png")
                (source / "z.txt").write_text("a secret")
            return source, None
        if kind == "webdataset":
            entries = [
                ("d/k.txt", b"a cat", b"0", ""),
                ("d/k.png", self._media["a.png"], b"0", ""),
                ("l.json", b'{"caption": "a dog"}', b"0", ""),
                ("l.mp3", self._media["m.mp3"], b"0", ""),
                ("m.json", json.dumps(self._records["sharegpt"]).encode(), b"0", ""),
                *((f"m.{n}", self._media[n], b"0", "") for n in ("a.png", "d.gif", "o.ogg")),
            ]
            return self._tar(entries, rng), None
        if kind == "parquet":
            path = self._folder / "source.parquet"
            data = inputs.sound_parquet(self._media, rng.randrange(3))
            path.write_bytes(inputs.break_bytes(data, rng))
            return path, self._folder / "m"
        record = self._records[kind]
        path = (
            self._folder / f"source.{'csv' if kind == 'pairs' and rng.random() < 0.5 else 'json'}"
        )
        if path.suffix == ".csv":
            row = inputs.break_value(record, rng)
            row = row if isinstance(row, dict) else record
            text = ",".join(map(str, row)) + "\n" + ",".join(map(str, row.values())) + "\n"
            data = text.encode("utf-8", "surrogatepass")
            data = inputs.break_bytes(data, rng) if rng.random() < 0.5 else data
        else:
            sound, broken = (
                json.dumps(record).encode(),
                inputs.break_json(json.dumps(record).encode(), rng),
            )
            if kind == "coco":
                data = broken
            elif rng.random() < 0.5:
                data = b"[" + b", ".join((sound, broken, sound)) + b"]"
            else:
                data = b"\n".join((sound, broken, sound)) + b"\n"
            data = inputs.break_bytes(data, rng) if rng.random() < 0.1 else data
        path.write_bytes(data)
        return path, self._folder / "m"

    def _tar(self, entries: list[inputs.Entry], rng: random.Random) -> Path:
        if rng.random() < 0.6:
            entries = inputs.break_entries(entries, rng)
        data = inputs.write_tar(entries, rng, rng.random() < 0.2)
        if rng.random() < 0.5:
            data = inputs.break_tar(data, rng)
        path = self._folder / "x.tar"
        path.write_bytes(data)
        return path


def _can_import(kind: str) -> bool:
    """Whether what an importer needs is installed."""
    return kind != "parquet" or find_spec("pyarrow") is not None


def _refusal(read: Callable[[], object]) -> str:
    """Why a reader refused its input, "" where it accepted it; any other exception passes."""
    try:
        read()
    except ValueError as error:
        return str(error) or "no reason given"
    return ""
