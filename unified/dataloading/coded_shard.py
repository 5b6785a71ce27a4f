"""One shard of documents to one of codes, and when it counts as finished.

Beside the new shard lies a small JSON file: which shard it was made from, by what, and what was
left out. The shards of documents are compared with their checksums; the new one gets its own.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified.dataloading.coder import Coder, one_thread
from unified.dataloading.stored_codes import StoredCodes
from unified_base.atomic import atomic_path, atomic_write
from unified_base.checksums import read_sealed, sealed_json
from unified_base.reasons import Reasons
from unified_base.shard_sums import make_sums, read_sums, sums_path, verify_shard
from unified_data.document import Document, Media
from unified_data.shard_index import INDEX, ShardInfo, read_index, shard_info
from unified_data.shards import CorruptSample, add_sample, read_samples

__all__ = ["beside", "commonest", "finished", "is_whole", "read_beside", "tokenize_shard"]

_WINDOW = 128_000_000
"""Bytes of decoded media that are held at a time."""
_REASONS = 20
"""Reasons for what was left out that are kept of each shard."""

Sample = tuple[str, Document] | CorruptSample


def tokenize_shard(shard: Path, folder: Path, coder: Coder) -> dict[str, Any]:
    """Code one shard; returns what the JSON file beside the new one holds."""
    place = folder / shard.name
    about = _about(shard, coder.stored)
    left_out = Reasons(_REASONS)
    keys, ends = list[str](), list[int]()
    beside(place).unlink(missing_ok=True)  # what it says is of the shard that goes now
    with one_thread(), atomic_path(place) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for window in _windows(_samples(shard)):
                for key, coded in _coded(window, coder):
                    if isinstance(coded, str):
                        left_out.add(key or "its end", coded)
                        continue
                    add_sample(tar, key, *coded)
                    keys.append(key)
                    ends.append(tar.offset)
        size = partial.stat().st_size
        digest, sums = make_sums(partial, keys, ends)
        sums_path(place).unlink(missing_ok=True)
    atomic_write(sums_path(place), sums)
    split, kind = _split_and_kind(shard)
    info = ShardInfo(shard.name, split, kind, len(keys), size, digest)
    about |= {"shard": info.to_json(), "left_out": _in_json(left_out)}
    atomic_write(beside(place), sealed_json(about, indent=1))
    return about


def _in_json(left_out: Reasons) -> dict[str, Any]:
    """What was left out; commonest: of how many samples, and the first of them with its reason."""
    entries: dict[str, Any] = {"samples": left_out.count, "reasons": left_out.first}
    if left_out.commonest is not None:
        count, reason = left_out.commonest
        entries["commonest"] = {"samples": count, "reason": reason}
    return entries


def commonest(left_out: Iterable[Mapping[str, Any]]) -> tuple[int, str]:
    """Of several shards' `left_out` the commonest reason, and how many samples it is at least."""
    entries = [entry["commonest"] for entry in left_out if "commonest" in entry]
    if not entries:
        return 0, "they hold nothing"
    best = max(entries, key=lambda entry: int(entry["samples"]))
    return int(best["samples"]), str(best["reason"])


def _samples(shard: Path) -> Iterator[Sample]:
    """The samples of a shard, compared with its checksums.

    Raises ValueError where it has changed and nothing says in which of its samples.
    """
    if (damaged := verify_shard(shard)) and read_sums(shard) is None:
        raise ValueError(f"shard {shard}: {damaged[0].reason}; take it anew from where it came")
    yield from read_samples(shard)


def _windows(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    window: list[Sample] = []
    size = 0
    for sample in samples:
        window.append(sample)
        if not isinstance(sample, CorruptSample):
            size += sum(_size(segment) for segment in sample[1])
        if size > _WINDOW:
            yield window
            window, size = [], 0
    yield window


def _size(segment: Any) -> int:
    return segment.nbytes if isinstance(segment, Media) else 0


def _coded(
    window: Sequence[Sample], coder: Coder
) -> Iterator[tuple[str, str | tuple[dict[str, Any], dict[str, bytes]]]]:
    """Of each sample its key, and its parts or the reason why there are none."""
    coded = iter(
        coder.code([sample[1] for sample in window if not isinstance(sample, CorruptSample)])
    )
    for sample in window:
        if isinstance(sample, CorruptSample):
            yield sample.key, sample.reason
            continue
        segments = next(coded)
        if isinstance(segments, ValueError):
            yield sample[0], str(segments)
        elif not segments:
            yield sample[0], "the document has no segments"
        else:
            yield sample[0], coder.stored.to_parts(sample[0], segments)


# What is finished.


def beside(shard: Path) -> Path:
    """Where the JSON file about a shard of codes lies."""
    return shard.with_suffix(".json")


def _about(shard: Path, stored: StoredCodes) -> dict[str, Any]:
    """What a shard is made from, and by what."""
    stat = shard.stat()
    made_from = {"file": shard.name, "bytes": stat.st_size, "time": stat.st_mtime_ns}
    return {"from": made_from, **stored.to_json()}


def read_beside(path: Path) -> dict[str, Any] | None:
    """What a JSON file beside a shard says, None where there is none that can be read."""
    try:
        about, _ = read_sealed(path)
        if not isinstance(about, dict):
            return None
        shard_info(about.get("shard"), "shard")
    except ValueError:
        return None
    left_out = about.get("left_out")
    if not isinstance(about.get("from"), dict) or not isinstance(left_out, dict):
        return None
    reasons, count = left_out.get("reasons"), left_out.get("samples")
    sound = type(count) is int and count >= 0 and isinstance(reasons, list)
    return about if sound and bool(count) <= bool(reasons) else None


def finished(shard: Path, folder: Path, stored: StoredCodes) -> dict[str, Any] | None:
    """What stands beside the codes of a shard, None where they are missing or of another shard."""
    place = folder / shard.name
    found = read_beside(beside(place))
    about = _about(shard, stored)
    if found is None or any(found.get(name) != value for name, value in about.items()):
        return None
    return found if is_whole(folder, found) else None


def is_whole(folder: Path, found: dict[str, Any]) -> bool:
    place = folder / str(found["shard"]["file"])
    return place.is_file() and place.stat().st_size == found["shard"]["bytes"]


def _split_and_kind(shard: Path) -> tuple[str, str]:
    """As the index of the shard's folder says, or else its name: SPLIT-KIND-00000.tar."""
    if (shard.parent / INDEX).is_file():
        for info in read_index(shard.parent)["shards"]:
            if info.file == shard.name:
                return info.split, info.kind
    parts = shard.stem.split("-")
    return (parts[0], "-".join(parts[1:-1])) if len(parts) > 2 else ("train", "mixed")
