"""Shards of documents to shards of codes, once, and only what is not done yet.

Each shard becomes one of the same name, written beside its place and renamed; a small JSON file
beside it says which shard it was made from, by what. A run that was killed goes on with the shards
that lack theirs.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unified.feeding.coder import Coder, one_thread
from unified.feeding.stored_codes import StoredCodes, read_stored_codes
from unified_data.document import Audio, Document, Image
from unified_data.files import atomic_path, atomic_write
from unified_data.shards import (
    INDEX,
    Broken,
    ShardInfo,
    add_sample,
    read_index,
    read_samples,
    write_index,
)
from unified_tokenizers import load_tokenizer

__all__ = ["Coding", "tokenize_shard", "tokenize_shards"]

_WINDOW = 128_000_000
"""Bytes of decoded media that are held at a time."""
_REASONS = 20
"""Reasons for what was left out that are kept of each shard."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Coding:
    """How media become codes, as it is handed to another process.

    image, audio: names or folders of the tokenizers, None where there are no such media.
    round_trip, fit: see `Coder`.
    """

    image: str | None = None
    audio: str | None = None
    round_trip: bool = False
    fit: int | None = None

    def coder(self) -> Coder:
        image, audio = (None if name is None else load_tokenizer(name)
                        for name in (self.image, self.audio))  # fmt: skip
        return Coder(image, audio, self.round_trip, self.fit)


