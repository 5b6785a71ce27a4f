"""Documents filled offline in bulk: from JSON lines or shards to shards of completed documents.

The folder of the output holds a manifest (`run.json`) of what decides on every byte in it: model,
settings and input. Started again, a run goes on with the first shard that is not finished; one with
another manifest is refused. The index is written once all shards are there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

from unified.engine.engine import MAX_ROWS
from unified.engine.request import Sampling
from unified.generating.filled_shard import finished_part, remove_part
from unified.generating.inputs import InputDocument, InputFile, InputPart, list_inputs, read_part
from unified.generating.workers import (
    FillJob,
    fill_in_processes,
    fill_in_this_process,
    fill_under_ray,
)
from unified.models.model import UnifiedModel
from unified.models.model_spec import ModelSpec
from unified.tasks.choices import Choices
from unified_base.arguments import seed_of, whole, whole_or_none
from unified_base.atomic import atomic_write
from unified_base.checksums import read_sealed, sealed_json
from unified_base.locks import hold_folder
from unified_base.reasons import Reasons
from unified_base.text import quoted
from unified_base.version import __version__
from unified_data.shard_index import INDEX, ShardInfo, write_index

__all__ = ["MANIFEST", "UNFILLED", "generate_shards"]

MANIFEST = "run.json"
UNFILLED = "unfilled.jsonl"
"""Beside the index: {"number", "key", "reason", "source"} of every document that is not there."""
_TRIED = 100  # documents that choices are tried with, before anything is filled
_MOST_MANIFEST = 64 << 20

Progress = Callable[[int, int, int], None]
"""Called with how many documents there are, how many were filled, and how many could not be."""


def generate_shards(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path | ModelSpec = "pocket",
    seed: int = 0,
    per_shard: int = 1_000,
    split: str = "train",
    workers: int | None = None,
    ray: bool = False,
    max_rows: int = MAX_ROWS,
    tell: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    **choices: Unpack[Choices],
) -> dict[str, Any]:
    """Fill the slots of many documents into a folder of shards; killed, it goes on where it was.

    A document gets what `UnifiedModel.sample` gives it with its seed, whatever shares its batch and
    whichever worker fills it; so the shards are the same byte for byte.

    Args:
        inputs: files of JSON lines (.jsonl), each line a document's JSON object, perhaps with a
            "key" and a "seed" of its own; or shards: tar files, patterns, folders with an index.
        output: folder of the shards, new or of the same run.
        model: that fills them.
        seed: document number n, counted over all inputs from 0, has seed + n.
        per_shard: documents of JSON lines in a shard. A shard becomes one of its name.
        split: of the shards that become of JSON lines.
        workers: engines, each in a process of its own; None: one, with `ray` one for each machine
            of the cluster or, on CUDA, for each GPU.
        ray: under Ray Data, on all machines of its cluster, which must see model, inputs and output
            under the same paths.
        max_rows: documents that an engine samples at a time.
        tell: told a line now and then.
        progress: told how far it is, by document in one process, else by shard.
        choices: of the sampling, as every verb takes them.

    Returns:
        {"path", "documents", "unfilled", "cut_texts", "altered", "ids", "shards", "bytes",
        "done_before", "seconds"}: documents that are there and that could not be filled (see
        `UNFILLED`), texts that a budget or a loop ended, what could not be kept as it was written,
        ids written, shards that were finished already.

    Raises:
        ValueError: inputs that are not there, choices that nothing can be filled with, an output of
            another run or that another process fills, or none of all documents could be filled.
    """
    begun = time.perf_counter()
    note = tell or (lambda line: None)
    folder, spec = Path(output), model if isinstance(model, ModelSpec) else ModelSpec(str(model))
    seed, max_rows = seed_of(seed), whole("max_rows", max_rows, 1)
    workers = whole_or_none("workers", workers, 1)
    files, parts = list_inputs(inputs, whole("per_shard", per_shard, 1), split)
    total = sum(part.count for part in parts)
    seed_of(seed + total - 1, f"seed + {total - 1}, that of the last document,")
    _check_folders(folder, parts)
    opened = spec.open()
    try_choices(opened, parts, choices)
    prints = spec.fingerprint(opened)
    settings = {**spec.settings(), "seed": seed, "per_shard": per_shard, "split": split}
    manifest = _manifest(prints, {**settings, **_choices_json(choices)}, files)
    with hold_folder(folder, "fills documents"):
        _agree(folder, manifest)
        records = {part.target: finished_part(part, folder) for part in parts}
        left = [part for part in parts if records[part.target] is None]
        if done := len(parts) - len(left):
            note(f"{done} of {len(parts)} shards are done already")
        count = _Count(total, progress)
        count.add_records([record for record in records.values() if record is not None])
        if left:
            (folder / INDEX).unlink(missing_ok=True)  # it names all shards, or is not there
            job = FillJob(spec.absolute(), folder.resolve(), choices, seed, max_rows, prints)
            if ray:
                results = fill_under_ray(job, left, workers)
            elif (workers or 1) > 1 and len(left) > 1:
                results = fill_in_processes(job, left, min(workers or 1, len(left)))
            else:
                results = fill_in_this_process(job, left, opened, count.add_document)
            by_document = not ray and (workers or 1) == 1
            with closing(results):
                for number, record in enumerate(results, done + 1):
                    records[record["shard"]["file"]] = record
                    count.add_records([] if by_document else [record])
                    note(_in_words(number, len(parts), record))
        summary = _finish(folder, parts, records, prints)
    seconds = round(time.perf_counter() - begun, 3)
    return {"path": str(output), **summary, "done_before": done, "seconds": seconds}


def _manifest(
    prints: Mapping[str, str], settings: Mapping[str, Any], files: Sequence[InputFile]
) -> dict[str, Any]:
    listed = [vars(file) for file in files]
    return {"model": dict(prints), "settings": dict(settings), "input": listed,
            "version": __version__}  # fmt: skip


def _choices_json(choices: Choices) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in choices.items():
        if value is not None and value != {}:
            values[name] = value.to_json() if isinstance(value, Sampling) else value
    return values


def _check_folders(folder: Path, parts: Sequence[InputPart]) -> None:
    for part in parts:
        if Path(part.path).parent.resolve() == folder.resolve() and not part.of_lines:
            raise ValueError(f"the shards would take the place of those in {folder}; give another"
                             " folder")  # fmt: skip
    if not (folder / MANIFEST).exists() and (
        (folder / INDEX).exists() or any(folder.glob("*.tar"))
    ):
        raise ValueError(f"{folder} holds other shards; give another folder")


def try_choices(model: UnifiedModel, parts: Sequence[InputPart], choices: Choices) -> None:
    """Raises ValueError for choices that the first documents cannot be asked with, and could be
    without: that is no fault of theirs."""
    tried = 0
    for part in parts:
        for entry in read_part(part):
            tried += 1
            if tried > _TRIED:
                return
            if not isinstance(entry, InputDocument) or not entry.document.has_slots:
                continue
            try:
                model.request_document(entry.document)
            except ValueError:
                continue
            model.request_document(entry.document, **choices)
            return


def _agree(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a new run. Raises ValueError where there is one of another."""
    path = folder / MANIFEST
    manifest = json.loads(json.dumps(manifest))  # as it is read again
    if not path.exists():
        (folder / UNFILLED).unlink(missing_ok=True)
        atomic_write(path, sealed_json(manifest, indent=1))
        return
    other, _ = read_sealed(path, _MOST_MANIFEST)
    for group in ("model", "settings", "input"):
        was, is_now = other.get(group) if isinstance(other, dict) else None, manifest[group]
        if was != is_now:
            raise ValueError(
                f"{folder} holds documents of another run: {_difference(group, was, is_now)};"
                " give another folder"
            )


