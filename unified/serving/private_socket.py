"""Where programs of the same user reach a running server: a socket in the user's runtime folder.

The folder is `$XDG_RUNTIME_DIR/unified`, or `unified-UID` among temporary files; it and its sockets
are the user's alone (0700, 0600), so whoever comes through one needs no key.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["connect", "private_socket", "running_sockets"]

_ENDING = ".sock"
_BACKLOG = 128


def _folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        return Path(runtime) / "unified"
    return Path(tempfile.gettempdir()) / f"unified-{os.geteuid()}"


def _is_ours(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether a path is of a kind (links are not followed), the user's own, and nobody else's to
    use."""
    try:
        status = path.lstat()
    except OSError:
        return False
    ours = is_kind(status.st_mode) and status.st_uid == os.geteuid()
    return ours and not status.st_mode & 0o077


def running_sockets() -> list[Path]:
    """The sockets of this user's servers, the newest first. Servers that were killed leave theirs:
    see `connect`."""
    folder = _folder() if hasattr(socket, "AF_UNIX") else None
    if folder is None or not _is_ours(folder, stat.S_ISDIR):
        return []
    paths = [path for path in folder.glob(f"*{_ENDING}") if _is_ours(path, stat.S_ISSOCK)]
    times = {}
    for path in paths:
        try:
            times[path] = path.lstat().st_mtime_ns
        except OSError:  # its server ended meanwhile
            continue
    return sorted(times, key=lambda path: times[path], reverse=True)


def connect(path: Path, seconds: float) -> socket.socket | None:
    """A connection to a server's socket. None: nobody listens there any more, and the socket of a
    server that was killed is removed.

    seconds: of its operations; more raise TimeoutError.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(os.fspath(path))
    except ConnectionRefusedError:  # its process is gone
        connection.close()
        path.unlink(missing_ok=True)
        return None
    except OSError:
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def private_socket(tell: Callable[[str], None]) -> Iterator[socket.socket | None]:
    """A socket that listens in the runtime folder while the block runs, and is removed behind it.

    None where there can be none, which `tell` is told: the server runs without.
    """
    if not hasattr(socket, "AF_UNIX"):  # Windows
        yield None
        return
    try:
        listening, path = _listen()
    except OSError as error:
        reason = error.strerror or str(error)
        tell(f"commands of this user will not find the server: no socket in {_folder()}: {reason}")
        yield None
        return
    try:
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)


def _listen() -> tuple[socket.socket, Path]:
    """Raises OSError where the folder is another user's, or its path too long for a socket."""
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(folder, stat.S_ISDIR):
        raise OSError("the folder is not this user's alone")
    for path in running_sockets():  # of servers that were killed
        if (connection := connect(path, 1.0)) is not None:
            connection.close()
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    # It gets its name once it listens: until then a client would take it for one that is left over.
    hidden, path = folder / f".{name}", folder / f"{name}{_ENDING}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(os.fspath(hidden))
        hidden.chmod(0o600)
        listening.listen(_BACKLOG)
        hidden.rename(path)
    except BaseException:
        listening.close()
        hidden.unlink(missing_ok=True)
        raise
    return listening, path
