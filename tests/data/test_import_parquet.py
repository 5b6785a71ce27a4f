"""Parquet files as data sets have them on the hub, and files that claim what they do not hold."""

import io
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unified_base.images import load_image
from unified_base.sounds import load_audio
from unified_data.document import Audio, Image, Text
from unified_data.importers import Sample, importer, parquet_rows
from unified_data.importers.import_shards import import_shards
from unified_data.importers.parquet import read
from unified_data.importers.parquet_layout import pages, row_groups
from unified_data.shards import document_of


def asked(text):
    return Text(text, "prompt", 0.0)


def answer(text):
    return Text(text, "response")


@pytest.fixture
def media(media_files):
    """bytes(name) as a row holds them, and pictured(name, role), sounding(name, role)."""

    class Media:
        def __call__(self, name, path=None):
            return {"bytes": (media_files / name).read_bytes(), "path": path}

        def pictured(self, name, role="response"):
            return Image(load_image(media_files / name), role, 0.0 if role == "prompt" else 1.0)

        def sounding(self, name, role="response"):
            return Audio(*load_audio(media_files / name), role, 0.0 if role == "prompt" else 1.0)

    return Media()


def table(path, rows, features=None, **options):
    """A file of rows, perhaps with features as Hugging Face's datasets writes them."""
    content = pa.Table.from_pylist(rows)
    if features is not None:
        about = json.dumps({"info": {"features": features}})
        content = content.replace_schema_metadata({"huggingface": about})
    pq.write_table(content, path, **options)
    return path


def outcomes(source, **options):
    """Of each document its segments, or the reason why there is none."""
    results = []
    for result in read(source, **options):
        if isinstance(result, Sample):
            results.append(document_of(result.key, result.obj, result.media).segments)
        else:
            results.append(result.reason)
    return results


# Forms.


def test_pictures_with_captions(tmp_path, media):
    rows = [{"image": media("a.png", "x/a.png"), "text": "a cat", "id": 7, "url": "u"},
            {"image": media("b.jpg"), "text": " a dog ", "id": 8, "url": None}]  # fmt: skip
    notes = []
    source = table(tmp_path / "train-00000-of-00001.parquet", rows)
    results = list(read(source, tell=notes.append))
    assert [result.key for result in results] == ["000000000-7", "000000001-8"]
    assert results[0].ignored == {"column url": 1}
    assert notes == [f"{source.name}: read as pairs (id, text, image)"]
    assert outcomes(source) == [
        (asked("a cat"), media.pictured("a.png")), (asked("a dog"), media.pictured("b.jpg"))
    ]  # fmt: skip


def test_the_weight_of_a_row_is_seen(tmp_path, media):
    rows = [{"image": media("a.png"), "text": "x", "weight": weight} for weight in (1.0, 0.0)]
    first, second = outcomes(table(tmp_path / "x.parquet", rows))
    assert first[0] == asked("x")
    assert "its 'weight' is 0.0" in second


def test_sounds_with_transcriptions_in_three_forms(tmp_path, media):
    waveform, rate = load_audio_of(media)
    rows = [{"audio": media("s.flac"), "sentence": "one"}]
    for name, sound in (
        ("struct", media("s.flac")), ("bytes", media("s.flac")["bytes"]),
        ("samples", {"path": None, "array": waveform[0].tolist(), "sampling_rate": rate}),
    ):  # fmt: skip
        rows = [{"audio": sound, "transcription": "one", "speaker": 3}]
        assert outcomes(table(tmp_path / f"{name}.parquet", rows)) == [
            (asked("one"), media.sounding("s.flac"))
        ], name


def load_audio_of(media):
    segment = media.sounding("s.flac")
    return segment.waveform, segment.sample_rate


def test_rows_that_only_name_their_media(tmp_path, media, media_files):
    rows = [{"image": {"bytes": None, "path": "a.png"}, "caption": "x"},
            {"image": {"bytes": None, "path": "../a.png"}, "caption": "x"},
            {"image": None, "caption": "x"}]  # fmt: skip
    first, second, third = outcomes(table(tmp_path / "x.parquet", rows), images=media_files)
    assert first == (asked("x"), media.pictured("a.png"))
    assert "climbs" in second
    assert "row 3: it has neither an image nor an audio" in third
    names = [{"jpg": "a.png", "txt": "x", "__key__": "k/1"}]
    source = table(tmp_path / "y.parquet", names)
    assert outcomes(source, images=media_files) == [first]
    assert next(read(source, images=media_files)).key == "000000000-k-1"


