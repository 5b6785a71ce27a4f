"""Parquet files as data sets have them on the hub."""

import json

import pytest
from imported import answer, asked, outcomes, table

from unified_data.document import Text
from unified_data.importers.import_shards import import_shards
from unified_data.importers.parquet import read


def read_all(source, **options):
    return list(outcomes(read(source, **options)))


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
    assert read_all(source) == [
        (asked("a cat"), media.pictured("a.png")), (asked("a dog"), media.pictured("b.jpg"))
    ]  # fmt: skip


def test_the_weight_of_a_row_is_seen(tmp_path, media):
    rows = [{"image": media("a.png"), "text": "x", "weight": weight} for weight in (1.0, 0.0)]
    first, second = read_all(table(tmp_path / "x.parquet", rows))
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
        assert read_all(table(tmp_path / f"{name}.parquet", rows)) == [
            (asked("one"), media.sounding("s.flac"))
        ], name


def load_audio_of(media):
    segment = media.sounding("s.flac")
    return segment.waveform, segment.sample_rate


def test_rows_that_only_name_their_media(tmp_path, media, media_files):
    rows = [{"image": {"bytes": None, "path": "a.png"}, "caption": "x"},
            {"image": {"bytes": None, "path": "../a.png"}, "caption": "x"},
            {"image": None, "caption": "x"}]  # fmt: skip
    first, second, third = read_all(table(tmp_path / "x.parquet", rows), images=media_files)
    assert first == (asked("x"), media.pictured("a.png"))
    assert "climbs" in second
    assert "row 3: it has neither an image nor an audio" in third
    names = [{"jpg": "a.png", "txt": "x", "__key__": "k/1"}]
    source = table(tmp_path / "y.parquet", names)
    assert read_all(source, images=media_files) == [first]
    assert next(read(source, images=media_files)).key == "000000000-k-1"


@pytest.mark.parametrize("captions", [["one", "two"], [{"raw": "one"}, {"raw": "two"}]])
def test_several_captions_are_several_documents(tmp_path, media, captions):
    rows = [{"image": media("a.png"), "captions": captions, "cocoid": 5}]
    source = table(tmp_path / "x.parquet", rows)
    results = list(read(source))
    assert [result.key for result in results] == ["000000000-0", "000000000-1"]
    assert [result.ignored for result in results] == [{"column cocoid": 1}, {}]
    assert read_all(source) == [
        (asked("one"), media.pictured("a.png")), (asked("two"), media.pictured("a.png"))
    ]  # fmt: skip


def test_class_numbers_become_the_names_that_the_file_has(tmp_path, media):
    rows = [{"image": media("a.png"), "label": number} for number in (1, 0, -1, 2)]
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    source = table(tmp_path / "x.parquet", rows, features)
    first, second, *rest = read_all(source)
    assert (first[0], second[0]) == (asked("dog"), asked("cat"))
    for number, reason in zip((-1, 2), rest, strict=True):
        assert f"its class is {number}, expected 0 to 1" in reason
    with pytest.raises(ValueError, match="the file does not name the classes"):
        read_all(table(tmp_path / "y.parquet", rows))
    features["label"]["names"] = [1]
    with pytest.raises(ValueError, match="class names of column 'label' are no texts"):
        read_all(table(tmp_path / "z.parquet", rows, features))


TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]


@pytest.mark.parametrize("form", ["auto", "llava", "sharegpt"])
def test_conversations_in_the_form_of_llava(tmp_path, media, form):
    rows = [{"id": "a", "image": media("a.png"), "conversations": TURNS, "data_source": "s"},
            {"id": "b", "image": None, "conversations": [{**TURNS[0], "value": "What?"}, TURNS[1]],
             "data_source": "s"}]  # fmt: skip
    source = table(tmp_path / "x.parquet", rows)
    assert read_all(source, form=form) == [
        (media.pictured("a.png", "prompt"), asked("What?"), answer("A cat.")),
        (asked("What?"), answer("A cat.")),
    ]
    assert next(read(source, form=form)).ignored == {"column data_source": 1}


