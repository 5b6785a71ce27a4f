"""`unified generate`: documents filled in bulk, each as alone, restartable at the shard."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from tokenized_shards import bytes_of, picture, write

import unified
from unified.dataloading.source_samples import find_shards
from unified.generating import filled_shard, generate, in_batches, inputs
from unified.generating.generate import MANIFEST, UNFILLED, generate_shards
from unified_base.locks import hold_folder
from unified_data.check import check_shards
from unified_data.document import Document, Image, Slot, Text
from unified_data.shards import read_index, read_shards

CHOICES = {"max_text_ids": 6}
NUMBER = 11


def _draw(number):
    words = Text(f"![{'abcdefgh'[number % 8]}]", "prompt", 0.0)
    return Document((words, Slot("image", height=96, width=32 * (1 + number % 3), role="response")))


def _describe(number):
    return Document((picture(number, 64, 32), Slot("text", role="response")))


def _documents():
    return [(_describe if number % 3 == 2 else _draw)(number) for number in range(NUMBER)]


def _write_lines(path, documents, **stated):
    """JSON lines of documents, their media beside; stated: further entries of some, by number."""
    lines = []
    for number, document in enumerate(documents):
        row = document.to_json(path.parent, f"media{number}")
        lines.append(json.dumps({**row, **stated.get(f"of_{number}", {})}) + "\n")
    path.write_text("".join(lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "some docs.jsonl"
    return _write_lines(path, _documents(), of_1={"seed": 77}, of_4={"key": "mine"})


@pytest.fixture(scope="module")
def run(cli_model):
    def call(source, output, **options):
        listed = source if isinstance(source, list) else [source]
        options = {"model": cli_model, "per_shard": 4, "seed": 5, **CHOICES, **options}
        return generate_shards(listed, output, **options)

    return call


@pytest.fixture(scope="module")
def whole(run, lines, tmp_path_factory):
    """What a run that nothing stops writes, and what it tells."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    return folder, run(lines, folder)


