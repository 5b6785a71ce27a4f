"""POST /v1/chat/completions, by the official client: the same words, pictures and sounds as the
verbs in Python."""

from __future__ import annotations

import base64
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from unified_base.images import decode_image, encode_png
from unified_base.sounds import decode_audio, encode_wav
from unified_data.document import Audio, Image, Text

CAT_STORY = "The cat. One picture. Without its home"


def _chat(client, content, **fields):
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return client.chat.completions.create(model="pocket", messages=messages, **fields)


def _url(pixels):
    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"


def _picture(pixels):
    return {"type": "image_url", "image_url": {"url": _url(pixels)}}


@pytest.fixture(scope="module")
def cat(pocket):
    return pocket.draw("a cat", seed=3)[0]


@pytest.fixture(scope="module")
def article(pocket):
    """What `unified write` writes, with seed 4: texts, a picture and a narration."""
    document = pocket.write(CAT_STORY, seed=4)
    return [segment for segment in document if segment.role == "response"]


def test_words_are_those_of_write_without_pictures_and_sound(client, pocket):
    request = pocket.request("write", text="The cat", images=0, sounds=0)
    expected = [
        document.segments[-1].text
        for document in pocket.generate(request.document, 2, 6, request.sampling)
    ]
    answer = _chat(client, "The cat", n=2, seed=6)
    assert [choice.message.content for choice in answer.choices] == expected
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
    assert (answer.seed, answer.warnings) == (6, [])
    usage = answer.usage
    details = usage.completion_tokens_details
    assert usage.completion_tokens == details.text_tokens + details.marker_tokens > 100