def tokenize_shards(
    shards: Sequence[Path],
    folder: str | Path,
    coding: Coding | Coder,
    workers: int = 1,
    ray: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Code the media of shards into a folder of code shards; returns its index.

    Args:
        shards: of documents. Broken documents are left out, counted and named in the index.
        folder: shards that are finished in it are kept, whoever made them.
        coding: a `Coder` works in this process alone.
        workers: processes, each with a thread; the codes do not depend on it.
        ray: under Ray Data, on all the machines of its cluster; all must see both folders.
        report: called with a line for each shard.

    Raises ValueError for shards of the same name or of codes, a folder with codes of other
    tokenizers, and where ray is asked for and not installed.
    """
    folder = Path(folder)
    coder = coding if isinstance(coding, Coder) else coding.coder()
    _check(shards, folder, coder.stored)
    shown = report or (lambda line: None)
    left = [shard for shard in shards if _finished(shard, folder, coder.stored) is None]
    if done := len(shards) - len(left):
        shown(f"{done} of {len(shards)} shards are done already")
    if isinstance(coding, Coding) and ray:
        results = _under_ray(left, folder, coding, workers)
    elif isinstance(coding, Coding) and workers > 1 and len(left) > 1:
        results = _in_processes(left, folder, coding, min(workers, len(left)))
    else:
        results = (tokenize_shard(shard, folder, coder) for shard in left)
    for number, result in enumerate(results, done + 1):
        shown(_in_words(number, len(shards), result))
    return _write_index(folder, coder.stored)


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


Sample = tuple[str, Document] | Broken


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


def _read_beside(path: Path) -> dict[str, Any] | None:
    """What a JSON file beside a shard says, None where there is none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
        ShardInfo(**found["shard"])
        return found if isinstance(found["from"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finished(shard: Path, folder: Path, stored: StoredCodes) -> dict[str, Any] | None:
    """What stands beside the codes of a shard, None where they are missing or of another shard."""
    place = folder / shard.name
    found = _read_beside(_beside(place))
    about = _about(shard, stored)
    if found is None or any(found.get(name) != value for name, value in about.items()):
        return None
    return found if _whole(folder, found) else None


def _whole(folder: Path, found: dict[str, Any]) -> bool:
    place = folder / str(found["shard"]["file"])
    return place.is_file() and place.stat().st_size == found["shard"]["bytes"]


def _check(shards: Sequence[Path], folder: Path, stored: StoredCodes) -> None:
    names: dict[str, Path] = {}
    for shard in shards:
        if names.setdefault(shard.name, shard) is not shard:
            raise ValueError(
                f"{names[shard.name]} and {shard} would both become {folder / shard.name}; "
                "tokenize them into folders of their own"
            )
    for parent in {shard.parent for shard in shards}:
        if parent.resolve() == folder.resolve():
            raise ValueError(f"the codes would take the place of the documents in {folder}; "
                             "give another folder")  # fmt: skip
        if read_stored_codes(parent) is not None:
            raise ValueError(f"{parent} holds codes already, expected documents")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot create folder {folder}: {error.strerror}") from None
    for path in sorted(folder.glob("*.json")):
        found = _read_beside(path) if path.name != INDEX else None
        if found is None:
            continue
        other = StoredCodes.from_json(found, str(path))
        if other != stored:
            raise ValueError(
                f"{folder} holds codes of {_whose(other)}, these would be of {_whose(stored)}; "
                "give another folder"
            )


def _whose(stored: StoredCodes) -> str:
    parts = [
        f"{name} tokenizer {codes.fingerprint}" for name, codes in sorted(stored.media.items())
    ]
    parts += ["a round trip"] if stored.round_trip else []
    parts += [f"fit {stored.fit}"] if stored.fit is not None else []
    return ", ".join(parts) or "no tokenizer"


def _split_and_kind(shard: Path) -> tuple[str, str]:
    """As the index of the shard's folder says, or else its name: SPLIT-KIND-00000.tar."""
    if (shard.parent / INDEX).is_file():
        for info in read_index(shard.parent)["shards"]:
            if info.file == shard.name:
                return info.split, info.kind
    parts = shard.stem.split("-")
    return (parts[0], "-".join(parts[1:-1])) if len(parts) > 2 else ("train", "mixed")


def _write_index(folder: Path, stored: StoredCodes) -> dict[str, Any]:
    """The index of all shards that are finished in the folder."""
    found = [
        about
        for path in sorted(folder.glob("*.json"))
        if path.name != INDEX and (about := _read_beside(path)) and _whole(folder, about)
    ]
    left_out = {
        about["shard"]["file"]: about["left_out"] for about in found if about["left_out"]["samples"]
    }
    shards = [ShardInfo(**about["shard"]) for about in found]
    return write_index(folder, shards, **stored.to_json(), left_out=left_out)


def _in_words(number: int, total: int, about: dict[str, Any]) -> str:
    out = about["left_out"]
    text = f"{number} of {total}: {about['shard']['file']}, {about['shard']['samples']:,} documents"
    if out["samples"]:
        text += f", {out['samples']:,} left out (the first: {out['reasons'][0]})"
    return text


# In several processes.

_mine: Coder | None = None


def _begin(coding: Coding) -> None:
    """Runs first in every process: the parent answers Ctrl-C."""
    import torch

    global _mine
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _mine = coding.coder()


def _work(shard: Path, folder: Path) -> dict[str, Any]:
    assert _mine is not None
    return tokenize_shard(shard, folder, _mine)


def _in_processes(
    shards: Sequence[Path], folder: Path, coding: Coding, workers: int
) -> Iterator[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (coding,))
    try:
        for future in as_completed([pool.submit(_work, shard, folder) for shard in shards]):
            yield future.result()
    except BrokenProcessPool:
        raise ValueError(
            "a process that tokenized was killed, perhaps for want of memory; begin again with "
            "fewer workers: finished shards are kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _under_ray(
    shards: Sequence[Path], folder: Path, coding: Coding, workers: int
) -> Iterator[dict[str, Any]]:
    try:
        import ray.data
    except ImportError:
        raise ValueError("ray is not installed: pip install 'unified[ray]'") from None
    # Workers need not begin in this folder.
    coding = replace(coding, image=_absolute(coding.image), audio=_absolute(coding.audio))
    rows = [{"shard": str(shard.resolve()), "folder": str(folder.resolve())} for shard in shards]
    if not rows:
        return
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    made = dataset.map(_RayWorker, fn_constructor_args=(coding,), concurrency=(1, workers))
    for row in made.iter_rows():
        yield json.loads(row["about"])


def _absolute(name: str | None) -> str | None:
    return str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name


class _RayWorker:
    """An actor of Ray Data: it loads the tokenizers once."""

    def __init__(self, coding: Coding) -> None:
        self._coder = coding.coder()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        about = tokenize_shard(Path(row["shard"]), Path(row["folder"]), self._coder)
        return {"about": json.dumps(about)}