def test_messages_of_parts_with_pictures_beside_them(tmp_path, media):
    content = [{"type": "image", "text": None}, {"type": "text", "text": "What is <image>?"}]
    messages = [{"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}]  # fmt: skip
    rows = [{"messages": messages, "images": [media("a.png")]}]
    assert read_all(table(tmp_path / "x.parquet", rows)) == [
        (media.pictured("a.png", "prompt"), asked("What is <image>?"), answer("A cat."))
    ]
    tools = [{"messages": messages, "images": [media("a.png")], "tools": "[{}]"}]
    assert "it has 'tools'" in read_all(table(tmp_path / "y.parquet", tools))[0]


def test_turns_may_be_a_json_text(tmp_path, media):
    rows = [{"conversations": text, "image": media("a.png")}
            for text in (json.dumps(TURNS), "[" * 999, "7")]  # fmt: skip
    first, *rest = read_all(table(tmp_path / "x.parquet", rows))
    assert first == (media.pictured("a.png", "prompt"), asked("What?"), answer("A cat."))
    assert "the text in 'conversations' is" in rest[0]
    assert "'conversations' is a whole number, expected a list" in rest[1]


def test_the_cauldron_has_its_pictures_first(tmp_path, media):
    texts = [{"user": "What <image>?", "assistant": "A cat.", "source": "s"},
             {"user": "Sure?", "assistant": "Yes.", "source": "s"}]  # fmt: skip
    source = table(tmp_path / "x.parquet", [{"images": [media("a.png"), media("b.jpg")],
                                             "texts": texts}])  # fmt: skip
    assert read_all(source) == [
        (media.pictured("a.png", "prompt"), media.pictured("b.jpg", "prompt"),
         asked("What <image>?"), answer("A cat."), asked("Sure?"), answer("Yes."))
    ]  # fmt: skip
    assert next(read(source)).ignored == {"turn.source": 2}


def test_pages_in_the_form_of_obelics(tmp_path, media, media_files):
    rows = [{"images": [None, "https://h.org/a.png"], "texts": ["one", None], "metadata": "m"}]
    source = table(tmp_path / "x.parquet", rows)
    (segments,) = read_all(source, images=media_files)
    assert segments == (Text("one"), media.pictured("a.png", None))
    rows = [{"images": [None, media("a.png")], "texts": ["one", None]}]
    assert read_all(table(tmp_path / "y.parquet", rows)) == [segments]


def test_preferences_as_messages_and_about_a_picture(tmp_path, media):
    prompt = {"role": "user", "content": "Who?"}
    rows = [{"prompt": "Who?", "score_chosen": 1.5,
             **{half: [prompt, {"role": "assistant", "content": half}]
                for half in ("chosen", "rejected")}}]  # fmt: skip
    source = table(tmp_path / "x.parquet", rows)
    assert read_all(source) == [
        (asked("Who?"), answer("chosen")), (asked("Who?"), answer("rejected"))
    ]  # fmt: skip
    assert next(read(source)).ignored == {"column score_chosen": 1}
    rows = [{"image": media("a.png"), "question": "Who?", "chosen": "Me.", "rejected": "You."}]
    start = (media.pictured("a.png", "prompt"), asked("Who?"))
    assert read_all(table(tmp_path / "y.parquet", rows)) == [
        (*start, answer("Me.")), (*start, answer("You."))
    ]  # fmt: skip


def test_what_is_of_no_form_is_refused_with_its_columns(tmp_path):
    source = table(tmp_path / "x.parquet", [{"a": 1, "text": "x"}])
    with pytest.raises(ValueError, match=r"its columns are \['a', 'text'\], which is not any form"):
        read_all(source)
    with pytest.raises(ValueError, match="which is not the form obelics; see --as"):
        read_all(source, form="obelics")
    with pytest.raises(ValueError, match="there is no form 'csv', expected one of auto, pairs"):
        read_all(source, form="csv")
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
    texts = [segments[0].text for segments in read_all(tmp_path / "data", split="train")]
    assert texts == [f"{number} {i}" for number in (0, 1, 3) for i in range(3)]
    with pytest.raises(ValueError, match="holds the splits test, train; name one with --split"):
        read_all(tmp_path / "data", split="validation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no files ending in"):
        read_all(tmp_path / "empty")


def test_of_several_files_a_broken_one_is_skipped_and_said(tmp_path, media):
    for name in ("a", "c"):
        table(tmp_path / f"{name}.parquet", [{"image": media("a.png"), "text": name}])
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    table(tmp_path / "d.parquet", [{"x": 1}])
    first, second, third, fourth = read_all(tmp_path)
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