@pytest.mark.parametrize("captions", [["one", "two"], [{"raw": "one"}, {"raw": "two"}]])
def test_several_captions_are_several_documents(tmp_path, media, captions):
    rows = [{"image": media("a.png"), "captions": captions, "cocoid": 5}]
    source = table(tmp_path / "x.parquet", rows)
    results = list(read(source))
    assert [result.key for result in results] == ["000000000-0", "000000000-1"]
    assert [result.ignored for result in results] == [{"column cocoid": 1}, {}]
    assert outcomes(source) == [
        (asked("one"), media.pictured("a.png")), (asked("two"), media.pictured("a.png"))
    ]  # fmt: skip


def test_class_numbers_become_the_names_that_the_file_has(tmp_path, media):
    rows = [{"image": media("a.png"), "label": number} for number in (1, 0, -1, 2)]
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    source = table(tmp_path / "x.parquet", rows, features)
    first, second, *rest = outcomes(source)
    assert (first[0], second[0]) == (asked("dog"), asked("cat"))
    for number, reason in zip((-1, 2), rest, strict=True):
        assert f"its class is {number}, expected 0 to 1" in reason
    with pytest.raises(ValueError, match="the file does not name the classes"):
        outcomes(table(tmp_path / "y.parquet", rows))
    features["label"]["names"] = [1]
    with pytest.raises(ValueError, match="class names of column 'label' are no texts"):
        outcomes(table(tmp_path / "z.parquet", rows, features))


TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]


@pytest.mark.parametrize("form", ["auto", "llava", "sharegpt"])
def test_conversations_in_the_form_of_llava(tmp_path, media, form):
    rows = [{"id": "a", "image": media("a.png"), "conversations": TURNS, "data_source": "s"},
            {"id": "b", "image": None, "conversations": [{**TURNS[0], "value": "What?"}, TURNS[1]],
             "data_source": "s"}]  # fmt: skip
    source = table(tmp_path / "x.parquet", rows)
    assert outcomes(source, form=form) == [
        (media.pictured("a.png", "prompt"), asked("What?"), answer("A cat.")),
        (asked("What?"), answer("A cat.")),
    ]
    assert next(read(source, form=form)).ignored == {"column data_source": 1}


