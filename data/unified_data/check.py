"""What shards hold, and what is wrong with them: every sample is read and decoded.

Of each key, picture and sound only eight bytes are kept, so memory stays small for any number of
samples. Samples of stored codes are read by the reader that is given for them: what codes are is
not known here.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unified_base.checksums import read_sealed
from unified_base.shard_sums import verify_shard
from unified_data.document import Audio, Image, Media, Slot, Text
from unified_data.shard_file import ShardFile
from unified_data.shards import INDEX, document_of, read_index, shard_paths

__all__ = ["check_shards"]

MAX_LISTED = 1_000
"""Broken samples and repeated keys that a report lists; all are counted."""


ReadCodes = Callable[[str, Any, dict[str, bytes]], Iterable[Any]]
"""read(key, obj, media): the segments of a sample of stored codes: Text, or what has a `kind` and
an array `codes`. Raises ValueError where they are not sound."""


def check_shards(
    source: str | Path,
    progress: Callable[[int], None] | None = None,
    read_codes: ReadCodes | None = None,
) -> dict[str, Any]:
    """A report on a folder of shards, or on one tar file, as JSON values.

    holds: "documents" or "codes"; shards, samples (sound ones), bytes (of the files);
    segments: number by kind; roles: number of segments by role; text: its characters;
    images: count, and min, median, max of height, width (pixels); audio: count, seconds
    (min, median, max, total), sample rates; broken: number of samples (and of shards that end too
    early); faults: the first of them with shard, key, reason; repeated_keys, similar_keys: groups
    of keys of one split that are the same, or the same but for case, separators and leading zeros;
    repeated_media: files whose bytes are another's; without_checksums: shards that have none to be
    compared with. Of stored codes, instead of images and audio:
    codes, by kind the number of spans, of codes, and of the longest span.

    progress: called with the number of samples read. read_codes: the shards hold codes, and this
    reads a sample of them. Raises ValueError where there are no shards, or codes and no reader.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"there is no folder of shards or tar file {source}")
    home = source if source.is_dir() else source.parent
    index = read_index(home) if source.is_dir() or (home / INDEX).is_file() else {"shards": []}
    splits = {home / shard.file: shard.split for shard in index["shards"]}
    paths = shard_paths(source)
    if "codes" in index and read_codes is None:
        raise ValueError(f"{source} holds stored codes, and nothing is given that can read them")
    tally = _Tally(read_codes, splits)
    size = read = without = 0
    for path, count in paths:
        try:
            shard = ShardFile(path, tolerant=True)
        except ValueError as error:
            tally.fault(path, "", str(error))
            continue
        with shard:
            size += path.stat().st_size
            if shard.damage is None and count not in (None, len(shard)):
                shard.damage = f"it holds {len(shard)} samples, {INDEX} says {count}"
            for i in range(len(shard)):
                tally.sample(shard, i)
                read += 1
                if progress is not None:
                    progress(read)
            if shard.damage is not None:
                tally.fault(path, "", shard.damage)
            else:
                without += tally.compare(path)
    report = tally.report()
    same, near = _repeated([path for path, _ in paths], tally)
    return {
        "holds": "codes" if read_codes else "documents",
        "shards": len(paths),
        "bytes": size,
        "without_checksums": without,
        **report,
        "repeated_keys": same,
        "similar_keys": near,
    }


def plain_key(key: str) -> str:
    """A key without what often differs between copies: case, separators, leading zeros."""
    parts = re.findall(r"[0-9]+|[^\W_0-9]+", key.casefold())
    return " ".join(part.lstrip("0") or "0" if part.isdigit() else part for part in parts)


