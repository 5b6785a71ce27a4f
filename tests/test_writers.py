"""Everything that writes, and every fault in its midst: killed, a full disk, two at a time.

A new writer joins `WRITERS` by one line. The commands themselves, at all their calls, are killed by
benchmarks/_fault_kills.py.
"""

import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from unified.__main__ import run
from unified.articles.outputs import save_article, save_documents
from unified.dataloading.media_encoder import MediaEncoder
from unified.dataloading.tokenize import tokenize_shards
from unified_base import atomic, exchange, together, whole_folder
from unified_base.atomic import atomic_path, atomic_write
from unified_base.destinations import output_file
from unified_base.leftovers import claim, is_partial
from unified_base.processes import in_processes
from unified_base.together import write_together
from unified_data.document import Document, Image, Text
from unified_data.importers.import_shards import import_shards
from unified_data.pocket.build import build_pocket
from unified_data.show import show_shards

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample"


@pytest.fixture(scope="module")
def points():
    sys.path.append(str(ROOT / "benchmarks"))
    try:
        import _fault_cases
        import _fault_kills
        import _fault_points
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    _fault_points.bundles = _fault_cases.bundles
    _fault_points.each_file = _fault_cases.each_file
    _fault_points.fill_disks = _fault_kills.fill_disks
    return _fault_points


def picture(number: int) -> Image:
    return Image(np.full((24, 24, 3), number, np.uint8))


def article(start: int, number: int) -> Document:
    pictures = [part for i in range(number) for part in (picture(start + i), Text(f"no. {i}"))]
    return Document((Text(f"An article {start}"), *pictures))


