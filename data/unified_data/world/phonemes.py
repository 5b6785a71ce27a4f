"""Phonemes: what a text sounds like, in one small alphabet for English and Chinese.

espeak-ng says how a voice's language pronounces a text; here that is written in `ALPHABET`:

    /ɪt ɪz ɐ ɹɛd fɑks/           It is a red fox.
    /i4 tʂɨ1 xoŋ2 sɤ4 tɤ5 xu2 li5/    一只红色的狐狸

English: IPA without stress and length. A vowel's quality tells nearly always which one it is, and
marks of stress would be one symbol in eight; in the world's 5,000 words two that differ in stress
alone are as good as none (`tests/data/test_phonemes.py` counts). Words stand apart, also those that
espeak-ng writes as one: `ɪnðə`. Chinese: a syllable is consonants, vowels and a tone, 1 to 4 and 5
for none, after espeak-ng's own sandhi; each stands apart. Pinyin-like, and each symbol one
character; sounds that never stand in one position share a symbol.
"""

from __future__ import annotations

import re
from functools import lru_cache

from unified_data.world.espeak import espeak_phonemes
from unified_data.world.readings import with_readings

__all__ = [
    "ALPHABET", "CHINESE_VOICE", "checked_text", "format_phonemes", "is_ipa", "parse_phonemes",
    "phonemes_of", "world_phonemes",
]  # fmt: skip

CHINESE_VOICE = "cmn-latn-pinyin"
"""espeak-ng's Chinese. Its `cmn` of version 1.51 reads the pinyin that it looks characters up to as
English words and numbers."""

_ENGLISH = "ɪntɹsdlzəkæiʊmaʌðpɛfwɔbɚoeɑvɐʃhɡuŋɾɜʒθjɒ"
_CHINESE = "ʂʐɕʰyɤɨx12345"
ALPHABET = _ENGLISH + _CHINESE
"""Every symbol, one character each; between words and syllables stands a blank."""

# What else espeak-ng writes of English: what is left out, and the nearest symbol of the alphabet.
# Loan words (loch), Scots (r, ʉ, ʍ) and glottal stops (button) are rare.
_IGNORED = dict.fromkeys(map(ord, "ˈˌː:\u0303\u0329\u032a\u02b2"))
_NEAREST = str.maketrans({"ᵻ": "ɪ", "ʔ": "t", "r": "ɹ", "ʉ": "u", "ʍ": "w", "x": "k"})
_SYLLABIC = re.compile("([nml])\u0329")  # bʌtn̩
# Words that espeak-ng writes as one.
_WEAK = "ɪn|ʌv|ɒv|əv|fɹʌm|fɹɒm|ɔn|ɒn|wɪð|fɚ|fə|wʌz|wɒz|ðæt|ðat"
_JOINED = re.compile(
    rf"({_WEAK})(ðə|ðɪ)|(fɚɹ)(ə|ɚ|ən)|(wʌz|wɒz)(ɐ)|(tə|t)(bi)|(hɐ[vd])(bɪn)|(əv)(ə|ən)"
)

# espeak-ng's names of Chinese sounds (its `phsource/ph_zh`), the longest first.
_MANDARIN = {
    "ts.h": "tʂʰ", "tS;h": "tɕʰ", "ts.": "tʂ", "tS;": "tɕ", "tsh": "tsʰ", "kh": "kʰ", "ph": "pʰ",
    "th": "tʰ", "s.": "ʂ", "z.": "ʐ", "S;": "ɕ", "ng": "ŋ", "o-": "ɤ", "i[": "ɨ", "i.": "ɨ",
    "X": "x", "N": "ŋ", "A": "ɑ", "@": "ə", "E": "ɛ", "&": "æ", "r": "ɹ", ";": "",
} | {letter: letter for letter in "aeiouyjwkptsnmlf"}  # fmt: skip
_TONES = {"55": "1", "35": "2", "214": "3", "21": "3", "51": "4", "11": "5"}
_SOUND = re.compile(
    "|".join(re.escape(name) for name in sorted((*_MANDARIN, *_TONES), key=len, reverse=True))
)
# espeak-ng writes the tone behind the vowel: `S;'y35N`. What is behind it and begins no syllable of
# its own ends the one before.
_CODA = re.compile(r"(\d+)(N|n(?!['aeiouyA@E&jw]))")
_MARKS = re.compile(r"['|_:,\s]")