class _Tally:
    """Counts over the samples so far."""

    def __init__(self, read_codes: ReadCodes | None, splits: dict[Path, str]) -> None:
        self._read_codes = read_codes
        self._splits = splits
        self._spans: dict[str, array[int]] = {}
        self.samples = self.broken = self.characters = 0
        self.faults: list[dict[str, str]] = []
        self.segments: Counter[str] = Counter()
        self.roles: Counter[str] = Counter()
        self.rates: Counter[int] = Counter()
        self.heights, self.widths, self.seconds = array("I"), array("I"), array("d")
        self.keys, self.plain, self.media = array("Q"), array("Q"), array("Q")

    def hashes(self, path: Path, key: str) -> tuple[int, int]:
        """Of a key and of its plain form, in the split of its shard."""
        split = self._splits.get(path, "")
        return _hash(f"{split}/{key}".encode()), _hash(f"{split}/{plain_key(key)}".encode())

    def fault(self, path: Path, key: str, reason: str) -> None:
        self.broken += 1
        if len(self.faults) < MAX_LISTED:
            reason = reason.removeprefix(f"shard {path}")
            reason = reason.removeprefix(f", sample {key}").lstrip(":, ")[:500]
            self.faults.append({"shard": path.name, "key": key, "reason": reason})

    def sample(self, shard: ShardFile, i: int) -> None:
        key = shard.key(i)
        for hashes, digest in zip((self.keys, self.plain), self.hashes(shard.path, key)):
            hashes.append(digest)
        try:
            _, obj, media = shard.parts(i)
            read = self._read_codes or document_of
            segments = list(read(key, obj, media))
        except ValueError as error:
            self.fault(shard.path, key, str(error))
            return
        self.samples += 1
        for segment in segments:
            self._measure(segment)
            self.roles[segment.role or "none"] += 1
        self.media.extend(_hash(data) for data in media.values())

    def compare(self, path: Path) -> bool:
        """Compare a shard with its checksum; whether it has none. Its samples had theirs."""
        about = path.with_suffix(".json")
        try:
            damaged = verify_shard(path, again=True)
            if self._read_codes and about.is_file():  # what a shard of codes was made from
                read_sealed(about)
        except ValueError as error:
            self.fault(path, "", str(error))
            return False
        for damage in damaged or ():
            if not damage.key:
                self.fault(path, "", damage.reason)
        return damaged is None

    def report(self) -> dict[str, Any]:
        seconds = np.frombuffer(self.seconds) if self.seconds else np.zeros(0)
        report = {
            "samples": self.samples,
            "segments": dict(sorted(self.segments.items())),
            "roles": dict(sorted(self.roles.items())),
            "text": {"characters": self.characters},
        }
        if self._read_codes:
            report["codes"] = {
                kind: {"spans": len(numbers), "codes": sum(numbers), "longest": max(numbers)}
                for kind, numbers in sorted(self._spans.items())
            }
        else:
            report["images"] = {
                "count": len(self.heights),
                "height": _spread(self.heights),
                "width": _spread(self.widths),
            }
            report["audio"] = {
                "count": len(seconds),
                "seconds": {**_spread(seconds), "total": round(float(seconds.sum()), 3)},
                "sample_rates": {str(rate): n for rate, n in sorted(self.rates.items())},
            }
        hashes = np.array(self.media, np.uint64)
        report["repeated_media"] = len(hashes) - len(np.unique(hashes))
        return {**report, "broken": self.broken, "faults": self.faults}

    def _measure(self, segment: Any) -> None:
        kind = type(segment).__name__.lower()
        if isinstance(segment, Image):
            self.heights.append(segment.pixels.shape[0])
            self.widths.append(segment.pixels.shape[1])
        elif isinstance(segment, Audio):
            self.seconds.append(segment.waveform.shape[1] / segment.sample_rate)
            self.rates[segment.sample_rate] += 1
        elif isinstance(segment, Text):
            self.characters += len(segment.text)
        elif isinstance(segment, Media):
            kind = segment.modality
        elif not isinstance(segment, Slot):
            kind = segment.kind
            self._spans.setdefault(kind, array("Q")).append(segment.codes.size)
        self.segments[kind] += 1


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _spread(values: Any) -> dict[str, float]:
    """Least, median and greatest; nothing where there are no values."""
    if not len(values):
        return {}
    summary = (np.min(values), np.median(values), np.max(values))
    return {name: round(float(x), 3) for name, x in zip(("min", "median", "max"), summary)}


def _repeated(paths: list[Path], tally: _Tally) -> tuple[dict[str, Any], dict[str, Any]]:
    """Groups of equal keys and of similar ones: how many, and the first of them by name.

    Keys are not kept; those whose hash came up twice are looked up in the shards once more.
    """
    same, near = _twice(tally.keys), _twice(tally.plain)
    equal: Counter[str] = Counter()
    alike: dict[int, set[str]] = {}
    if near:  # equal keys are similar, too
        for path in paths:
            try:
                shard = ShardFile(path, tolerant=True)
            except ValueError:
                continue
            with shard:
                for i in range(len(shard)):
                    key = shard.key(i)
                    exact, plain = tally.hashes(path, key)
                    if exact in same and (key in equal or len(equal) < MAX_LISTED):
                        equal[key] += 1
                    if plain in near and (plain in alike or len(alike) < MAX_LISTED):
                        alike.setdefault(plain, set()).add(key)
    groups = [sorted(keys) for keys in alike.values() if len(keys) > 1]
    return (
        {"count": len(same), "keys": dict(equal)},
        {"count": len(groups), "groups": groups},
    )


def _twice(hashes: array[int]) -> set[int]:
    values, counts = np.unique(np.array(hashes, np.uint64), return_counts=True)
    return {int(value) for value in values[counts > 1]}
