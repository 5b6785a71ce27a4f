"""Files written beside their destination and put into place: all or nothing.

Where the system has them (Linux, on most file systems) a file without a name is written and gets
its name when it is complete, so that nothing is left behind however the process ends. Elsewhere it
lies beside its place under a name that the next write to the same place removes (see `leftovers`).

A file has reached the disk before it gets its name, and its name before the call returns: 1 to 10
ms each on a solid-state disk. A symbolic link is followed: the file that it names is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unified_base.destinations import cannot_write, disk_reason, output_file, writing
from unified_base.leftovers import claim, partial_path, remove_leftovers

__all__ = ["PendingFile", "atomic_path", "atomic_write", "sync"]


class PendingFile:
    """A file on its way: written to `path`, it appears at its place with `publish`.

    `path` may have no name in any folder (/proc/self/fd/5): it can be opened, written and measured,
    not renamed. An existing file keeps its mode and, as far as possible, its owner.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises ValueError where nothing can be written to `path`; see `output_file`."""
        self.requested = Path(path)
        self.target = output_file(path)
        remove_leftovers(self.target)
        self._named: Path | None = None
        with writing(path):
            try:
                status = os.stat(self.target)
            except FileNotFoundError:
                status = None
            self._descriptor = _open_unnamed(self.target.parent)
            if self._descriptor is None:
                self._named, self._descriptor = _open_named(self.target)
        self.path = self._named or Path(f"/proc/self/fd/{self._descriptor}")
        try:
            claim(self._descriptor)  # which stays locked when it gets a name
            if status is not None:
                _take_after(self._descriptor, status)
        except BaseException:
            self.discard()
            raise

    def publish(self) -> None:
        """Put the file in its place. Raises ValueError, naming it, where that fails."""
        assert self._descriptor is not None
        with writing(self.requested):
            os.fsync(self._descriptor)
            if self._named is None:
                self._give_name()
            else:
                sync(self._named)  # a library may have put another file under this name
                os.replace(self._named, self.target)
                self._named = None
            sync(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Remove what was written and is not published."""
        if self._named is not None:
            self._named.unlink(missing_ok=True)
            self._named = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _give_name(self) -> None:
        try:
            _link(self.path, self.target)
        except FileExistsError:
            # A link replaces nothing; a rename does.
            self._named = partial_path(self.target)
            _link(self.path, self._named)
            os.replace(self._named, self.target)
            self._named = None


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well, else nothing.

    It is a `PendingFile`'s, so whatever stood at `path` is untouched after a failure or Ctrl-C.

    Raises:
        ValueError: nothing can be written to `path`, or the disk took no more of it.
    """
    draft = PendingFile(path)
    try:
        try:
            yield draft.path
        except Exception as error:
            ours = isinstance(error, OSError) and str(draft.path) == error.filename
            reason = error.strerror if ours else disk_reason(error)  # type: ignore[attr-defined]
            if reason is None:
                raise
            raise cannot_write(path, reason) from None
        draft.publish()
    finally:
        draft.discard()


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write bytes to a file, all or nothing. Raises ValueError as `atomic_path` does."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_unnamed(folder: Path) -> int | None:
    """A new file without a name, None where there is no such thing."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return None
    try:
        descriptor = os.open(folder, flag | os.O_RDWR, 0o666)
    except OSError:  # where the folder is the reason, a file with a name says so
        return None
    if os.path.exists(f"/proc/self/fd/{descriptor}"):
        return descriptor
    os.close(descriptor)
    return None


def _open_named(target: Path) -> tuple[Path, int]:
    while True:
        path = partial_path(target)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        claim(descriptor)
        # Before it was locked another process may have thought it left behind.
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def _link(source: Path, name: Path) -> None:
    folder = os.open(name.parent, os.O_RDONLY)
    try:
        # With a folder's descriptor Python calls linkat, which can follow the link in /proc.
        os.link(source, name, src_dir_fd=folder)
    finally:
        os.close(folder)


def _take_after(descriptor: int, status: os.stat_result) -> None:
    """The mode and owner of the file that will be replaced."""
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (status.st_uid, status.st_gid):
        with suppress(OSError):  # only the superuser may give files away
            os.fchown(descriptor, status.st_uid, status.st_gid)
    with suppress(OSError):
        os.fchmod(descriptor, status.st_mode & 0o777)
