"""The files below a folder, by the names that other people's data has for them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from unified_base.files import read_bytes
from unified_data.document import check_file_name
from unified_data.importers.embedded import MAX_MEDIA, shown_name

__all__ = ["MediaFolder"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAX_NAME = 4_096


class MediaFolder:
    """The files below a folder. Links are followed only where they stay below it.

    A name may be an absolute path, or have backslashes, as long as it lies in the folder. Of a path
    of Windows with a drive the part below the folder's own name counts: in the folder photos
    C:\\data\\photos\\a\\b.png is a/b.png.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ValueError(f"there is no folder {root} to take media from")
        self._root = root.resolve()

    def read(self, name: Any, limit: int = MAX_MEDIA) -> bytes:
        """The bytes of a file. Raises ValueError for any name that is not of a file below here."""
        if isinstance(name, str) and len(name) > _MAX_NAME:
            raise ValueError(f"file name {shown_name(name)} is {len(name):,} characters long")
        if isinstance(name, str) and _URL.match(name):
            raise ValueError(
                f"{shown_name(name)} is an address, and nothing is fetched; download it first and "
                "give the folder with --images"
            )
        try:
            local = self._local(name)
            path = (self._root / local).resolve()
            if not path.is_relative_to(self._root):
                raise ValueError(f"{shown_name(name)} is a link that leads out of its folder")
            if not path.exists():
                raise ValueError(f"there is no file {shown_name(name)}")
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            reason = getattr(error, "strerror", None) or "links in a circle"
            raise ValueError(f"{shown_name(name)} cannot be read: {reason}") from None
        except UnicodeEncodeError:
            raise ValueError(f"there is no file {shown_name(name)}") from None
        try:
            return read_bytes(path, "file", limit)
        except ValueError as error:
            reason = str(error).removeprefix(f"cannot read file {path}: ")
            raise ValueError(f"{shown_name(name)} cannot be read: {reason}") from None

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        try:
            return (self._root / name).is_file()
        except (OSError, ValueError):
            return False

    def _local(self, name: Any) -> str:
        """The name as a path below the folder. ValueError where it leads elsewhere."""
        if not isinstance(name, str) or self.has_literally(name):
            return check_file_name(name)
        windows = PureWindowsPath(name)
        if PurePosixPath(name).is_absolute():
            path = Path(name)
            if ".." not in path.parts and path.is_relative_to(self._root):
                return check_file_name(path.relative_to(self._root).as_posix())
            real = path.parent.resolve() / path.name  # the folder may be named through a link
            if ".." not in path.parts and real.is_relative_to(self._root):
                return check_file_name(real.relative_to(self._root).as_posix())
        elif windows.drive and windows.root and not windows.drive.startswith("\\\\"):
            parts = [part.casefold() for part in windows.parts]
            home = self._root.name.casefold()
            if ".." not in parts and home in parts[1:-1]:
                last = len(parts) - 1 - parts[::-1].index(home)
                return check_file_name("/".join(windows.parts[last + 1 :]))
        elif "\\" in name and not windows.anchor:
            return check_file_name(windows.as_posix())
        return check_file_name(name)

    def has_literally(self, name: str) -> bool:
        """Whether a file has just this name, whatever its characters mean elsewhere."""
        return "\\" in name and self.has(name)