def test_messages_of_parts_with_pictures_beside_them(tmp_path, media):
    content = [{"type": "image", "text": None}, {"type": "text", "text": "What is <image>?"}]
    messages = [{"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}]  # fmt: skip
    rows = [{"messages": messages, "images": [media("a.png")]}]
    assert outcomes(table(tmp_path / "x.parquet", rows)) == [
        (media.pictured("a.png", "prompt"), asked("What is <image>?"), answer("A cat."))
    ]
    tools = [{"messages": messages, "images": [media("a.png")], "tools": "[{}]"}]
    assert "it has 'tools'" in outcomes(table(tmp_path / "y.parquet", tools))[0]


def test_turns_may_be_a_json_text(tmp_path, media):
    rows = [{"conversations": text, "image": media("a.png")}
            for text in (json.dumps(TURNS), "[" * 999, "7")]  # fmt: skip
    first, *rest = outcomes(table(tmp_path / "x.parquet", rows))
    assert first == (media.pictured("a.png", "prompt"), asked("What?"), answer("A cat."))
    assert "the text in 'conversations' is" in rest[0]
    assert "'conversations' is a whole number, expected a list" in rest[1]


def test_the_cauldron_has_its_pictures_first(tmp_path, media):
    texts = [{"user": "What <image>?", "assistant": "A cat.", "source": "s"},
             {"user": "Sure?", "assistant": "Yes.", "source": "s"}]  # fmt: skip
    source = table(tmp_path / "x.parquet", [{"images": [media("a.png"), media("b.jpg")],
                                             "texts": texts}])  # fmt: skip
    assert outcomes(source) == [
        (media.pictured("a.png", "prompt"), media.pictured("b.jpg", "prompt"),
         asked("What <image>?"), answer("A cat."), asked("Sure?"), answer("Yes."))
    ]  # fmt: skip
    assert next(read(source)).ignored == {"turn.source": 2}


def test_pages_in_the_form_of_obelics(tmp_path, media, media_files):
    rows = [{"images": [None, "https://h.org/a.png"], "texts": ["one", None], "metadata": "m"}]
    source = table(tmp_path / "x.parquet", rows)
    (segments,) = outcomes(source, images=media_files)
    assert segments == (Text("one"), media.pictured("a.png", None))
    rows = [{"images": [None, media("a.png")], "texts": ["one", None]}]
    assert outcomes(table(tmp_path / "y.parquet", rows)) == [segments]


def test_preferences_as_messages_and_about_a_picture(tmp_path, media):
    prompt = {"role": "user", "content": "Who?"}
    rows = [{"prompt": "Who?", "score_chosen": 1.5,
             **{half: [prompt, {"role": "assistant", "content": half}]
                for half in ("chosen", "rejected")}}]  # fmt: skip
    source = table(tmp_path / "x.parquet", rows)
    assert outcomes(source) == [
        (asked("Who?"), answer("chosen")), (asked("Who?"), answer("rejected"))
    ]  # fmt: skip
    assert next(read(source)).ignored == {"column score_chosen": 1}
    rows = [{"image": media("a.png"), "question": "Who?", "chosen": "Me.", "rejected": "You."}]
    start = (media.pictured("a.png", "prompt"), asked("Who?"))
    assert outcomes(table(tmp_path / "y.parquet", rows)) == [
        (*start, answer("Me.")), (*start, answer("You."))
    ]  # fmt: skip


def test_what_is_of_no_form_is_refused_with_its_columns(tmp_path):
    source = table(tmp_path / "x.parquet", [{"a": 1, "text": "x"}])
    with pytest.raises(ValueError, match=r"its columns are \['a', 'text'\], which is not any form"):
        outcomes(source)
    with pytest.raises(ValueError, match="which is not the form obelics; see --as"):
        outcomes(source, form="obelics")
    with pytest.raises(ValueError, match="there is no form 'csv', expected one of auto, pairs"):
        outcomes(source, form="csv")
    with pytest.raises(ValueError, match="there are no forms of pairs"):
        import_shards("pairs", source, tmp_path / "out", form="pairs")


# Files.


def test_a_folder_is_read_in_order_and_its_splits_are_told_apart(tmp_path, media):
    folder = tmp_path / "data" / "default"
    folder.mkdir(parents=True)
    for number in (0, 1, 3):
        rows = [{"image": media("a.png"), "text": f"{number} {i}"} for i in range(3)]
        name = f"train-{number:05d}-of-00004.parquet"
        table(folder / name, rows, row_group_size=2)
    table(folder / "test-00000-of-00001.parquet", [{"image": media("a.png"), "text": "held out"}])
    notes = []
    report = import_shards("parquet", tmp_path / "data", tmp_path / "out", tell=notes.append)
    assert (report["samples"], report["skipped"]) == (9, 0)
    assert notes[0] == "left out: test (1 files)"
    assert notes[1] == "3 of the 4 files of train are there"
    texts = [segments[0].text for segments in outcomes(tmp_path / "data", split="train")]
    assert texts == [f"{number} {i}" for number in (0, 1, 3) for i in range(3)]
    with pytest.raises(ValueError, match="holds the splits test, train; name one with --split"):
        outcomes(tmp_path / "data", split="validation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no files ending in"):
        outcomes(tmp_path / "empty")


def test_of_several_files_a_broken_one_is_skipped_and_said(tmp_path, media):
    for name in ("a", "c"):
        table(tmp_path / f"{name}.parquet", [{"image": media("a.png"), "text": name}])
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    table(tmp_path / "d.parquet", [{"x": 1}])
    first, second, third, fourth = outcomes(tmp_path)
    assert (first[0], third[0]) == (asked("a"), asked("c"))
    assert "all of its rows: " in second
    assert "b.parquet cannot be read: it is no Parquet file" in second
    assert "d.parquet: its columns are ['x']" in fourth


def test_one_split_under_another_name_and_several_folders_are_said(tmp_path, media):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        table(tmp_path / name / "test-00000-of-00001.parquet",
              [{"image": media("a.png"), "text": name}])  # fmt: skip
    notes = []
    report = import_shards("parquet", tmp_path, tmp_path / "out", tell=notes.append)
    assert report["samples"] == 2
    assert notes[0] == "what is imported is test, and is called train; see --split"
    assert "the files lie in 2 folders" in notes[1]


def test_without_pyarrow_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[parquet\]' in the checkout"):
        importer("parquet")(tmp_path / "absent", None)


def file_of(**options):
    buffer = io.BytesIO()
    rows = [{"text": f"t{i}", "image": {"bytes": b"x" * 300, "path": None}} for i in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=10, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no Parquet file, or cut off"),
        (b"PAR1" * 2, "no Parquet file, or cut off"),
        (file_of()[:-1], "no Parquet file, or cut off"),
        (file_of()[:-8] + b"\xff\xff\xff\x7fPAR1", "says that its footer is 2,147,483,647 bytes"),
        (file_of()[:-8] + b"\x09\x00\x00\x00PAR1", "cannot be read"),
        (file_of()[:-4] + b"PARE", "is encrypted"),
        (b"PK" + file_of()[2:], "no Parquet file"),
    ],
)
def test_a_file_that_is_none_is_one_line_with_its_name(tmp_path, data, reason):
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=reason) as refusal:
        outcomes(tmp_path / "x.parquet")
    assert str(tmp_path / "x.parquet") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("what", ["fifo", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, what):
    path = tmp_path / "in" / "x.parquet"
    path.parent.mkdir()
    os.mkfifo(path) if what == "fifo" else path.mkdir()
    with pytest.raises(ValueError, match="not a regular file"):
        outcomes(path.parent)


def test_a_broken_row_group_is_named_and_the_others_are_read(tmp_path, media):
    rows = [{"text": f"t{i}", "image": media("a.png")} for i in range(6)]
    path = table(tmp_path / "x.parquet", rows, row_group_size=2, write_page_checksum=True,
                 compression="NONE")  # fmt: skip
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    assert column.path_in_schema == "image.bytes"
    data[column.dictionary_page_offset + 100] ^= 1
    path.write_bytes(data)
    first, second, broken, *rest = outcomes(path)
    assert (first[0], second[0]) == (asked("t0"), asked("t1"))
    assert broken.startswith("x.parquet row group 1, from row 3 on: 2 rows cannot be read: ")
    assert "checksum" in broken or "CRC" in broken
    assert [segments[0] for segments in rest] == [asked("t4"), asked("t5")]


def peak():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_bomb_is_refused_by_what_its_pages_declare(tmp_path, monkeypatch):
    before = peak()
    repeated = pa.DictionaryArray.from_arrays(
        pa.array([0] * 100_000, pa.int32()), ["x" * 1_000_000]
    )
    texts = pa.ListArray.from_arrays(pa.array([0, 100_000], pa.int32()), repeated)
    images = pa.array([["a.png"]])
    pq.write_table(pa.table({"texts": texts, "images": images}), tmp_path / "x.parquet",
                   store_schema=False)  # fmt: skip
    assert (tmp_path / "x.parquet").stat().st_size < 1_000_000
    (reason,) = outcomes(tmp_path / "x.parquet", images=tmp_path)
    assert "row 1: it is 100,0" in reason
    assert "bytes long, expected at most 536,870,912" in reason
    assert peak() - before < 200_000_000
    long = pa.table({"text": ["x" * 30_000_000], "image": ["a.png"]})
    pq.write_table(long, tmp_path / "y.parquet", compression="zstd", use_dictionary=False)
    monkeypatch.setattr(parquet_rows, "MAX_PAGE", 10_000_000)
    (reason,) = outcomes(tmp_path / "y.parquet")
    assert (
        "row group 0, from row 1 on: 1 rows cannot be read: a page of column 'text' is " in reason
    )
    assert "30,000,0" in reason
    monkeypatch.setattr(parquet_rows, "MAX_VALUES", 5)
    (reason,) = outcomes(table(tmp_path / "z.parquet", [{"text": "x", "image": "a"}] * 9))
    assert "column 'text' holds 10 values, expected at most 5" in reason  # one in its dictionary


def test_deep_and_doubled_columns_are_refused(tmp_path):
    value = "x"
    for _ in range(20):
        value = [value]
    source = table(tmp_path / "x.parquet", [{"texts": value, "images": ["a.png"]}])
    with pytest.raises(ValueError, match="column 'texts' is nested more than 16 deep"):
        outcomes(source)
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "y.parquet")
    with pytest.raises(ValueError, match="two columns of one name"):
        outcomes(tmp_path / "y.parquet")


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False},
                                     {"data_page_size": 64}, {"compression": "zstd"}])  # fmt: skip
