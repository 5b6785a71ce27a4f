"""Groups of files written all or nothing: an article and its media, or several of one kind.

The file that names the others is renamed last, and no file that its old version names is replaced
before. So whenever the writer is killed, a reader finds either version complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from unified_base.atomic import PendingFile
from unified_base.destinations import cannot_write, output_file, writing
from unified_base.files import read_bytes
from unified_base.leftovers import claim, partial_path, short_name

__all__ = ["Bundle", "write_bundles", "write_together"]

_PATIENCE = 60.0
"""Seconds that a write waits for another to put the same files in their places."""
_PAUSE = 0.02
_MAX_TEXT = 64 << 20
_CHANGED = re.compile(r"-[0-9a-f]{8}(?=\.[a-z0-9]+\Z)")


@dataclass(frozen=True)
class Bundle:
    """A file and the media that it names.

    media: bytes by path below the file's folder, with slashes. render: the file's bytes, where
    each of the media goes by another name than its own in `media` only if the mapping says so.
    """

    path: Path
    media: Mapping[str, bytes]
    render: Callable[[Mapping[str, str]], bytes]


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files so that all of them appear or, after an error, none; the first appears last.

    A file that was there before is replaced. Of two processes that write the same files one comes
    after the other, so that they do not mix.

    Raises:
        ValueError: as `PendingFile` does, or two of the names lead to one file.
    """
    with ExitStack() as stack:
        if len(files) > 1:
            stack.enter_context(_turn(next(iter(files))))
        _write(files)


def write_bundles(bundles: Sequence[Bundle]) -> None:
    """Write files with their media, all of them or, after an error, none.

    A medium whose name the standing file has for other bytes gets a name of its own
    (picture-1-0a1b2c3d.png). What the standing file named and the new one does not is removed.
    Folders of media are made.

    Raises:
        ValueError: as `write_together` does.
    """
    with _turn(bundles[0].path) as turn:
        # With what a write that was killed in its midst had still to remove.
        before = [_standing(bundle.path) + turn.left for bundle in bundles]
        names = [_names(bundle, old) for bundle, old in zip(bundles, before)]
        files = {b.path: b.render(chosen) for b, chosen in zip(bundles, names)}
        for bundle, chosen in zip(bundles, names):
            files |= {bundle.path.parent / chosen[n]: data for n, data in bundle.media.items()}
        stale = [
            path
            for bundle, old, chosen in zip(bundles, before, names)
            for path in _stale(bundle, old, chosen)
        ]
        with writing(bundles[0].path):
            turn.note(stale)
        _write(files)
        for path in stale:
            path.unlink(missing_ok=True)


# Putting files in their places.


def _write(files: Mapping[Path, bytes]) -> None:
    drafts: dict[Path, PendingFile] = {}
    with ExitStack() as stack:
        # What is empty in the end is removed: after an error all that is made here.
        for folder in dict.fromkeys(path.parent for path in files if not path.parent.exists()):
            with writing(folder):
                folder.mkdir(exist_ok=True)
            stack.callback(_remove_empty, folder)
        for path, data in files.items():
            draft = PendingFile(path)
            stack.callback(draft.discard)
            if drafts.setdefault(draft.target, draft) is not draft:
                raise ValueError(
                    f"{drafts[draft.target].requested} and {path} are the same file; give other "
                    "names"
                )
            with writing(path):
                draft.path.write_bytes(data)
        _publish([*drafts.values()][::-1])


@dataclass
class _Replaced:
    """What stood at a place: whether there was anything, and another name of it."""

    target: Path
    existed: bool
    aside: Path | None


