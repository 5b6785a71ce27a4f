"""POST /v1/audio/speech and /v1/audio/transcriptions, by the official client."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from unified_base.sounds import decode_audio, encode_wav

SENTENCE = "The cat is small."


@pytest.fixture(scope="module")
def spoken(pocket):
    """The file of `unified speak`, with seed 2."""
    waveform, rate = pocket.speak(SENTENCE, voice="amy", seed=2)
    return encode_wav(waveform, rate)


def _speak(client, **fields):
    body = {"model": "pocket", "voice": "amy", "input": SENTENCE, **fields}
    extra = {"seed": 2, **body.pop("extra_body", {})}
    return client.audio.speech.create(**body, extra_body=extra)


def test_a_file_is_that_of_speak_with_the_same_seed(client, spoken):
    answer = _speak(client, response_format="wav")
    assert answer.content == spoken
    headers = answer.response.headers
    assert (headers["x-unified-seed"], headers["content-type"]) == ("2", "audio/wav")
    assert "x-unified-warnings" not in headers


def test_raw_samples_and_flac_are_those_of_the_wav(client, spoken):
    raw = _speak(client, response_format="pcm")
    assert raw.content == spoken[44:]
    assert raw.response.headers["content-type"].startswith("audio/pcm; rate=16000")
    (note,) = json.loads(raw.response.headers["x-unified-warnings"])
    assert "16,000 Hz" in note
    waveform, rate = decode_audio(_speak(client, response_format="flac").content, "flac")
    expected = decode_audio(spoken, "wav")
    assert rate == expected[1]
    assert np.array_equal(waveform, expected[0])


@pytest.mark.parametrize("format", ["mp3", "opus"])
def test_packed_files_hold_the_sound(client, spoken, format):
    waveform, rate = decode_audio(_speak(client, response_format=format).content, format)
    expected, expected_rate = decode_audio(spoken, "wav")
    assert abs(waveform.shape[1] / rate - expected.shape[1] / expected_rate) < 0.2


def test_a_streamed_wav_has_the_same_samples_behind_an_open_end(client, spoken):
    with client.audio.speech.with_streaming_response.create(
        model="pocket", voice="amy", input=SENTENCE, response_format="wav", stream_format="audio",
        extra_body={"seed": 2},
    ) as answer:  # fmt: skip
        data = b"".join(answer.iter_bytes())
    assert data[44:] == spoken[44:]
    assert data[40:44] == b"\xff\xff\xff\xff"
    assert np.array_equal(decode_audio(data, "open")[0], decode_audio(spoken, "wav")[0])


@pytest.mark.parametrize("format", ["pcm", "wav", "flac"])
def test_events_hold_the_sound(client, spoken, format):
    answer = _speak(client, response_format=format, stream_format="sse")
    assert answer.response.headers["content-type"].startswith("text/event-stream")
    events = [
        json.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: ")
    ]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert len(deltas) > 1 or format == "flac"
    data = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    if format == "flac":
        assert np.array_equal(decode_audio(data, "flac")[0], decode_audio(spoken, "wav")[0])
    else:
        assert data[-len(spoken) + 44 :] == spoken[44:]
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["output_tokens"] > 0


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"voice": "alloy"}, "voice", ["alloy", "amy, ben, cole"]),
        ({"speed": 1.5}, "speed", ["not available"]),
        ({"response_format": "aac"}, "response_format", ["'mp3', 'opus', 'flac', 'wav' or 'pcm'"]),
        ({"input": "x" * 4097}, "input", ["at most 4096"]),
        ({"input": ""}, "input", ["empty"]),
        ({"extra_body": {"pitch": 2}}, "pitch", ["unknown field"]),
    ],
)
def test_speech_that_cannot_be_is_refused_by_name(client, refused, fields, param, words):
    refused(lambda: _speak(client, **fields), param, *words)


def test_directions_have_no_effect_and_it_is_said(client):
    answer = _speak(client, instructions="whisper", response_format="wav", voice={"id": "amy"})
    (note,) = json.loads(answer.response.headers["x-unified-warnings"])
    assert note.startswith("instructions has no effect here")


# Transcriptions.


def _listen(client, data, **fields):
    return client.audio.transcriptions.create(model="pocket", file=("a.wav", data), **fields)


@pytest.fixture(scope="module")
def heard(pocket, spoken):
    return pocket.listen(*decode_audio(spoken, "wav"), seed=0)


def test_a_transcript_is_that_of_listen_whole_and_streamed(client, spoken, heard):
    answer = _listen(client, spoken, extra_body={"seed": 0})
    assert answer.text == heard
    assert answer.usage.input_tokens > answer.usage.output_tokens > 0
    assert answer.warnings == []
    *deltas, done = _listen(client, spoken, stream=True, extra_body={"seed": 0})
    assert [event.type for event in deltas] == ["transcript.text.delta"] * len(deltas)
    assert "".join(event.delta for event in deltas) == done.text == heard
    plain = _listen(client, spoken, response_format="text", extra_body={"seed": 0})
    assert plain == heard + "\n"


def test_a_transcript_has_log_probabilities_where_they_are_included(client, spoken, heard):
    asked = {"include": ["logprobs"], "extra_body": {"seed": 0}}
    answer = _listen(client, spoken, **asked)
    assert answer.text == heard
    told = [int(byte) for each in answer.logprobs for byte in each.bytes]
    assert bytes(told).decode() == heard
    assert all(each.logprob <= 0 for each in answer.logprobs)
    *deltas, done = _listen(client, spoken, stream=True, **asked)
    streamed = [each.model_dump() for event in deltas for each in event.logprobs]
    assert [each.model_dump() for each in done.logprobs] == streamed
    assert [each.logprob for each in done.logprobs] == [each.logprob for each in answer.logprobs]
    assert _listen(client, spoken, extra_body={"seed": 0}).logprobs is None


def test_fields_of_the_form_are_understood_or_refused_by_name(client, refused, spoken):
    answer = _listen(client, spoken, language="en", prompt="a cat", extra_body={"seed": 0})
    assert [text.split()[0] for text in answer.warnings] == ["language", "prompt"]
    for fields, param in [
        ({"response_format": "srt"}, "response_format"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities[]"),
        ({"include": ["times"]}, "include[][0]"),
        ({"include": ["logprobs"], "response_format": "text"}, "include"),
        ({"extra_body": {"beam": 4}}, "beam"),
        ({"extra_body": {"seed": "x"}}, "seed"),
        ({"stream": True, "response_format": "text"}, "response_format"),
    ]:
        refused(lambda: _listen(client, spoken, **fields), param)  # noqa: B023 (called at once)


def test_what_is_no_sound_or_too_long_is_refused(client, refused, spoken, server):
    refused(lambda: _listen(client, b"no sound at all"), "file", "no WAV, FLAC")
    refused(lambda: _listen(client, spoken[:1000] + b"\0" * 40), "file")
    seconds = server.service.limits.max_sound_seconds + 1
    silence = encode_wav(np.zeros((1, int(seconds * 8_000)), np.float32), 8_000)
    refused(lambda: _listen(client, silence), "file", "120")
    assert client.models.list().data  # and it still serves
