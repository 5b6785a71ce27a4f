"""Phonemes of the world: one alphabet, read back, and telling words apart."""

from __future__ import annotations

import shutil
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_data.world.chinese import chinese_names
from unified_data.world.phonemes import (
    ALPHABET,
    CHINESE_VOICE,
    checked_text,
    format_phonemes,
    parse_phonemes,
    phonemes_of,
)
from unified_data.world.readings import with_readings
from unified_data.world.sentences import words_in

speaking = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng here")

WORDS = st.lists(st.text(ALPHABET, min_size=1, max_size=5), min_size=1, max_size=4).map(" ".join)


@given(WORDS, st.text(max_size=20))
def test_phonemes_are_read_back_with_what_follows(phonemes, sentence):
    assert parse_phonemes(f"{format_phonemes(phonemes)}\n{sentence}") == (phonemes, sentence)
    assert parse_phonemes(format_phonemes(phonemes)) == (phonemes, "")


@given(st.text(max_size=12))
def test_what_is_no_phonemes_is_refused(text):
    words = text.split(" ")
    if all(words) and all(set(word) <= set(ALPHABET) for word in words):
        assert format_phonemes(text) == f"/{text}/"
    else:
        with pytest.raises(ValueError, match="is no phonemes"):
            format_phonemes(text)


def test_the_alphabet_has_each_symbol_once_and_no_mark_of_the_form():
    assert len(set(ALPHABET)) == len(ALPHABET)
    assert not set(ALPHABET) & set("/ \n")


def test_text_without_phonemes_is_all_text_and_half_of_them_is_an_error():
    assert parse_phonemes("Nothing is said.") == ("", "Nothing is said.")
    with pytest.raises(ValueError, match="no second one ends"):
        parse_phonemes("/ɪt ɪz")


@speaking
@pytest.mark.parametrize(
    ("text", "language", "phonemes"),
    [
        ("It is a cat.", "en-us", "ɪɾ ɪz ɐ kæt"),
        ("In the button of the hat", "en-us", "ɪn ðə bʌtən ʌv ðə hæt"),
        ("A car on 42 rocks", "en", "ɐ kɑɹ ɒn fɔti tu ɹɒks"),
        ("大熊猫很圆", CHINESE_VOICE, "tɑ4 ɕyŋ2 mɑu1 xən3 yæn2"),
        ("一只狐狸听音乐，慢慢地长大", CHINESE_VOICE,
         "ji1 tʂɨ1 xu2 li5 tʰiŋ1 jin1 yɛ4 man4 man4 tə5 tʂaŋ3 tɑ4"),
        ("四朵玫瑰，两匹斑马", CHINESE_VOICE, "sɨ4 tuo5 mei2 kuei1 liɑŋ3 pʰi3 pan1 mɑ3"),
    ],
)  # fmt: skip
def test_phonemes_of_sentences(text, language, phonemes):
    assert phonemes_of(text, language) == phonemes


@speaking
def test_few_words_of_the_world_sound_alike():
    words = [word for word in words_in("en") if word == word.lower()]
    words = [words[i] for i in np.random.default_rng(0).permutation(len(words))[:400]]
    groups = defaultdict(set)
    for word in words:
        groups[phonemes_of(word, "en-us")].add(word)
    alike = [group for group in groups.values() if len(group) > 1]
    # Of all 5,269 words 227 sound like another one, in 111 groups such as bear and bare; 220 did
    # with stress and length (you and ewe, there and their by themselves).
    assert sum(map(len, alike)) <= 8, alike


@speaking
def test_every_chinese_name_is_a_syllable_for_each_character_and_few_sound_alike():
    names = [word for word in words_in("zh") if len(word) > 1][:150]
    phonemes = {name: phonemes_of(name, CHINESE_VOICE) for name in names}
    for name, spoken in phonemes.items():
        assert len(spoken.split()) == len(name)
        assert all(syllable[-1] in "12345" for syllable in spoken.split())
    assert len(set(phonemes.values())) >= len(names) - 2


@speaking
def test_what_cannot_be_spoken_is_refused():
    with pytest.raises(ValueError, match="'rucksack' is in a Chinese text"):
        phonemes_of("背包叫rucksack", CHINESE_VOICE)
    with pytest.raises(ValueError, match="nothing to speak"):
        phonemes_of("...", "en-us")


def test_readings_change_the_characters_of_words_alone():
    assert with_readings("音乐") == "音 yue4 "
    assert with_readings("快乐") == "快'乐"
    assert with_readings("一只，只有") == "一 zhi1 ，只'有"


def test_every_chinese_name_can_be_said():
    for subject, name in chinese_names().items():
        for word in (name.name, *name.aliases):
            assert checked_text(f"一{name.measure}{word}。", CHINESE_VOICE), subject
    assert phonemes_of("一件T恤。", CHINESE_VOICE) == phonemes_of("一件替恤。", CHINESE_VOICE)
