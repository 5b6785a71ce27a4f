"""One shard of documents to one of codes, and when it counts as finished.

Beside the new shard lies a small JSON file: which shard it was made from, by what, and what was
left out.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unified.feeding.coder import Coder, one_thread
from unified.feeding.stored_codes import StoredCodes
from unified_base.atomic import atomic_path, atomic_write
from unified_base.structured import read_json
from unified_data.document import Audio, Document, Image
from unified_data.shards import INDEX, Broken, add_sample, read_index, read_samples, shard_info

__all__ = ["finished", "is_whole", "read_beside", "tokenize_shard"]

_WINDOW = 128_000_000
"""Bytes of decoded media that are held at a time."""
_REASONS = 20
"""Reasons for what was left out that are kept of each shard."""

Sample = tuple[str, Document] | Broken


def tokenize_shard(shard: Path, folder: Path, coder: Coder) -> dict[str, Any]:
    """Code one shard; returns what the JSON file beside the new one holds."""
    place = folder / shard.name
    for old in folder.glob(f".{shard.name}.*.partial"):  # of a run that was killed
        old.unlink(missing_ok=True)
    about = _about(shard, coder.stored)
    samples, reasons = 0, list[str]()
    with one_thread(), atomic_path(place) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for window in _windows(read_samples(shard)):
                for key, made in _coded(window, coder):
                    if isinstance(made, str):
                        reasons.append(f"{key or 'its end'}: {made}")
                    else:
                        add_sample(tar, key, *made)
                        samples += 1
        size = partial.stat().st_size
    split, kind = _split_and_kind(shard)
    about |= {
        "shard": {"file": shard.name, "split": split, "kind": kind, "samples": samples,
                  "bytes": size},
        "left_out": {"samples": len(reasons), "reasons": reasons[:_REASONS]},
    }  # fmt: skip
    atomic_write(_beside(place), (json.dumps(about, indent=1) + "\n").encode())
    return about


def _windows(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    window: list[Sample] = []
    size = 0
    for sample in samples:
        window.append(sample)
        if not isinstance(sample, Broken):
            size += sum(_size(segment) for segment in sample[1])
        if size > _WINDOW:
            yield window
            window, size = [], 0
    yield window


def _size(segment: Any) -> int:
    if isinstance(segment, Image):
        return segment.pixels.nbytes
    return segment.waveform.nbytes if isinstance(segment, Audio) else 0


def _coded(
    window: Sequence[Sample], coder: Coder
) -> Iterator[tuple[str, str | tuple[dict[str, Any], dict[str, bytes]]]]:
    """Of each sample its key, and its parts or the reason why there are none."""
    coded = iter(coder.code([sample[1] for sample in window if not isinstance(sample, Broken)]))
    for sample in window:
        if isinstance(sample, Broken):
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


def _beside(shard: Path) -> Path:
    return shard.with_suffix(".json")


def _about(shard: Path, stored: StoredCodes) -> dict[str, Any]:
    """What a shard is made from, and by what."""
    stat = shard.stat()
    made_from = {"file": shard.name, "bytes": stat.st_size, "time": stat.st_mtime_ns}
    return {"from": made_from, **stored.to_json()}


def read_beside(path: Path) -> dict[str, Any] | None:
    """What a JSON file beside a shard says, None where there is none that can be read."""
    try:
        about = read_json(path)
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
    found = read_beside(_beside(place))
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
