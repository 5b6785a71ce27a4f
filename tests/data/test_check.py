"""The check: it counts what is there, and names every broken sample."""

import io
import json
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest

from unified_data import check
from unified_data.check import check_shards, plain_key
from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.shards import ShardWriter, write_index


def picture(height, width, value=0):
    return Image(np.full((height, width, 3), value, np.uint8), "response")


def sound(samples, rate):
    return Audio(np.zeros((1, samples), np.float32), rate)


def write(folder, split, documents, kind="x", **limits):
    with ShardWriter(folder, split, kind, **limits) as writer:
        for key, segments in documents.items():
            writer.write(key, Document(tuple(segments)))
    return writer.shards


def spoil(path, key, data):
    """Put other bytes of the same length where the member's are."""
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        member = tar.getmember(key)
    offset = member.offset_data
    path.write_bytes(content[:offset] + data.ljust(member.size)[: member.size]
                     + content[offset + member.size :])  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    documents = {
        "a": [Text("naïve", "prompt", 0.0), picture(3, 5)],
        "b": [picture(9, 4), sound(800, 16000), Slot("image", 9, 6)],
        "c": [Text("x"), sound(400, 8000), picture(4, 4)],
        "d": [Text("yz", "prompt")],
    }
    shards = write(tmp_path, "train", documents, max_samples=3)
    write_index(tmp_path, shards)
    return tmp_path


def test_a_sound_folder_is_counted_and_measured(folder):
    seen = []
    report = check_shards(folder, seen.append)
    assert report == {
        "holds": "documents",
        "shards": 2,
        "bytes": sum(path.stat().st_size for path in folder.glob("*.tar")),
        "samples": 4,
        "segments": {"audio": 2, "image": 3, "slot": 1, "text": 3},
        "roles": {"none": 4, "prompt": 2, "response": 3},
        "text": {"characters": 8},
        "images": {
            "count": 3,
            "height": {"min": 3, "median": 4, "max": 9},
            "width": {"min": 4, "median": 4, "max": 5},
        },
        "audio": {
            "count": 2,
            "seconds": {"min": 0.05, "median": 0.05, "max": 0.05, "total": 0.1},
            "sample_rates": {"8000": 1, "16000": 1},
        },
        "repeated_media": 0,
        "without_checksums": 0,
        "broken": 0,
        "faults": [],
        "repeated_keys": {"count": 0, "keys": {}},
        "similar_keys": {"count": 0, "groups": []},
    }
    assert seen == [1, 2, 3, 4]
    assert json.loads(json.dumps(report)) == report


def test_every_broken_sample_is_named_and_the_rest_is_counted(
    folder, monkeypatch, forget_checksums
):
    forget_checksums(folder)
    assert check_shards(folder)["without_checksums"] == 2
    path = folder / "train-x-00000.tar"
    spoil(path, "a.1.png", b"no picture")
    spoil(path, "c.json", b"{}")
    report = check_shards(folder)
    assert (report["samples"], report["broken"]) == (2, 2)
    first, second = report["faults"]
    assert (first["shard"], first["key"]) == (path.name, "a")
    assert first["reason"].startswith("segment 1: picture a.1.png is not a readable")
    assert second == {"shard": path.name, "key": "c", "reason":
                      "document has [], expected an object with only 'segments'"}  # fmt: skip
    monkeypatch.setattr(check, "MAX_LISTED", 1)
    report = check_shards(folder)
    assert (report["broken"], report["faults"]) == (2, [first])


def test_a_torn_or_missing_shard_is_a_fault_and_not_the_end(folder, forget_checksums):
    forget_checksums(folder)
    first, second = sorted(folder.glob("*.tar"))
    data = first.read_bytes()
    first.write_bytes(data[: data.index(b"c.json") + 100])
    report = check_shards(folder)
    assert (report["samples"], report["broken"]) == (3, 1)
    assert report["faults"][0]["key"] == ""
    assert report["faults"][0]["reason"].startswith("after sample b: the tar file ends at byte")
    first.write_bytes(data[: data.index(b"c.json")] + bytes(1024))
    assert check_shards(folder)["faults"][0]["reason"] == "it holds 2 samples, index.json says 3"
    second.unlink()
    assert "cannot be read" in check_shards(folder)["faults"][1]["reason"]


def test_keys_that_repeat_or_nearly_do_are_grouped_within_a_split(tmp_path):
    train = {
        "cat-1": [Text("a")],
        "cat_01": [Text("b")],
        "Cat-001": [Text("c")],
        "dog": [Text("d")],
    }
    shards = write(tmp_path, "train", train)
    shards += write(tmp_path, "train", {"dog": [Text("e")], "cat1a": [Text("f")]}, "more")
    shards += write(tmp_path, "heldout", {"dog": [Text("g")]})
    write_index(tmp_path, shards)
    report = check_shards(tmp_path)
    assert report["repeated_keys"] == {"count": 1, "keys": {"dog": 2}}
    groups = [["Cat-001", "cat-1", "cat_01"]]
    assert report["similar_keys"] == {"count": 1, "groups": groups}
    assert report["broken"] == 0


def test_plain_keys_forget_case_separators_and_leading_zeros():
    assert plain_key("Img_0007-a") == plain_key("img-7__A") == plain_key("img7a")
    assert plain_key("a-0") == plain_key("a_000") != plain_key("a")
    assert plain_key("a-1-2") != plain_key("a-12")


def test_media_that_repeats_is_counted(tmp_path):
    documents = {str(i): [picture(3, 3, i // 2)] for i in range(5)}
    write(tmp_path, "train", documents)
    assert check_shards(tmp_path / "train-x-00000.tar")["repeated_media"] == 2


def test_stored_codes_are_counted_by_the_reader_that_is_given(tmp_path):
    def read(key, obj, media):
        if key == "bad":
            raise ValueError("code 9 is outside its 8 codes")
        codes = np.zeros(len(media[f"{key}.1.codes"]))
        return [Text("ab"), SimpleNamespace(kind="image", codes=codes, role="response")]

    with ShardWriter(tmp_path, "train", "x") as writer:
        for key, count in (("a", 6), ("bad", 1), ("c", 4)):
            writer.write_parts(key, {}, {f"{key}.1.codes": bytes(range(count))})
    write_index(tmp_path, writer.shards, codes={"image": {}})
    report = check_shards(tmp_path, read_codes=read)
    assert (report["holds"], report["samples"]) == ("codes", 2)
    assert report["codes"] == {"image": {"spans": 2, "codes": 10, "longest": 6}}
    assert report["segments"] == {"image": 2, "text": 2}
    assert report["text"] == {"characters": 4}
    assert report["faults"][0]["reason"] == "code 9 is outside its 8 codes"
    with pytest.raises(ValueError, match="holds stored codes"):
        check_shards(tmp_path / "train-x-00000.tar")


def test_nothing_to_check_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="there is no folder of shards or tar file"):
        check_shards(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"has no index\.json"):
        check_shards(tmp_path)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("k.pkl")
        tar.addfile(member, io.BytesIO())
    report = check_shards(tmp_path / "x.tar")
    assert (report["samples"], report["broken"]) == (0, 1)
