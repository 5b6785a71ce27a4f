"""One part of the input to one shard of completed documents, and when it counts as finished.

Beside the shard lies a small JSON file with what it holds and what could not be filled. It is
written last: a shard without it is filled anew.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unified.generating.in_batches import fill_in_batches
from unified.generating.inputs import InputPart, Unfilled, read_part
from unified.models.model import UnifiedModel
from unified.tasks.choices import Choices
from unified_base.atomic import atomic_path, atomic_write
from unified_base.checksums import read_sealed, sealed_json
from unified_base.shard_sums import make_sums, sums_path
from unified_base.text import quoted
from unified_data.shard_index import ShardInfo, shard_info
from unified_data.shards import add_sample

__all__ = ["fill_part", "finished_part", "remove_part"]

_MOST_RECORD = 256 << 20  # bytes of the file beside a shard, which names all that is not in it
_LONGEST_REASON = 500
_COUNTS = ("ids", "cut_texts", "altered")

Told = Callable[[bool], None]
"""Called for each document: whether it was filled."""


def fill_part(
    part: InputPart,
    folder: Path,
    model: UnifiedModel,
    choices: Choices,
    seed: int,
    max_rows: int,
    told: Told | None = None,
) -> dict[str, Any]:
    """Fill the documents of a part into FOLDER/TARGET; returns what stands beside it.

    See `fill_in_batches` for what is not named here. All or nothing: while this runs, and after an
    error, there is no such shard.
    """
    target = folder / part.target
    record = _beside(target)
    record.unlink(missing_ok=True)  # what it says is of the shard that goes now
    keys, ends = list[str](), list[int]()
    unfilled: list[dict[str, Any]] = []
    counts = dict.fromkeys(_COUNTS, 0)
    with atomic_path(target) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for result in fill_in_batches(model, read_part(part), choices, seed, max_rows):
                if told is not None:
                    told(not isinstance(result, Unfilled))
                if isinstance(result, Unfilled):
                    reason = quoted(result.reason, _LONGEST_REASON)[1:-1]
                    row = {"number": result.number, "key": result.key, "reason": reason}
                    unfilled.append({**row, "source": Path(part.path).name})
                    continue
                add_sample(tar, result.key, *result.document.to_parts(result.key))
                keys.append(result.key)
                ends.append(tar.offset)
                for name in _COUNTS:
                    counts[name] += getattr(result, name)
        size = partial.stat().st_size
        digest, sums = make_sums(partial, keys, ends)
        sums_path(target).unlink(missing_ok=True)
    atomic_write(sums_path(target), sums)
    info = ShardInfo(part.target, part.split, part.kind, len(keys), size, digest)
    about = {"shard": info.to_json(), "first": part.first, "count": part.count, **counts}
    about["unfilled"] = unfilled
    atomic_write(record, sealed_json(about, indent=1))
    return about


def finished_part(part: InputPart, folder: Path) -> dict[str, Any] | None:
    """What stands beside the finished shard of a part; None where it is still to be filled."""
    target = folder / part.target
    try:
        about, _ = read_sealed(_beside(target), _MOST_RECORD)
        info = shard_info(about.get("shard"), "shard")
        size = target.stat().st_size
        counts = [about[name] for name in ("first", "count", *_COUNTS)]
    except (ValueError, OSError, AttributeError, KeyError):
        return None
    same = (info.file, *counts[:2]) == (part.target, part.first, part.count)
    whole = info.bytes == size and isinstance(about.get("unfilled"), list)
    return about if same and whole else None


def remove_part(part: InputPart, folder: Path) -> None:
    """Remove the shard of a part, and what stands beside it."""
    target = folder / part.target
    for path in (_beside(target), sums_path(target), target):
        path.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")