@pytest.fixture(scope="module")
def tokenizer():
    from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
    from unified_tokenizers.quantizers import QuantizerConfig

    torch.manual_seed(3)
    quantizer = QuantizerConfig(levels=(4, 3))
    return VQImageTokenizer(
        ImageTokenizerConfig(
            stride=24, quantizer=quantizer, encoder_width=8, decoder_width=8, encoder_depths=(1,),
            decoder_depths=(1, 0, 0),
        )
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Pictures to import, and shards of them."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "pictures").mkdir()
    for number in range(3):
        save_documents({folder / "unused.json": Document((picture(number),))})
        (folder / "unused.0.png").rename(folder / "pictures" / f"{number}.png")
        (folder / "pictures" / f"{number}.txt").write_text("a picture", "utf-8")
    import_shards("folder", folder / "pictures", folder / "shards")
    return folder


# What writes: work, what it replaces, how what it left is judged. A seed tells two apart.
WRITERS = {
    "file": (lambda at, seed, _: atomic_write(at / "F", b"%d" % seed * 999), True, None),
    "pictures": (
        lambda at, seed, _: write_together({at / f"F-{n}": b"%d" % seed * n for n in (1, 2, 3)}),
        True,
        "each_file",
    ),
    "md": (lambda at, seed, _: save_article(at / "F.md", article(seed, 4 - seed)), True, "F"),
    "json": (lambda at, seed, _: save_article(at / "F.json", article(seed, 1 + seed)), True, "F"),
    "html": (lambda at, seed, _: save_article(at / "F.html", article(seed, 1)), True, None),
    "import": (
        lambda at, seed, context: import_shards("folder", context.inputs / "pictures", at / "D"),
        False,
        None,
    ),
    "world": (lambda at, seed, _: build_pocket(at / "W", seed, 0.001, ("text",), 1), True, None),
    "tokenizer": (lambda at, seed, context: context.save(at / "T", seed), True, None),
    "page": (
        lambda at, seed, context: show_shards(context.inputs / "shards", at / "F", 2, seed),
        True,
        None,
    ),
    "codes": (
        lambda at, seed, context: tokenize_shards(
            sorted((context.inputs / "shards").glob("*.tar")),
            at / "C",
            MediaEncoder(context.tokenizer, None),
        ),
        False,
        "codes",
    ),
}


class Given:
    def __init__(self, inputs, tokenizer):
        self.inputs, self.tokenizer = inputs, tokenizer

    def save(self, folder, seed):
        self.tokenizer.save_pretrained(folder, torch.bfloat16 if seed == 1 else None)


def case_of(points, name, over, context):
    function, replaces, whole = WRITERS[name]
    if over and not replaces:
        return None

    def worker(seed):
        def work(folder):
            try:
                function(folder, seed, context)
            except ValueError as error:
                os.write(2, f"error: {error}\n".encode())  # not to what pytest holds
                return 2
            return 0

        return work

    judged = points.all_or_nothing
    if whole == "each_file":
        judged = points.each_file
    elif whole == "codes":
        judged = codes_in_order
    elif whole is not None:
        judged = points.bundles(whole)
    return points.Case(name, worker(1), worker(2) if over else None, judged)


def codes_in_order(folder, now, before, after):
    """The index comes last, and everything has its final bytes."""
    return all(after[name] == content for name, content in now.items())


@pytest.mark.parametrize("over", [False, True], ids=["fresh", "over"])
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("fault", ["kill", "ENOSPC"])
def test_a_writer_with_a_fault_at_each_of_its_calls(
    fault, name, over, points, inputs, tokenizer, tmp_path
):
    case = case_of(points, name, over, Given(inputs, tokenizer))
    if case is None:
        pytest.skip("it replaces nothing")
    most = 2 if name == "world" else 4  # planning a world takes its time
    outcome = points.try_case(case, tmp_path / "room", most, fault)
    assert outcome.lost == []
    assert outcome.tried == min(most, outcome.points) >= 2


def test_the_faults_find_a_writer_that_tears(points, tmp_path):
    def torn(folder):
        (folder / "F").write_bytes(b"1")
        os.replace(folder / "F", folder / "G")
        (folder / "F").write_bytes(b"2")
        os.replace(folder / "F", folder / "H")

    outcome = points.try_case(points.Case("torn", torn), tmp_path / "room", 9)
    assert outcome.tried == 2
    assert len(outcome.lost) >= 2


def test_where_no_disk_can_be_mounted_files_of_limited_size_find_a_writer_that_tears(
    points, tmp_path
):
    """At 4, 16, 64 and 256 KiB."""
    size = 100 << 10

    def torn(folder):
        with (folder / "F").open("wb") as file:
            file.write(bytes(size))

    def whole(folder):
        try:
            atomic_write(folder / "F", bytes(size))
        except ValueError as error:
            os.write(2, f"error: {error}\n".encode())
            return 2
        return 0

    outcome = points.fill_disks(points.Case("torn", torn), tmp_path / "room", False, False)
    assert outcome.tried == 4
    assert len(outcome.lost) == 6  # at three sizes another exit code, and a file left behind
    outcome = points.fill_disks(points.Case("whole", whole), tmp_path / "room", False, False)
    assert (outcome.tried, outcome.lost) == (4, [])
    assert os.listdir(tmp_path) == []


def test_without_files_that_have_no_name_the_next_write_removes_what_a_killed_one_left(
    points, tmp_path, monkeypatch
):
    monkeypatch.setattr(atomic, "_open_unnamed", lambda folder: None)
    case = case_of(points, "md", True, None)
    outcome = points.try_case(case, tmp_path / "room", 8)
    assert outcome.lost == []
    assert outcome.tried == 8


def test_folders_that_cannot_be_exchanged_come_back(points, tmp_path, monkeypatch):
    def twice(first, other):
        return -1

    monkeypatch.setattr(exchange, "_system_call", lambda: twice)

    def work(seed):
        def write(folder):
            with whole_folder.whole_folder(folder / "M", "m", lambda name: True) as staged:
                (staged / "m").write_text(str(seed))

        return write

    def whole(folder, now, before, after):
        # For an instant it has no name; the next write brings it back.
        return now in (before, after) or (folder / ".M.replaced" / "m").read_text() == "2"

    case = points.Case("folder", work(1), work(2), whole)
    outcome = points.try_case(case, tmp_path / "room", 40)
    assert outcome.lost == []
    assert outcome.tried > 8


# Where an output lies.


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


def test_another_process_that_tokenizes_into_a_folder_is_named(tokenizer, inputs, tmp_path):
    shards = sorted((inputs / "shards").glob("*.tar"))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert claim(descriptor)
        with pytest.raises(ValueError, match="another process tokenizes into"):
            tokenize_shards(shards, tmp_path, MediaEncoder(tokenizer, None))
    finally:
        os.close(descriptor)
    assert tokenize_shards(shards, tmp_path, MediaEncoder(tokenizer, None))["shards"]
    assert output_file(tmp_path / "x") == tmp_path / "x"


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


@pytest.mark.parametrize("what", ["world", "import", "page", "tokenizer"])
def test_files_beyond_a_limit_are_named_and_leave_nothing(
    what, points, inputs, tokenizer, tmp_path
):
    case = case_of(points, what, False, Given(inputs, tokenizer))
    (tmp_path / "place").mkdir()

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
        return case.work(tmp_path / "place")

    # The log is a file, too.
    assert points.in_child(limited, tmp_path / "log") == 2
    assert points.names_output((tmp_path / "log").read_text(), tmp_path / "place")
    assert os.listdir(tmp_path / "place") == []


# Workers.


def square(number):
    return number * number


def bad(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        raise ValueError("seven")
    return number


def test_workers_give_results_and_name_what_ended_them():
    assert [r for _, r in in_processes(square, range(9), 2, method="fork", ordered=True)] == [
        n * n for n in range(9)
    ]
    with pytest.raises(ValueError, match=r"was ended \(signal SIGKILL\) while it worked on 5; ah"):
        list(in_processes(bad, range(6), 2, method="fork", advice="ah"))
    with pytest.raises(ValueError, match=r"^seven$"):
        list(in_processes(bad, [1, 7], 2, method="fork"))


WAITING = """
import os, sys, time, threading
sys.path[:0] = {path!r}
from unified_base.processes import in_processes
import tests_of_workers as t

if __name__ == "__main__":
    for _ in in_processes(t.asleep, [1, 2, 3], 2, method="{method}"):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("method", "children"), [("fork", 2), ("spawn", 2), ("spawn", 1)])
def test_workers_end_with_their_parent(method, children, number, tmp_path):
    if method == "spawn" and children == 1 and number != signal.SIGKILL:
        pytest.skip("the moment matters where nothing is tidied up")
    (tmp_path / "tests_of_workers.py").write_text(
        "import time\n\n\ndef asleep(number):\n    time.sleep(60)\n"
    )
    script = tmp_path / "waiting.py"
    path = [str(tmp_path), str(ROOT / "base")]
    script.write_text(WAITING.format(path=path, method=method))
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    workers = wait_for_children(parent, children)
    parent.send_signal(number)
    assert parent.wait(20) != 0
    gone, alive = psutil.wait_procs(workers, timeout=20)
    for process in alive:
        process.kill()
    assert not alive
    assert len(gone) >= children


def test_a_killed_command_leaves_no_worker_and_the_next_one_nothing_behind(cli_folder, tmp_path):
    shards = [str(SAMPLE / f"heldout-{kind}-00000.tar") for kind in ("draw", "describe", "ask")]
    line = ["data", "tokenize", *shards, "--image", str(cli_folder), "-o", str(tmp_path / "C")]
    command = [sys.executable, "-m", "unified", *line]
    parent = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.DEVNULL, cwd=ROOT)
    workers = wait_for_children(parent, 2)
    parent.kill()
    parent.wait(20)
    _, alive = psutil.wait_procs(workers, timeout=60)
    for process in alive:
        process.kill()
    assert not alive
    assert run([*line, "--workers", "1"]) == 0
    names = [f"heldout-{kind}-00000" for kind in ("ask", "describe", "draw")]
    assert sorted(os.listdir(tmp_path / "C")) == sorted(
        ["index.json", *(f"{n}{end}" for n in names for end in (".json", ".tar", ".tar.sums"))]
    )


@pytest.fixture(scope="module")
def cli_folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def wait_for_children(parent, number):
    """The processes of a process, once there are so many (multiprocessing's tracker left out)."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and parent.poll() is None:
        try:
            children = psutil.Process(parent.pid).children(recursive=True)
            left = [c for c in children if "resource_tracker" not in " ".join(c.cmdline())]
        except psutil.NoSuchProcess:
            continue
        if len(left) >= number:
            return left
        time.sleep(0.005)
    raise AssertionError(f"the command had no {number} workers")
