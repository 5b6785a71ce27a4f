"""Documents: what they hold, what they refuse, and that nothing is lost on the way to disk."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unified_data.document import Audio, Document, Image, Slot, Text

roles = st.sampled_from([None, "prompt", "response"])
losses = st.sampled_from([0.0, 0.25, 1.0, 3.5])
texts = st.builds(Text, st.text(min_size=1, max_size=20), roles, losses)
images = st.builds(
    Image,
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 7), st.just(3))),
    roles,
    losses,
)
waveform_shapes = st.tuples(st.integers(1, 2), st.integers(1, 30))
on_grid = hnp.arrays(np.int16, waveform_shapes).map(lambda w: w.astype(np.float32) / 32768)
anywhere = hnp.arrays(np.float32, waveform_shapes, elements=st.floats(-1, 1, width=32))
audios = st.builds(
    Audio, st.one_of(on_grid, anywhere), st.sampled_from([8000, 16000, 96000]), roles, losses
)
slots = st.one_of(
    st.builds(Slot, st.sampled_from(["text", "image", "audio"]), role=roles, loss=losses),
    st.builds(Slot, st.just("image"), st.integers(1, 99), st.integers(1, 99)),
)
last = st.builds(
    Slot, st.just("any"), num_images=st.integers(0, 3), num_audios=st.none(), role=roles
)
documents = st.builds(
    lambda body, tail: Document((*body, *tail)),
    st.lists(st.one_of(texts, images, audios, slots), max_size=5),
    st.lists(last, max_size=1),
)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(documents)
def test_json_and_its_media_give_the_document_back(tmp_path, document):
    obj = json.loads(json.dumps(document.to_json(tmp_path, "x")))
    assert Document.from_json(obj, tmp_path) == document


def test_equality_is_of_content():
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    other = pixels.copy()
    other[1, 2, 0] += 1
    assert Image(pixels) == Image(pixels.copy())
    assert Image(pixels) != Image(other)
    assert Image(pixels) != Image(pixels, role="prompt")
    wave = np.zeros((1, 5), np.float32)
    assert Audio(wave, 8000) == Audio(wave.copy(), 8000)
    assert Audio(wave, 8000) != Audio(wave, 16000)
    assert Audio(wave, 8000) != Audio(np.zeros((1, 6), np.float32), 8000)
    assert Document((Text("a"),)) != Document((Text("a"), Text("a")))


def test_media_names_and_defaults_in_json(tmp_path):
    document = Document(
        (
            Text("![a cat]", role="prompt", loss=0.0),
            Image(np.zeros((2, 3, 3), np.uint8)),
            Audio(np.full((1, 4), 0.5, np.float32), 16000),
            Audio(np.full((1, 4), 0.3, np.float32), 16000),
        )
    )
    obj = document.to_json(tmp_path, "x")
    assert obj == {
        "segments": [
            {"type": "text", "text": "![a cat]", "role": "prompt", "loss": 0.0},
            {"type": "image", "file": "x.1.png"},
            {"type": "audio", "file": "x.2.flac"},  # on the int16 grid
            {"type": "audio", "file": "x.3.wav"},  # not on it
        ]
    }
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["x.1.png", "x.2.flac", "x.3.wav"]


def test_slots_are_found():
    document = Document((Text("a"), Slot("image", 9, 6), Text("b"), Slot("any", num_images=2)))
    assert document.slots == (1, 3)
    assert document.has_slots
    assert not Document((Text("a"),)).has_slots


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Text(""), "not empty"),
        (lambda: Text("\ud800"), "lone surrogate"),
        (lambda: Text("a", role="system"), "role 'system'"),
        (lambda: Text("a", loss=-1), "loss weight -1"),
        (lambda: Text("a", loss=float("nan")), "loss weight nan"),
        (lambda: Image(np.zeros((2, 3), np.uint8)), r"shape \(2, 3\)"),
        (lambda: Image(np.zeros((0, 3, 3), np.uint8)), r"shape \(0, 3, 3\)"),
        (lambda: Image(np.zeros((2, 3, 3), np.float32)), "float32, expected a uint8"),
        (lambda: Audio(np.zeros(4, np.float32), 8000), r"shape \(4,\)"),
        (lambda: Audio(np.zeros((1, 0), np.float32), 8000), r"shape \(1, 0\)"),
        (lambda: Audio(np.zeros((1, 4)), 8000), "float64, expected a float32"),
        (lambda: Audio(np.full((1, 4), np.nan, np.float32), 8000), "reaches nan"),
        (lambda: Audio(np.full((1, 4), 1.5, np.float32), 8000), "reaches 1.5"),
        (lambda: Audio(np.zeros((1, 4), np.float32), 0), "sample rate is 0"),
        (lambda: Slot("smell"), "modality 'smell'"),
        (lambda: Slot("image", height=4), "only one of height and width"),
        (lambda: Slot("text", height=4, width=4), "text slot gives height"),
        (lambda: Slot("image", num_images=1), "image slot gives num_images"),
        (lambda: Slot("any", num_images=-1), "num_images -1"),
        (lambda: Slot("image", height=0, width=4), "height 0"),
        (lambda: Document((Slot("any"), Text("a"))), "must be the last"),
        (lambda: Document(("a",)), "segment 0 is a str"),
    ],
)
def test_what_a_document_cannot_hold_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"type": "smell"}, "type is 'smell'"),
        ("text", "type is 'str'"),
        ({"type": "text"}, r"lacks \['text'\]"),
        ({"type": "text", "text": "a", "colour": 1}, r"unknown keys \['colour'\]"),
        ({"type": "text", "text": 5}, "holds 5"),
        ({"type": "text", "text": "a", "loss": "1"}, "loss weight '1'"),
        ({"type": "slot", "modality": "any", "num_images": True}, "num_images True"),
        ({"type": "image", "file": "/etc/passwd"}, "absolute"),
        ({"type": "image", "file": "../x.png"}, "climbs"),
        ({"type": "image", "file": "a\\..\\..\\x.png"}, "climbs"),
        ({"type": "image", "file": "C:/x.png"}, "absolute"),
        ({"type": "image", "file": "absent.png"}, "cannot read media file .*absent.png"),
        ({"type": "image", "file": "x.txt"}, "x.txt is not a readable PNG"),
        ({"type": "audio", "file": "x.txt"}, "x.txt cannot be read"),
    ],
)
def test_json_outside_the_schema_is_refused_with_its_position(tmp_path, row, message):
    (tmp_path / "x.txt").write_text("no media")
    obj = {"segments": [{"type": "text", "text": "fine"}, row]}
    with pytest.raises(ValueError, match=f"segment 1: .*{message}"):
        Document.from_json(obj, tmp_path)


@pytest.mark.parametrize("obj", [None, [], {}, {"segments": 3}, {"segments": [], "title": "x"}])
def test_json_that_is_no_document_is_refused(obj, tmp_path):
    with pytest.raises(ValueError, match="segments"):
        Document.from_json(obj, tmp_path)
