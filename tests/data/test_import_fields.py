"""What records hold beside texts and media: honoured, counted, or refused by name."""

import base64
import io
import json
import shutil
import tarfile

import pytest

from unified_base.images import load_image
from unified_data.document import Image, Text
from unified_data.importers import Sample, importer, pairs
from unified_data.importers.import_shards import import_shards
from unified_data.shards import document_of

ASKED = {"role": "user", "content": "Who?"}


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def read(kind, source, images=None):
    """Of each record its segments, or the reason why there are none."""
    results = []
    for result in importer(kind)(source, images):
        if isinstance(result, Sample):
            results.append(document_of(result.key, result.obj, result.media).segments)
        else:
            results.append(result.reason)
    return results


def ignored(kind, source, images=None):
    """Fields that were not taken over, of the first document."""
    return next(iter(importer(kind)(source, images))).ignored


def asked(text, loss=0.0):
    return Text(text, "prompt", loss)


def answer(text, loss=1.0):
    return Text(text, "response", loss)


def pictured(folder, name, role="prompt"):
    return Image(load_image(folder / name), role, 0.0 if role == "prompt" else 1.0)


@pytest.fixture
def talk(tmp_path, media_files):
    """Import one conversation of given turns and media: its segments, or the reason."""

    def run(*turns, kind="sharegpt", **fields):
        record = {"conversations": list(turns), **fields}
        (result,) = read(kind, lines(tmp_path / "x.jsonl", record), media_files)
        return result

    return run


# Turns.


@pytest.mark.parametrize(
    ("fields", "loss"),
    [({"weight": 0}, 0.0), ({"weight": 0.25}, 0.25), ({"loss": False}, 0.0), ({"loss": True}, 1.0),
     ({"train": False}, 0.0), ({"weight": 0, "train": False}, 0.0), ({"weight": None}, 1.0)],
)  # fmt: skip
def test_the_weight_of_a_turn_is_the_loss_of_what_it_says(talk, fields, loss):
    reply = {"role": "assistant", "content": "Me.", **fields}
    assert talk(ASKED, reply) == (asked("Who?"), answer("Me.", loss))


def test_texts_of_one_role_and_different_weights_stay_apart(talk):
    turns = [{"role": "assistant", "content": text, "weight": weight}
             for text, weight in (("a", 0), ("b", 1), ("c", 1))]  # fmt: skip
    assert talk(ASKED, *turns) == (asked("Who?"), answer("a", 0.0), answer("b\n\nc"))


def test_other_names_of_who_speaks_and_what_a_turn_says(talk):
    refused = {"type": "refusal", "refusal": "No."}
    turns = [{"role": "developer", "content": ""}, {"from": "human", "content": "Who?"},
             {"role": "model", "value": "Me."}, ASKED, {"role": "assistant", "refusal": "No."},
             ASKED, {"role": "assistant", "content": [refused]}]  # fmt: skip
    assert talk(*turns) == (
        asked("Who?"), answer("Me."), asked("Who?"), answer("No."), asked("Who?"), answer("No.")
    )  # fmt: skip


