"""Boxes and points as segments of documents: what they hold, refuse, and write as JSON."""

import numpy as np
import pytest

from unified_data.document import Box, Document, Image, Point, Slot, Text
from unified_data.shards import ShardWriter, read_samples

PICTURE = Image(np.zeros((30, 50, 3), np.uint8))
BOX = Box(3, 2.5, 40, 30, 50, 30, "response")
POINT = Point(0, 29.5, 50, 30)


def test_they_go_through_json_and_shards_without_files(tmp_path):
    document = Document((PICTURE, Text("the fox", "prompt"), BOX, POINT))
    obj, media = document.to_parts("x")
    assert list(media) == ["x.0.png"]
    assert obj["segments"][2] == {
        "type": "box", "at": [3, 2.5, 40, 30], "of": [50, 30], "role": "response"
    }  # fmt: skip
    assert obj["segments"][3] == {"type": "point", "at": [0, 29.5], "of": [50, 30]}
    assert Document.from_parts(obj, media.__getitem__) == document
    with ShardWriter(tmp_path, "train", "ground") as writer:
        writer.write("a", document)
    assert list(read_samples(next(tmp_path.glob("*.tar")))) == [("a", document)]
    name, data = BOX.to_file()
    assert (name, Box.from_file(data, "b.json", "response", 1.0)) == ("json", BOX)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ((3, 2, 3, 9), r"the box \(3, 2, 3, 9\) is empty, expected x0 < x1"),
        ((9, 2, 3, 9), "is empty"),
        ((3, 9, 5, 9), "is empty"),
        ((-1, 2, 3, 9), "leaves its picture of 50x30, expected x in 0 to 50"),
        ((3, 2, 50.5, 9), "leaves its picture"),
        ((3, 2, 9, 31), "leaves its picture"),
        ((3, 2, float("nan"), 9), "coordinate nan, expected a finite number"),
        ((3, 2, True, 9), "coordinate True"),
        ((3, 2, "9", 9), "coordinate '9'"),
        ((3, 2, 10**400, 9), "expected a finite number"),
        ((3, 2, 9), "a box is .3, 2, 9., expected 4 numbers"),
    ],
)
def test_boxes_that_are_none_are_refused_by_name(at, message):
    with pytest.raises(ValueError, match=message):
        Box.of(at, (50, 30))
    row = {"type": "box", "at": list(at), "of": [50, 30]}
    with pytest.raises(ValueError, match="segment 0: .*" + message.replace("a box is .", "")):
        Document.from_parts({"segments": [row]}, {}.__getitem__)


@pytest.mark.parametrize(
    ("at", "of", "message"),
    [
        ((50, 3), (50, 30), "lies outside its picture of 50x30"),
        ((3, -0.5), (50, 30), "lies outside"),
        ((3, 3), (0, 30), "the width of a point's picture is 0, expected a whole number"),
        ((3, 3), (50, 30.0), "the height of a point's picture is 30.0"),
        ((3, 3), (50,), "a point's picture is .50,., expected 2 numbers"),
    ],
)
def test_points_that_are_none_are_refused_by_name(at, of, message):
    with pytest.raises(ValueError, match=message):
        Point.of(at, of)


def test_numbers_of_numpy_become_pythons():
    box = Box(*np.array([1, 2, 3, 4]), np.int64(50), np.int64(30))
    assert box == Box(1, 2, 3, 4, 50, 30)
    assert {type(value) for value in (*box.at, box.width)} == {int}


def test_a_box_in_another_frame_is_the_same_share_of_the_picture():
    assert Box(5, 3, 10, 30, 50, 30).on(100, 60) == Box(10, 6, 20, 60, 100, 60)
    assert BOX.on(7, 9).on(50, 30).at == pytest.approx(BOX.at)
    assert BOX.iou(BOX.on(7, 9)) == pytest.approx(1)
    assert Point(1, 1, 4, 4).on(8, 2) == Point(2, 0.5, 8, 2)


def test_intersection_over_union():
    first = Box(0, 0, 4, 4, 10, 10)
    assert first.iou(Box(2, 0, 6, 4, 10, 10)) == pytest.approx(8 / 24)
    assert first.iou(Box(4, 0, 6, 4, 10, 10)) == 0
    assert first.iou(Box(6, 6, 9, 9, 10, 10)) == 0
    assert first.iou(Box(1, 1, 3, 3, 10, 10)) == pytest.approx(4 / 16)


def test_a_place_lies_in_the_last_picture_before_it_or_the_first_behind():
    document = Document((PICTURE, BOX, PICTURE, Text("a"), BOX, POINT))
    assert [document.picture_of(i) for i in (1, 4, 5)] == [0, 2, 2]
    asked = Document((Text("draw it here"), BOX, Slot("image")))
    assert asked.picture_of(1) == 2
    with pytest.raises(ValueError, match="segment 3 is no box and no point"):
        document.picture_of(3)
    with pytest.raises(ValueError, match="segment 0 lies in no picture: the document has none"):
        Document((BOX,)).picture_of(0)
    with pytest.raises(ValueError, match="position is 6, expected 0 to 5"):
        document.picture_of(6)
