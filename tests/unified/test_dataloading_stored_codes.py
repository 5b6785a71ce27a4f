"""Code shards: what goes in comes out, and everything else is refused with a reason."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified.dataloading.source import Source
from unified.dataloading.source_samples import SourceSamples, allow_open, find_shards
from unified.dataloading.stored_codes import CodesOf, StoredCodes, read_stored_codes
from unified.formats.coded import CodedAudio, CodedImage
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Text

STORED = StoredCodes({"image": CodesOf("f00", (7, 70_000)), "audio": CodesOf("ba5", (5, 6, 9))})
DOCUMENT = [
    Text("a cat", "prompt", 0.0),
    CodedImage(np.array([[[0, 6]], [[69_999, 1]]]), "response"),
    CodedAudio(np.array([[4], [5], [8]]), "response", 0.5),
]


def test_a_document_comes_back_from_its_parts():
    obj, media = STORED.to_parts("k", DOCUMENT)
    assert obj["segments"] == [
        {"type": "text", "text": "a cat", "role": "prompt", "loss": 0.0},
        {"type": "image", "codes": "k.1.codes", "shape": [2, 1, 2], "role": "response"},
        {"type": "audio", "codes": "k.2.codes", "shape": [3, 1], "role": "response", "loss": 0.5},
    ]
    # 70,000 codes need 32 bits, little-endian; 9 do with 16.
    assert media["k.1.codes"] == np.array([0, 6, 69_999, 1], "<u4").tobytes()
    assert media["k.2.codes"] == b"\4\0\5\0\10\0"
    assert STORED.from_parts("k", json.loads(json.dumps(obj)), media) == DOCUMENT
    with pytest.raises(ValueError, match="image code 7 of level 0 is outside its 7 codes"):
        STORED.to_parts("k", [CodedImage(np.array([[[7]], [[0]]]))])
    with pytest.raises(ValueError, match=r"there is image among codes of \['audio'\]"):
        StoredCodes({"audio": STORED.media["audio"]}).to_parts("k", DOCUMENT)


def changed(path: str, value: object) -> tuple[dict, dict]:
    """The parts of the document with one entry of a segment changed ("1.shape")."""
    obj, media = STORED.to_parts("k", DOCUMENT)
    at, _, name = path.partition(".")
    if value is None:
        del obj["segments"][int(at)][name]
    else:
        obj["segments"][int(at)][name] = value
    return obj, media


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("0.type", "slot", "segment 0: type is 'slot', expected one of text, image, audio"),
        ("0.text", "", "segment 0: text segment holds ''"),
        ("0.loss", -1, "segment 0: text has loss weight -1"),
        ("2.loss", True, "segment 2: .* has loss weight True"),
        ("1.role", "system", "segment 1: .* has role 'system'"),
        ("1.file", "k.1.png", "segment 1: a image segment has .*'file'"),
        ("1.shape", None, "segment 1: a image segment has"),
        ("1.codes", "k.2.codes", "segment 1: its codes are 'k.2.codes', expected the member k.1"),
        ("1.codes", "../k.1.codes", "expected the member k.1.codes"),
        (
            "1.shape",
            [2, 2, 1, 1, 1, 1],
            "image codes have shape .*, expected 2 levels and 1 or 2 or 4 sides",
        ),
        ("1.shape", [2, 1, 3], "segment 1: .* are 16 bytes, expected 24 of uint32"),
        ("1.shape", [2, 10**12, 10**12], "are 16 bytes, expected 8,000,000"),
        ("1.shape", [2, 0, 2], "segment 1: image codes have shape"),
        ("1.shape", [2, 1, 2.0], "segment 1: image codes have shape"),
        ("1.shape", [True, 4], "segment 1: image codes have shape"),
        ("1.shape", [4, 1], "segment 1: image codes have shape"),
        ("2.shape", [3, 1, 1], "audio codes have shape .*, expected 3 levels and 1 sides"),
        ("2.type", "text", "segment 2: a text segment has"),
    ],
)
def test_a_wrong_segment_is_refused_by_its_position(path, value, message):
    obj, media = changed(path, value)
    with pytest.raises(ValueError, match=message):
        STORED.from_parts("k", obj, media)


def test_codes_outside_their_codebook_surplus_and_missing_ones_are_refused():
    obj, media = STORED.to_parts("k", DOCUMENT)
    wrong = {**media, "k.2.codes": np.array([4, 5, 9], "<u2").tobytes()}
    with pytest.raises(ValueError, match="segment 2: audio code 9 of level 2 is outside its 9"):
        STORED.from_parts("k", obj, wrong)
    with pytest.raises(ValueError, match=r"no segment uses: \['k.3.codes'\]"):
        STORED.from_parts("k", obj, {**media, "k.3.codes": b""})
    with pytest.raises(ValueError, match=r"expected the member k\.2\.codes"):
        STORED.from_parts("k", obj, {"k.1.codes": media["k.1.codes"]})
    for wrong, message in (([], "document has list"), ({"segments": []}, "at least one"),
                           ({"segments": 3}, "is not a list"), ({"x": 1}, r"\['x'\]")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            STORED.from_parts("k", wrong, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.data())
def test_anything_in_place_of_an_entry_is_accepted_or_a_value_error(data):
    obj, media = STORED.to_parts("k", DOCUMENT)
    segment = data.draw(st.sampled_from(obj["segments"]))
    segment[data.draw(st.sampled_from([*segment, "role", "loss", "x"]))] = data.draw(JSON)
    name = data.draw(st.sampled_from(sorted(media)))
    media[name] = data.draw(st.binary(max_size=20) | st.just(media[name]))
    try:
        actual = STORED.from_parts("k", obj, media)
    except ValueError:
        return
    assert STORED.from_parts("k", *STORED.to_parts("k", actual)) == actual


def test_an_index_says_whose_codes_its_folder_holds(write_codes, random_documents, tmp_path):
    stored = StoredCodes({"image": CodesOf("f00", (7, 70_000))}, round_trip=True, fit=256)
    assert StoredCodes.from_json(stored.to_json(), "x") == stored
    assert stored.to_json()["codes"]["image"]["dtype"] == "uint32"
    folder = write_codes(tmp_path / "codes", {"draw": random_documents(3)})
    assert set(read_stored_codes(folder).media) == {"image", "audio"}
    assert read_stored_codes(tmp_path) is None
    entry = stored.to_json()["codes"]["image"]
    for wrong in (
        {"codes": {"image": {**entry, "dtype": "uint16"}}},
        {"codes": {"image": {**entry, "codebook_sizes": [0]}}},
        {"codes": {"image": {**entry, "more": 1}}},
        {"codes": {"smell": entry}},
        {"codes": {"image": 3}},
        {"codes": []},
        {"codes": {}, "round_trip": 1},
        {"codes": {}, "fit": "x"},
    ):
        with pytest.raises(ValueError, match="x"):
            StoredCodes.from_json(wrong, "x")


def test_codes_of_another_tokenizer_are_refused_with_both_fingerprints(
    write_codes, random_documents, tiny_sequencer, stored_codes, tmp_path
):
    folder = write_codes(tmp_path / "codes", {"draw": random_documents(3)})
    source, vocabulary = Source(str(folder)), tiny_sequencer.vocabulary
    assert len(SourceSamples("draw", source, vocabulary)) == 3
    fingerprint = stored_codes.media["image"].fingerprint
    for actual, message in (
        (("other", (12,)), f"image codes of tokenizer {fingerprint}, the vocabulary .* for other"),
        ((fingerprint, (13,)), r"image codes of codebooks \(12,\), .* blocks of \(13,\)"),
    ):
        other = Vocabulary.build(
            vocabulary.text_size, vocabulary.text_size, ["<a>"], 9, image=(actual[1], actual[0])
        )
        with pytest.raises(ValueError, match=message):
            SourceSamples("draw", source, other)
    tripped = write_codes(tmp_path / "trip", {"draw": random_documents(3)}, round_trip=True)
    with pytest.raises(ValueError, match="have round_trip True, the source says False"):
        SourceSamples("draw", Source(str(tripped)), vocabulary)
    assert len(SourceSamples("draw", Source(str(tripped), round_trip=True), vocabulary)) == 3


def test_shards_are_found_by_name_pattern_and_folder(write_codes, random_documents, tmp_path):
    documents = random_documents(2)
    folder = write_codes(tmp_path / "codes", {"b": documents, "a": documents, "ab": documents})
    names = [path.name for path in find_shards([f"{folder}/a*.tar", str(folder / "b.tar")])]
    assert names == ["a.tar", "ab.tar", "b.tar"]
    assert [path.name for path in find_shards([str(folder)])] == ["a.tar", "ab.tar", "b.tar"]
    with pytest.raises(ValueError, match=r"no shards match .*x\*\.tar; build or import the data"):
        find_shards([f"{folder}/x*.tar"])
    (folder / "ab.tar").unlink()
    with pytest.raises(ValueError, match=r"no shard .*ab\.tar; build or import"):
        find_shards([str(folder)])


def test_documents_are_not_taken_for_codes(tiny_sequencer):
    with pytest.raises(ValueError, match="sample holds documents, not codes; tokenize them first"):
        SourceSamples("draw", Source("data/sample/train-draw-*.tar"), tiny_sequencer.vocabulary)


def test_as_many_shards_can_be_open_as_a_run_has(monkeypatch):
    import resource

    limits = [100, 5000]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(2), new))
    allow_open(3000)
    assert limits == [3200, 5000]
    allow_open(10)
    assert limits == [3200, 5000]
    with pytest.raises(
        ValueError, match="have 9,000 shards, but the system lets a process open 5,000"
    ):
        allow_open(9000)