def _difference(group: str, was: Any, is_now: Any) -> str:
    """What differs, in words."""
    if group == "input":
        return "its input was another, in files, order or content"
    if not isinstance(was, dict):
        return f"it does not say its {group}"
    name = next(key for key in sorted({*was, *is_now}) if was.get(key) != is_now.get(key))
    if group == "model":
        return f"its model was another ({name} {was.get(name)}, now {is_now.get(name)})"
    return f"{name} was {quoted(was.get(name))}, now {quoted(is_now.get(name))}"


def _finish(
    folder: Path,
    parts: Sequence[InputPart],
    records: Mapping[str, Any],
    prints: Mapping[str, str],
) -> dict[str, Any]:
    """Write the index and the list of what could not be filled; returns sums over all shards.

    Raises ValueError where nothing could be filled.
    """
    ordered = [records[part.target] for part in parts]
    unfilled = [row for record in ordered for row in record["unfilled"]]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in unfilled]
    if lines:
        atomic_write(folder / UNFILLED, "".join(lines).encode("utf-8", "surrogatepass"))
    shards = [ShardInfo(**record["shard"]) for record in ordered]
    documents = sum(shard.samples for shard in shards)
    if not documents:
        _remove(folder, parts)
        reasons = Reasons()
        for row in unfilled:
            reasons.add(row["key"] or row["source"], row["reason"])
        assert reasons.commonest is not None  # there were documents
        number, reason = reasons.commonest
        raise ValueError(
            f"none of {len(unfilled):,} documents could be filled, {number:,} of them like"
            f" {reason}; all of them: {folder / UNFILLED}"
        )
    generated = {"model": dict(prints), "unfilled": len(unfilled)}
    write_index(folder, shards, generated=generated)
    sums = {
        name: sum(record[name] for record in ordered) for name in ("cut_texts", "altered", "ids")
    }
    return {"documents": documents, "unfilled": len(unfilled), **sums, "shards": len(shards),
            "bytes": sum(shard.bytes for shard in shards)}  # fmt: skip


def _remove(folder: Path, parts: Sequence[InputPart]) -> None:
    """Leave nothing in the way of the next attempt but what says why this one failed."""
    for part in parts:
        remove_part(part, folder)
    (folder / MANIFEST).unlink(missing_ok=True)


def _in_words(number: int, total: int, record: Mapping[str, Any]) -> str:
    shard = record["shard"]
    text = f"{number} of {total}: {shard['file']}, {shard['samples']:,} documents"
    if record["unfilled"]:
        first = record["unfilled"][0]
        text += f", {len(record['unfilled']):,} not filled (the first: {first['reason']})"
    return text


class _Count:
    """How far a run is."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._filled = self._unfilled = 0

    def add_document(self, filled: bool) -> None:
        self._add(int(filled), int(not filled))

    def add_records(self, records: Sequence[Mapping[str, Any]]) -> None:
        filled = sum(record["shard"]["samples"] for record in records)
        self._add(filled, sum(len(record["unfilled"]) for record in records))

    def _add(self, filled: int, unfilled: int) -> None:
        self._filled += filled
        self._unfilled += unfilled
        if self._progress is not None and filled + unfilled:
            self._progress(self._total, self._filled, self._unfilled)
