"""A checkpoint's folder: written beside and renamed, compared with its checksums, dropped when old.

A checkpoint is a folder `step-0000100` whose state.json is written last, with the checksum of every
other file and its own, and which is renamed last of all: a folder with that name is whole. What
stands in its files is `checkpoint`'s.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unified_base.checksums import file_sha256, read_sealed, sealed_json
from unified_base.disk import naming_full_disk

__all__ = [
    "RESUME",
    "STATE",
    "begin",
    "changed_settings",
    "compare_files",
    "damaged",
    "drop_old",
    "latest_checkpoint",
    "publish",
    "read_state",
    "remove_incomplete",
    "while_writing",
]

STATE = "state.json"
_MAX_STATE = 256 << 20


@contextmanager
def while_writing(folder: Path, step: int) -> Iterator[None]:
    """Where the block fails, nothing of the step's checkpoint stays; those before it do.

    Raises:
        FullDiskError: the disk is full.
    """
    partial = folder / _partial_name(step)
    try:
        with naming_full_disk(partial.with_suffix(""), RESUME):
            yield
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


RESUME = "then go on with --resume: the checkpoints before this one are whole"
"""What to do about a checkpoint that could not be written."""


def _partial_name(step: int) -> str:
    return f"step-{step:07d}.partial"


def begin(folder: Path, step: int) -> Path:
    """An empty folder, beside its place, to write the checkpoint of a step into."""
    partial = folder / _partial_name(step)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def publish(partial: Path, state: Mapping[str, Any], keep: int) -> Path:
    """Write a checkpoint's state.json with the checksums of its files, let all reach the disk,
    rename the folder into its place, drop all but the last `keep`.

    A file's checksum is read from FILE.sha256 where another process has left one. About 1 GB a
    second is read otherwise. Returns the checkpoint's place.
    """
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(partial.iterdir())
        if path.suffix != ".sha256"
    }
    for path in partial.glob("*.sha256"):
        path.unlink()
    (partial / STATE).write_bytes(sealed_json({**state, "files": files}))
    final = partial.with_suffix("")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    if final.exists():
        _remove(final)
    os.replace(partial, final)
    _sync(final.parent)
    drop_old(final.parent, keep)
    return final


def drop_old(folder: Path, keep: int) -> None:
    """Remove all checkpoints under a folder but the last `keep`. Folders without a state.json do
    not count and stay."""
    for old in _whole(folder)[:-keep]:
        _remove(old)


def _digest(path: Path) -> str:
    """Of a file: what another process left, or as it is worked out now."""
    left = path.with_name(f"{path.name}.sha256")
    return left.read_text("ascii") if left.exists() else file_sha256(path)


def remove_incomplete(folder: Path) -> list[str]:
    """Remove what was being written or removed when a run was killed; its names.

    For the process that holds the run's lock."""
    paths = sorted(p for p in folder.glob("step-*") if p.suffix in (".partial", ".removed"))
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in paths]


def _remove(folder: Path) -> None:
    """Renamed first: a folder half removed must not look whole."""
    beside = folder.with_name(f"{folder.name}.removed")
    shutil.rmtree(beside, ignore_errors=True)
    os.replace(folder, beside)
    shutil.rmtree(beside)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def latest_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint under `folder`; unfinished ones are passed over."""
    whole = _whole(folder)
    return whole[-1] if whole else None


def _whole(folder: Path) -> list[Path]:
    """All whole checkpoints under a folder, the last one last."""
    return [path for path in sorted(folder.glob("step-???????")) if (path / STATE).exists()]


def damaged(path: Path, reason: object) -> ValueError:
    """The error of a checkpoint's file that cannot be used."""
    return ValueError(
        f"{path} is damaged ({reason}); remove the folder {path.parent.name} to go on from the"
        " checkpoint before it"
    )


def read_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint's state.json holds, `files` included where it is there.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / STATE
    try:
        state, sealed = read_sealed(path, _MAX_STATE, constants=True)
    except ValueError as error:
        raise damaged(path, error) from None
    if not isinstance(state, dict) or (sealed and not _is_files(state.get("files"))):
        raise damaged(path, "it is not a checkpoint's state")
    return state


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} for entry in value.values()
    )


def compare_files(folder: Path, state: Mapping[str, Any], rank: int = 0, world: int = 1) -> bool:
    """Compare a checkpoint's files with their checksums, of several processes each its share.

    Returns whether there are any: older checkpoints have none. About 1 GB a second is read.

    Raises:
        ValueError: a file is missing or has changed.
    """
    if "files" not in state:
        return False
    for name in sorted(state["files"])[rank::world]:
        entry, path = state["files"][name], folder / Path(name).name
        try:
            digest = file_sha256(path)
        except ValueError as error:
            raise damaged(path, error) from None
        if digest != entry["sha256"]:
            raise damaged(path, "it does not have the checksum it was saved with")
    return True


def changed_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a resumed run's settings were and are, where they differ: `steps 100 -> 200; ...`.

    Empty when nothing differs: only then does the run go on as if it had never been stopped.
    """
    before, after = _flat(saved), _flat(json.loads(json.dumps(now)))  # tuples are lists there
    return "; ".join(
        f"{name} {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _flat(settings: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{inside}{name}.")
        else:
            flat[f"{inside}{name}"] = value
    return flat
