"""POST /v1/responses, by the official client: an article's parts as items in reading order."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from unified_base.images import decode_image, encode_png
from unified_base.sounds import encode_wav
from unified_data.document import Audio, Image, Text

CAT_STORY = "The cat. One picture. Without its home"
TOOL = {"type": "image_generation", "partial_images": 2, "size": "96x96"}


def _respond(client, words=CAT_STORY, **fields):
    return client.responses.create(model="pocket", input=words, **fields)


@pytest.fixture(scope="module")
def article(pocket):
    """What `unified write` writes, with seed 4."""
    document = pocket.write(CAT_STORY, seed=4)
    return [segment for segment in document if segment.role == "response"]


@pytest.fixture(scope="module")
def silent(pocket):
    """The same without sound, with seed 4."""
    document = pocket.write(CAT_STORY, audio=False, seed=4)
    return [segment for segment in document if segment.role == "response"]


def test_items_are_texts_and_pictures_in_reading_order(client, silent, picture_ids):
    answer = _respond(client, tools=[{"type": "image_generation"}], extra_body={"seed": 4})
    assert [item.type for item in answer.output] == [
        "message" if isinstance(segment, Text) else "image_generation_call" for segment in silent
    ]
    for item, segment in zip(answer.output, silent):
        assert item.status == "completed"
        if isinstance(segment, Text):
            assert [part.text for part in item.content] == [segment.text]
        else:
            assert base64.b64decode(item.result) == encode_png(segment.pixels)
            assert (item.size, item.output_format) == ("96x96", "png")
    assert answer.output_text == "".join(s.text for s in silent if isinstance(s, Text))
    assert (answer.status, answer.error, answer.seed, answer.warnings) == ("completed", None, 4, [])
    details = answer.usage.output_tokens_details
    assert details.image_tokens == picture_ids
    assert answer.usage.output_tokens == (
        details.text_tokens + details.image_tokens + details.marker_tokens
    )


# The client's own types know no sound among a message's parts, and say so when written as JSON.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_stream_tells_every_part_and_ends_with_the_whole(client, article):
    events = list(
        _respond(
            client,
            stream=True,
            tools=[TOOL],
            extra_body={"seed": 4, "modalities": ["text", "image", "audio"]},
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert last.type == "response.completed"

    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == last.response.output_text == "".join(
        segment.text for segment in article if isinstance(segment, Text)
    )  # fmt: skip
    (picture,) = [segment for segment in article if isinstance(segment, Image)]
    (sound,) = [segment for segment in article if isinstance(segment, Audio)]
    partial = [e for e in events if e.type.endswith("partial_image")]
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert all(
        decode_image(base64.b64decode(e.partial_image_b64), "partial").shape == (96, 96, 3)
        for e in partial
    )
    samples = b"".join(
        base64.b64decode(e.delta) for e in events if e.type == "response.audio.delta"
    )
    wav = encode_wav(sound.waveform, sound.sample_rate)
    assert samples == wav[44:]

    parts = []
    for item in last.response.output:
        parts += [item] if item.type == "image_generation_call" else item.content
    kinds = {Text: "output_text", Image: "image_generation_call", Audio: "output_audio"}
    assert [part.type for part in parts] == [kinds[type(segment)] for segment in article]
    by_kind = {part.type: part for part in parts}
    assert base64.b64decode(by_kind["output_audio"].data) == wav
    assert by_kind["output_audio"].transcript
    result = base64.b64decode(by_kind["image_generation_call"].result)
    assert np.array_equal(decode_image(result, "result"), picture.pixels)

    added = [e for e in events if e.type == "response.output_item.added"]
    done = [e for e in events if e.type == "response.output_item.done"]
    assert [e.item.id for e in added] == [item.id for item in last.response.output]
    assert [e.output_index for e in done] == list(range(len(added)))
    assert [e.item.to_dict() for e in done] == [item.to_dict() for item in last.response.output]
    states = [e.type.rpartition(".")[2] for e in events if "image_generation_call" in e.type]
    assert states == ["in_progress", "generating", "partial_image", "partial_image", "completed"]


def test_without_the_tool_there_are_words_alone_up_to_the_budget(client):
    answer = _respond(client, "The cat", max_output_tokens=7, extra_body={"seed": 6})
    (item,) = answer.output
    assert (item.type, answer.status) == ("message", "incomplete")
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens <= 7


def test_the_tool_alone_draws(client, pocket):
    answer = _respond(
        client, "a cat", tools=[TOOL], tool_choice={"type": "image_generation"},
        extra_body={"seed": 3},
    )  # fmt: skip
    (item,) = answer.output
    assert base64.b64decode(item.result) == encode_png(pocket.draw("a cat", seed=3)[0])
    assert answer.warnings == ["partial_images has no effect here: nothing is streamed"]


def test_an_answer_comes_back_as_input_of_the_next_request(client, pocket):
    cat = pocket.draw("a cat", seed=3)[0]
    url = f"data:image/png;base64,{base64.b64encode(encode_png(cat)).decode()}"
    asked = {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": url, "detail": "auto"},
        ],
    }
    first = _respond(client, [asked], extra_body={"seed": 1})
    assert first.output_text == pocket.ask(cat, "What is this?", seed=1)
    again = [asked, *first.output, {"role": "user", "content": "What colour is the ground?"}]
    second = _respond(client, [i if isinstance(i, dict) else i.to_dict() for i in again])
    assert second.output_text
    assert second.warnings == []


@pytest.mark.parametrize(
    ("fields", "param", "texts"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", ["nothing is kept"]),
        ({"background": True}, "background", ["nothing is kept"]),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", ["image_generation"]),
        ({"tools": [{**TOOL, "size": "1024x1024"}]}, "size", ["96x96"]),
        ({"tools": [{**TOOL, "partial_images": 4}]}, "tools[0].partial_images", ["3"]),
        ({"tools": [TOOL, TOOL]}, "tools", ["at most 1"]),
        ({"tool_choice": "required"}, "tool_choice", []),
        ({"text": {"format": {"type": "json_object"}}}, "text", ["not available"]),
        ({"extra_body": {"min_p": 0.1}}, "min_p", ["unknown field"]),
        ({"words": []}, "input", ["nothing is asked"]),
        ({"words": [{"role": "user", "content": [{"type": "input_file"}]}]},
         "input[0].content[0].type", ["input_file"]),
        ({"words": [{"type": "function_call_output", "output": "4"}]}, "input[0].type", []),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_refused_by_name(client, refused, fields, param, texts):
    words = fields.get("words", CAT_STORY)
    others = {name: value for name, value in fields.items() if name != "words"}
    refused(lambda: _respond(client, words, **others), param, *texts)


def test_fields_without_effect_are_said(client):
    answer = _respond(
        client, "The cat", instructions="Be brief.", store=True, truncation="auto",
        max_output_tokens=2, metadata={"a": "b"}, tools=[TOOL], tool_choice="none",
    )  # fmt: skip
    fields = [text.split(" ha")[0] for text in answer.warnings if "effect" in text]
    assert fields == ["store", "instructions", "truncation", "tools"]
    assert answer.metadata == {"a": "b"}
