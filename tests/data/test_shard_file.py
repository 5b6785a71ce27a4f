"""Random access to shards: what was written comes back, and one broken sample stays one."""

import io
import json
import os
import tarfile
import threading
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_base.structured import parse_json
from unified_base.tar_members import scan_members
from unified_data.shard_file import ShardFile
from unified_data.shards import CorruptSample, read_samples, read_shards

TEXT = b'{"segments":[{"type":"text","text":"a"}]}'


def tar_of(path, members, form=tarfile.USTAR_FORMAT):
    """members: (name, bytes) or (name, bytes, type flag); a link leads to /etc/passwd."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, data, *kind in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.type, member.linkname = (kind or [tarfile.REGTYPE])[0], "/etc/passwd"
            tar.addfile(member, io.BytesIO(data))
    return path


def header_changed(data, at, offset, value):
    """The tar file's bytes with a field of the header at `at` changed, its checksum set right."""
    changed = bytearray(data)
    changed[at + offset : at + offset + len(value)] = value
    changed[at + 148 : at + 156] = b" " * 8
    changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
    return bytes(changed)


def test_samples_come_back_by_number_with_their_media(tmp_path):
    path = tar_of(
        tmp_path / "x.tar",
        [("a.json", TEXT), ("a.1.codes", b"\1\2"), ("b-2.0.png", b"png"), ("b-2.json", b"[1]"),
         ("c.json", b"{}"), ("c.10.flac", b""), ("a.json", b"7")],
    )  # fmt: skip
    with ShardFile(path) as shard:
        assert len(shard) == 4
        assert [shard.key(i) for i in range(4)] == ["a", "b-2", "c", "a"]
        assert shard.parts(2) == ("c", {}, {"c.10.flac": b""})
        assert shard.parts(0) == ("a", json.loads(TEXT), {"a.1.codes": b"\1\2"})
        assert shard.parts(1) == ("b-2", [1], {"b-2.0.png": b"png"})
        assert shard.parts(3) == ("a", 7, {})
        for i in (4, -1):
            with pytest.raises(IndexError, match="has 4 samples"):
                shard.parts(i)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(st.sampled_from("abz/é.0-"), min_size=1), st.integers(0, 1300)),
        max_size=5,
    ),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from([0, 1.5]),
)  # fmt: skip
def test_members_are_found_where_tarfile_finds_them(members, form, time):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, size in members:
            member = tarfile.TarInfo("k" + name.strip("/") + "x" * (150 if size % 2 else 0) + "x")
            member.size, member.mtime = size, time
            try:
                tar.addfile(member, io.BytesIO(bytes(size)))
            except ValueError:
                assert form == tarfile.USTAR_FORMAT  # a name too long for it
    data = buffer.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(m.name, m.size, m.offset, m.offset_data) for m in tar]

    scanned = list(scan_members(lambda at, count: data[at : at + count], 0, len(data)))
    assert [(m.name, m.size, m.start, m.offset) for m in scanned] == expected
    assert all(m.kind == "file" for m in scanned)


def test_opening_holds_no_contents_and_a_sample_is_one_read(tmp_path, monkeypatch):
    path = tmp_path / "x.tar"
    tar_of(path, [(f"k{i}.{e}", bytes(9000)) for i in range(300) for e in ("json", "0.png")])
    tracemalloc.start()
    shard = ShardFile(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000
    assert peak < 200_000
    reads = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *a: reads.append(a) or real(*a))
    with pytest.raises(ValueError, match=r"x\.tar, sample k7: k7\.json is not JSON"):
        shard.parts(7)
    assert len(reads) == 1


