"""The rows of a Parquet file as plain values, in bounded memory whatever the file claims.

Nothing is decompressed before its declared size has been looked at. Binary columns are read as
dictionaries, so that a value which is repeated a million times is held once, and a batch is turned
into values only where these take less than a limit together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from unified_base.extras import missing_extra
from unified_base.files import open_regular
from unified_base.text import quoted
from unified_data.importers.embedded import MAX_MEDIA
from unified_data.importers.parquet_layout import pages, row_groups

__all__ = ["ParquetRows", "pyarrow_modules"]

MAX_FOOTER = 16 << 20
"""Bytes of a file's footer, which is read whole."""
MAX_PAGE = 2 * MAX_MEDIA
"""Bytes of one page when decompressed: writers put a hundred pictures into one."""
MAX_VALUES = 1 << 24
"""Values of one column in one row group."""
MAX_ROW = 2 * MAX_MEDIA
"""Bytes of the values of a row, or of several that are read together."""
MAX_NESTING = 16
_BATCH = 64
_BATCH_BYTES = 64 << 20
_MAX_COLUMNS = 10_000
_CONTAINERS = 200_000


def pyarrow_modules() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises ValueError with what to install where there are none."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("a Parquet file", "pyarrow", "parquet") from None
    return pyarrow, pyarrow.parquet


class ParquetRows:
    """One open file: its columns' types by name, its metadata, its rows.

    Use `ParquetRows.open`. Raises ValueError, in one line and naming the file, for one that is
    broken, encrypted, or claims more than the limits above.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._pyarrow, self._parquet = pyarrow_modules()
        self._stream, self._path = stream, path
        with self._errors():
            self._groups = row_groups(_footer(stream), os.fstat(stream.fileno()).st_size)
            leaves = {chunk.path: chunk for group in self._groups for chunk in group.chunks}
            if len(leaves) > _MAX_COLUMNS:
                raise ValueError(f"it has {len(leaves):,} columns")
            self._file = self._parquet.ParquetFile(
                stream,
                read_dictionary=[".".join(path) for path, c in leaves.items() if c.is_binary],
                buffer_size=1 << 20,
                pre_buffer=False,
                page_checksum_verification=True,
                thrift_string_size_limit=MAX_FOOTER,
                thrift_container_size_limit=_CONTAINERS,
            )
            schema = self._file.schema_arrow
            names = schema.names
            if len(set(names)) < len(names):
                raise ValueError("it has two columns of one name")
            self.types = {name: schema.field(name).type for name in names}
            for name, kind in self.types.items():
                _check_nesting(self._pyarrow, name, kind)
        self.metadata: dict[bytes, bytes] = schema.metadata or {}

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[ParquetRows]:
        """The file at a path, closed at the end of the block."""
        with open_regular(path, "Parquet file") as stream:
            yield cls(stream, path)

    def rows(self, columns: list[str]) -> Iterator[tuple[str, dict[str, Any] | ValueError]]:
        """Where each row stands, and its values by column; a ValueError for what cannot be read.

        Where a row group is broken the next one is gone on with.
        """
        first = 0
        for group, about in enumerate(self._groups):
            count, number = about.rows, 0
            try:
                size = self._check_group(group, columns)
                for batch in self._batches(group, columns, size):
                    for i in range(batch.num_rows):
                        yield f"row {first + number + 1}", self._values(batch, i)
                        number += 1
                if number != count:
                    raise ValueError(f"it holds {number:,} rows, the footer says {count:,}")
            except ValueError as error:
                yield (
                    f"row group {group}, from row {first + number + 1} on",
                    ValueError(f"{max(0, count - number):,} rows cannot be read: {error}"),
                )
            first += count

    def _batches(self, group: int, columns: list[str], size: int) -> Iterator[Any]:
        with self._errors(named=False):
            yield from self._file.iter_batches(
                batch_size=max(1, min(_BATCH, _BATCH_BYTES // max(1, size))),
                row_groups=[group], columns=columns, use_threads=False,
            )  # fmt: skip

    def _check_group(self, group: int, columns: list[str]) -> int:
        """Bytes of a row group's largest page. ValueError where anything is larger than allowed."""
        largest = 0
        for chunk in self._groups[group].chunks:
            if chunk.path[0] not in columns:
                continue
            name = ".".join(chunk.path)
            values = 0
            for page in pages(self._read, chunk.start, chunk.end):
                values += page.values
                largest = max(largest, page.size)
                if page.size > MAX_PAGE:
                    raise ValueError(
                        f"a page of column {quoted(name)} is {page.size:,} bytes long when "
                        f"decompressed, expected at most {MAX_PAGE:,}"
                    )
                if values > MAX_VALUES:
                    raise ValueError(
                        f"column {quoted(name)} holds {values:,} values, expected at most "
                        f"{MAX_VALUES:,} in a row group"
                    )
        return largest

    def _read(self, offset: int, count: int) -> bytes:
        return os.pread(self._stream.fileno(), count, offset)

    def _values(self, batch: Any, i: int) -> dict[str, Any] | ValueError:
        """The values of a row of a batch."""
        row = batch.slice(i, 1)
        try:
            with self._errors(named=False):
                size = sum(_expanded(self._pyarrow, column) for column in row.columns)
                if size > MAX_ROW:
                    raise ValueError(f"it is {size:,} bytes long, expected at most {MAX_ROW:,}")
                values: dict[str, Any] = row.to_pylist()[0]
                return values
        except ValueError as error:
            return error

    @contextmanager
    def _errors(self, named: bool = True) -> Iterator[None]:
        """What pyarrow raises for broken files becomes a ValueError of one line."""
        where = f"{self._path} cannot be read: " if named else ""
        try:
            yield
        except ImportError as error:  # a codec that this pyarrow was built without
            raise ValueError(f"{where}{quoted(str(error), 200)}") from None
        except (self._pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError,
                TypeError, KeyError, NotImplementedError) as error:  # fmt: skip
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"{where}{reason}") from None