CALL = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
BAD_TURNS = [
    ({"reasoning_content": "hm"}, "turn 1 has 'reasoning_content', which a document cannot hold"),
    ({"reasoning": "hm"}, "turn 1 has 'reasoning'"),
    ({"thinking": "hm"}, "turn 1 has 'thinking'"),
    ({"tool_calls": CALL}, "turn 1 has 'tool_calls'"),
    ({"tool_calls": CALL, "content": None}, "turn 1 has 'tool_calls'"),
    ({"function_call": CALL[0]}, "turn 1 has 'function_call'"),
    ({"audio": {"id": "x", "data": "", "transcript": "Me."}}, "turn 1 has 'audio'"),
    ({"role": "tool", "tool_call_id": "1"}, "turn 1 is not from one of .*, but from 'tool'"),
    ({"role": "function"}, "but from 'function'"),
    ({"role": "observation"}, "but from 'observation'"),
    ({"role": ["assistant"]}, "turn 1 is not from one of"),
    ({"from": "human"}, "a turn has 'from' and 'role', which differ"),
    ({"value": "You."}, "a turn has 'value' and 'content', which differ"),
    ({"weight": -1}, "turn 1 has weight -1"),
    ({"weight": "0"}, "turn 1 has weight '0'"),
    ({"weight": 10**30}, "turn 1 has weight 1000000"),
    ({"weight": 1, "train": False}, "turn 1 has 'weight' and 'train', which differ"),
    ({"content": ""}, r"turn 1 \(assistant\) is empty"),
    ({"content": " \n\t"}, r"turn 1 \(assistant\) is empty"),
    ({"content": []}, r"turn 1 \(assistant\) is empty"),
    ({"content": [{"type": "text", "text": " "}]}, r"turn 1 \(assistant\) is empty"),
    ({"content": None}, "turn 1 holds neither text nor a picture or sound"),
    ({"content": 7}, "turn 1 holds neither"),
    ({"content": {"text": "Me."}}, "turn 1 holds neither"),
    ({"content": [{"type": "file", "file": {}}]}, "turn 1 holds neither .* but 'file'"),
    ({"content": [{"type": "video_url"}]}, "turn 1 holds neither .* but 'video_url'"),
    ({"content": [{"type": "image_url"}]}, "turn 1 has an image_url without a url"),
    ({"content": [{"type": "image_url", "image_url": {"url": "https://h/a.png"}}]},
     "nothing is fetched"),
    ({"content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]},
     "is no data: address of base64"),
    ({"content": [{"type": "image_url", "image_url": {"url": "data:;base64,!"}}]}, "not base64"),
    ({"content": [{"type": "input_audio", "input_audio": {}}]}, "an input_audio without data"),
    ({"content": "Me.", "refusal": "No."}, "turn 1 has a refusal .* beside its content"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), BAD_TURNS, ids=range(len(BAD_TURNS)))
def test_a_turn_that_a_document_cannot_hold_is_refused_by_name(talk, changes, reason):
    reply = {"role": "assistant", "content": "Me."}
    assert talk(ASKED, reply, {"role": "user", "content": "More?"}, reply)[1] == answer("Me.")
    with pytest.raises(ValueError, match=reason):
        raise ValueError(talk(ASKED, {**reply, **changes}, ASKED, reply))


def test_an_empty_field_that_is_refused_otherwise_says_nothing(talk):
    reply = {"role": "assistant", "content": "Me.", "tool_calls": None, "function_call": None,
            "reasoning_content": "", "refusal": None, "audio": None}  # fmt: skip
    assert talk(ASKED, reply, tools="[]", videos=[]) == (asked("Who?"), answer("Me."))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"tools": CALL}, "'tools'"), ({"videos": ["a.mp4"]}, "'videos'"), ({"weight": 0}, "'weight'"),
     ({"messages": [ASKED]}, "'messages' and 'conversations', expected one of them"),
     ({"images": ["a.png"], "image": "b.jpg"}, "'images' and 'image', expected one of them"),
     ({"system": 7}, "'system' is a whole number")],
)  # fmt: skip
def test_a_record_that_a_document_cannot_hold_is_refused_by_name(talk, fields, reason):
    with pytest.raises(ValueError, match=reason):
        raise ValueError(talk(ASKED, {"role": "assistant", "content": "Me."}, **fields))


def test_media_in_the_forms_of_the_api(talk, media_files):
    png, flac = ((media_files / name).read_bytes() for name in ("a.png", "s.flac"))
    address = "data:image/png;base64," + base64.b64encode(png).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": address, "detail": "low"}},
        {"type": "image_url", "image_url": "b.jpg"},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(flac).decode()}},
        {"type": "input_text", "text": "Say <image> and \\<audio>."},
    ]
    reply = {"role": "assistant", "content": "<image>"}
    segments = talk({"role": "user", "content": parts}, reply, images=[address])
    assert segments[:2] == (pictured(media_files, "a.png"), pictured(media_files, "b.jpg"))
    assert segments[2].waveform.shape == (1, 400)
    assert segments[3] == asked("Say <image> and \\<audio>.")  # a text part has no places
    assert segments[4:] == (pictured(media_files, "a.png", "response"),)


def test_media_in_the_forms_of_chat_templates(talk, media_files):
    data = base64.b64encode((media_files / "a.png").read_bytes()).decode()
    parts = [
        {"type": "image", "url": "a.png", "text": None}, {"type": "image", "path": "a.png"},
        {"type": "image", "base64": data}, {"type": "image", "image": ["a.png"], "alt": "x"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "image", "index": 0}, {"type": "image", "index": 1, "image": None},
    ]  # fmt: skip
    reply = {"role": "assistant", "content": [{"type": "text", "text": "Me.", "annotations": []}]}
    segments = talk({"role": "user", "content": parts}, reply, images=["a.png", "a.png"])
    assert segments == (*[pictured(media_files, "a.png")] * 7, answer("Me."))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "image", "index": 1}, "turn 0 asks for image 1, but it is the turn of image 0"),
        ({"type": "image", "index": "0"}, "turn 0 has index '0'"),
        ({"type": "image", "image": "a.png", "path": "b.jpg"}, "'image' and 'path', expected one"),
        ({"type": "image", "source": {"type": "file", "file_id": "x"}}, "neither base64 nor a url"),
        ({"type": "image", "base64": 7}, "an image that is no base64 text"),
        ({"type": "image", "audio": "s.flac"}, "a part of type 'image' with 'audio'"),
        ({"type": "text", "text": "x", "image": "a.png"}, "a part of type 'text' with 'image'"),
        ({"type": "image_url", "image_url": "a.png", "text": "x"}, "type 'image_url' with 'text'"),
        ({"type": "image", "image": 7}, "'image' is a whole number, expected file names"),
    ],
)
def test_a_part_that_holds_something_else_is_refused_by_name(talk, part, reason):
    result = talk({"role": "user", "content": [part]}, {"role": "assistant", "content": "Me."},
                  images=["a.png"])  # fmt: skip
    with pytest.raises(ValueError, match=reason):
        raise ValueError(result)


