"""Preference pairs: two documents of one prompt, side by side, with the loss on the answers."""

import json

import pytest

from unified_base.images import load_image
from unified_base.sounds import load_audio
from unified_data.check import check_shards
from unified_data.document import Audio, Image, Text
from unified_data.importers import Sample, importer
from unified_data.importers.import_shards import import_shards
from unified_data.shards import ShardWriter, document_of, read_shards

ASKED = {"role": "user", "content": "Who?"}


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def read(tmp_path, media, *records):
    """What becomes of records, in order: segments by key, or the reason why not."""
    documents = {}
    for result in importer("preferences")(lines(tmp_path / "x.jsonl", *records), media):
        assert result.key not in documents
        if isinstance(result, Sample):
            document = document_of(result.key, result.obj, result.media)
            documents[result.key] = document.segments
        else:
            documents[result.key] = result.reason
    return documents


def assistant(content):
    return {"role": "assistant", "content": content}


def prompted(text):
    return Text(text, "prompt", 0.0)


def answer(text):
    return Text(text, "response")


def pictured(media, name, role="response"):
    return Image(load_image(media / name), role, 0.0 if role == "prompt" else 1.0)


def test_a_pair_is_two_documents_of_one_prompt(tmp_path, media_files):
    record = {"id": "a/1", "prompt": "Who?", "chosen": "Me.", "rejected": "You.", "margin": 0.5}
    documents = read(tmp_path, media_files, record, {**record, "id": "a/1"})
    assert documents == {
        "000000000-a-1-chosen": (prompted("Who?"), answer("Me.")),
        "000000000-a-1-rejected": (prompted("Who?"), answer("You.")),
        "000000001-a-1-chosen": (prompted("Who?"), answer("Me.")),
        "000000001-a-1-rejected": (prompted("Who?"), answer("You.")),
    }


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": [ASKED], "chosen": [assistant("Me.")], "rejected": assistant("You.")},
        {"prompt": "Who?", "chosen": [ASKED, assistant("Me.")], "rejected":
         [ASKED, assistant("You.")], "messages": [ASKED, assistant("Me.")], "score_chosen": 7.0},
        {"chosen": [ASKED, assistant("Me.")], "rejected": [ASKED, assistant("You.")]},
        {"conversations": [{"from": "human", "value": "Who?"}],
         "chosen": {"from": "gpt", "value": "Me."}, "rejected": {"from": "gpt", "value": "You."}},
    ],
    ids=["messages", "whole conversations", "no prompt", "conversations"],
)  # fmt: skip
def test_the_forms_of_a_pair_are_one(tmp_path, media_files, record):
    documents = list(read(tmp_path, media_files, record).values())
    assert documents == [(prompted("Who?"), answer("Me.")), (prompted("Who?"), answer("You."))]


def test_an_earlier_answer_belongs_to_the_prompt_and_counts_nothing(tmp_path, media_files):
    earlier = [
        {"role": "user", "content": "A?"},
        assistant("B."),
        {"role": "user", "content": "C?"},
    ]
    start = (prompted("Be kind.\n\nA?"), Text("B.", "response", 0.0), prompted("C?"))
    for record in (
        {"prompt": earlier, "chosen": "D.", "rejected": "E."},
        {"chosen": [*earlier, assistant("D.")], "rejected": [*earlier, assistant("E.")]},
    ):
        chosen, rejected = read(tmp_path, media_files, {**record, "system": "Be kind."}).values()
        assert (chosen, rejected) == ((*start, answer("D.")), (*start, answer("E.")))
    # Answers of several turns that differ late: what they share before is still an answer.
    turns = [ASKED, assistant("B."), {"role": "user", "content": "C?"}]
    other = [ASKED, assistant("B."), {"role": "user", "content": "D?"}, assistant("E.")]
    record = {"chosen": [*turns, assistant("E.")], "rejected": other}
    chosen, rejected = read(tmp_path, media_files, record).values()
    assert chosen == (prompted("Who?"), answer("B."), prompted("C?"), answer("E."))
    assert rejected == (prompted("Who?"), answer("B."), prompted("D?"), answer("E."))


