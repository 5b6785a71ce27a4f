"""Parquet files that are none, are broken, or claim what they do not hold."""

import io
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imported import asked, outcomes, table

from unified_data.importers import importer, parquet_rows
from unified_data.importers.parquet import read
from unified_data.importers.parquet_layout import pages, row_groups


def read_all(source, **options):
    return list(outcomes(read(source, **options)))


# Forms.


def test_without_pyarrow_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow, .* 'unified-tokens\[parquet\]'"):
        importer("parquet")(tmp_path / "absent", None)


def file_of(**options):
    buffer = io.BytesIO()
    rows = [{"text": f"t{i}", "image": {"bytes": b"x" * 300, "path": None}} for i in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=10, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no Parquet file, or cut off"),
        (b"PAR1" * 2, "no Parquet file, or cut off"),
        (file_of()[:-1], "no Parquet file, or cut off"),
        (file_of()[:-8] + b"\xff\xff\xff\x7fPAR1", "says that its footer is 2,147,483,647 bytes"),
        (file_of()[:-8] + b"\x09\x00\x00\x00PAR1", "cannot be read"),
        (file_of()[:-4] + b"PARE", "is encrypted"),
        (b"PK" + file_of()[2:], "no Parquet file"),
    ],
)
def test_a_file_that_is_none_is_one_line_with_its_name(tmp_path, data, reason):
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=reason) as refusal:
        read_all(tmp_path / "x.parquet")
    assert str(tmp_path / "x.parquet") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("what", ["fifo", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, what):
    path = tmp_path / "in" / "x.parquet"
    path.parent.mkdir()
    os.mkfifo(path) if what == "fifo" else path.mkdir()
    with pytest.raises(ValueError, match="not a regular file"):
        read_all(path.parent)


def test_a_broken_row_group_is_named_and_the_others_are_read(tmp_path, media):
    rows = [{"text": f"t{i}", "image": media("a.png")} for i in range(6)]
    path = table(tmp_path / "x.parquet", rows, row_group_size=2, write_page_checksum=True,
                 compression="NONE")  # fmt: skip
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    assert column.path_in_schema == "image.bytes"
    data[column.dictionary_page_offset + 100] ^= 1
    path.write_bytes(data)
    first, second, broken, *rest = read_all(path)
    assert (first[0], second[0]) == (asked("t0"), asked("t1"))
    assert broken.startswith("x.parquet row group 1, from row 3 on: 2 rows cannot be read: ")
    assert "checksum" in broken or "CRC" in broken
    assert [segments[0] for segments in rest] == [asked("t4"), asked("t5")]


def peak():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_bomb_is_refused_by_what_its_pages_declare(tmp_path, monkeypatch):
    before = peak()
    repeated = pa.DictionaryArray.from_arrays(
        pa.array([0] * 100_000, pa.int32()), ["x" * 1_000_000]
    )
    texts = pa.ListArray.from_arrays(pa.array([0, 100_000], pa.int32()), repeated)
    images = pa.array([["a.png"]])
    pq.write_table(pa.table({"texts": texts, "images": images}), tmp_path / "x.parquet",
                   store_schema=False)  # fmt: skip
    assert (tmp_path / "x.parquet").stat().st_size < 1_000_000
    (reason,) = read_all(tmp_path / "x.parquet", images=tmp_path)
    assert "row 1: it is 100,0" in reason
    assert "bytes long, expected at most 536,870,912" in reason
    assert peak() - before < 200_000_000
    long = pa.table({"text": ["x" * 30_000_000], "image": ["a.png"]})
    pq.write_table(long, tmp_path / "y.parquet", compression="zstd", use_dictionary=False)
    monkeypatch.setattr(parquet_rows, "MAX_PAGE", 10_000_000)
    (reason,) = read_all(tmp_path / "y.parquet")
    assert (
        "row group 0, from row 1 on: 1 rows cannot be read: a page of column 'text' is " in reason
    )
    assert "30,000,0" in reason
    monkeypatch.setattr(parquet_rows, "MAX_VALUES", 5)
    (reason,) = read_all(table(tmp_path / "z.parquet", [{"text": "x", "image": "a"}] * 9))
    assert "column 'text' holds 10 values, expected at most 5" in reason  # one in its dictionary


def test_deep_and_doubled_columns_are_refused(tmp_path):
    value = "x"
    for _ in range(20):
        value = [value]
    source = table(tmp_path / "x.parquet", [{"texts": value, "images": ["a.png"]}])
    with pytest.raises(ValueError, match="column 'texts' is nested more than 16 deep"):
        read_all(source)
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "y.parquet")
    with pytest.raises(ValueError, match="two columns of one name"):
        read_all(tmp_path / "y.parquet")


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False},
                                     {"data_page_size": 64}, {"compression": "zstd"}])  # fmt: skip
def test_columns_and_pages_lie_where_pyarrow_says(options):
    data = file_of(**options)
    about = pq.ParquetFile(io.BytesIO(data)).metadata
    groups = row_groups(data[-8 - about.serialized_size : -8], len(data))
    assert [group.rows for group in groups] == [10, 10, 10]
    for number, group in enumerate(groups):
        for i, chunk in enumerate(group.chunks):
            column = about.row_group(number).column(i)
            assert ".".join(chunk.path) == column.path_in_schema
            assert chunk.end - chunk.start == column.total_compressed_size
            assert chunk.is_binary == (column.physical_type == "BYTE_ARRAY")
            listed = list(pages(lambda at, count: data[at : at + count], chunk.start, chunk.end))
            dictionary = bool(column.dictionary_page_offset)
            assert sum(page.values for page in listed[dictionary:]) == column.num_values
            assert sum(page.size for page in listed) <= column.total_uncompressed_size


def test_page_headers_that_are_none_are_refused():
    data = file_of()
    rng = np.random.default_rng(0)
    reasons = []
    for _ in range(300):
        start = int(rng.integers(0, len(data)))
        broken = bytearray(data)
        broken[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
        whole = bytes(broken)
        try:
            list(pages(lambda at, count, d=whole: d[at : at + count], start, len(data)))
        except ValueError as error:
            reasons.append(str(error))
    assert len(reasons) > 200
    assert all("page" in reason for reason in reasons)
