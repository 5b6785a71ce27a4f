"""The commands that import, check and show data."""

import json

import numpy as np
import pytest

from unified.__main__ import run
from unified_base.images import save_png
from unified_data.document import Document, Image, Text
from unified_data.shards import ShardWriter, read_shards, write_index


@pytest.fixture
def unified(capsys):
    """Run a command, which needs no model: (exit code, stdout, stderr)."""

    def call(*arguments):
        code = run(list(map(str, arguments)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def table(tmp_path):
    """A table of three pairs, the media of one of which is missing."""
    (tmp_path / "media").mkdir()
    for i in range(2):
        save_png(tmp_path / "media" / f"{i}.png", np.full((4, 6, 3), i, np.uint8))
    rows = [{"text": f"text {i}", "image": f"{i}.png"} for i in (0, 7, 1)]
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(unified, table, *more):
    output = table.parent / "shards"
    media = ("--images", table.parent / "media")
    return output, unified("data", "import", "pairs", table, "-o", output, *media, *more)


def test_import_writes_shards_and_says_what_it_skipped(unified, table):
    output, (code, out, err) = imported(unified, table, "--split", "heldout")
    assert code == 0, err
    assert out == f"{output}\n"
    assert "2 documents in 1 shard, " in err
    assert f"1 skipped, see {output}/skipped.jsonl" in err
    assert [document.segments[0].text for _, document in read_shards(output, "heldout")] == [
        "text 0",
        "text 1",
    ]
    assert "there is no file '7.png'" in (output / "skipped.jsonl").read_text()


def test_import_has_its_limits_and_a_report(unified, refused, table):
    output, done = imported(unified, table, "--max-skipped", 0)
    refused(done, "more than 0 of")
    assert not output.exists()
    output, (code, out, _) = imported(unified, table, "--limit", 1, "--json")
    report = json.loads(out)
    assert (code, report["samples"], report["skipped"], report["kind"]) == (0, 1, 0, "pairs")
    refused(imported(unified, table)[1], "there is something already; give another name")
    refused(
        unified("data", "import", "avi", table, "-o", table.parent / "x"),
        "there is no kind 'avi' to import, expected one of obelics, mmc4",
    )


def test_check_ends_with_2_after_the_whole_report(unified, table):
    output, _ = imported(unified, table)
    code, out, err = unified("data", "check", output)
    assert code == 0, err
    assert "2 samples of documents in 1 shard, " in out
    assert "height 4 to 4 (median 4), width 6 to 6 (median 6) pixels" in out
    (path,) = output.glob("*.tar")
    path.write_bytes(path.read_bytes().replace(b'"text":"text 1"', b'"text":"\x1b[31m" '))
    code, out, err = unified("data", "check", output)
    assert code == 2
    assert "1 sample of documents in 1 shard" in out
    assert "broken     1" in out
    assert "train-pairs-00000.tar 000000002: 000000002.json is not JSON" in out
    assert err.splitlines()[-1].endswith("shards has faults: 1 broken; see the report")
    code, out, _ = unified("data", "check", output, "--json")
    report = json.loads(out)
    assert (code, report["broken"], report["faults"][0]["key"]) == (2, 1, "000000002")


def test_check_reads_stored_codes(unified, tmp_path):
    codes = {"image": {"fingerprint": "f", "codebook_sizes": [8], "dtype": "uint16"}}
    with ShardWriter(tmp_path, "train", "x") as writer:
        for key, code in (("good", 7), ("bad", 8)):
            row = {"type": "image", "codes": f"{key}.0.codes", "shape": [1, 2, 3]}
            media = {f"{key}.0.codes": np.full(6, code, "<u2").tobytes()}
            writer.write_parts(key, {"segments": [row]}, media)
    write_index(tmp_path, writer.shards, codes=codes, round_trip=False)
    for shards in (tmp_path, tmp_path / "train-x-00000.tar"):
        code, out, _ = unified("data", "check", shards)
        assert code == 2
        assert "1 sample of codes in 1 shard" in out
        assert "image      1 spans, 6 codes, 6 longest" in out
        assert "bad: segment 0: image code 8 of level 0 is outside its 8 codes" in out


def test_show_writes_a_page(unified, refused, tmp_path):
    with ShardWriter(tmp_path, "train", "x") as writer:
        for i in range(5):
            picture = Image(np.full((3, 3, 3), i, np.uint8))
            writer.write(f"k{i}", Document((Text(f"<b>{i}"), picture)))
    write_index(tmp_path, writer.shards)
    page = tmp_path / "page.html"
    code, out, err = unified("data", "show", tmp_path, "-o", page, "-n", 3)
    assert (code, out) == (0, f"{page}\n"), err
    text = page.read_text("utf-8")
    assert text.count("<article>") == text.count("&lt;b&gt;") == text.count("data:image/png") == 3
    refused(
        unified("data", "show", tmp_path, "-o", tmp_path / "page.pdf"),
        "a page is written as .html",
    )
    refused(
        unified("data", "show", tmp_path / "none", "-o", page),
        "none cannot be read: No such file or directory",
    )


def test_import_says_what_it_did_not_take_and_how_it_read_columns(unified, refused, tmp_path):
    import pyarrow
    import pyarrow.parquet as parquet

    save_png(tmp_path / "a.png", np.zeros((3, 3, 3), np.uint8))
    rows = [{"image": "a.png", "text": "x", "score": 0.5}] * 3
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ("data", "import", "pairs", tmp_path / "x.jsonl", "-o", tmp_path / "a")
    code, _, err = unified(*line)
    assert code == 0, err
    assert "note: ignored fields: score 3x" in err
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    line = ("data", "import", "parquet", tmp_path / "x.parquet", "-o", tmp_path / "b")
    code, _, err = unified(*line)
    assert code == 0, err
    assert "note: x.parquet: read as pairs (text, image)" in err
    assert "note: ignored fields: column score 3x" in err
    refused(unified(*line[:-1], tmp_path / "c", "--as", "obelics"), "not the form obelics")
