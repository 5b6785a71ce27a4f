"""What records hold beside texts and media: honoured, counted, or refused by name."""

import io
import json
import shutil
import tarfile

import pytest
from imported import answer, asked, ignored, lines, outcomes, pictured

from unified_data.importers import importer, pairs
from unified_data.importers.import_shards import import_shards

ASKED = {"role": "user", "content": "Who?"}


def read(kind, source, images=None):
    return list(outcomes(importer(kind)(source, images)))


# Turns.


@pytest.mark.parametrize("weight", [0, 0.5, 2, "0", "x", [1], 10**30, False])
def test_the_weight_of_a_record_is_refused_where_it_says_something(tmp_path, media_files, weight):
    row = {"text": "x", "image": "a.png", "weight": 1.0}
    source = lines(tmp_path / "x.jsonl", {**row, "weight": weight}, row, {**row, "weight": "1"})
    refused, *rest = read("pairs", source, media_files)
    assert "x.jsonl line 1: its 'weight' is " in refused
    assert [segments[0] for segments in rest] == [asked("x")] * 2


def test_ignored_fields_are_reported_once_in_the_summary(tmp_path, media_files):
    rows = [{"id": str(n), "text": "x", "image": "a.png", "score": n, "tags": [], "url": "u"}
            for n in range(3)]  # fmt: skip
    report = import_shards(
        "pairs", lines(tmp_path / "x.jsonl", *rows, {"score": 1}), tmp_path / "out", media_files
    )
    assert report["ignored"] == {"score": 3, "url": 3}
    rows = [{**rows[0], f"field {n}": 1} for n in range(300)]
    report = import_shards(
        "pairs", lines(tmp_path / "x.jsonl", *rows), tmp_path / "more", media_files
    )
    assert len(report["ignored"]) == 201
    assert sum(report["ignored"].values()) == 900


