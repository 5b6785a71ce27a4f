"""A dialogue of two voices as a segment: what it holds, its JSON form, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from unified_data.document import Audio, Dialogue, Document, Slot

WORDS = ("<pad>", "Yes", "<pad>")


def dialogue(**fields):
    rng = np.random.default_rng(0)
    waveform = rng.integers(-9_000, 9_000, (2, 30)).astype(np.float32) / 2**15
    return Dialogue(**{"waveform": waveform, "sample_rate": 24_000, "words": WORDS, **fields})


def test_it_comes_back_from_json_and_its_file(tmp_path):
    document = Document((dialogue(role="response", loss=0.5), Slot("audio")))
    obj = document.to_json(tmp_path, "d")
    assert obj["segments"][0] == {
        "type": "audio", "file": "d.0.flac", "words": list(WORDS), "role": "response", "loss": 0.5,
    }  # fmt: skip
    back = Document.from_json(obj, tmp_path)
    assert back == document
    assert type(back.segments[0]) is Dialogue


def test_it_equals_a_dialogue_of_the_same_content_alone():
    talk = dialogue()
    assert talk == dialogue()
    assert talk != dialogue(words=("<pad>", "No", "<pad>"))
    assert talk != dialogue(waveform=-talk.waveform)
    sound = Audio(talk.waveform, talk.sample_rate)
    assert talk != sound
    assert sound != talk
    assert replace(talk, role="prompt").words == WORDS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"words": ()}, "words for 0 frames, expected 1 to"),
        ({"words": ("a", "")}, "word 1 of a dialogue is '', expected a token"),
        ({"words": ("a", 3)}, "word 1 of a dialogue is 3"),
        ({"waveform": np.zeros((1, 30), np.float32)}, r"shape \(1, 30\), expected \(2, S\)"),
        ({"waveform": np.full((2, 3), 2, np.float32)}, "reaches 2.0"),
    ],
)
def test_what_is_no_dialogue_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dialogue(**fields)


@pytest.mark.parametrize("words", ["Yes", {"a": 1}, [1, 2], None])
def test_words_of_another_kind_in_json_are_refused(words, tmp_path):
    obj = Document((dialogue(),)).to_json(tmp_path, "d")
    obj["segments"][0]["words"] = words
    with pytest.raises(ValueError, match="segment 0: word"):
        Document.from_json(obj, tmp_path)


def test_a_sound_with_words_in_one_channel_is_refused(tmp_path):
    sound = Audio(dialogue().waveform[:1], 24_000)
    obj = Document((sound,)).to_json(tmp_path, "d")
    obj["segments"][0]["words"] = list(WORDS)
    with pytest.raises(ValueError, match=r"segment 0: a dialogue's waveform has shape \(1, 30\)"):
        Document.from_json(obj, tmp_path)


def test_a_slot_listens_to_a_sound_alone(tmp_path):
    sound = Audio(dialogue().waveform[:1], 24_000)
    assert Slot("audio", listener=sound).listener is sound
    with pytest.raises(ValueError, match="image slot has as listener Audio, expected"):
        Slot("image", listener=sound)
    with pytest.raises(ValueError, match="audio slot has as listener str, expected an Audio"):
        Slot("audio", listener="hello")
    with pytest.raises(ValueError, match="leave listener out"):
        Document((Slot("audio", listener=sound),)).to_json(tmp_path, "d")
