"""Where an output lies, who else writes there, and what is left of what lay there."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from written_things import article

from unified.__main__ import run
from unified.articles.outputs import save_article
from unified_base import together, whole_folder
from unified_base.atomic import atomic_path, atomic_write
from unified_base.leftovers import claim, is_partial
from unified_base.together import write_together
from unified_data.importers.import_shards import import_shards
from unified_data.pocket.build import build_pocket

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample"


def device(path):
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(path))


ODD = {
    "device": (device, "it is a device"),
    "named pipe": (os.mkfifo, "it is a named pipe"),
    "socket": (make_socket, "it is a socket"),
    "folder": (os.mkdir, "it is a folder"),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "link to a device": (lambda path: path.symlink_to("/dev/null"), "it is a device"),
    "read-only": (lambda path: path.touch(0o444), "it is read-only"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_to_write_to_is_refused_by_name(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make, reason = ODD[kind]
    path = tmp_path / "F.lark"
    try:
        make(path)
    except PermissionError:
        pytest.skip("only the superuser makes devices")
    before = os.lstat(path)
    with pytest.raises(ValueError, match=f"^cannot write .*F.lark: {reason}"):
        atomic_write(path, b"new")
    assert run(["grammar", "export", "pocket", "-o", "F.lark"]) == 2
    assert f"error: cannot write F.lark: {reason}" in capsys.readouterr().err
    assert os.path.samestat(os.lstat(path), before)
    assert os.listdir(tmp_path) == ["F.lark"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("-", "results go into files only"),
        ("/dev/stdout", "results go into files only"),
        ("/proc/self/fd/1", "results go into files only"),
        ("/dev/null", "it is a device"),
        ("x" * 256, "File name too long"),
        ("no/F", "there is no folder"),
        ("a\0b", "embedded null byte"),
        ("\x1b[31m" + "y" * 300, "File name too long"),
    ],
)
def test_names_that_are_no_files(name, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=reason) as caught:
        atomic_write(name, b"new")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_vanishes_while_its_file_is_written(tmp_path):
    (tmp_path / "gone").mkdir()

    def write():
        with atomic_path(tmp_path / "gone" / "F") as partial:
            partial.write_bytes(b"new")
            (tmp_path / "gone").rmdir()

    with pytest.raises(ValueError, match=r"cannot write .*gone/F: No such file"):
        write()


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "F").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/F")
    (tmp_path / "dangling").symlink_to("there/G")
    (tmp_path / "folder").symlink_to("there/M")
    for name in ("link", "dangling"):
        atomic_write(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "there" / "F").read_bytes() == b"link"
    assert (tmp_path / "there" / "G").read_bytes() == b"dangling"
    with whole_folder.whole_folder(tmp_path / "folder", "m") as staged:
        (staged / "m").touch()
    assert (tmp_path / "folder").is_symlink()
    assert sorted(os.listdir(tmp_path / "there")) == ["F", "G", "M"]


def test_files_keep_their_mode_and_new_ones_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "F", b"1")
        assert (tmp_path / "F").stat().st_mode & 0o777 == 0o640
        (tmp_path / "F").chmod(0o604)
        atomic_write(tmp_path / "F", b"2")
        assert (tmp_path / "F").stat().st_mode & 0o777 == 0o604
        with whole_folder.whole_folder(tmp_path / "M", "m", lambda name: True) as staged:
            (staged / "m").touch()
        assert (tmp_path / "M").stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    live, dead = (tmp_path / f".F.{token}.partial" for token in ("00000001", "00000002"))
    for path in (live, dead, tmp_path / ".other.00000003.partial"):
        path.write_bytes(b"half")
    with live.open("rb") as file:
        assert claim(file.fileno())
        atomic_write(tmp_path / "F", b"whole")
    assert sorted(os.listdir(tmp_path)) == [live.name, ".other.00000003.partial", "F"]
    assert is_partial(live.name)
    assert not is_partial("F.partial")


def test_a_folder_that_must_stay_is_changed_in_place(tmp_path, monkeypatch):
    (tmp_path / "M").mkdir()
    for name in ("m", "old", "mine"):
        (tmp_path / "M" / name).write_text("1")
    inode = (tmp_path / "M").stat().st_ino
    monkeypatch.chdir(tmp_path / "M")
    with whole_folder.whole_folder(".", "m", lambda name: name != "old") as staged:
        (staged / "sub").mkdir()
        (staged / "sub" / "x").write_text("2")
        (staged / "m").write_text("2")
        assert Path("m").read_text() == "1"
    assert (tmp_path / "M").stat().st_ino == inode
    left = {str(p): p.read_text() for p in Path().rglob("*") if p.is_file()}
    assert left == {"m": "2", "mine": "1", "sub/x": "2"}


def test_another_process_that_writes_a_folder_is_named_at_once(tmp_path):
    with whole_folder.whole_folder(tmp_path / "M", "m") as staged:
        (staged / "m").touch()
        with pytest.raises(ValueError, match="M: another process is writing to it"):
            build_pocket(tmp_path / "M", 0, 0.001, ("text",), 1)
        with pytest.raises(ValueError, match="M: another process is writing to it"):
            import_shards("folder", SAMPLE, tmp_path / "M")
    assert os.listdir(tmp_path) == ["M"]


def test_two_articles_written_to_one_place_do_not_mix(tmp_path):
    for _ in range(6):
        children = []
        for seed in (1, 2, 3):
            child = os.fork()
            if child == 0:
                try:
                    save_article(tmp_path / "F.md", article(10 * seed, 3))
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        text = (tmp_path / "F.md").read_text("utf-8")
        (seed,) = (s for s in (1, 2, 3) if f"An article {10 * s}" in text)
        alone = tmp_path / "alone"
        alone.mkdir()
        save_article(alone / "F.md", article(10 * seed, 3))
        wanted = {path.read_bytes() for path in (alone / "F-media").iterdir()}
        names = [part.split("(")[1].split(")")[0] for part in text.split("![")[1:]]
        assert {(tmp_path / name).read_bytes() for name in names} == wanted
        assert {path.name for path in (tmp_path / "F-media").iterdir()} == {
            Path(name).name for name in names
        }
        subprocess.run(["rm", "-r", str(alone)], check=True)
    assert sorted(os.listdir(tmp_path)) == ["F-media", "F.md"]


def test_an_article_over_a_longer_one_leaves_none_of_its_media(tmp_path):
    save_article(tmp_path / "F.md", article(1, 4))
    (tmp_path / "F-media" / "mine.png").write_bytes(b"mine")
    save_article(tmp_path / "F.md", article(1, 2))
    assert sorted(os.listdir(tmp_path / "F-media")) == [
        "mine.png", "picture-1.png", "picture-2.png"
    ]  # fmt: skip
    save_article(tmp_path / "F.md", article(2, 1))
    (name,) = set(os.listdir(tmp_path / "F-media")) - {"mine.png"}
    assert f"F-media/{name}" in (tmp_path / "F.md").read_text("utf-8")


def test_a_failed_write_of_several_files_brings_back_what_was(tmp_path, monkeypatch):
    files = {tmp_path / f"F-{n}": b"new" for n in (1, 2, 3)}
    (tmp_path / "F-2").write_bytes(b"old")

    def fails(self):
        if self.target.name == "F-1":
            raise ValueError("no")
        publish(self)

    publish = together.PendingFile.publish
    monkeypatch.setattr(together.PendingFile, "publish", fails)
    with pytest.raises(ValueError, match="no"):
        write_together(files)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"F-2": b"old"}
    (tmp_path / "F-1").symlink_to("F-2")
    with pytest.raises(ValueError, match="are the same file"):
        write_together(files)
