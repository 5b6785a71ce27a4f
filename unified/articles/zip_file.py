"""Reading zip files of strangers: the table of files and what they unpack to are bounded."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from types import TracebackType
from typing import Self

from unified_base.text import quoted

__all__ = ["MAX_UNPACKED", "BoundedZip"]

MAX_UNPACKED = 1 << 30
"""Bytes that all reads of a zip file may unpack."""
MAX_TABLE = 4 << 20
"""Bytes of its table of files: some tens of thousands of names."""
_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x07"
_END_SIZE = 22
_MAX_COMMENT = 0xFFFF
# Everything that zipfile and the decompressors raise for a broken file.
_FAULTS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    OSError, ValueError, KeyError, OverflowError, struct.error,
)  # fmt: skip


class BoundedZip:
    """A zip file in memory, for reading; a context manager.

    names: of its files.
    """

    def __init__(self, data: bytes, name: str) -> None:
        """name: the file's, for errors. Raises ValueError where it is no zip file, or one whose
        table is longer than `MAX_TABLE` bytes."""
        self._name = name
        self._room = MAX_UNPACKED
        self._check_table(data)
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except _FAULTS as error:
            raise self._fault(error) from None
        self.names = frozenset(self._archive.namelist())

    def read(self, inner: str, limit: int = MAX_UNPACKED) -> bytes:
        """The bytes of a file of it.

        Raises ValueError where there is none, it is broken or encrypted, or it unpacks to more
        than `limit` bytes, or all that was read to more than `MAX_UNPACKED`.
        """
        if inner not in self.names:
            raise ValueError(f"{self._name} has no file {quoted(inner)}; it is not whole")
        most = min(limit, self._room)
        try:
            with self._archive.open(inner) as file:
                data = file.read(most + 1)
        except _FAULTS as error:
            raise self._fault(error) from None
        if len(data) > most:
            raise ValueError(
                f"{quoted(inner)} in {self._name} unpacks to more than {most:,} bytes, which is "
                "all that is read"
            )
        self._room -= len(data)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def _check_table(self, data: bytes) -> None:
        """Before zipfile makes an object of every entry; the end is looked for as zipfile does."""
        at = len(data) - _END_SIZE
        if at < 0 or data[at : at + 4] != _END or data[-2:] != b"\0\0":
            at = data.rfind(_END, max(0, len(data) - _END_SIZE - _MAX_COMMENT))
        if at < 0 or at + _END_SIZE > len(data):
            raise ValueError(f"{self._name} is no zip file, or cut off: it has no table of files")
        (size,) = struct.unpack_from("<L", data, at + 12)
        if data[max(0, at - 20) :][:4] == _END_64 or size > MAX_TABLE:
            raise ValueError(
                f"{self._name} has a table of files of more than {MAX_TABLE:,} bytes, or one for "
                "files beyond 4 GB; neither is an article's"
            )

    def _fault(self, error: BaseException) -> ValueError:
        return ValueError(f"{self._name} is a broken zip file: {quoted(str(error) or repr(error))}")