def _publish(drafts: list[PendingFile]) -> None:
    """All of them, or what stood there before."""
    done: list[_Replaced] = []
    asides: list[Path] = []
    try:
        for draft in drafts:
            last = draft is drafts[-1]
            before = _Replaced(draft.target, os.path.lexists(draft.target), None)
            if before.existed and not last:
                before.aside = _link_aside(draft.target)
                asides += [before.aside] if before.aside else []
            draft.publish()
            done.append(before)
    except BaseException:
        for before in reversed(done):
            try:
                if before.aside is not None:
                    os.replace(before.aside, before.target)
                elif not before.existed:
                    before.target.unlink(missing_ok=True)
            except OSError as error:  # it has its new content, whole
                warnings.warn(
                    f"{before.target} is written already and stays so: {error.strerror}",
                    stacklevel=2,
                )
        raise
    finally:
        for aside in asides:
            aside.unlink(missing_ok=True)


def _link_aside(target: Path) -> Path | None:
    """Another name of a file that will be replaced, so that it can come back."""
    aside = partial_path(target)
    try:
        os.link(target, aside)
    except OSError:  # no links here: then it cannot
        return None
    return aside


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@dataclass(frozen=True)
class _Turn:
    """A lock that is held. left: names that the one before, who was killed, had yet to remove."""

    descriptor: int
    left: bytes

    def note(self, paths: Iterable[Path]) -> None:
        """Names for whoever comes next, should this process be killed."""
        os.pwrite(self.descriptor, b"\n".join(os.fsencode(path.name) for path in paths), 0)


@contextmanager
def _turn(path: Path) -> Iterator[_Turn]:
    """One process at a time: a lock beside the file, removed afterwards."""
    target = output_file(path)
    name = target.with_name(f".{short_name(target)}.lock")
    deadline = time.monotonic() + _PATIENCE
    while True:
        with writing(path):
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        busy = claim(descriptor) is False
        # The one before may have removed what was just opened.
        if not busy and os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise cannot_write(path, "another process is writing to it; end it first")
        if busy:
            time.sleep(_PAUSE)
    try:
        yield _Turn(descriptor, os.pread(descriptor, _MAX_TEXT, 0))
    finally:
        name.unlink(missing_ok=True)
        os.close(descriptor)


# Names of media.


def _standing(path: Path) -> bytes:
    """What the file that will be replaced says; nothing where there is none of our size."""
    try:
        return path.read_bytes() if path.stat().st_size <= _MAX_TEXT else b""
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise cannot_write(path, error.strerror) from None


def _names(bundle: Bundle, old: bytes) -> dict[str, str]:
    """The name that each medium gets."""
    names = {}
    for plain, data in bundle.media.items():
        stem, dot, extension = plain.rpartition(".")
        changed = f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}{dot}{extension}"
        # First what an earlier write of the same has chosen, so that all end alike.
        free = not _named(plain, old) or _holds(bundle.path.parent / plain, (data, None))
        again = _holds(bundle.path.parent / changed, (data,))
        names[plain] = plain if free and not again else changed
    return names


def _named(name: str, text: bytes) -> bool:
    return os.path.basename(name).encode("utf-8", "surrogateescape") in text


def _holds(path: Path, contents: Iterable[bytes | None]) -> bool:
    """Whether a file has one of these contents; None: is not there."""
    if not os.path.lexists(path):
        return None in contents
    try:
        return read_bytes(path) in contents
    except ValueError:  # a folder, a pipe, or one that cannot be read
        return False


def _stale(bundle: Bundle, old: bytes, names: Mapping[str, str]) -> Iterator[Path]:
    """Media that the file named before and does no more, and those of a write that was killed."""
    new = set(names.values())
    for folder in {os.path.dirname(name) for name in new}:
        kinds = {_numbered(name) for name in new if os.path.dirname(name) == folder}
        media_folder = bundle.path.parent / folder
        for path in sorted(media_folder.iterdir()) if media_folder.is_dir() else ():
            name = f"{folder}/{path.name}" if folder else path.name
            ours = name not in new and _numbered(name) in kinds and path.is_file()
            if ours and (_named(name, old) or _CHANGED.search(name)):
                yield path


def _numbered(name: str) -> str:
    """A medium's name without what tells it from others of its kind: its number and ending."""
    return re.sub(r"\d+(?=\.[a-z0-9]+\Z)", "#", _CHANGED.sub("", name)).rpartition(".")[0]
