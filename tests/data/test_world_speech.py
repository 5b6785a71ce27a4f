"""Documents of speech: their forms, their sentences, and which subjects are in which split."""

from __future__ import annotations

import re
import shutil
from collections import Counter

import numpy as np
import pytest

from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.pocket.subjects import load_subjects
from unified_data.world import speech_kinds, speech_tasks
from unified_data.world.build import KINDS, plan_kind
from unified_data.world.captions_en import parse_en
from unified_data.world.phonemes import parse_phonemes
from unified_data.world.sentences import (
    draw_sentence,
    facts_in,
    split_of_sentence,
    words_in,
    words_in_turn,
)
from unified_data.world.speech_kinds import HeardPayload, SpokenPayload, side_of

speaking = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng here")

SPEECH_KINDS = ("speak", "listen", "words", "salad", "draw_spoken", "say_picture", "ask_spoken")
SPLITS = ("train", "steer", "heldout")


def form_of(document: Document) -> list[str]:
    return [
        f"{segment.role}:{'text' if isinstance(segment, Text) else type(segment).__name__.lower()}"
        for segment in document.segments
    ]


FORMS = {
    "speak": {("prompt:text", "response:text", "response:audio")},
    "listen": {("prompt:audio", "response:text")},
    "draw_spoken": {("prompt:audio", "prompt:text", "response:image")},
    "say_picture": {("prompt:image", "prompt:text", "response:text", "response:audio")},
    "ask_spoken": {("prompt:image", "prompt:audio", "response:text")},
}
FORMS["words"] = FORMS["salad"] = FORMS["speak"] | FORMS["listen"]


@speaking
@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_documents_have_their_form_and_are_the_same_from_the_same_seed(kind):
    assert set(SPEECH_KINDS) <= set(KINDS)
    for split in SPLITS:
        payloads = plan_kind(kind, split, 5, 0.002)[:3]
        assert payloads == plan_kind(kind, split, 5, 0.002)[:3]
        for payload in payloads:
            document = KINDS[kind].make(payload)
            assert tuple(form_of(document)) in FORMS[kind]
            assert document == KINDS[kind].make(payload)


@speaking
def test_what_is_heard_is_written_down_as_phonemes_and_as_text():
    payload = next(p for p in plan_kind("listen", "train", 0, 0.01) if p.text)
    answer = speech_kinds.listen(payload).segments[1]
    assert isinstance(answer, Text)
    phonemes, sentence = parse_phonemes(answer.text)
    assert phonemes
    assert sentence == payload.text
    silent = speech_kinds.listen(payload._replace(text=""))
    assert silent.segments[1].text == "Nothing is said."


@speaking
def test_requests_have_slots_where_documents_have_answers():
    payload = plan_kind("speak", "train", 0, 0.01)[0]
    document = speech_kinds.speak(payload)
    asked = speech_tasks.speak_document(payload.text, payload.voice, Slot("text"), Slot("audio"))
    assert asked.segments[0] == document.segments[0]
    assert [slot.role for slot in asked.segments[1:]] == ["response", "response"]
    assert speech_tasks.spoken_prompt("mei", "你好") == "> (mei) 你好"
    with pytest.raises(ValueError, match="no voice 'zoe'"):
        speech_tasks.spoken_prompt("zoe")


@pytest.mark.parametrize("kind", ["caption", "fact", "name", "number", "salad", "splice"])
def test_sentences_are_in_their_split(kind):
    rng = np.random.default_rng(0)
    for split in SPLITS:
        texts = [draw_sentence(kind, language, split, rng) for language in ("en", "zh")]
        assert all(split_of_sentence(text) == split for text in texts)
        assert not re.search("[A-Za-z]", texts[1]), "mei says Chinese alone"


def test_captions_are_read_back_and_splices_begin_and_end_like_sentences():
    rng = np.random.default_rng(2)
    for _ in range(40):
        text = draw_sentence("caption", "en", "train", rng)
        caption = re.sub(r"^(This is|There is|Here is|I can see|The picture shows) ", "", text)
        assert parse_en(caption) is not None, text
    facts = facts_in("en")
    beginnings = {" ".join(fact.split()[:2]) for fact in facts}
    spliced = [draw_sentence("splice", "en", "train", rng) for _ in range(60)]
    assert not set(spliced) & set(facts)
    assert sum(" ".join(text.split()[:2]) in beginnings for text in spliced) > 20


def test_every_word_comes_alone_and_only_names_are_written_large():
    words = words_in("en")
    assert {"fox", "foxes", "panda", "Paris"} <= set(words)
    assert "The" not in words
    train = {word for word in words if split_of_sentence(word) == "train"}
    turn = words_in_turn("en", "train", np.random.default_rng(0))
    assert {next(turn) for _ in train} == train
    assert {"大熊猫", "红色", "左边"} <= set(words_in("zh"))


def test_half_of_the_subjects_connect_speech_and_pictures():
    sides = Counter(side_of(subject.name) for subject in load_subjects())
    assert 0.4 < sides["train"] / sides.total() < 0.6
    assert sides["steer"] > 15
    for kind in ("draw_spoken", "say_picture", "ask_spoken"):
        for split in SPLITS:
            payloads = plan_kind(kind, split, 1, 0.02)
            assert {side_of(name) for p in payloads for name, _ in p.cast} == {split}


@speaking
def test_a_spoken_question_and_its_picture_name_its_side_alone():
    names = sorted(subject.name for subject in load_subjects())
    for payload in plan_kind("ask_spoken", "train", 3, 0.02)[:12]:
        document = speech_kinds.ask_spoken(payload)
        answer = document.segments[2]
        assert isinstance(document.segments[0], Image)
        assert isinstance(document.segments[1], Audio)
        named = [name for name in names if re.search(rf"\b{re.escape(name)}\b", answer.text)]
        assert (
            any(side_of(name) == "train" for name in named) or payload.language == "zh" or not named
        )


def test_words_alone_go_both_ways():
    payloads = plan_kind("words", "train", 0, 0.02)
    kinds = Counter(type(payload) for payload in payloads)
    assert abs(kinds[HeardPayload] - kinds[SpokenPayload]) <= 1
    assert {p.voice for p in payloads if isinstance(p, SpokenPayload)} == {
        "amy", "ben", "cole", "dora", "earl", "mei",
    }  # fmt: skip
