"""Compiled loops kept on disk: checked before they are loaded, and never in the way.

numba's own cache loads machine code as it finds it: one torn file ends every later process inside
LLVM, where nothing can be caught; two processes that compile different types at once may write each
other's names into its index; and it refuses to define a function where no folder can be written.
Here an index (.nbi, JSON) says of one compiled function (.nbc) what it was compiled for, and the
checksum of its bytes; both are written beside their places and renamed. What fails its check is
removed and compiled anew, with one note; a folder that cannot be written costs a note at most.

Who may write such a file may run code in this process: it is machine code, in a pickle of numba's.
So none is loaded but a regular file that nobody else may write to and that belongs to this user, to
root, or to the owner of this package, who can run code here anyway.

Folders, in order: NUMBA_CACHE_DIR where it is set, and no other if that can be written;
`__pycache__` of this package, the user's cache, and a folder of the user's own in the temporary
one. All are looked through; the first that can be written gets what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unified_base.atomic import atomic_path
from unified_base.files import open_regular
from unified_base.terminal import tell

__all__ = ["KernelCache", "folders", "read_checked", "write_checked"]

_MOST_BYTES = 64 << 20  # of a file; ours have some 300 KB
_ABANDONED = 600.0  # seconds, after which nobody writes a file any more
_SOURCES = (
    "attention", "bfloat16", "choice_kernels", "config", "cross_kernels", "depth_kernels",
    "embeddings", "half", "heads", "int8_dot", "int8_pack", "int8_rows", "int8_tile", "intrinsics",
    "kernels", "kv", "layer_products", "level_kernels", "linear", "matmul", "products", "threads",
    "tiles", "vectors",
)  # fmt: skip
_noted: set[str] = set()
_noting = threading.Lock()


class DamagedError(ValueError):
    """A file is not what was written: torn, cut short, empty, or changed."""


class UntrustedError(ValueError):
    """A file that somebody else may have written."""


def write_checked(folder: Path, stem: str, key: dict[str, Any], code: bytes) -> None:
    """Write code that `read_checked` finds. Raises ValueError where it cannot be written.

    The index comes last: it is there only beside its code. Code of the same key that another
    process writes meanwhile has another name, and the index is that of one or of the other.
    """
    digest = hashlib.sha256(code).hexdigest()
    _write(folder / _code_name(stem, digest), code)
    _write(folder / f"{stem}.nbi", _index(key, digest))


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as partial:
        try:
            partial.write_bytes(data)
            partial.chmod(0o644)  # whatever the umask: see `_trusted`
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}") from None


def _index(key: dict[str, Any], digest: str) -> bytes:
    return json.dumps({**key, "sha256": digest}, indent=1).encode()


def _code_name(stem: str, digest: str) -> str:
    return f"{stem}.{digest[:12]}.nbc"


def read_checked(folder: Path, stem: str, key: dict[str, Any]) -> bytes | None:
    """The code that was written under this key; None where there is none.

    Raises:
        DamagedError: index or code are not what was written.
        UntrustedError: others may have written them.
        ValueError: they cannot be read.
    """
    path = folder / f"{stem}.nbi"
    if not os.path.isfile(path):  # or lies where we may not look
        return None
    text = _read(path)
    digest = text.rpartition(b'"sha256": "')[2][:64].decode("ascii", "replace")
    # Its name has the key in it, so it is all known but for the checksum.
    if text != _index(key, digest):
        raise DamagedError(f"{path} is damaged")
    path = folder / _code_name(stem, digest)
    if not os.path.isfile(path):
        return None
    code = _read(path)
    if hashlib.sha256(code).hexdigest() != digest:
        raise DamagedError(f"{path} is damaged")
    return code


def _read(path: Path) -> bytes:
    with open_regular(path, "compiled kernel") as file:
        if not _trusted(os.fstat(file.fileno())):
            raise UntrustedError(f"{path} may have been written by others")
        return file.read(_MOST_BYTES)


def _trusted(status: os.stat_result) -> bool:
    """Whether nobody but this user, root and the owner of this package can have written a file."""
    if not hasattr(os, "getuid"):  # no owners of this kind
        return True
    ours = {os.geteuid(), 0, os.stat(__file__).st_uid}
    return status.st_uid in ours and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def folders() -> Iterator[tuple[Path, bool]]:
    """Where compiled functions may lie, and whether what is put there stays."""
    # Packages of one user in several places do not take each other's names.
    package = Path(__file__).resolve().parent
    own = f"unified-{hashlib.sha256(str(package).encode()).hexdigest()[:16]}"
    if chosen := _chosen():
        yield Path(chosen) / own, True
        if _writable(Path(chosen) / own):
            return
    yield package / "__pycache__", True
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    if base and os.path.isabs(base):
        yield Path(base) / "unified" / own, True
    elif os.path.isabs(home) and os.path.isdir(home):  # root could make any
        yield Path(home) / ".cache" / "unified" / own, True
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"unified-kernels-{user}" / own, False


def _chosen() -> str:
    """NUMBA_CACHE_DIR, as numba has read it."""
    from numba import config

    # Made of the environment, which type checkers cannot know.
    return str(getattr(config, "CACHE_DIR", ""))


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


class KernelCache:
    """What numba asks for a compiled function, in place of its own cache (`Dispatcher._cache`)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._folder = Path(function.__code__.co_filename).parent
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """The first folder that is looked in."""
        return str(next(iter(folders()))[0])

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Remove this function's files, of all types and processors."""
        for folder, _ in folders():
            for path in folder.glob(f"{self._name}.*.nb[ci]"):
                _remove(path)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The function compiled for these types on this processor, or None."""
        from numba.core.caching import IndexDataCacheFile
        from numba.core.compiler import CompileResult
        from numba.core.runtime import rtsys

        if not self._enabled:
            return None
        # numba's own reader refreshes the whole context: 0.3 s to import what compiling
        # needs (scipy for its BLAS). Running needs the runtime alone.
        rtsys.initialize(target_context)
        stem, key = self._named(sig, target_context.codegen())
        for folder, _ in folders():
            try:
                code = read_checked(folder, stem, key)
            except DamagedError as error:
                for path in folder.glob(f"{stem}.*"):
                    _remove(path)
                _note("a compiled kernel on disk is compiled anew", str(error))
            except UntrustedError as error:
                _note("a compiled kernel on disk is not used", str(error))
            except (ValueError, OSError) as error:
                _note("a compiled kernel on disk cannot be read", str(error))
            else:
                if code is not None:
                    # numba's own reader, now that its input is known to be numba's own.
                    reader = IndexDataCacheFile(str(folder), stem, None)
                    name = _code_name(stem, hashlib.sha256(code).hexdigest())
                    return CompileResult._rebuild(target_context, *reader._load_data(name))
        return None

    def save_overload(self, sig: Any, compiled: Any) -> None:
        """Keep a compiled function in the first folder that takes it."""
        from numba.core.serialize import dumps

        if not self._enabled:
            return
        stem, key = self._named(sig, compiled.codegen)
        code = dumps(compiled._reduce())
        for at, (folder, stays) in enumerate(folders()):
            try:
                _make_folder(folder, stays)
                write_checked(folder, stem, key, code)
            except (ValueError, OSError):
                continue
            self._remove_older(folder, stem)
            if not stays:
                _note(
                    "compiled kernels are kept in a temporary folder",
                    f"{folder}; no other can be written (NUMBA_CACHE_DIR names one)",
                )
            elif at and _chosen():
                _note("NUMBA_CACHE_DIR cannot be written", f"compiled kernels are in {folder}")
            return
        _note(
            "compiled kernels are not kept",
            "no folder can be written, so every process compiles them (NUMBA_CACHE_DIR names one)",
        )

    def _named(self, sig: Any, codegen: Any) -> tuple[str, dict[str, Any]]:
        """The names of files up to their ends, and the key: all that machine code depends on."""
        parts = {
            "machine": [
                *(version(package) for package in ("numba", "llvmlite", "numpy")),
                sys.version,
                sys.byteorder,
                # Operating system, processor, and what the processor can do.
                *map(str, codegen.magic_tuple()),
            ],
            "types": [str(kind) for kind in sig],
            "source": _sources(self._folder),
        }
        short = [
            hashlib.sha256(json.dumps(part).encode()).hexdigest()[:12] for part in parts.values()
        ]
        return ".".join([self._name, *short]), {"function": self._name, **parts}

    def _remove_older(self, folder: Path, stem: str) -> None:
        """Those of the same types and processor, from sources that have changed; and what writers
        left behind that were killed, or had been beaten to it."""
        same, _, source = stem.rpartition(".")
        for path in folder.glob(f"{same}.*"):
            if path.name[len(same) + 1 :].partition(".")[0] != source:
                _remove(path)
        for path in (*folder.glob(f"{stem}.*.nbc"), *folder.glob(f".{self._name}.*.partial")):
            try:
                old = path.stat().st_mtime < time.time() - _ABANDONED
            except OSError:  # its writer is done with it
                continue
            if old:
                _remove(path)


@cache
def _sources(folder: Path) -> str:
    """The checksum of everything that is compiled for functions of a folder: our sources, and its
    own where it is another one."""
    digest = hashlib.sha256()
    paths = [Path(__file__).with_name(f"{name}.py") for name in _SOURCES]
    if folder != Path(__file__).parent:
        paths += sorted(folder.glob("*.py"))
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_folder(folder: Path, stays: bool) -> None:
    """Raises OSError where it cannot be made, or is somebody else's."""
    if stays:
        folder.mkdir(parents=True, exist_ok=True)
        return
    # Anybody may have made a folder of this name in the temporary one.
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    status = folder.parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or not _trusted(status):
        raise PermissionError(f"{folder.parent} belongs to somebody else")
    folder.mkdir(mode=0o700, exist_ok=True)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _note("a compiled kernel cannot be removed", f"{path}: {error.strerror}")


def _note(kind: str, text: str) -> None:
    """Tell the user on stderr: once for each kind of thing in a process."""
    with _noting:
        if kind in _noted:
            return
        _noted.add(kind)
    if sys.stderr is not None:
        tell(f"note: {kind}: {text}")