def test_threads_may_read_at_once(tmp_path):
    names = [f"k{i}" for i in range(50)]
    path = tar_of(tmp_path / "x.tar", [(f"{n}.json", json.dumps(n).encode()) for n in names])
    wrong = []

    def read(shard, order):
        for i in order:
            if shard.parts(i)[1] != names[i]:
                wrong.append(i)

    with ShardFile(path) as shard:
        orders = [range(50), range(49, -1, -1)] * 2
        threads = [threading.Thread(target=read, args=(shard, order)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


BAD_MEMBERS = [
    (("b.pkl", b"x"), r"'b\.pkl' is not KEY\.json"),
    (("b.pth", b"x"), "is not KEY"),
    (("b.0.pyd", b"x"), "is not KEY"),
    (("/b.json", TEXT), "'/b.json' is not KEY"),
    (("../b.json", TEXT), r"'\.\./b\.json' is not KEY"),
    (("d/b.json", TEXT), "is not KEY"),
    (("b.json", b"", tarfile.SYMTYPE), "'b.json' is a symbolic link, expected a regular file"),
    (("b.json", b"", tarfile.LNKTYPE), "is a hard link"),
    (("b.json", b"", tarfile.DIRTYPE), "is a folder"),
    (("b.json", b"", tarfile.FIFOTYPE), "is a pipe"),
    (("b.json", b"", tarfile.CHRTYPE), "is a device"),
    (("b.json", TEXT, tarfile.CONTTYPE), "type b'7'"),
    (("b.json", b"[" * 100_000), "nested too deeply"),
    (("b.json", b"9" * 5000), "not JSON"),
    (("b.json", b"\xff"), "not JSON"),
    (("b.0.png", b""), r"there is no b\.json"),
    (("b.json", b'{"segments":[{"type":[]}]}'), r"segment 0: type is \[\]"),
    (("b.json", b'{"segments":[{"type":"image","file":"b.0.codes"}]}'), "not in the shard"),
]


@pytest.mark.parametrize(("member", "reason"), BAD_MEMBERS)
def test_one_bad_member_breaks_its_own_sample_alone(tmp_path, member, reason):
    path = tar_of(tmp_path / "x.tar", [("a.json", TEXT), member, ("c.json", TEXT)])
    first, broken, last = read_samples(path)
    assert (first[0], last[0]) == ("a", "c")
    assert isinstance(broken, CorruptSample)
    assert broken.shard == str(path)
    assert broken.key
    assert all(c.isalnum() or c in "-_" for c in broken.key)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(broken.reason)
    with pytest.raises(ValueError, match=rf"x\.tar, sample .*{reason}"):
        list(read_shards(path))


def test_a_member_that_is_there_twice_breaks_its_sample(tmp_path):
    path = tar_of(tmp_path / "x.tar", [("a.json", TEXT), ("a.0.png", b""), ("a.0.png", b"")])
    with ShardFile(path) as shard, pytest.raises(ValueError, match=r"'a\.0\.png' is there twice"):
        shard.parts(0)


def test_a_shard_cut_anywhere_keeps_the_samples_before_the_cut(tmp_path):
    path = tar_of(tmp_path / "x.tar", [(f"k{i}.json", TEXT) for i in range(3)])
    data = path.read_bytes()
    for size in range(0, 3 * 1024 + 512, 100):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"x\.tar"):
            ShardFile(path)
        *samples, torn = read_samples(path)
        whole = [f"k{i}" for i in range(3) if 1024 * i + 512 + len(TEXT) <= size]
        assert [key for key, _ in samples] == whole
        assert torn.key == ""
        assert "cut off" in torn.reason
        assert f"k{len(samples) - 1}" in torn.reason or not samples


def test_a_shard_that_became_shorter_is_noticed(tmp_path):
    path = tar_of(tmp_path / "x.tar", [("a.json", TEXT), ("b.json", TEXT)])
    with ShardFile(path) as shard:
        os.truncate(path, 600)
        with pytest.raises(ValueError, match="sample number 1: the shard has become shorter"):
            shard.parts(1)


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (124, b"77777777777\0", "8,589,934,591 bytes long but .* left in the file"),
        (124, b"\x80" + b"\xff" * 11, "bytes long but"),
        (124, b"\xff" * 12, "has no size"),  # below nothing
        (124, b"-0000000001\0", "has no size"),
        (124, b"0o000000017\0", "has no size"),
        (257, b"dated", "no sound tar header at byte 1024"),
        (156, b"x", "pax header at byte 1024 is not sound"),
        (156, b"g", "pax header at byte 1024 is not sound"),
    ],
)
def test_a_broken_header_ends_the_shard_there(tmp_path, offset, value, reason):
    path = tar_of(tmp_path / "x.tar", [("a.json", TEXT), ("b.json", TEXT), ("c.json", TEXT)])
    path.write_bytes(header_changed(path.read_bytes(), 1024, offset, value))
    sample, torn = read_samples(path)
    assert sample[0] == "a"
    with pytest.raises(ValueError, match=f"after sample a: .*{reason}"):
        raise ValueError(torn.reason)


def test_a_wrong_checksum_is_noticed(tmp_path):
    path = tar_of(tmp_path / "x.tar", [("a.json", TEXT)])
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="at its start: there is no sound tar header at byte 0"):
        ShardFile(path)


def test_joined_tar_files_are_refused_rather_than_half_read(tmp_path):
    path = tar_of(tmp_path / "x.tar", [("a.json", TEXT)])
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match="data after the end mark"):
        ShardFile(path)
    path.write_bytes(path.read_bytes()[:10240] + bytes(2 << 20))
    with pytest.raises(ValueError, match="bytes after the end mark"):
        ShardFile(path)


def test_a_size_in_a_header_allocates_nothing(tmp_path):
    path = tar_of(tmp_path / "x.tar", [("a.json", TEXT)])
    data = path.read_bytes()
    for kind in (b"0", b"x", b"L", b"S"):
        changed = header_changed(data, 0, 156, kind)
        path.write_bytes(header_changed(changed, 0, 124, b"\x80" + b"\0" * 6 + b"\x10\0\0\0\0"))
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"x\.tar, at its start: .*68,719,476,736"):
            ShardFile(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
        tracemalloc.stop()


def test_an_empty_shard_and_one_that_is_not_there(tmp_path):
    assert len(ShardFile(tar_of(tmp_path / "x.tar", []))) == 0
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        ShardFile(tmp_path / "absent.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    for path in (tmp_path, tmp_path / "pipe.tar"):
        with pytest.raises(ValueError, match="is not a regular file"):
            ShardFile(path)


def test_json_longer_than_its_limit_is_not_parsed():
    assert parse_json(b"[1, 2]", "x", 6) == [1, 2]
    with pytest.raises(ValueError, match="x is 7 bytes long, expected at most 6"):
        parse_json(b"[1,  2]", "x", 6)
