"""Only regular files of bounded size are read; all else says at once why not."""

import os

import pytest

from unified_base.files import open_regular, read_bytes, read_text


def test_a_file_is_read_to_its_limit_and_no_further(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, "file", 5) == b"12345"
    with pytest.raises(ValueError, match="is 5 bytes long, expected at most 4"):
        read_bytes(path, "file", 4)


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    with open(tmp_path / "x", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes"):
        read_bytes(tmp_path / "x")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "absent", "loop", "nul"])
def test_what_is_no_regular_file_answers_at_once(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "nul":
        path = "a\0b"
    with pytest.raises(ValueError, match="cannot read picture"), open_regular(path, "picture"):
        pass


def test_text_is_utf_8_without_its_byte_order_mark(tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfh\xc3\xa9")
    assert read_text(tmp_path / "x") == "h\u00e9"
    (tmp_path / "x").write_bytes(b"abc\xff")
    with pytest.raises(ValueError, match=r"not UTF-8 text \(byte 3"):
        read_text(tmp_path / "x")