# Tags as words.


@pytest.mark.parametrize(
    ("text", "images", "expected"),
    [
        ("<image>\r\nWhat?", 1, ["a", "What?"]),
        ("What?\r\n<image>\r\n", 1, ["What?", "a"]),
        ("<image>\rWhat?", 1, ["a", "What?"]),
        ("<image>\nWhat does <image> mean?", 1, ["a", "What does <image> mean?"]),
        ("<image>\nWhat does `<image>` mean?\n<image>", 2, ["a", "What does `<image>` mean?", "b"]),
        ("<image><image>\nWhat is the <image> tag?", 2, ["a", "b", "What is the <image> tag?"]),
        ("See <image> and <image>.", 2, ["See ", "a", " and ", "b", "."]),
        ("What does the <image> tag do?", 0, ["What does the <image> tag do?"]),
        ("\\<image> is a tag", 0, ["<image> is a tag"]),
        ("<image>\nWhat is\n\\<image>\n?", 1, ["a", "What is\n<image>\n?"]),
        ("What does the <audio> tag do, <image>", 1, ["What does the <audio> tag do, ", "a"]),
        ("<Image> < image> <image/> &lt;image&gt;", 0, ["<Image> < image> <image/> &lt;image&gt;"]),
        ("<image>\nWhat?", 0, "it has 0 image files for 1 places; write .<image> where the words"),
        ("See <image> and <image>.", 1, "it has 1 image files for 2 places"),
        ("What?", 1, "it has 1 image files for 0 places"),
        ("<image>", 2, "it has 2 image files for 1 places"),
    ],
)
def test_a_tag_is_a_place_or_a_word_by_the_files_there_are(
    talk, media_files, text, images, expected
):
    names = {"a": "a.png", "b": "b.jpg"}
    turns = ({"role": "user", "content": text}, {"role": "assistant", "content": "Me."})
    result = talk(*turns, images=[*names.values()][:images])
    if isinstance(expected, str):
        assert isinstance(result, str), result
        with pytest.raises(ValueError, match=expected):
            raise ValueError(result)
        return
    segments = [pictured(media_files, names[part]) if part in names else asked(part)
                for part in expected]  # fmt: skip
    assert result == (*segments, answer("Me."))


def test_llava_knows_no_sound_and_tags_as_words_are_counted(tmp_path, media_files, talk):
    turns = [{"from": "human", "value": "<image>\nWhat is <audio>, what <image>?"},
             {"from": "gpt", "value": "<audio>\nis a tag."}]  # fmt: skip
    assert talk(*turns, kind="llava", image="a.png") == (
        pictured(media_files, "a.png"), asked("What is <audio>, what <image>?"),
        answer("<audio>\nis a tag."),
    )  # fmt: skip
    record = {"id": 7, "image": "a.png", "conversations": turns, "model": "m", "score": 0.0}
    source = lines(tmp_path / "x.jsonl", record)
    assert ignored("llava", source, media_files) == {"model": 1, "score": 1, "<image> as words": 1}


def test_the_tags_of_a_pair_are_counted_over_all_of_it(tmp_path, media_files):
    record = {"prompt": "<image>\nWhat does <image> mean?", "chosen": "The <image> tag.",
              "rejected": "No.\n<image>", "images": ["a.png", "b.jpg"]}  # fmt: skip
    chosen, rejected = read("preferences", lines(tmp_path / "x.jsonl", record), media_files)
    start = (pictured(media_files, "a.png"), asked("What does <image> mean?"))
    assert chosen == (*start, answer("The <image> tag."))
    assert rejected == (*start, answer("No."), pictured(media_files, "b.jpg", "response"))


def test_transcripts_of_hh_rlhf_are_conversations(tmp_path):
    start = "\n\nHuman: Who?\n\nAssistant: Me.\n\nHuman: Why?\n\nAssistant:"
    record = {"chosen": f"{start} So.", "rejected": f"{start} Human: no."}
    chosen, rejected = read("preferences", lines(tmp_path / "x.jsonl", record))
    first = (asked("Who?"), answer("Me.", 0.0), asked("Why?"))
    assert (chosen, rejected) == ((*first, answer("So.")), (*first, answer("Human: no.")))


# What is counted.


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
