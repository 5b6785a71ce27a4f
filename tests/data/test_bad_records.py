"""Records that are not of their kind: each is skipped with a reason, the rest is read."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_data.importers import Sample, importer, records
from unified_data.importers.json_stream import json_items


def lines(path, *records):
    path.write_bytes(b"".join(
        (r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records
    ))  # fmt: skip
    return path


def reasons(kind, source, images=None):
    return [
        "" if isinstance(result, Sample) else result.reason
        for result in importer(kind)(source, images)
    ]


BAD_RECORDS = [
    ("obelics", b"{", "line 1: it is not JSON"),
    ("obelics", b"[" * 100_000, "cut off"),
    ("obelics", b'{"images":' + b"[" * 100_000, "line 1: it is nested too deeply"),
    ("obelics", [], ""),
    ("obelics", b"7", "it is a whole number, expected a JSON object"),
    ("obelics", {"images": [None]}, "it has no 'texts'"),
    ("obelics", {"images": [None], "texts": []}, "1 images and 0 texts in parallel"),
    ("obelics", {"images": [None], "texts": [None]}, "place 0 has not exactly one"),
    ("obelics", {"images": ["a.png"], "texts": ["x"]}, "place 0 has not exactly one"),
    ("obelics", {"images": [None], "texts": ["\ud800"]}, "lone surrogate"),
    ("obelics", {"images": [None], "texts": [""]}, "it holds no text, picture or sound"),
    ("obelics", {"images": [None], "texts": [[]]}, "expected a str"),
    ("obelics", {"images": [None] * 5000, "texts": ["x", *[None] * 4999]}, "place 1 has not"),
    ("obelics", {"images": ["a.png"] * 5000, "texts": [None] * 5000}, "more than 4,096 segments"),
    ("mmc4", {"text_list": ["a"], "image_info": [{"matched_text_index": 1}]}, "sentence 1 of 1"),
    ("mmc4", {"text_list": ["a"], "image_info": [{"matched_text_index": True}]}, "true or false"),
    ("mmc4", {"text_list": "a", "image_info": []}, "'text_list' is a text, expected a list"),
    ("mmc4", {"text_list": ["a"], "image_info": [[]]}, "image 0 is no JSON object"),
    ("comm", {"step_info": [{}]}, "step 0 is no list"),
    ("comm", {"step_info": [[{"type": "video"}]]}, "neither a text nor an image"),
    ("llava", {"conversations": [{"from": "gpt", "value": "<image>"}]}, "0 image files for 1"),
    ("llava", {"image": "a.png", "conversations": [{"from": "gpt", "value": "x"}]},
     "1 image files for 0 places"),
    ("llava", {"conversations": [{"from": "tool", "value": "x"}]}, "turn 0 is not from one of"),
    ("llava", {"conversations": [{"from": "human", "value": "x"}]}, "nothing in it is a response"),
    ("llava", {"conversations": [{"from": "gpt", "value": None}]}, "neither text nor a picture"),
    ("sharegpt", {"messages": {}}, "'messages' is an object, expected a list"),
    ("sharegpt", {"messages": [], "videos": ["x.mp4"]}, "'videos', which a document cannot hold"),
    ("sharegpt", {"messages": [], "images": [7]}, "'images' is a list, expected file names"),
    ("pairs", {"text": "x"}, "neither an image nor an audio"),
    ("pairs", {"image": "a.png"}, "it has no text"),
    ("pairs", {"text": "x", "image": "x.txt"}, "not a readable PNG, JPEG, WebP, GIF or BMP file"),
    ("pairs", {"text": "x", "audio": "a.png"}, "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record", "reason"), BAD_RECORDS)
def test_a_record_that_is_not_of_its_kind_is_skipped(tmp_path, media_files, kind, record, reason):
    for name in ("a.png",):
        (tmp_path / name).write_bytes((media_files / name).read_bytes())
    (tmp_path / "x.txt").write_text("x")
    skipped = reasons(kind, lines(tmp_path / "x.jsonl", record))
    assert len(skipped) == (0 if record == [] else 1)
    assert reason in "".join(skipped)
    assert all(len(reason) < 600 for reason in skipped)


def test_a_line_that_is_too_long_is_passed_over(tmp_path, media_files, monkeypatch):
    monkeypatch.setattr(records.lines, "__defaults__", (1000,))
    good = {"text": "x", "image": "a.png"}
    source = lines(tmp_path / "x.jsonl", good, b"x" * 3_000_000, b"", good)
    assert reasons("pairs", source, media_files) == [
        "", "x.jsonl line 2: it is longer than 1,000 bytes", ""
    ]  # fmt: skip
    source = lines(
        tmp_path / "x.csv", b"text,image", b"x,a.png", b"y" * 5000 + b",a.png", b"z,a.png"
    )
    first, second, third = reasons("pairs", source, media_files)
    assert (first, third) == ("", "")
    assert second == "x.csv row 2: it cannot be read: it is longer than 1,000 bytes"


def test_tables_without_the_columns_are_refused(tmp_path):
    for text in (b"", b"a,b\n", b"text\n", b"text,image,image\n", b"\0\n", b'"' * 200_000):
        with pytest.raises(ValueError, match=r"columns|header"):
            reasons("pairs", lines(tmp_path / "x.csv", text))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(VALUES, max_size=5), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_the_items_of_a_list_are_found_however_it_is_read(values, chunk):
    class Slow(io.BytesIO):
        def read(self, count=-1):
            return super().read(min(chunk, count) if count >= 0 else chunk)

    for indent in (None, 1):
        items = list(json_items(Slow(json.dumps(values, indent=indent).encode())))
        assert [json.loads(item) for item in items] == values


def test_a_list_that_does_not_end_well_is_told(tmp_path):
    def items(text, **limit):
        return [str(item) for item in json_items(io.BytesIO(text), **limit)]

    assert items(b"[]") == []
    assert "cut off" in items(b'[1, {"a": "]')[-1]
    assert items(b"[1] [2]")[-1] == "there is something after the list's end"
    assert items(b"[1, 22222, 3]", limit=3) == ["b'1'", "it is longer than 3 bytes", "b' 3'"]
