"""Numbers, texts and lists that no document and no index should hold: refused by their key."""

import json
import tarfile

import numpy as np
import pytest

from unified_base.arrays import read_npy
from unified_base.checksums import read_sealed
from unified_data import document
from unified_data.check import check_shards
from unified_data.document import Document, Image, Slot, Text
from unified_data.pocket.build import build_pocket
from unified_data.shards import (
    CorruptSample,
    ShardFile,
    ShardWriter,
    document_of,
    read_index,
    read_samples,
    write_index,
)
from unified_data.show import show_shards

HUGE = 10**30
LONG = int("9" * 39)


def segments(**changes):
    return {"segments": [{"type": "text", "text": "x", **changes}]}


def slot(**changes):
    return {"segments": [{"type": "slot", "modality": "any", **changes}]}


BAD_DOCUMENTS = [
    (segments(loss=HUGE), "loss weight 1000000000"),
    (segments(loss=-1), "loss weight -1"),
    (segments(loss="1"), "loss weight '1'"),
    (segments(loss=True), "loss weight True"),
    (segments(loss=[1.0]), r"loss weight \[1\.0\]"),
    (segments(loss=1e7), "1,000,000 at most"),
    (segments(role=["prompt"]), r"role \['prompt'\]"),
    (segments(role="x" * 100_000), "role 'xxx"),
    (segments(text=None), "holds None"),
    (segments(text=["x"] * 100_000), r"holds \['x'"),
    (segments(**{"k" * 100_000: 1}), "unknown keys"),
    (slot(height=HUGE, width=1), "height 1000000000"),
    (slot(height=1.0, width=1), r"height 1\.0"),
    (slot(height=0, width=1), "height 0"),
    (slot(num_images=HUGE), "num_images 1000000000"),
    (slot(num_audios=-1), "num_audios -1"),
    (slot(num_audios="2"), "num_audios '2'"),
    ({"segments": [{"type": "image", "file": HUGE}]}, "file name is 1000000000"),
    ({"segments": [{"type": "image", "file": "x" * 100_000}]}, "media file 'xxx"),
    ({"segments": [{"type": HUGE}]}, "type is 1000000000"),
    ({"segments": [HUGE]}, "type is 'int'"),
    ({"segments": HUGE}, "is not a list"),
    ({"segments": [], "x" * 100_000: 1}, "document has"),
    (HUGE, "document has int"),
]


@pytest.mark.parametrize(("obj", "reason"), BAD_DOCUMENTS, ids=range(len(BAD_DOCUMENTS)))
def test_a_document_is_refused_by_what_is_wrong_in_it(obj, reason):
    with pytest.raises(ValueError, match=reason) as refusal:
        document_of("k", obj, {})
    assert len(str(refusal.value)) < 500


def test_integers_larger_than_any_float_are_refused_in_python_too():
    for make in (lambda: Text("x", None, 10**400), lambda: Slot("image", 10**400, 1)):
        with pytest.raises(ValueError, match="expected"):
            make()


def test_a_document_of_very_many_segments_is_refused(monkeypatch):
    monkeypatch.setattr(document, "MAX_SEGMENTS", 3)
    row = {"type": "text", "text": "x"}
    assert len(Document.from_parts({"segments": [row] * 3}, lambda name: b"")) == 3
    with pytest.raises(ValueError, match="4 segments, expected 3 at most"):
        Document.from_parts({"segments": [row] * 4}, lambda name: b"")


@pytest.fixture
def folder(tmp_path):
    """Two shards of three documents each, the first sample of the first a picture."""
    pixels = np.zeros((2, 3, 3), np.uint8)
    with ShardWriter(tmp_path, "train", "x", max_samples=3) as writer:
        for number in range(6):
            segment = Text("t") if number else Image(pixels)
            writer.write(f"k{number}", Document((segment,)))
    write_index(tmp_path, writer.shards)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "kind"),
    [("k0.0.codes", "image"), ("k0.0.flac", "image"), ("k0.0.wav", "image"), ("k0.0.png", "audio"),
     ("k0.0.codes", "audio"), ("k0.0.jpg", "audio")],
)  # fmt: skip
def test_a_medium_under_a_name_of_another_kind_is_refused_by_key(folder, file, kind):
    path = folder / "train-x-00000.tar"
    with ShardFile(path) as shard:
        parts = [shard.parts(number) for number in range(3)]
    key, _, media = parts[0]
    if kind == "audio":
        from unified_base.sounds import encode_audio

        media = {"a.flac": encode_audio(np.zeros((1, 9), np.float32), 16_000)[1]}
    (data,) = media.values()
    parts[0] = key, {"segments": [{"type": kind, "file": file}]}, {file: data}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        from unified_data.shards import add_sample

        for sample in parts:
            add_sample(tar, *sample)
    # As before there were checksums.
    (folder / "train-x-00000.tar.sums").unlink()
    rewrite(folder, bytes=path.stat().st_size, sha256=None)
    broken, *rest = read_samples(folder)
    assert isinstance(broken, CorruptSample)
    assert (broken.key, len(rest)) == ("k0", 5)
    assert f"{kind} file '{file}' does not end in" in broken.reason
    report = check_shards(folder)
    assert (report["samples"], report["broken"]) == (5, 1)
    assert show_shards(folder, folder / "page.html") == 6
    assert "does not end in" in (folder / "page.html").read_text("utf-8")


