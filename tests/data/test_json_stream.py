"""JSON files read a part at a time: members of an object, and COCO's captions with them."""

import io
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_data.importers import Skipped, coco, importer, json_stream
from unified_data.importers.json_stream import json_items, json_members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.sampled_from(['"', "\\", "\\\\\"", "[", "]{", ":", ",", "é\U0001f43c"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


class Slow(io.BytesIO):
    """Gives `size` bytes at a time, whatever is asked for."""

    size = 1

    def read(self, count=-1):
        return super().read(self.size if count > 0 else count)


@given(
    st.dictionaries(st.text(max_size=4) | st.sampled_from(['"', "\\", ":", "{", "é"]), VALUES,
                    max_size=5),
    st.sampled_from([None, 1]), st.booleans(), st.integers(1, 7),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_members_lie_where_their_values_begin(members, indent, ascii_only, size):
    text = json.dumps(members, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    stream = Slow(text)
    stream.size = size
    offsets = json_members(stream, "x")
    assert list(offsets) == list(members)
    for name, offset in offsets.items():
        rest = text[offset:].decode().lstrip()
        assert json.JSONDecoder().raw_decode(rest)[0] == members[name]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "ends inside"),
        (b"[1]", "no JSON object"),
        (b'"x"', "no JSON object"),
        (b'{"a": 1', "ends inside"),
        (b'{"a": "}', "ends inside"),
        (b'{"a": 1} x', "something after"),
        (b'{"a": 1, "a": 2}', "'a' a second time"),
        (b'{"\\x": 1}', "is not JSON"),
        (b"{: 1}", "is not JSON"),
        (b'{"%s": 1}' % (b"a" * 5_000), "more than 4,096 bytes"),
        (b"{%s}" % b",".join(b'"%d": 1' % n for n in range(10_001)), "more than 10,000 members"),
    ],
)
def test_what_is_no_object_is_refused_by_name(text, reason):
    with pytest.raises(ValueError, match=f"^x .*{reason}"):
        json_members(io.BytesIO(text), "x")


def test_a_list_inside_an_object_ends_where_it_ends():
    text = b'{"a": [1, {"b": [2]}], "c": [3]}'
    stream = io.BytesIO(text)
    offsets = json_members(stream, "x")
    stream.seek(offsets["a"])
    assert list(json_items(stream, alone=False)) == [b"1", b' {"b": [2]}']
    stream.seek(offsets["a"])
    assert "something after" in str(list(json_items(stream))[-1])


def captions(media_files, **record):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.jpg"}]
    annotations = [
        {"id": 5, "image_id": 2, "caption": "two"},
        {"id": 6, "image_id": 1, "caption": "one"},
    ]
    return {"images": images, "annotations": annotations, **record}


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_the_lists_of_captions_may_come_in_either_order(tmp_path, media_files, monkeypatch, chunk):
    record = captions(media_files)
    (tmp_path / "x.json").write_text(json.dumps(record))
    (tmp_path / "y.json").write_text(json.dumps(dict(reversed(record.items())), indent=1))
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    keys = [[result.key for result in importer("coco")(tmp_path / name, media_files)]
            for name in ("x.json", "y.json")]  # fmt: skip
    assert keys == [["000000000-5", "000000001-6"]] * 2


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"images": []}, "it has no 'annotations'"),
        ({"annotations": []}, "it has no 'images'"),
        ({"images": {}, "annotations": []}, "'images' is no list"),
        ({"images": [], "annotations": 7}, "'annotations' is no list"),
    ],
)
def test_captions_without_their_lists_are_refused(tmp_path, record, reason):
    (tmp_path / "x.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"x.json: {reason}"):
        list(importer("coco")(tmp_path / "x.json", tmp_path))


def test_captions_list_a_bounded_number_of_pictures(tmp_path, media_files, monkeypatch):
    (tmp_path / "x.json").write_text(json.dumps(captions(media_files)))
    monkeypatch.setattr(coco, "MAX_IMAGES", 1)
    with pytest.raises(ValueError, match=r"x\.json lists more than 1 pictures; split the file"):
        list(importer("coco")(tmp_path / "x.json", media_files))


@pytest.mark.slow
def test_a_long_list_of_captions_is_not_held(tmp_path, media_files):
    """7 MB of captions of pictures that are not there: each is skipped, none is kept."""
    rows = ",".join('{"image_id": 9, "caption": "%s"}' % ("x" * 400) for _ in range(16_000))
    (tmp_path / "x.json").write_text(f'{{"annotations": [{rows}], "images": []}}')
    tracemalloc.start()
    try:
        results = importer("coco")(tmp_path / "x.json", media_files)
        assert sum(isinstance(result, Skipped) for result in results) == 16_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