def test_media_go_to_the_prompt_then_to_the_chosen_then_to_the_rejected(tmp_path, media_files):
    sound = Audio(*load_audio(media_files / "s.flac"), "prompt", 0.0)
    record = {
        "prompt": "<image>\nas <audio>", "chosen": "so <image>", "rejected": "<image>",
        "images": ["a.png", "b.jpg", "c.webp"], "audios": ["s.flac"],
    }  # fmt: skip
    chosen, rejected = read(tmp_path, media_files, record).values()
    a = pictured(media_files, "a.png", "prompt")
    b, c = (pictured(media_files, name) for name in ("b.jpg", "c.webp"))
    assert chosen == (a, prompted("as "), sound, answer("so "), b)
    assert rejected == (a, prompted("as "), sound, c)
    parted = {
        **record, "images": ["a.png", "c.webp"], "chosen_images": ["b.jpg"],
    }  # fmt: skip
    assert list(read(tmp_path, media_files, parted).values()) == [chosen, rejected]
    named = {**record, "images": ["b.jpg", "c.webp"], "prompt": [{"role": "user", "content": [
        {"type": "image", "image": "a.png"}, {"type": "text", "text": "as "}, {"type": "audio"},
    ]}]}  # fmt: skip
    assert list(read(tmp_path, media_files, named).values()) == [chosen, rejected]


def test_an_answer_without_text_is_its_media(tmp_path, media_files):
    record = {"prompt": "a cat", "chosen_images": ["a.png"], "rejected_audios": ["s.flac"]}
    chosen, rejected = read(tmp_path, media_files, record).values()
    assert chosen == (prompted("a cat"), pictured(media_files, "a.png"))
    assert rejected == (prompted("a cat"), Audio(*load_audio(media_files / "s.flac"), "response"))


GOOD = {"prompt": "Who?", "chosen": "Me.", "rejected": "You."}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt": None}, "it has no 'prompt', nor do chosen and rejected begin with the same"),
        ({"prompt": 7}, "'prompt' is a whole number, expected a text or a list or an object"),
        ({"prompt": ""}, "its prompt is empty"),
        ({"prompt": []}, "its prompt does not end with what a user says"),
        ({"prompt": [ASKED, assistant("x")]}, "its prompt does not end with what a user says"),
        ({"prompt": ["Who?"]}, "turn 0 is not from one of system"),
        ({"chosen": "You."}, "chosen and rejected are the same"),
        ({"rejected": ""}, "rejected is empty"),
        ({"rejected": None}, "'rejected' is null"),
        ({"chosen": []}, "chosen has no answer after the prompt"),
        ({"chosen": [ASKED]}, "chosen has no answer after the prompt"),
        ({"chosen": [{"role": "user", "content": "What?"}, assistant("x")]},
         "chosen begins with another prompt than the pair's"),
        ({"chosen": [assistant("x"), 7]}, "chosen: turn 1 is not from one of"),
        ({"chosen": "<image>"}, "chosen: it has 0 image files for 1 places"),
        ({"images": ["a.png"]}, "it has 1 image files for 0 places"),
        ({"images": "a.png", "prompt": "<image><image>"}, "it has 1 image files for 2 places"),
        ({"rejected": "<image>", "images": ["lost.png"]}, "there is no file 'lost.png'"),
        ({"chosen_images": ["a.png"]}, "chosen: it has 1 image files for 0 places"),
        ({"videos": ["x.mp4"]}, "'videos', which a document cannot hold"),
    ],
)  # fmt: skip
def test_a_pair_of_which_a_half_cannot_be_used_is_skipped_whole(
    tmp_path, media_files, changes, reason
):
    documents = read(tmp_path, media_files, {**GOOD, **changes}, GOOD)
    first, *rest = documents
    assert (first, reason in documents[first]) == ("000000000", True), documents[first]
    assert rest == ["000000001-chosen", "000000001-rejected"]


@pytest.mark.parametrize("limit", [None, 3])
def test_no_shard_ends_between_the_halves_of_a_pair(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(ShardWriter.__init__, "__defaults__", (1, 1))
    records = [{**GOOD, "prompt": f"Who {n}?"} for n in range(4)]
    records[1]["chosen"] = ""
    report = import_shards(
        "preferences", lines(tmp_path / "x.jsonl", *records), tmp_path / "out", limit=limit
    )
    pairs = 3 if limit is None else 2
    assert (report["samples"], report["skipped"], report["shards"]) == (2 * pairs, 1, pairs)
    keys = [[key for key, _ in read_shards(path)] for path in sorted(tmp_path.glob("out/*.tar"))]
    numbers = (0, 2, 3)[:pairs]
    assert keys == [[f"{n:09d}-chosen", f"{n:09d}-rejected"] for n in numbers]
    assert check_shards(tmp_path / "out")["broken"] == 0