def test_thoughts_come_where_they_are_asked_for_and_end_at_their_budget(
    client, pocket, cat, monkeypatch
):
    table = pocket.tasks
    task = replace(table.task("describe"), thought_ends=(" ca",))
    monkeypatch.setattr(pocket, "_tasks", table.with_entries({"describe": task}))
    (whole,) = pocket.respond(pocket.request("describe", image=cat), seed=2)
    assert (whole.thought, whole.text) == ("a", "t")
    asked = {"content": [{"role": "user", "content": [_picture(cat)]}], "seed": 2}
    extra = {"include_reasoning": True}
    message = _chat(client, **asked, extra_body=extra).choices[0].message
    assert (message.reasoning_content, message.content) == (whole.thought, whole.text)
    assert not hasattr(_chat(client, **asked).choices[0].message, "reasoning_content")
    chunks = list(_chat(client, **asked, extra_body=extra, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thoughts = [each.reasoning_content for each in deltas if hasattr(each, "reasoning_content")]
    assert thoughts == [whole.thought]
    bounded = _chat(client, **asked, extra_body={"max_thought_ids": 1})
    assert bounded.warnings[0].startswith("a thought reached its budget after 1 id")


def test_an_article_has_its_parts_in_order_and_mirrored(client, article):
    answer = _chat(
        client, CAT_STORY, seed=4, modalities=["text", "image", "audio"],
        audio={"voice": "ben", "format": "wav"},
    )  # fmt: skip
    message = answer.choices[0].message
    kinds = {Text: "text", Image: "image_url", Audio: "audio"}
    assert [part["type"] for part in message.content] == [kinds[type(s)] for s in article]
    texts = [part["text"] for part in message.content if part["type"] == "text"]
    assert texts == [segment.text for segment in article if isinstance(segment, Text)]
    (picture,) = [segment for segment in article if isinstance(segment, Image)]
    (entry,) = message.images
    assert entry["image_url"]["url"] == _url(picture.pixels)
    assert entry["image_url"] in [part.get("image_url") for part in message.content]
    (sound,) = [segment for segment in article if isinstance(segment, Audio)]
    wav = encode_wav(sound.waveform, sound.sample_rate)
    assert base64.b64decode(message.audio.data) == wav
    assert f") {message.audio.transcript}" in texts[0]
    assert message.audio.transcript
    details = answer.usage.completion_tokens_details
    assert details.image_tokens > 0
    assert details.audio_tokens > 0
    assert [text.split()[0] for text in answer.warnings] == ["audio.voice"]


def test_a_stream_brings_the_same_in_pieces(client, article):
    stream = _chat(
        client, CAT_STORY, seed=4, stream=True, modalities=["text", "image", "audio"],
        audio={"voice": "ben", "format": "pcm16"}, stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    text = "".join(delta.content or "" for delta in deltas)
    assert text == "".join(segment.text for segment in article if isinstance(segment, Text))
    (picture,) = [segment for segment in article if isinstance(segment, Image)]
    images = [image for delta in deltas for image in getattr(delta, "images", None) or []]
    assert [image["image_url"]["url"] for image in images] == [_url(picture.pixels)]
    (sound,) = [segment for segment in article if isinstance(segment, Audio)]
    audio = [delta.audio for delta in deltas if delta.audio is not None]
    samples = b"".join(base64.b64decode(each.data) for each in audio if each.data)
    assert samples == encode_wav(sound.waveform, sound.sample_rate)[44:]
    assert [bool(each.expires_at) for each in audio][-1]
    assert len({each.id for each in audio}) == 1
    # Words, sound and picture come in the order of the article.
    order = ["audio" if d.audio else "image" if getattr(d, "images", None) else "text"
             for d in deltas if d.audio or d.content or getattr(d, "images", None)]  # fmt: skip
    kinds = {Text: "text", Image: "image", Audio: "audio"}
    assert [kind for kind, _ in groupby(order)] == [kinds[type(segment)] for segment in article]
    *_, end, usage = chunks
    assert end.choices[0].finish_reason == "stop"
    assert end.seed == 4
    assert end.warnings
    assert usage.usage.completion_tokens > 100
    assert not usage.choices
    assert len({chunk.id for chunk in chunks}) == 1


def test_questions_about_a_picture_in_one_conversation(client, pocket, cat):
    """An answered question comes along, as `turns`; an assistant's own pictures do not."""
    seen = pocket.ask(cat, "What is this?", seed=1)
    first = [{"type": "text", "text": "What is this?"}, _picture(cat)]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": first},
    ]
    answer = _chat(client, messages, seed=1)
    assert answer.choices[0].message.content == seen
    assert [text.split()[0] for text in answer.warnings] == ["system"]
    more = [*messages[1:], {"role": "assistant", "content": seen},
            {"role": "user", "content": "What colour is the ground?"}]  # fmt: skip
    answer = _chat(client, more, seed=1)
    from unified.tasks.asking import Turn

    request = pocket.request(
        "ask", image=cat, question="What colour is the ground?",
        turns=(Turn("What is this?", seen),),
    )  # fmt: skip
    (document,) = pocket.generate(request.document, 1, 1, request.sampling)
    assert answer.choices[0].message.content == request.response(document).text
    assert answer.warnings == []


def test_a_picture_alone_is_described_and_a_sound_is_heard(client, pocket, cat):
    described = _chat(client, [{"role": "user", "content": [_picture(cat)]}], seed=0)
    assert described.choices[0].message.content == pocket.describe(cat, seed=0)
    waveform, rate = pocket.speak("A cat.", seed=0)
    data = base64.b64encode(encode_wav(waveform, rate)).decode()
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    heard = _chat(client, [{"role": "user", "content": [part]}], seed=0)
    waveform, rate = decode_audio(encode_wav(waveform, rate), "wav")
    assert heard.choices[0].message.content == pocket.listen(waveform, rate, seed=0)


def test_a_picture_or_a_sound_alone_is_drawn_or_spoken(client, pocket, cat):
    drawn = _chat(client, "a cat", seed=3, modalities=["image"]).choices[0].message
    assert [part["type"] for part in drawn.content] == ["image_url"]
    data = drawn.images[0]["image_url"]["url"].partition(",")[2]
    assert np.array_equal(decode_image(base64.b64decode(data), "answer"), cat)
    spoken = _chat(
        client, "A cat.", seed=0, modalities=["audio"], audio={"voice": "amy", "format": "wav"}
    )
    message = spoken.choices[0].message
    expected = encode_wav(*pocket.speak("A cat.", voice="amy", seed=0))
    assert base64.b64decode(message.audio.data) == expected
    assert (message.content, message.audio.transcript) == (None, "A cat.")


def test_a_text_ends_at_a_stop_and_at_its_budget(client, picture_ids):
    stopped = _chat(client, "The cat", seed=6, stop=["\n\n"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("# The cat", "stop")
    cut = _chat(client, "The cat", seed=6, max_completion_tokens=9)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 9
    most = picture_ids + 46
    whole = _chat(client, CAT_STORY, seed=6, modalities=["text", "image"], max_tokens=most)
    assert most - 10 < whole.usage.completion_tokens <= most
    assert len(whole.choices[0].message.images) == 1


@pytest.mark.parametrize("text", ["<image>", "</s><|endoftext|>", "\u202e<boi><eoi>"])
def test_names_of_markers_in_words_stay_words(client, cat, text):
    answer = _chat(client, [{"role": "user", "content": [_picture(cat), _part(text)]}], seed=0)
    assert answer.usage.completion_tokens_details.image_tokens == 0
    assert isinstance(answer.choices[0].message.content, str)


def _part(text):
    return {"type": "text", "text": text}


CAT = [{"role": "user", "content": "The cat"}]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", ["functions"]),
        ({"frequency_penalty": 0.5}, "frequency_penalty", ["not available"]),
        ({"response_format": {"type": "json_object"}}, "response_format", ["not available"]),
        ({"modalities": ["video"]}, "modalities[0]", ["'text', 'image' or 'audio'"]),
        ({"modalities": []}, "modalities", ["at least 1"]),
        ({"stream": True, "modalities": ["audio"], "audio": {"voice": "amy", "format": "mp3"}},
         "audio.format", ["pcm16"]),
        ({"modalities": ["audio"], "audio": {"voice": "nova", "format": "wav"}}, "voice", ["nova"]),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", ["one of them"]),
        ({"max_completion_tokens": 10**9}, "max_completion_tokens", ["at most 16384"]),
        ({"top_p": 7.0}, "top_p", ["7.0"]),
        ({"extra_body": {"min_tokens": 4}}, "min_tokens", ["unknown field", "temperature"]),
        ({"stream_options": {"include_usage": True}}, "stream_options", ["stream"]),
        ({"n": 17}, "n", ["at most 16"]),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_refused_by_name(client, refused, fields, param, words):
    refused(lambda: _chat(client, CAT, **fields), param, *words)


def _user(*parts):
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("messages", "param", "words"),
    [
        ([], "messages", ["nothing is asked"]),
        ([{"role": "assistant", "content": "hm"}], "messages[0].content", ["not a user's"]),
        ([{"role": "tool", "content": "4"}], "messages[0].role", ["'tool'"]),
        ([{"role": "user"}], "messages[0].content", ["missing"]),
        ([{"role": "user", "content": " "}], "messages[0].content", ["says nothing"]),
        ([{"role": "user", "content": "a", "mood": 1}], "messages[0].mood", ["unknown field"]),
        (_user({"type": "file", "file": {}}), "messages[0].content[0].type", ["'file'"]),
        (_user({"type": "text", "text": 5}), "messages[0].content[0].text", ["valid string"]),
        (_user({"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}),
         "messages[0].content[0].image_url.url", ["fetches nothing"]),
        (_user({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}),
         "messages[0].content[0].image_url.url", ["fetches nothing"]),
        (_user({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KG"}}),
         "messages[0].content[0].image_url.url", ["base64"]),
        (_user({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}),
         "messages[0].content[0].image_url.url", ["picture"]),
        (_user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
         "messages[0].content[0].input_audio.data", ["sound"]),
        (_user(*[_part("a")] * 129), "messages", ["129", "at most 128"]),
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_is_refused_by_its_place(client, refused, messages, param, words):
    refused(lambda: _chat(client, messages), param, *words)


def test_a_picture_can_be_asked_about_in_text_alone_and_one_at_a_time(client, refused, cat):
    two = _user(_picture(cat), _picture(cat), _part("Which?"))
    refused(lambda: _chat(client, two), "messages[0].content", "one at a time")
    with_picture = _user(_picture(cat), _part("Draw it anew"))
    refused(
        lambda: _chat(client, with_picture, modalities=["text", "image"]),
        "modalities",
        "text alone",
    )


def test_fields_without_effect_are_said_once_each(client):
    history = [{"role": "user", "content": "The dog"}, {"role": "assistant", "content": "Wow"}]
    answer = _chat(
        client, [*history, *CAT], max_tokens=2, user="u", store=True, reasoning_effort="low",
        audio={"voice": "amy", "format": "wav"}, metadata={"a": "b"}, service_tier="auto",
    )  # fmt: skip
    fields = [text.split(" ha")[0] for text in answer.warnings if "effect" in text]
    assert fields == ["metadata", "store", "user", "reasoning_effort", "audio", "earlier messages"]
