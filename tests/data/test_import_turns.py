"""Turns of conversations: weights, speakers, media in their forms, tags, and what is refused."""

import base64

import pytest
from imported import answer, asked, ignored, lines, outcomes, pictured

from unified_data.importers import importer

ASKED = {"role": "user", "content": "Who?"}


def read(kind, source, images=None):
    return list(outcomes(importer(kind)(source, images)))


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