def _all_bytes(folder):
    """Every file but the lock, whose content is a process's number."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


# What comes of it.


def test_each_document_is_filled_as_it_would_be_alone(whole, cli_model):
    folder, summary = whole
    assert {key: summary[key] for key in ("documents", "unfilled", "shards", "done_before")} == {
        "documents": NUMBER, "unfilled": 0, "shards": 3, "done_before": 0,
    }  # fmt: skip
    assert summary["cut_texts"] > 0  # an untrained model does not end by itself
    model = unified.UnifiedModel.from_pretrained(cli_model)
    samples = list(read_shards(folder))
    keys = [f"{number:09d}" for number in range(NUMBER)]
    keys[4] = "mine"
    assert [key for key, _ in samples] == keys
    for number, (_, document) in enumerate(samples):
        seed = 77 if number == 1 else 5 + number
        (expected,) = model.sample(_documents()[number], seed=seed, **CHOICES)
        assert document == expected
    index = read_index(folder)
    names = [f"train-some_docs-0000{number}.tar" for number in range(3)]
    assert [(row.file, row.samples) for row in index["shards"]] == list(zip(names, (4, 4, 3)))
    assert index["counts"] == {"train": {"some_docs": NUMBER}}
    assert check_shards(folder)["broken"] == 0
    assert [path.name for path in find_shards([str(folder)])] == names
    assert summary["bytes"] == sum(row.bytes for row in index["shards"])
    assert not (folder / UNFILLED).exists()


@pytest.mark.parametrize("max_rows", [1, 3])
def test_who_shares_the_batch_changes_nothing(run, lines, whole, tmp_path, max_rows, monkeypatch):
    monkeypatch.setattr(in_batches, "_AHEAD", 2)
    run(lines, tmp_path / "out", max_rows=max_rows)
    assert _all_bytes(tmp_path / "out") == _all_bytes(whole[0])


def test_media_that_wait_are_bounded(run, lines, whole, tmp_path, monkeypatch):
    """However many may wait by number: with no room for their bytes there is one at a time."""
    most = []
    size = in_batches._size

    def measured(waiting):
        most.append(len(waiting))
        return size(waiting)

    monkeypatch.setattr(in_batches, "_MOST_WAITING", 1)
    monkeypatch.setattr(in_batches, "_size", measured)
    run(lines, tmp_path / "out")
    assert _all_bytes(tmp_path / "out") == _all_bytes(whole[0])
    assert max(most) < 4  # texts have no media


def test_shards_become_shards_of_their_names(run, tmp_path):
    folder = tmp_path / "shards"
    documents = _documents()
    write(folder, {"draw": documents[:3], "more-of-it": documents[3:6]})
    from_shards = run([folder], tmp_path / "out")
    assert (from_shards["documents"], from_shards["shards"]) == (6, 2)
    rows = read_index(tmp_path / "out")["shards"]
    assert [(row.file, row.split, row.kind, row.samples) for row in rows] == [
        ("train-draw-00000.tar", "train", "draw", 3),
        ("train-more-of-it-00000.tar", "train", "more-of-it", 3),
    ]
    lines = _write_lines(tmp_path / "same.jsonl", documents[:6])
    run(lines, tmp_path / "of_lines")
    of_lines = [document for _, document in read_shards(tmp_path / "of_lines")]
    assert [document for _, document in read_shards(tmp_path / "out")] == of_lines
    assert [key for key, _ in read_shards(tmp_path / "out")] == ["k0", "k1", "k2"] * 2


# What cannot be filled.


def test_what_cannot_be_filled_is_listed_with_its_reason(run, tmp_path):
    path = _write_lines(tmp_path / "bad.jsonl", _documents()[:4], of_3={"seed": -1})
    lines = path.read_text("utf-8").splitlines()
    slot = {"type": "slot", "modality": "image", "role": "response"}
    lines[1:1] = [
        "{broken",
        "  ",  # is no document
        json.dumps({"segments": [{"type": "text", "text": "whole already"}]}),
        json.dumps({"segments": [{**slot, "height": 95, "width": 96}]}),
        json.dumps({"segments": [{"type": "image", "file": "nowhere.png"}, slot]}),
        json.dumps({"segments": [slot], "key": "a/b"}),
        json.dumps({"segments": [slot], "key": "twice"}),
        json.dumps({"segments": [slot], "key": "twice"}),
        json.dumps({"segments": [slot], "extra": 1}),
    ]
    path.write_text("\n".join(lines), "utf-8")
    told = []
    summary = run(path, tmp_path / "out", per_shard=20, tell=told.append)
    assert (summary["documents"], summary["unfilled"]) == (4, 8)
    rows = [json.loads(line) for line in (tmp_path / "out" / UNFILLED).open()]
    assert {row["source"] for row in rows} == {"bad.jsonl"}
    reasons = {row["number"]: row["reason"] for row in rows}
    words = {
        1: "line 2: it is not JSON", 2: "has no slots", 3: "95 pixels", 4: "line 6: segment 0",
        5: "key is", 7: "stands in this shard already", 8: "expected an object with only",
        11: "line 13: seed is -1",
    }  # fmt: skip
    assert reasons.keys() == words.keys()
    assert all(word in reasons[number] for number, word in words.items()), reasons
    assert [key for key, _ in read_shards(tmp_path / "out")] == [
        "000000000", "twice", "000000009", "000000010",
    ]  # fmt: skip
    assert any("8 not filled (the first: line 2" in line for line in told)


def test_a_line_longer_than_json_may_be_is_left_out_and_never_held(run, tmp_path, monkeypatch):
    path = _write_lines(tmp_path / "long.jsonl", _documents()[:2])
    first, second = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([first, "[" + "1," * 5_000 + "1]", second]), "utf-8")
    monkeypatch.setattr(inputs, "MAX_JSON", 3_000)
    summary = run(path, tmp_path / "out")
    assert (summary["documents"], summary["unfilled"]) == (2, 1)
    row = json.loads((tmp_path / "out" / UNFILLED).read_text())
    assert (row["number"], row["reason"]) == (1, "line 2: it is longer than 3,000 bytes")


def test_damaged_samples_are_left_out_and_seeds_in_shards_count(run, cli_model, tmp_path):
    (shard,) = write(tmp_path / "shards", {"draw": _documents()[:3]})
    data = bytearray(shard.read_bytes())
    data[data.index(b"![b]")] ^= 1
    shard.write_bytes(data)
    summary = run([shard], tmp_path / "out")
    assert (summary["documents"], summary["unfilled"]) == (2, 1)
    row = json.loads((tmp_path / "out" / UNFILLED).read_text())
    assert (row["key"], row["number"]) == ("k1", 1)
    assert "checksum" in row["reason"]


def test_where_nothing_can_be_filled_that_is_an_error_and_leaves_nothing_in_the_way(run, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"segments": []}\n' * 3)
    with pytest.raises(ValueError, match=r"none of 3 documents .* no slots.*unfilled\.jsonl"):
        run(path, tmp_path / "out")
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"lock", UNFILLED}
    _write_lines(path, _documents()[:1])
    assert run(path, tmp_path / "out")["documents"] == 1
    assert not (tmp_path / "out" / UNFILLED).exists()


def test_what_the_engine_drops_is_tried_once_more(run, lines, whole, tmp_path, monkeypatch):
    real, dropped = in_batches._Row._filled, []

    def sometimes(row):
        number = row._entry.number
        if (number == 3 and not dropped) or number == 6:
            dropped.append(number)
            row._submission.result()
            raise ValueError("the document was dropped: memory ran out")
        return real(row)

    monkeypatch.setattr(in_batches._Row, "_filled", sometimes)
    summary = run(lines, tmp_path / "out")
    assert dropped == [3, 6, 6]
    assert (summary["documents"], summary["unfilled"]) == (NUMBER - 1, 1)
    assert (
        bytes_of(tmp_path / "out").items()
        > {name: data for name, data in bytes_of(whole[0]).items() if "-00001" not in name}.items()
    )


# Killed and begun again.


class Killed(BaseException):
    """Nothing catches it."""


def _stop_at(monkeypatch, module, name, call):
    """A function of a module is killed at its call of this number."""
    real, calls = getattr(module, name), []

    def once(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == call:
            raise Killed
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, once)


@pytest.mark.parametrize(
    ("module", "name", "call", "done"),
    [
        (filled_shard, "add_sample", 2, 0),
        (filled_shard, "add_sample", 7, 1),
        (filled_shard, "make_sums", 2, 1),
        (filled_shard, "atomic_write", 1, 0),  # the shard is there, its checksums are not
        (filled_shard, "atomic_write", 2, 0),  # what stands beside it is not
        (filled_shard, "atomic_write", 5, 2),
        (generate, "atomic_write", 1, 0),  # not even the manifest
        (generate, "write_index", 1, 3),
    ],
)
def test_it_goes_on_with_the_first_shard_that_is_not_finished(
    run, lines, whole, tmp_path, monkeypatch, module, name, call, done
):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        _stop_at(patch, module, name, call)
        with pytest.raises(Killed):
            run(lines, folder)
    assert not (folder / "index.json").exists()
    seen = []
    summary = run(lines, folder, progress=lambda *counts: seen.append(counts))
    assert summary["done_before"] == done
    assert len(seen) == NUMBER - 4 * done + bool(done) if done < 3 else len(seen) == 1
    assert seen[-1] == (NUMBER, NUMBER, 0)
    assert _all_bytes(folder) == _all_bytes(whole[0])


def test_a_shard_that_was_lost_or_cut_is_filled_anew(run, lines, whole, tmp_path):
    folder = tmp_path / "out"
    run(lines, folder)
    shards = sorted(folder.glob("*.tar"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-512])
    assert run(lines, folder)["done_before"] == 1
    assert _all_bytes(folder) == _all_bytes(whole[0])
    assert run(lines, folder)["done_before"] == 3


def test_another_run_is_refused_with_what_differs(run, lines, whole, streaming_model, tmp_path):
    folder, before = whole[0], _all_bytes(whole[0])
    streaming_model.save_pretrained(tmp_path / "other")
    for options, words in (
        ({"model": tmp_path / "other"}, "its model was another"),
        ({"seed": 6}, "seed was 5, now 6"),
        ({"per_shard": 5}, "per_shard was 4, now 5"),
        ({"max_text_ids": 7}, "max_text_ids was 6, now 7"),
        ({"temperature": 0.5}, "temperature was None, now 0.5"),
    ):
        with pytest.raises(ValueError, match=f"holds documents of another run: {words}"):
            run(lines, folder, **options)
    other = _write_lines(tmp_path / "some docs.jsonl", _documents()[1:])
    for source in (other, [lines, _write_lines(tmp_path / "more.jsonl", _documents()[:1])]):
        with pytest.raises(ValueError, match="another run: its input was another"):
            run(source, folder)
    with (
        hold_folder(folder, "fills documents"),
        pytest.raises(ValueError, match=r"another process .*fills documents in"),
    ):
        run(lines, folder)
    assert _all_bytes(folder) == before


# What is refused before anything is filled.


def test_mistakes_are_told_before_anything_is_filled(run, lines, tmp_path):
    (shard,) = write(tmp_path / "shards", {"x": _documents()[:1]})
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n")
    twin = tmp_path / "twin"
    twin.mkdir()
    _write_lines(twin / lines.name, _documents()[:1])
    for source, options, words in (
        (tmp_path / "none.jsonl", {}, "cannot read JSON lines"),
        (tmp_path / "none.tar", {}, "no shard"),
        (empty, {}, "there are no documents in"),
        ([lines, twin / lines.name], {}, "would both become train-some_docs-00000.tar"),
        ([lines, lines], {}, "would both become"),
        (lines, {"top_p": 7}, "top_p is 7"),
        (lines, {"temperatur": 1}, "there is no choice 'temperatur'"),
        (lines, {"seed": 2**63 - 3}, r"seed \+ 10, that of the last document"),
        (lines, {"workers": 0}, "workers is 0"),
        (lines, {"model": tmp_path / "shards"}, "shards"),
    ):
        with pytest.raises(ValueError, match=words):
            run(source, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="would take the place of those in"):
        run([shard], shard.parent)
    with pytest.raises(ValueError, match="holds other shards"):
        run(lines, shard.parent)


def test_ray_that_is_not_there_is_asked_for_in_one_line(run, lines, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs ray, .* 'unified-tokens\[ray\]'"):
        run(lines, tmp_path / "out", ray=True)


# The command.


def test_the_command_tells_sums_as_json(unified, lines, whole, tmp_path, refused):
    options = ("--per-shard", 4, "--seed", 5, "--max-text-ids", 6)
    code, out, err = unified("generate", lines, "-o", tmp_path / "out", *options, "--json")
    assert code == 0, err
    summary = json.loads(out)
    expected = {**whole[1], "path": str(tmp_path / "out"), "seconds": summary["seconds"]}
    assert summary == expected
    assert "3 of 3: train-some_docs-00002.tar, 3 documents" in err
    assert "did not end by themselves (--max-text-ids" in err
    assert _all_bytes(tmp_path / "out") == _all_bytes(whole[0])
    outcome = unified("generate", lines, "-o", tmp_path / "out", "--seed", 6)
    refused(outcome, "max_text_ids was 6, now None")


def test_its_manifest_names_no_folder_and_its_pictures_are_pictures(whole):
    manifest = json.loads((whole[0] / MANIFEST).read_text("utf-8"))
    assert [file["name"] for file in manifest["input"]] == ["some docs.jsonl"]
    assert str(whole[0].parent) not in json.dumps(manifest)
    pictures = [
        segment.pixels
        for _, document in read_shards(whole[0])
        for segment in document
        if isinstance(segment, Image) and segment.pixels.shape[0] == 96
    ]
    assert {pixels.shape[1] for pixels in pictures} == {32, 64}
    assert all(pixels.dtype == np.uint8 for pixels in pictures)