@lru_cache(maxsize=65_536)
def phonemes_of(text: str, language: str) -> str:
    """What a text sounds like: words of symbols of `ALPHABET` with single blanks between them.

    language: espeak-ng's, such as `en-us` or `CHINESE_VOICE`.

    Raises ValueError as `checked_text` and `world_phonemes` do, and where espeak-ng is missing.
    """
    written = checked_text(text, language)
    return world_phonemes(espeak_phonemes(written, language, is_ipa(language)), language, text)


def checked_text(text: str, language: str) -> str:
    """A text as espeak-ng is to get it. Raises ValueError for Chinese with Latin letters in it."""
    if language != CHINESE_VOICE:
        return text
    text = text.replace("T恤", "替恤")  # the one name with a letter, as it is said
    if latin := re.search(r"[A-Za-z]+", text):
        raise ValueError(
            f"{latin[0]!r} is in a Chinese text to be spoken, expected Chinese characters and"
            " digits; write it in Chinese"
        )
    return with_readings(text)


def is_ipa(language: str) -> bool:
    """Whether `world_phonemes` takes IPA of a language, or espeak-ng's own names."""
    return language != CHINESE_VOICE


def world_phonemes(written: str, language: str, text: str) -> str:
    """What espeak-ng writes of a text, in `ALPHABET`.

    Raises ValueError where there is nothing to say, and for sounds that the alphabet does not have.
    """
    phonemes = _english(written) if is_ipa(language) else _mandarin(written)
    if not phonemes:
        raise ValueError(f"there is nothing to speak in {text[:40]!r}; expected words")
    if strange := set(phonemes) - set(ALPHABET) - {" "}:
        raise ValueError(
            f"espeak-ng says {text[:40]!r} with {', '.join(map(repr, sorted(strange)))}, for which"
            " the world's phonemes have no symbol; is the text in another language?"
        )
    return phonemes


def _english(ipa: str) -> str:
    plain = _SYLLABIC.sub(r"ə\1", ipa).translate(_IGNORED).translate(_NEAREST)
    words: list[str] = []
    for word in plain.split():
        match = _JOINED.fullmatch(word)
        words += [part for part in match.groups() if part] if match else [word]
    return " ".join(words)


def _mandarin(names: str) -> str:
    parts: list[str] = []
    rest = _MARKS.sub("", _CODA.sub(r"\2\1", names))
    at = 0
    while at < len(rest):
        match = _SOUND.match(rest, at)
        if match is None:
            parts.append(rest[at])  # not of the alphabet: `phonemes_of` refuses it
            at += 1
            continue
        at = match.end()
        parts.append(f"{_TONES[match[0]]} " if match[0] in _TONES else _MANDARIN[match[0]])
    return "".join(parts).strip()


def format_phonemes(phonemes: str) -> str:
    """Phonemes as the model writes them: `/ɪt ɪz ɐ kæt/`.

    Raises ValueError for what is not words of `ALPHABET` with single blanks between them.
    """
    strange = set(phonemes) - set(ALPHABET) - {" "}
    if strange or not phonemes or phonemes.split() != phonemes.split(" "):
        raise ValueError(
            f"{phonemes[:40]!r} is no phonemes, expected words of {ALPHABET} with single blanks"
            " between them"
        )
    return f"/{phonemes}/"


def parse_phonemes(text: str) -> tuple[str, str]:
    """Phonemes that a text begins with, and the text after them and after a line's end.

    Without slashes in front all is text and phonemes are empty.

    Raises ValueError as `format_phonemes` does, and where the second slash is missing.
    """
    if not text.startswith("/"):
        return "", text
    phonemes, slash, rest = text[1:].partition("/")
    if not slash:
        raise ValueError(f"{text[:40]!r} begins with a slash, but no second one ends its phonemes")
    format_phonemes(phonemes)
    return phonemes, rest.removeprefix("\n")