def _footer(stream: IO[bytes]) -> bytes:
    """The footer of a file, without the bytes around it. ValueError where there is none."""
    size, descriptor = os.fstat(stream.fileno()).st_size, stream.fileno()
    first, last = os.pread(descriptor, 4, 0), os.pread(descriptor, 8, max(0, size - 8))
    if b"PARE" in (first, last[4:]):
        raise ValueError("it is encrypted")
    if size < 12 or first != b"PAR1" or last[4:] != b"PAR1":
        raise ValueError("it is no Parquet file, or cut off")
    length = int.from_bytes(last[:4], "little")
    if length > min(MAX_FOOTER, size - 12):
        raise ValueError(
            f"it says that its footer is {length:,} bytes long, expected at most "
            f"{min(MAX_FOOTER, size - 12):,}"
        )
    return os.pread(descriptor, length, size - 8 - length)


def _check_nesting(pyarrow: Any, name: str, kind: Any, depth: int = 0) -> None:
    if depth > MAX_NESTING:
        raise ValueError(f"column {quoted(name)} is nested more than {MAX_NESTING} deep")
    if not pyarrow.types.is_dictionary(kind):
        for i in range(kind.num_fields):
            _check_nesting(pyarrow, name, kind.field(i).type, depth + 1)


def _expanded(pyarrow: Any, array: Any) -> int:
    """Bytes that an array's values take when each stands for itself, about 64 for every value."""
    types = pyarrow.types
    if types.is_dictionary(array.type):
        lengths = pyarrow.compute.binary_length(array.dictionary)
        total = pyarrow.compute.sum(lengths.take(array.indices).cast(pyarrow.int64())).as_py()
        return (total or 0) + 64 * len(array)
    if types.is_struct(array.type):
        return 64 * len(array) + sum(_expanded(pyarrow, part) for part in array.flatten())
    if types.is_list(array.type) or types.is_large_list(array.type):
        return 64 * len(array) + _expanded(pyarrow, array.flatten())
    if types.is_fixed_size_list(array.type):
        return 64 * len(array) + _expanded(pyarrow, array.flatten())
    if types.is_map(array.type):
        return 64 * len(array) + sum(_expanded(pyarrow, part) for part in (array.keys, array.items))
    return int(array.nbytes) + 64 * len(array)