COUNTED = [
    ("obelics", {"images": [None], "texts": ["x"], "metadata": [None], "general_metadata": "{}"},
     {"metadata": 1, "general_metadata": 1}),
    ("mmc4", {"text_list": ["x"], "url": "u", "similarity_matrix": [[0.1]],
              "image_info": [{"image_name": "a.png", "matched_text_index": 0, "raw_url": "u"}]},
     {"url": 1, "similarity_matrix": 1, "image_info.raw_url": 1}),
    ("comm", {"data_id": "w", "step_info": [[{"type": "text", "content": "x", "n": 1}]], "q": 1},
     {"content.n": 1, "q": 1}),
    ("sharegpt", {"messages": [{**ASKED, "name": "Ann"}, {"role": "assistant", "content": "x"}],
                  "source": "s"}, {"source": 1, "turn.name": 1}),
    ("preferences", {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 7.5},
     {"score_chosen": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record", "fields"), COUNTED, ids=[case[0] for case in COUNTED])
def test_each_kind_counts_what_it_does_not_take(tmp_path, media_files, kind, record, fields):
    assert ignored(kind, lines(tmp_path / "x.jsonl", record), media_files) == fields


def test_coco_counts_the_fields_of_its_lists(tmp_path, media_files):
    record = {
        "info": {"year": 2017}, "licenses": [{"id": 1}],
        "images": [{"id": 9, "file_name": "a.png", "license": 1, "flickr_url": "u"}],
        "annotations": [{"id": 1, "image_id": 9, "caption": "a", "bbox": [1, 2]},
                        {"id": 2, "image_id": 9, "caption": "b"}],
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(record))
    first, second = importer("coco")(tmp_path / "x.json", media_files)
    assert first.ignored == {"annotations.bbox": 1, "info": 1, "licenses": 1, "images.license": 1,
                             "images.flickr_url": 1}  # fmt: skip
    assert second.ignored == {}


# Texts beside media.


def tar(path, **members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


TALK = b'{"messages": [{"role": "user", "content": "<image>"}, {"role": "gpt", "content": "x"}]}'
BESIDE = [
    ({".txt": b"a"}, "a", {}),
    ({".caption": b"a\r\n"}, "a", {}),
    ({".TXT": b"a", ".caption": b"a "}, "a", {}),
    ({".txt": b"a", ".cls": b"7"}, "a", {".cls": 1}),
    ({".txt": b"a", ".caption": b"b"}, "it has two texts", None),
    ({".cls": b"7"}, "0 texts|no text, but a class number", None),
    ({".txt": b""}, "is empty", None),
    ({".txt": b"a", ".vtt": b"b"}, "is no text", None),
]


@pytest.mark.parametrize(("texts", "expected", "fields"), BESIDE, ids=range(len(BESIDE)))
@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_texts_of_other_names_beside_media(tmp_path, media_files, kind, texts, expected, fields):
    members = {f"k{end}": data for end, data in texts.items()}
    members["k.png"] = (media_files / "a.png").read_bytes()
    if kind == "folder":
        source = tmp_path / "in"
        source.mkdir()
        for name, data in members.items():
            (source / name).write_bytes(data)
    else:
        source = tar(tmp_path / "x.tar", **members)
    (result,) = read(kind, source)
    if fields is None:
        with pytest.raises(ValueError, match=expected):
            raise ValueError(result)
    else:
        assert result == (asked(expected), pictured(media_files, "a.png", "response"))
        assert ignored(kind, source) == fields


WDS = [
    ({"k.txt": b"a", "k.b.txt": b"b"}, "it has two texts, 'k.txt' and 'k.b.txt'", None),
    ({"k.txt": b"a", "k.b.txt": b"a"}, "a", {}),
    ({"k.json": b'{"text": "a", "caption": "b", "url": "u"}'}, "a",
     {"json.caption": 1, "json.url": 1}),
    ({"k.txt": b"a", "k.json": b'{"caption": "b", "width": 7}'}, "a",
     {"json.caption": 1, "json.width": 1}),
    ({"k.json": b'"a"', "k.b.json": b'"b"'}, "'k.json' and 'k.b.json', expected one .json", None),
    ({"k.json": b'["a"]'}, "is a list, expected an object or a text", None),
    ({"k.json": b'{"text": 7}'}, "the text in 'k.json' is no text", None),
    ({"k.json": TALK, "k.txt": b"a"}, "it has 'messages' and a text", None),
    ({"k.json": b'{"text": "a", "video": "x.mp4"}'}, "it has 'video'", None),
]  # fmt: skip


@pytest.mark.parametrize(("members", "expected", "fields"), WDS, ids=range(len(WDS)))
def test_texts_in_the_json_of_a_sample(tmp_path, media_files, members, expected, fields):
    png = (media_files / "a.png").read_bytes()
    source = tar(tmp_path / "x.tar", **members, **{"k.png": png})
    (result,) = read("webdataset", source)
    if fields is None:
        assert expected in result
    else:
        assert result == (asked(expected), pictured(media_files, "a.png", "response"))
        assert ignored("webdataset", source) == fields


def test_a_conversation_in_a_sample_has_its_system(tmp_path, media_files):
    record = json.dumps({**json.loads(TALK), "system": "Be kind.", "source": "s"}).encode()
    png = (media_files / "a.png").read_bytes()
    source = tar(tmp_path / "x.tar", **{"k.json": record, "k.png": png})
    (result,) = read("webdataset", source)
    assert result == (asked("Be kind."), pictured(media_files, "a.png"), answer("x"))
    assert ignored("webdataset", source) == {"json.source": 1}


# Tables.


def test_a_field_of_a_table_may_be_as_long_as_a_line(tmp_path, media_files):
    text = "x" * 200_000
    (tmp_path / "x.csv").write_text(f'text,image\n{text},a.png\n"{text}\n{text}",a.png\n')
    first, second = read("pairs", tmp_path / "x.csv", media_files)
    assert (first[0], second[0]) == (asked(text), asked(f"{text}\n{text}"))


def test_a_row_of_many_lines_is_bounded(tmp_path, media_files, monkeypatch):
    monkeypatch.setattr(pairs, "MAX_ROW", 300)
    long = ",".join(['"' + "x" * 90 + '\n"'] * 9)
    (tmp_path / "x.csv").write_text(f"text,image\n{long}\nx,a.png\n")
    first, *_ = read("pairs", tmp_path / "x.csv", media_files)
    assert first.startswith("x.csv row 1: it cannot be read, nor can lines 2 to 4 of the file: ")
    assert first.endswith("it is longer than 300 bytes")


def test_tables_with_tabs_and_crlf_and_a_folder_of_them(tmp_path, media_files):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tsv").write_bytes(b"caption\timage\tscore\r\na, cat\ta.png\t0.5\r\n")
    (folder / "b.csv").write_bytes(b'text,images\r\n"a ""dog""",b.jpg\r\n')
    first, second = read("pairs", folder, media_files)
    assert first == (asked("a, cat"), pictured(media_files, "a.png", "response"))
    assert second == (asked('a "dog"'), pictured(media_files, "b.jpg", "response"))
    assert ignored("pairs", folder, media_files) == {"score": 1}
    (folder / "c.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=r"tables and JSON \(a.tsv, c.jsonl\)"):
        read("pairs", folder, media_files)


@pytest.mark.parametrize(
    ("row", "reason"),
    [('"a"b,a.png', "it cannot be read"), ('"a,a.png\nb,b.jpg', "nor can lines 3 to 4"),
     ("a,b,c", "it has 3 columns, the header 2"), ("a", "it has 1 columns"), (",a.png", "no text"),
     ("a,", "neither an image nor an audio")],
)  # fmt: skip
def test_a_row_that_is_no_row_is_refused_with_its_lines(tmp_path, media_files, row, reason):
    (tmp_path / "x.csv").write_text(f"text,image\nx,a.png\n{row}\n")
    first, second = read("pairs", tmp_path / "x.csv", media_files)
    assert first[0] == asked("x")
    assert second.startswith("x.csv row 2: ")
    assert reason in second


# Paths.


def test_paths_that_lie_in_the_folder_of_the_media_are_taken(tmp_path, media_files):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for path in (folder / "sub" / "a.png", folder / "b\\c.png", tmp_path / "other" / "a.png"):
        shutil.copy(media_files / "a.png", path)
    (tmp_path / "link").symlink_to(folder)

    def outcome(name, root=folder):
        source = lines(tmp_path / "x.jsonl", {"text": "x", "image": name})
        (result,) = read("pairs", source, root)
        return result if isinstance(result, str) else "taken"

    for name in (
        "sub/a.png", "sub\\a.png", ".\\sub\\a.png", str(folder / "sub" / "a.png"),
        f"{tmp_path}/link/sub/a.png", "C:\\data\\photos\\sub\\a.png", "D:/Photos/sub/a.png",
        "C:\\photos\\old\\photos\\sub\\a.png", "b\\c.png",
    ):  # fmt: skip
        assert outcome(name) == "taken", name
    assert outcome(str(folder / "sub" / "a.png"), tmp_path / "link") == "taken"
    for name in (
        str(tmp_path / "other" / "a.png"), str(folder / ".." / "other" / "a.png"), "/sub/a.png",
        "C:\\data\\sub\\a.png", "C:sub\\a.png", "\\sub\\a.png", "\\\\host\\photos\\sub\\a.png",
        "C:\\photos\\..\\other\\a.png", "sub\\..\\..\\other\\a.png", "..\\other\\a.png",
    ):  # fmt: skip
        assert "is absolute or climbs with '..'" in outcome(name), name
    assert "there is no file" in outcome("C:\\data\\photos\\sub\\b.png")


def test_a_source_that_is_no_regular_file_is_refused_at_once(tmp_path):
    import os

    for kind, name in (("pairs", "x.csv"), ("pairs", "x.jsonl"), ("webdataset", "x.tar"),
                       ("coco", "x.json"), ("llava", "x.json")):  # fmt: skip
        folder = tmp_path / f"{kind}-{name}"
        folder.mkdir()
        os.mkfifo(folder / name)
        with pytest.raises(ValueError, match="is not a regular file"):
            read(kind, folder)
