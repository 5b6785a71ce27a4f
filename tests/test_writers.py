"""Everything that writes, and every fault in its midst: killed, a full disk, two at a time.

A new writer joins `WRITERS` by one line. The commands themselves, at all their calls, are killed by
benchmarks/_fault_kills.py.
"""

import os
import resource
import sys
from pathlib import Path

import pytest
import torch
from written_things import article, picture, small_image_tokenizer

from unified.articles.outputs import save_article, save_documents
from unified.dataloading.media_encoder import MediaEncoder
from unified.dataloading.tokenize import tokenize_shards
from unified_base import atomic, exchange, whole_folder
from unified_base.atomic import atomic_write
from unified_base.destinations import output_file
from unified_base.leftovers import claim
from unified_base.together import write_together
from unified_data.document import Document
from unified_data.importers.import_shards import import_shards
from unified_data.pocket.build import build_pocket
from unified_data.show import show_shards

ROOT = Path(__file__).parents[1]


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


@pytest.fixture(scope="module")
def tokenizer():
    return small_image_tokenizer()


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