def rewrite(folder, **changes):
    index, _ = read_sealed(folder / "index.json")
    index["shards"][0] |= changes
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("samples", [4, 1_000, 10**18, HUGE, LONG])
def test_a_count_that_no_file_holds_is_one_fault_and_the_rest_is_read(folder, samples):
    rewrite(folder, samples=samples)
    results = list(read_samples(folder))
    (broken,) = (result for result in results if isinstance(result, CorruptSample))
    assert len(results) == 7
    assert "it holds 3 samples, index.json says" in broken.reason
    report = check_shards(folder)
    assert (report["samples"], report["broken"]) == (6, 1)
    show_shards(folder, folder / "page.html", 50)
    page = (folder / "page.html").read_text("utf-8")
    assert [f"<h2>k{number}</h2>" in page for number in range(6)] == [True] * 6
    assert "<b>Broken.</b>" in page


BAD_ROWS = [
    ({"samples": -1}, r"shards\[0\]\.samples is -1, expected a whole number, 0 or more"),
    ({"samples": 3.0}, r"shards\[0\]\.samples is 3\.0"),
    ({"samples": "3"}, r"shards\[0\]\.samples is '3'"),
    ({"samples": True}, r"shards\[0\]\.samples is True"),
    ({"samples": None}, r"shards\[0\]\.samples is None"),
    ({"bytes": [3]}, r"shards\[0\]\.bytes is \[3\]"),
    ({"split": 7}, r"shards\[0\]\.split is 7"),
    ({"kind": "x" * 1_000}, r"shards\[0\]\.kind is 'xxx"),
    ({"more": 1}, r"shards\[0\] has \['bytes'"),
    ({"file": "train-x-00001.tar"}, "train-x-00001.tar stands in it twice"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_broken_line_of_an_index_is_refused_by_its_key(folder, changes, reason):
    rewrite(folder, **changes)
    with pytest.raises(ValueError, match=reason) as refusal:
        read_index(folder)
    assert "index.json is not a shard index: " in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    "text",
    ['{"shards": 7}', '{"shards": {}}', "[]", "{}", '{"shards": [[]]}', '{"shards": [{}]}', "",
     '{"shards": [' + "[" * 100_000, '{"shards": [{"samples": ' + "1" * 400 + "}]}", "\ufeff[",
     '{"shards": [], "shards": []}'],
    ids=range(11),
)  # fmt: skip
def test_an_index_of_another_form_is_refused_in_one_line(folder, text):
    (folder / "index.json").write_text(text)
    with pytest.raises(ValueError, match="is not a shard index") as refusal:
        read_index(folder)
    assert len(str(refusal.value)) < 500


def npy(array, **options):
    import io

    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def test_an_array_is_read_as_it_was_written(tmp_path):
    for array in (np.arange(5), np.arange(6.0).reshape(2, 3).T, np.uint16([[7]]), np.int8([])):
        (tmp_path / "x.npy").write_bytes(npy(array, version=(1, 0)))
        numbers = read_npy(tmp_path / "x.npy")
        assert numbers.dtype == array.dtype
        assert np.array_equal(numbers, array)


FIVE = npy(np.arange(5))
BAD_ARRAYS = [
    (b"", "no .npy file"),
    (b"PK\x03\x04", "an .npz archive"),
    (FIVE[:-1], "it holds 39 bytes, its header says int64 of shape"),
    (FIVE + b"\0", "it holds 41 bytes"),
    (FIVE.replace(b"(5,), }", b"(5,    "), "expected a Python literal"),
    (FIVE.replace(b"(5,), }         ", b"(5000000000,), }"), "shape .5000000000"),
    (FIVE.replace(b"(5,), } ", b"(-5,), }"), "expected a tuple of whole numbers"),
    (FIVE.replace(b"(5,), } ", b"(5.0,),}"), "expected a tuple of whole numbers"),
    (FIVE.replace(b"'shape'", b"'shame'"), "expected descr, fortran_order, shape"),
    (FIVE.replace(b"False", b"    7"), "expected a tuple"),
    (npy(np.array(["a"])), "expected numbers"),
    (npy(np.array([None]), allow_pickle=True), "objects are pickled"),
    (npy(np.zeros(1, [("a", int)])), "expected numbers"),
    (FIVE[:9], "cut off"),
    (FIVE[:40], "cut off"),
    (b"\x93NUMPY\x09\x00" + bytes(99), "version"),
]


@pytest.mark.parametrize(("data", "reason"), BAD_ARRAYS, ids=range(len(BAD_ARRAYS)))
def test_what_is_no_array_of_numbers_is_refused_by_name(tmp_path, data, reason):
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ValueError, match=reason) as refusal:
        read_npy(tmp_path / "x.npy")
    assert str(refusal.value).startswith(f"cannot read array {tmp_path / 'x.npy'}: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"scale": float("nan")}, "scale is nan"), ({"scale": float("inf")}, "scale is inf"),
     ({"scale": HUGE}, "scale is 1000000000"), ({"scale": 0}, "scale is 0"),
     ({"seed": -1}, "the seed is -1"), ({"seed": HUGE}, "the seed is 1000000000"),
     ({"workers": HUGE}, "workers 1000000000"), ({"workers": 0}, "workers 0")],
)  # fmt: skip
def test_a_world_of_no_size_or_seed_is_refused(tmp_path, options, reason):
    with pytest.raises(ValueError, match=reason):
        build_pocket(tmp_path, **{"scale": 0.002, "only": ["text"], "workers": 1, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_world_is_not_built_into_a_folder_of_other_shards(folder):
    with pytest.raises(ValueError, match=r"index\.json is of no world"):
        build_pocket(folder, 0, 0.002, ["text"], 1)
