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

from unified_base.files import open_regular
from unified_base.text import shown
from unified_data.importers.embedded import MAX_MEDIA
from unified_data.importers.parquet_pages import pages

__all__ = ["ParquetRows", "pyarrow_modules"]

MAX_FOOTER = 64 << 20
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
        raise ValueError(
            "Parquet files need pyarrow, which is not installed: pip install 'unified[parquet]'"
        ) from None
    return pyarrow, pyarrow.parquet


class ParquetRows:
    """One open file: its columns' types by name, its metadata, its rows.

    Use `ParquetRows.open`. Raises ValueError, in one line and naming the file, for one that is
    broken, encrypted, or claims more than the limits above.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._pyarrow, self._parquet = pyarrow_modules()
        self._stream, self._path = stream, path
        _check_footer(stream, path)
        with self._errors():
            limits = {
                "thrift_string_size_limit": MAX_FOOTER,
                "thrift_container_size_limit": _CONTAINERS,
            }
            self._metadata = self._parquet.ParquetFile(stream, **limits).metadata
            if self._metadata.num_columns > _MAX_COLUMNS:
                raise ValueError(f"it has {self._metadata.num_columns:,} columns")
            leaves = [self._metadata.schema.column(i) for i in range(self._metadata.num_columns)]
            self._repeated = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
            stream.seek(0)
            self._file = self._parquet.ParquetFile(
                stream,
                metadata=self._metadata,
                read_dictionary=self._repeated,
                buffer_size=1 << 20,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            schema = self._file.schema_arrow
            names = schema.names
            if len(set(names)) < len(names):
                raise ValueError("it has two columns of one name")
            self.types = {name: schema.field(name).type for name in names}
            for name, kind in self.types.items():
                _check_nesting(self._pyarrow, name, kind)
        self.metadata: dict[bytes, bytes] = schema.metadata or {}
        self.num_rows = int(self._metadata.num_rows)

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
        for group in range(self._metadata.num_row_groups):
            count = self._metadata.row_group(group).num_rows
            number = 0
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
            first += max(0, count)

    def _batches(self, group: int, columns: list[str], size: int) -> Iterator[Any]:
        with self._errors(named=False):
            yield from self._file.iter_batches(
                batch_size=max(1, min(_BATCH, _BATCH_BYTES // max(1, size))),
                row_groups=[group], columns=columns, use_threads=False,
            )  # fmt: skip

    def _check_group(self, group: int, columns: list[str]) -> int:
        """Bytes of a row group's largest page. ValueError where anything is larger than allowed."""
        about = self._metadata.row_group(group)
        size, largest = os.fstat(self._stream.fileno()).st_size, 0
        for number in range(about.num_columns):
            column = about.column(number)
            name = column.path_in_schema
            if name.partition(".")[0] not in columns:
                continue
            if column.file_path:
                raise ValueError(f"column {shown(name)} lies in another file")
            start = column.data_page_offset
            if column.dictionary_page_offset:
                start = min(start, column.dictionary_page_offset)
            end = start + column.total_compressed_size
            if not 0 <= start <= end <= size:
                raise ValueError(f"column {shown(name)} lies beyond the file's end")
            values = 0
            for page in pages(self._read, start, end):
                values += page.values
                largest = max(largest, page.size)
                if page.size > MAX_PAGE:
                    raise ValueError(
                        f"a page of column {shown(name)} is {page.size:,} bytes long when "
                        f"decompressed, expected at most {MAX_PAGE:,}"
                    )
                if values > MAX_VALUES:
                    raise ValueError(
                        f"column {shown(name)} holds {values:,} values, expected at most "
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
            raise ValueError(f"{where}{shown(str(error), 200)}") from None
        except (self._pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError,
                TypeError, KeyError, NotImplementedError) as error:  # fmt: skip
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"{where}{reason}") from None


def _check_footer(stream: IO[bytes], path: Path) -> None:
    size = os.fstat(stream.fileno()).st_size
    ends = os.pread(stream.fileno(), 4, 0), os.pread(stream.fileno(), 8, max(0, size - 8))
    if b"PARE" in (ends[0], ends[1][4:]):
        raise ValueError(f"{path} is encrypted")
    if size < 12 or ends[0] != b"PAR1" or ends[1][4:] != b"PAR1":
        raise ValueError(f"{path} is no Parquet file, or cut off")
    footer = int.from_bytes(ends[1][:4], "little")
    if footer > min(MAX_FOOTER, size - 12):
        raise ValueError(
            f"{path} says that its footer is {footer:,} bytes long, expected at most "
            f"{min(MAX_FOOTER, size - 12):,}"
        )


def _check_nesting(pyarrow: Any, name: str, kind: Any, depth: int = 0) -> None:
    if depth > MAX_NESTING:
        raise ValueError(f"column {shown(name)} is nested more than {MAX_NESTING} deep")
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
