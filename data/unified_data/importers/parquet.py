"""Parquet files, as data sets have them on the hub: media in the rows, columns by their names.

A row becomes the record of another kind, by the columns (`parquet_forms`): pairs of a text or a
class and a picture or sound, conversations, pages as in OBELICS, preferences. A medium is a struct
of `bytes` and `path`, bytes alone, a file's name, or samples with their rate. Needs pyarrow.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from unified_base.sounds import encode_audio
from unified_base.text import quoted
from unified_data.importers import llava, obelics, pairs, preferences, sharegpt
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key
from unified_data.importers.embedded import Embedded
from unified_data.importers.media_folder import MediaFolder
from unified_data.importers.parquet_forms import Columns, Form, choose_form, class_names
from unified_data.importers.parquet_rows import ParquetRows, pyarrow_modules

__all__ = ["read"]

_PART = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?\.parquet\Z")
_MAX_RATE = 384_000
_SAMPLES = {"array", "sampling_rate"}

Tell = Callable[[str], None]


def read(
    source: Path,
    images: Path | None = None,
    form: str = "auto",
    split: str | None = None,
    tell: Tell | None = None,
) -> Iterator[Sample | Skipped]:
    """The documents of every row. source: a file, or a folder with .parquet files anywhere in it.

    images: the folder of media that rows only name. form: see `FORMS`. split: of a folder that has
    several (train-00000-of-00005.parquet), the one to read. tell: called with what was chosen.

    Raises ValueError where pyarrow is missing, before anything is read, and for a file that cannot
    be read or whose columns are of no form; of several such a file is skipped.
    """
    pyarrow_modules()
    say = tell or (lambda text: None)
    files = _files(source, split, say)
    return _documents(files, MediaFolder(images or files[0].parent), form, say)


def _documents(
    files: list[Path], media: MediaFolder, form: str, say: Tell
) -> Iterator[Sample | Skipped]:
    number = 0
    before = ""
    for path in files:
        with ExitStack() as stack:
            try:
                rows = stack.enter_context(ParquetRows.open(path))
                chosen = _form_of(rows, path, form)
            except ValueError as error:
                if len(files) == 1:
                    raise
                yield Skipped.because(make_key(number, path.stem), f"all of its rows: {error}")
                number += 1
                continue
            if str(chosen) != before:
                before = str(chosen)
                say(f"{path.name}: read as {chosen}")
            unread = {name: True for name in rows.types if name not in chosen.columns}
            make = _maker(chosen, media)
            for where, row in rows.rows(chosen.columns):
                yield from _row(make, number, f"{path.name} {where}", chosen, row, unread)
                number += 1


def _form_of(rows: ParquetRows, path: Path, asked: str) -> Form:
    kinds = {name: str(kind) for name, kind in rows.types.items()}
    try:
        return choose_form(Columns(kinds, class_names(rows.metadata)), asked)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _row(
    make: Callable[[str, dict[str, Any]], tuple[Sample, ...]],
    number: int,
    where: str,
    form: Form,
    row: dict[str, Any] | ValueError,
    unread: dict[str, Any],
) -> Iterator[Sample | Skipped]:
    """The documents of one row."""
    key = make_key(number)
    try:
        if isinstance(row, ValueError):
            raise row
        record = {name: _plain(row[column], name) for name, column in form.roles.items()}
        key = make_key(number, record.get("id"))
        records = form.convert({name: v for name, v in record.items() if v is not None})
    except ValueError as error:
        yield Skipped.because(key, f"{where}: {error}")
        return
    for index, each in enumerate(records):
        inner = key if len(records) == 1 else f"{key}-{index}"
        # Columns that are not read say only that they are there.
        others = {f"column {name}": True for name in unread} if not index else {}
        try:
            results: tuple[Sample | Skipped, ...] = make(inner, each | others)
        except ValueError as error:
            results = (Skipped.because(inner, f"{where}: {error}"),)
        yield from results


def _maker(form: Form, media: MediaFolder) -> Callable[[str, dict[str, Any]], tuple[Sample, ...]]:
    """What makes the documents of a record."""
    if form.kind == "preferences":
        return lambda key, record: preferences.make(key, record, media)
    builds = {
        "pairs": pairs.build,
        "llava": llava.build,
        "sharegpt": sharegpt.build,
        "obelics": obelics.builder_of(media),
    }
    build = builds[form.kind]

    def make(key: str, record: dict[str, Any]) -> tuple[Sample]:
        builder = DocumentBuilder(key, media.read)
        build(record, builder)
        return (builder.sample(),)

    return make


def _plain(value: Any, label: str) -> Any:
    """A value of a row as a record has it, media in it embedded, or by their file's name."""
    if isinstance(value, bytes):
        return Embedded(value, label)
    if isinstance(value, list):
        return [_plain(item, label) for item in value]
    if not isinstance(value, dict):
        return value
    if "bytes" in value and isinstance(value["bytes"], bytes | None):
        path = value.get("path")
        if value["bytes"] is None:
            return path
        return Embedded(value["bytes"], quoted(path) if isinstance(path, str) else label)
    if set(value) >= _SAMPLES:
        return _sound(value, label)
    return {name: _plain(item, name) for name, item in value.items()}


def _sound(value: dict[str, Any], label: str) -> Embedded:
    """A sound that is given by its samples."""
    samples, rate = value["array"], value["sampling_rate"]
    if type(rate) is not int or not 0 < rate <= _MAX_RATE:
        raise ValueError(f"{label} has sampling_rate {quoted(rate)}, expected 1 to {_MAX_RATE:,}")
    try:
        waveform = np.atleast_2d(np.array(samples, np.float32))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{label} has samples that are no numbers") from None
    if waveform.ndim != 2 or not waveform.size or not np.isfinite(waveform).all():
        raise ValueError(f"{label} has no samples, or such that are not finite")
    return Embedded(encode_audio(waveform, rate)[1], label)


def _files(source: Path, split: str | None, say: Tell) -> list[Path]:
    """The files of a source, of one split where their names tell several apart."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ValueError(f"there is no {source} to import")
    files = sorted(path for path in source.rglob("*.parquet"))
    if not files:
        raise ValueError(f"folder {source} has no files ending in .parquet")
    parts = {path: _PART.fullmatch(path.name) for path in files}
    counts = Counter(part["split"] for part in parts.values() if part is not None)
    if len(counts) > 1:
        if split not in counts:
            raise ValueError(
                f"{source} holds the splits {', '.join(sorted(counts))}; name one with --split"
            )
        left_out = {name: count for name, count in counts.items() if name != split}
        say("left out: " + ", ".join(f"{name} ({n} files)" for name, n in left_out.items()))
        files = [path for path, part in parts.items() if part is None or part["split"] == split]
    elif counts and split is not None and split not in counts:
        say(f"what is imported is {next(iter(counts))}, and is called {split}; see --split")
    if len(folders := {path.parent for path in files}) > 1:
        say(f"the files lie in {len(folders)} folders, perhaps of different data; all are read")
    for path in files:
        part = parts[path]
        if part is not None and part["number"] == "00000":
            _tell_missing(path, part, files, say)
    return files


def _tell_missing(path: Path, part: re.Match[str], files: list[Path], say: Tell) -> None:
    count = int(part["count"])
    beside = [
        other for other in files
        if other.parent == path.parent and other.name.startswith(part["split"] + "-")
        and f"-of-{part['count']}" in other.name
    ]  # fmt: skip
    if len(beside) < count:
        say(f"{len(beside)} of the {count} files of {part['split']} are there")
