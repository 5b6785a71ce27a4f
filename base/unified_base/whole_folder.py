"""Atomic folders: written beside their destination, then renamed or exchanged with the old one.

A reader finds the folder as it was or as it is now, whenever the writer was killed. Where a folder
cannot be exchanged (its parent takes no new names, it is a mount point or someone works in it) its
files are moved in one after the other; then the file that makes it whole, its marker, is taken out
first and put in last, so that half a folder is never read as a whole one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unified_base.atomic import sync
from unified_base.destinations import cannot_write, disk_reason, output_folder, writing
from unified_base.exchange import exchange, restore
from unified_base.leftovers import claim, is_partial, short_name

__all__ = ["Keep", "whole_folder"]

Keep = Callable[[str], bool]
"""Whether a file that stood in the folder stays, by its path in it (with slashes)."""
_BESIDE = ".{}.partial"
_INSIDE = ".unified.partial"
_works: set[Path] = set()
"""Folders that this process is writing."""


@contextmanager
def whole_folder(
    path: str | os.PathLike[str], marker: str, keep: Keep | None = None
) -> Iterator[Path]:
    """A folder to write into, which takes the place of `path` when the block ends well.

    Args:
        path: missing parents are made.
        marker: the file without which the folder is not read.
        keep: which of the files in the folder stay where the block wrote none of that name. None:
            the folder must be empty or not there.

    Inside such a block a folder below it is written as it is: it becomes whole with the other.

    Raises:
        ValueError: another process is writing to `path`, there is something already and keep is
            None, it cannot be written, or the disk took no more of it.
    """
    target = output_folder(path)
    if keep is None and target.is_dir() and any(map(_counts, os.listdir(target))):
        raise cannot_write(path, "there is something already; give another name")
    if any(folder in _works for folder in (target, *target.parents)):
        # Part of a folder that will be whole.
        with writing(path):
            target.mkdir(parents=True, exist_ok=True)
        yield target
        return
    parents = [folder for folder in target.parents if not folder.exists()]
    try:
        with writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            work, descriptors = _take(target, path)
        try:
            _works.add(work)
            with _naming(path, work):
                yield work
                _publish(work, target, marker, keep, descriptors)
        finally:
            _works.discard(work)
            # Once renamed, the name may be another process's.
            if any(_same(work, descriptor) for descriptor in descriptors):
                shutil.rmtree(work, ignore_errors=True)
            for descriptor in descriptors:
                os.close(descriptor)
    finally:
        with suppress(OSError):  # where they hold something now
            for folder in parents:
                folder.rmdir()


@contextmanager
def _naming(path: str | os.PathLike[str], work: Path) -> Iterator[None]:
    """Errors about files of the work name them where they would have been."""
    try:
        yield
    except Exception as error:
        name = str(getattr(error, "filename", None) or "")
        inside = name.startswith(f"{work}{os.sep}") or name == str(work)
        reason = error.strerror if inside and isinstance(error, OSError) else disk_reason(error)
        if reason is None:
            if str(work) in str(error) and isinstance(error, ValueError):
                raise ValueError(str(error).replace(str(work), str(path))) from None
            raise
        within = os.path.relpath(name, work) if inside else "."
        raise cannot_write(Path(path, within), reason) from None


def _take(target: Path, path: str | os.PathLike[str]) -> tuple[Path, list[int]]:
    """An empty folder to work in, and the descriptors whose locks say that it is ours."""
    stays = _stays(target)
    work = target / _INSIDE if stays else target.parent / _BESIDE.format(short_name(target))
    while True:
        with suppress(FileExistsError):
            work.mkdir()
        descriptor = os.open(work, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            if claim(descriptor) is False:
                raise cannot_write(
                    path, "another process is writing to it; wait for it, or end it first"
                )
            # It may have been renamed, or removed, since it was opened.
            if _same(work, descriptor):
                _empty(work)
                restore(target)
                return work, [descriptor]
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _stays(target: Path) -> bool:
    """Whether a folder cannot, or should not, give its place to another."""
    if not target.is_dir():
        return False
    here = Path(os.path.realpath(os.curdir))
    return (
        os.path.ismount(target)
        or target == here
        or target in here.parents
        or not os.access(target.parent, os.W_OK | os.X_OK)
    )


def _publish(
    work: Path, target: Path, marker: str, keep: Keep | None, descriptors: list[int]
) -> None:
    old = sorted(_files(target)) if target.is_dir() else []
    new = set(_files(work))
    staying = [name for name in old if name not in new and (keep is None or keep(name))]
    if work.parent == target:
        stale = [name for name in old if name not in new and name not in staying]
        _move_in(work, target, marker, sorted(new), stale)
        return
    for name in staying:
        _carry(target / name, work / name)
    if target.is_dir():
        _take_after(work, target)
    _sync_all(work)
    if keep is not None and target.is_dir() and any(target.iterdir()):
        # What stood there lies at `work` from now on: it stays locked while it is removed.
        descriptors.append(os.open(target, os.O_RDONLY))
        claim(descriptors[-1])
        exchange(work, target)
    else:
        try:
            os.rename(work, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise cannot_write(target, "there is something now; give another name") from None
    sync(target.parent)


def _move_in(work: Path, target: Path, marker: str, new: list[str], stale: list[str]) -> None:
    _sync_all(work)
    (target / marker).unlink(missing_ok=True)
    sync(target)
    for name in stale:
        (target / name).unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: name == marker):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(work / name, target / name)
        sync((target / name).parent)


def _carry(old: Path, new: Path) -> None:
    """The same file under another name; a copy where there are no links."""
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        shutil.copy2(old, new, follow_symlinks=False)


def _take_after(new: Path, old: Path) -> None:
    """The mode and owner of the folder that will be replaced."""
    status = old.stat()
    with suppress(OSError):  # only the superuser may give folders away
        os.chown(new, status.st_uid, status.st_gid)
    with suppress(OSError):
        new.chmod(status.st_mode & 0o7777)


def _files(folder: Path) -> Iterator[str]:
    """Paths of all that is no folder, with slashes; what is being written left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if _counts(name)]
        inside = Path(parent).relative_to(folder)
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in (*filter(_counts, names), *links):
            yield (inside / name).as_posix()


def _counts(name: str) -> bool:
    return name != _INSIDE and not is_partial(name)


def _sync_all(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            if not os.path.islink(path := os.path.join(parent, name)):
                sync(Path(path))
        sync(Path(parent))


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