def test_columns_and_pages_lie_where_pyarrow_says(options):
    data = file_of(**options)
    about = pq.ParquetFile(io.BytesIO(data)).metadata
    groups = row_groups(data[-8 - about.serialized_size : -8], len(data))
    assert [group.rows for group in groups] == [10, 10, 10]
    for number, group in enumerate(groups):
        for i, chunk in enumerate(group.chunks):
            column = about.row_group(number).column(i)
            assert ".".join(chunk.path) == column.path_in_schema
            assert chunk.end - chunk.start == column.total_compressed_size
            assert chunk.is_binary == (column.physical_type == "BYTE_ARRAY")
            listed = list(pages(lambda at, count: data[at : at + count], chunk.start, chunk.end))
            dictionary = bool(column.dictionary_page_offset)
            assert sum(page.values for page in listed[dictionary:]) == column.num_values
            assert sum(page.size for page in listed) <= column.total_uncompressed_size


def test_page_headers_that_are_none_are_refused():
    data = file_of()
    rng = np.random.default_rng(0)
    reasons = []
    for _ in range(300):
        start = int(rng.integers(0, len(data)))
        broken = bytearray(data)
        broken[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
        whole = bytes(broken)
        try:
            list(pages(lambda at, count, d=whole: d[at : at + count], start, len(data)))
        except ValueError as error:
            reasons.append(str(error))
    assert len(reasons) > 200
    assert all("page" in reason for reason in reasons)
