"""Shards of documents to shards of codes, once, and only what is not done yet.

Each shard becomes one of the same name, written beside its place and renamed. A run that was killed
goes on with the shards that are not finished (see `coded_shard`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from unified.dataloading.coded_shard import (
    beside,
    commonest,
    finished,
    is_whole,
    read_beside,
    tokenize_shard,
)
from unified.dataloading.media_encoder import MediaEncoder
from unified.dataloading.stored_codes import StoredCodes, read_stored_codes
from unified_base.destinations import writing
from unified_base.extras import missing_extra
from unified_base.leftovers import claim
from unified_base.processes import in_processes
from unified_base.shard_sums import sums_path
from unified_data.shard_index import is_shard_name
from unified_data.shards import INDEX, ShardInfo, read_index, write_index
from unified_tokenizers import load_tokenizer

__all__ = ["MediaEncoderSpec", "tokenize_shards"]

Report = Callable[[str], None]


@dataclass(frozen=True)
class MediaEncoderSpec:
    """A `MediaEncoder` in names and settings, as it is sent to another process.

    image, audio: names or folders of the tokenizers, None where there are no such media.
    round_trip, fit: see `MediaEncoder`. others: names or folders by modality. device: where the
    tokenizers compute; None: the CPU.
    """

    image: str | None = None
    audio: str | None = None
    round_trip: bool = False
    fit: int | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None

    def names(self) -> dict[str, str]:
        """The names or folders of all tokenizers, by modality."""
        own = {"image": self.image, "audio": self.audio, **self.others}
        return {modality: name for modality, name in own.items() if name is not None}

    def encoder(self) -> MediaEncoder:
        tokenizers = {
            modality: load_tokenizer(name, device=self.device)
            for modality, name in self.names().items()
        }
        return MediaEncoder(round_trip=self.round_trip, fit=self.fit, others=tokenizers)


def tokenize_shards(
    shards: Sequence[Path],
    folder: str | Path,
    spec: MediaEncoderSpec | MediaEncoder,
    workers: int = 1,
    ray: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Code the media of shards into a folder of code shards; returns its index.

    Args:
        shards: of documents. Corrupt documents are skipped, counted and named in the index.
        folder: shards that are finished in it stay, whoever made them.
        spec: a `MediaEncoder` works in this process alone.
        workers: processes, each with a thread; the codes do not depend on it.
        ray: under Ray Data, on all the machines of its cluster; all must see both folders.
        report: called with a line for each shard.

    Raises ValueError for shards of the same name or of codes, a folder with codes of other
    tokenizers or that another process tokenizes into, shards of which nothing can be coded (nothing
    of them stays), and where ray is asked for and not installed.
    """
    folder = Path(folder)
    encoder = spec if isinstance(spec, MediaEncoder) else spec.encoder()
    _check(shards, folder, encoder.stored)
    tell = report or (lambda line: None)
    left = [shard for shard in shards if finished(shard, folder, encoder.stored) is None]
    if done := len(shards) - len(left):
        tell(f"{done} of {len(shards)} shards are done already")
    # Several processes of a run may look at once whether all is done.
    with _alone(folder) if left else nullcontext():
        _take_out(left, folder)
        if isinstance(spec, MediaEncoderSpec) and ray:
            results = _under_ray(left, folder, spec, workers)
        elif isinstance(spec, MediaEncoderSpec) and workers > 1 and len(left) > 1:
            results = _in_processes(left, folder, spec, min(workers, len(left)))
        else:
            results = (tokenize_shard(shard, folder, encoder) for shard in left)
        with closing(results):
            for number, result in enumerate(results, done + 1):
                tell(_in_words(number, len(shards), result))
        _check_any(shards, folder, encoder.stored)
        return _write_index(folder, encoder.stored)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder; nothing is left in it. Raises ValueError where another process does."""
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        if claim(descriptor) is False:
            raise ValueError(
                f"another process tokenizes into {folder}; wait for it, or end it first"
            )
        yield
    finally:
        os.close(descriptor)


def _check_any(shards: Sequence[Path], folder: Path, stored: StoredCodes) -> None:
    """Raises ValueError where nothing of the shards became codes; what stands of them goes then, so
    that it is not in the way of the next attempt."""
    targets = [folder / shard.name for shard in shards]
    entries = [about for path in targets if (about := read_beside(beside(path))) is not None]
    if any(about["shard"]["samples"] for about in entries):
        return
    for target in targets:
        for path in (beside(target), sums_path(target), target):
            path.unlink(missing_ok=True)
    if (folder / INDEX).is_file() and not _write_index(folder, stored)["shards"]:
        (folder / INDEX).unlink()
    with suppress(OSError):  # where it holds something
        folder.rmdir()
    total = sum(about["left_out"]["samples"] for about in entries)
    count, reason = commonest(about["left_out"] for about in entries)
    names = f"{shards[0]}" if len(shards) == 1 else f"the {len(shards)} shards"
    if not total:
        raise ValueError(f"{names} hold no documents; build or import them again")
    raise ValueError(
        f"nothing of {names} can be coded: all {total:,} documents were skipped, {count:,} of them"
        f" like {reason}; {_advice(reason, stored)}"
    )


def _advice(reason: str, stored: StoredCodes) -> str:
    """What to do about a reason for leaving out a document."""
    if re.search(r"there is no \w+ tokenizer", reason):
        return "give a tokenizer for them, too (--image, --audio or --model)"
    if stored.fit is None and ("multiple" in reason or "Hz" in reason or "channel" in reason):
        return (
            "have media made to fit the tokenizer: --fit PIXELS, or `fit: PIXELS` of a source in a"
            " run's file"
        )
    return "see what `unified data check` says of them"


def _check(shards: Sequence[Path], folder: Path, stored: StoredCodes) -> None:
    names: dict[str, Path] = {}
    for shard in shards:
        if not is_shard_name(shard.name):
            raise ValueError(
                f"shard {shard} would become one of the same name, which must be of letters, "
                "digits, '.', '-' and '_' and end in .tar; rename it"
            )
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
        about = read_beside(path) if path.name != INDEX else None
        if about is None or not about["shard"]["samples"]:
            continue  # where all was skipped there are no codes that others could not stand beside
        other = StoredCodes.from_json(about, str(path))
        if other != stored:
            raise ValueError(
                f"{folder} holds codes of {_whose(other)}, these would be of {_whose(stored)}; "
                "give another folder"
            )


def _take_out(shards: Sequence[Path], folder: Path) -> None:
    """Leave shards that will be made anew out of the index: it never names what is half done."""
    if not (folder / INDEX).is_file():
        return
    index = read_index(folder)
    names = {shard.name for shard in shards}
    if not any(row.file in names for row in index["shards"]):
        return
    rows = [row for row in index.pop("shards") if row.file not in names]
    del index["counts"]
    skipped = index.get("left_out")
    if isinstance(skipped, dict):
        index["left_out"] = {name: why for name, why in skipped.items() if name not in names}
    write_index(folder, rows, **index)


def _whose(stored: StoredCodes) -> str:
    parts = [
        f"{name} tokenizer {codes.fingerprint}" for name, codes in sorted(stored.media.items())
    ]
    parts += ["a round trip"] if stored.round_trip else []
    parts += [f"fit {stored.fit}"] if stored.fit is not None else []
    return ", ".join(parts) or "no tokenizer"


def _write_index(folder: Path, stored: StoredCodes) -> dict[str, Any]:
    """The index of all shards that are finished in the folder."""
    entries = [
        about
        for path in sorted(folder.glob("*.json"))
        if path.name != INDEX and (about := read_beside(path)) and is_whole(folder, about)
    ]
    skipped = {
        about["shard"]["file"]: about["left_out"]
        for about in entries
        if about["left_out"]["samples"]
    }
    shards = [ShardInfo(**about["shard"]) for about in entries]
    return write_index(folder, shards, **stored.to_json(), left_out=skipped)


def _in_words(number: int, total: int, about: dict[str, Any]) -> str:
    out = about["left_out"]
    text = f"{number} of {total}: {about['shard']['file']}, {about['shard']['samples']:,} documents"
    if out["samples"]:
        text += f", {out['samples']:,} skipped (the first: {out['reasons'][0]})"
    return text


# In several processes.

_mine: MediaEncoder | None = None


def _begin(spec: MediaEncoderSpec) -> None:
    """Runs first in every process."""
    import torch

    global _mine
    torch.set_num_threads(1)
    _mine = spec.encoder()


def _work(folder: Path, shard: Path) -> dict[str, Any]:
    assert _mine is not None
    return tokenize_shard(shard, folder, _mine)


def _in_processes(
    shards: Sequence[Path], folder: Path, spec: MediaEncoderSpec, workers: int
) -> Generator[dict[str, Any]]:
    results = in_processes(
        partial(_work, folder), shards, workers, start=partial(_begin, spec), name=str,
        advice="was memory short? begin again with fewer workers: finished shards are kept",
    )  # fmt: skip
    with closing(results):
        for _, about in results:
            yield about


def _under_ray(
    shards: Sequence[Path], folder: Path, spec: MediaEncoderSpec, workers: int
) -> Generator[dict[str, Any]]:
    try:
        import ray.data
    except ImportError:
        raise missing_extra("tokenizing under Ray", "ray", "ray") from None
    # Workers need not begin in this folder.
    names = {modality: _absolute(name) for modality, name in spec.names().items()}
    spec = replace(spec, image=None, audio=None, others=names)
    rows = [{"shard": str(shard.resolve()), "folder": str(folder.resolve())} for shard in shards]
    if not rows:
        return
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    worker: Any = _RayWorker  # a class, which its types do not foresee
    results = dataset.map(worker, fn_constructor_args=(spec,), concurrency=(1, workers))
    for row in results.iter_rows():
        yield json.loads(row["about"])


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).is_dir() else name


class _RayWorker:
    """An actor of Ray Data: it loads the tokenizers once."""

    def __init__(self, spec: MediaEncoderSpec) -> None:
        self._coder = spec.encoder()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        about = tokenize_shard(Path(row["shard"]), Path(row["folder"]), self._coder)
        return {"about": json.dumps(about)}
