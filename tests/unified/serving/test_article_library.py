"""The library of articles on disk: what was stored is there, however the process ended."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from unified.serving.article_library import ArticleLibrary, NoSuchArticleError, default_library
from unified.serving.article_record import MOST_VERSIONS, ArticleVersion, ArticleWishes
from unified.serving.article_view import blocks_of, described, view_of
from unified_data.document import Audio, Image, Text

PROMPT = {"type": "text", "text": "Write: The cat.", "role": "prompt", "loss": 0.0}


def _picture(value):
    return Image(np.full((8, 8, 3), value, np.uint8), "response")


def _add(library, text="# The cat\n\nA cat.", status="completed"):
    record = library.create("The cat", ArticleWishes(pictures=1), 3, ArticleVersion((PROMPT,)))
    rows = library.rows(record.id, [Text(text, "response"), _picture(7)])
    record = record.amend(ArticleVersion((PROMPT, *rows), status=status), time.time())
    library.save(record)
    return record


@pytest.fixture
def library(tmp_path):
    with ArticleLibrary(tmp_path / "library") as library:
        yield library


# What is stored.


def test_an_article_comes_back_as_it_was_stored(library):
    sound = Audio(np.sin(np.arange(800, dtype=np.float32))[None] * 0.5, 8_000, "response")
    record = _add(library)
    rows = library.rows(record.id, [sound])
    record = record.push(replace(record.version, segments=(*record.version.segments, *rows)), 9.0)
    library.save(record)
    again = library.load(record.id)
    assert again == record
    document = library.document(record.id, again.version.segments)
    assert document.segments[2] == _picture(7)
    assert document.segments[3] == sound
    view = view_of(library, again)
    assert view["title"] == "The cat"
    assert view["segments"][2]["image"]["width"] == 8
    assert view["segments"][3]["audio"]["seconds"] == 0.1


def test_versions_are_moved_through_and_bounded(library):
    record = _add(library)
    first = record.version
    for number in range(MOST_VERSIONS + 9):
        (row,) = library.rows(record.id, [_picture(number)])
        record = record.push(record.version.with_segment(2, row, "regenerate"), float(number))
    assert len(record.versions) == MOST_VERSIONS
    assert not record.can_redo
    back = record.move(-1, 0.0)
    assert back.can_redo
    assert back.version.segments[2] != record.version.segments[2]
    assert back.push(first, 0.0).version == first
    assert not back.push(first, 0.0).can_redo
    library.save(record)
    library.collect(record)
    names = {path.name for path in (library.folder / "media" / record.id).iterdir()}
    assert names == record.files()


def test_an_alternative_changes_places_with_what_is_there(library):
    record = _add(library)
    (other,) = library.rows(record.id, [_picture(9)])
    version = record.version.with_segment(2, other, "regenerate")
    chosen = version.choose(2, 0)
    assert chosen.segments[2] == record.version.segments[2]
    assert chosen.alternatives[2] == (other,)
    assert chosen.choose(2, 0).segments == version.segments


def test_the_list_is_searched_and_turned_page_by_page(library):
    records = [
        _add(library, f"# Number {number}\n\n熊猫 100% \\ of_{number}") for number in range(5)
    ]
    rows, more = library.page("", 2, None)
    assert ([row["id"] for row in rows], more) == ([r.id for r in reversed(records[3:])], True)
    rows, more = library.page("", 3, rows[-1]["id"])
    assert ([row["id"] for row in rows], more) == ([r.id for r in reversed(records[:3])], False)
    for words, number in (("NUMBER 3", 1), ("熊", 5), ("100% of_4", 1), ("%3", 0), ("\\", 5),
                          ("' OR 1=1 --", 0)):  # fmt: skip
        assert len(library.page(words, 9, None)[0]) == number, words


@pytest.mark.parametrize("id", ["", "..", "../../etc/passwd", "0" * 15, "0" * 17, "A" * 16,
                                "0123456789abcde/", "0123456789abcdef\n", "\0" * 16])  # fmt: skip
def test_an_id_is_no_path(library, id):
    with pytest.raises(NoSuchArticleError):
        library.load(id)


def test_what_was_deleted_can_be_restored_until_it_is_purged(library):
    record = _add(library)
    library.save(replace(record, deleted=5.0))
    assert library.page("", 9, None) == ([], False)
    with pytest.raises(NoSuchArticleError):
        library.load(record.id)
    assert library.load(record.id, deleted=True).deleted == 5.0
    library.purge(5.1)
    assert list((library.folder / "articles").iterdir()) == []
    assert list((library.folder / "media").iterdir()) == []


def test_a_copy_has_media_of_its_own(library):
    record = _add(library)
    copy = library.duplicate(record)
    library.save(replace(record, deleted=5.0))
    library.purge(6.0)
    assert library.document(copy.id, copy.version.segments).segments[2] == _picture(7)


def test_the_folder_belongs_to_one_process(library):
    with pytest.raises(
        ValueError, match=f"another process \\({os.getpid()}\\) serves the articles"
    ):
        ArticleLibrary(library.folder)


def test_the_users_own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_library() == tmp_path / "unified" / "library"


# What is read of texts.


def test_the_blocks_of_a_text():
    text = "\n\n# A\n\n> (ben) Hear.\n\nOne\ntwo\n \n\n- x\n- y\n\n## B\n![c]"
    blocks = blocks_of(text)
    assert [block["block"] for block in blocks] == [
        "title", "narration", "paragraph", "list", "heading"]  # fmt: skip
    assert all(text[block["start"] : block["stop"]] == block["text"] for block in blocks)
    assert blocks_of("") == blocks_of(" \n\n ") == []
    rows = [{"type": "text", "text": "A\n\n![a fox]", "role": "response"}, {"type": "image"}]
    assert described(rows, 1) == {"alt": "a fox"}
    rows = [{"type": "text", "text": "A\n\n> (ben) Hear.\n", "role": "response"}, {"type": "audio"}]
    assert described(rows, 1) == {"transcript": "Hear.", "voice": "ben"}


# Faults.


def test_the_index_is_made_anew_from_the_files(tmp_path):
    folder = tmp_path / "library"
    with ArticleLibrary(folder) as library:
        ids = [_add(library).id for _ in range(3)]
    index = folder / "library.sqlite"
    for damage in (index.unlink, lambda: index.write_bytes(b"no database at all" * 99),
                   lambda: index.write_bytes(index.read_bytes()[:5_000])):  # fmt: skip
        damage()
        with ArticleLibrary(folder) as library:
            assert {row["id"] for row in library.page("cat", 9, None)[0]} == set(ids)
    # A row of an article that is gone, and an article without its row.
    (folder / "articles" / f"{ids[0]}.json").unlink()
    with ArticleLibrary(folder) as library:
        assert {row["id"] for row in library.page("", 9, None)[0]} == set(ids[1:])


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"[1]", b"\xff", b'{"form": 2}',
     lambda obj: {**obj, "id": "../../../../etc"},
     lambda obj: {**obj, "cursor": 9},
     lambda obj: {**obj, "versions": [{**obj["versions"][0], "segments": [
         {"type": "image", "file": "../../x.png"}]}]}],
)  # fmt: skip
def test_a_damaged_article_is_left_out_and_the_others_stay(tmp_path, damage, caplog):
    folder = tmp_path / "library"
    with ArticleLibrary(folder) as library:
        bad, good = _add(library), _add(library)
    path = folder / "articles" / f"{bad.id}.json"
    obj = json.loads(path.read_text())
    path.write_bytes(damage if isinstance(damage, bytes) else json.dumps(damage(obj)).encode())
    with ArticleLibrary(folder) as library:
        assert [row["id"] for row in library.page("", 9, None)[0]] == [good.id]
        with pytest.raises(ValueError):
            library.load(bad.id)
    assert "left out" in caplog.text
    assert path.exists()  # whoever repairs it has it


def test_what_was_being_written_when_the_process_ended_has_stopped(tmp_path):
    with ArticleLibrary(tmp_path) as library:
        record = _add(library, status="writing")
    with ArticleLibrary(tmp_path) as library:
        again = library.load(record.id).version
        assert again.status == "stopped"
        assert "the server ended" in again.warnings[0]
        assert again.segments == record.version.segments
        assert library.page("", 9, None)[0][0]["status"] == "stopped"


def test_a_full_disk_leaves_what_was_stored(library):
    """RLIMIT_FSIZE: a file that would grow beyond it fails as on a full disk."""
    record = _add(library)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(ValueError, match="cannot write"):
            library.rows(record.id, [Image(pixels, "response")])
        with pytest.raises(ValueError, match="cannot write"):
            library.save(record.push(record.version, 9.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert library.load(record.id) == record
    assert len(list((library.folder / "media" / record.id).iterdir())) == 1
    library.save(record.push(record.version, 9.0))
    assert library.load(record.id).can_undo


_WRITER = """
import sys, time
import numpy as np
from pathlib import Path
from unified.serving.article_library import ArticleLibrary
from unified.serving.article_record import ArticleVersion, ArticleWishes
from unified_data.document import Image, Text
random = np.random.default_rng()
with ArticleLibrary(Path(sys.argv[1])) as library:
    print("ready", flush=True)
    while True:
        record = library.create("p", ArticleWishes(), 1, ArticleVersion((), status="writing"))
        for number in range(3):
            pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
            rows = library.rows(record.id, [Text(str(number)), Image(pixels)])
            segments = (*record.version.segments, *rows)
            record = record.push(ArticleVersion(segments), time.time())
            library.save(record)
            print(record.id, number, flush=True)
"""


def test_killed_at_any_moment_it_has_lost_nothing_that_was_stored(tmp_path):
    """Real processes, each killed while it stores articles one after another."""
    stored = {}
    for number in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(random.Random(number).randrange(1, 9))]
        process.kill()
        lines += process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        for line in lines:
            if len(line.split()) == 2:
                stored[line.split()[0]] = int(line.split()[1])
    with ArticleLibrary(tmp_path) as library:
        listed = {row["id"] for row in library.page("", 10_000, None)[0]}
        assert set(stored) <= listed
        for id in listed:
            version = library.load(id).version
            document = library.document(id, version.segments)  # all media are there, and whole
            assert len(document) >= 2 * (stored.get(id, -1) + 1)
            assert version.status in ("completed", "stopped")
