"""Which language a text is in, as far as its script tells, and the few words of our own in it.

Models here write English and Chinese. A script that is not theirs is named where it names a
language (Japanese, Korean) and called "und", undetermined, otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from unified_base.text import quoted

__all__ = ["Wording", "check_language", "language_inside", "language_of", "wording"]

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,6}")
_MOST_READ = 20_000
"""Characters of a text that its language is told by."""
_SCRIPTS = {"CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "HANGUL": "hangul",
            "LATIN": "latin", "FULLWIDTH": "latin"}  # fmt: skip


def check_language(tag: str) -> str:
    """`tag` itself, if it is formed as BCP 47 has it ("en", "zh-Hans"); ValueError otherwise."""
    if not _TAG.fullmatch(tag):
        raise ValueError(f"language is {quoted(tag)}, expected a tag such as en, zh or zh-Hans")
    return tag


def language_of(text: str) -> str:
    """ "en", "zh", "ja" or "ko" by a text's letters; "und" for other scripts, "" without letters.

    A Han character counts as two letters of the Latin script, so that a Chinese sentence with a
    name in Latin letters stays Chinese. All that is written in Latin letters counts as English.
    """
    counts = dict.fromkeys(("han", "kana", "hangul", "latin", "other"), 0)
    for character in text[:_MOST_READ]:
        if character.isascii():
            counts["latin"] += character.isalpha()
        elif character.isalpha():
            script = unicodedata.name(character, "?").split(" ")[0]
            counts[_SCRIPTS.get(script, "other")] += 1
    letters = sum(counts.values())
    if not letters:
        return ""
    if counts["other"] * 2 > letters:
        return "und"
    ideographs = counts["han"] + counts["kana"]
    if 2 * max(ideographs, counts["hangul"]) < counts["latin"]:
        return "en"
    if counts["hangul"] > ideographs:
        return "ko"
    return "ja" if counts["kana"] * 10 > ideographs else "zh"


def language_inside(text: str, language: str) -> str:
    """The language of a part of an article where it is not the article's `language`, else ""."""
    primary = language.split("-")[0].lower()
    inside = language_of(text)
    if inside in ("", "und", primary) or (primary, inside) == ("ja", "zh"):
        return ""
    # Latin letters may be those of any language, such as that which the article is said to be in.
    return inside if inside != "en" or primary in ("zh", "ja", "ko") else ""


@dataclass(frozen=True)
class Wording:
    """Words of ours in an article's files, in its language.

    `{number}`, `{voice}` and `{seconds}` are put in.
    """

    article: str
    contents: str
    narration: str
    read_aloud: str
    read_aloud_by: str
    without_caption: str
    by_one_model: str
    listen: str
    separator: str

    def about_sound(self, voice: str, seconds: float) -> str:
        """Who reads a narration and for how long."""
        words = self.read_aloud_by if voice else self.read_aloud
        return words.format(voice=voice.capitalize(), seconds=f"{seconds:.1f}")

    def label_of_sound(self, transcript: str) -> str:
        """What a player is called for those who do not see it."""
        return f"{self.narration}{self.separator}{transcript}" if transcript else self.narration


_WORDINGS = {
    "en": Wording(
        "Article", "Contents", "Narration", "Read aloud, {seconds} seconds",
        "Read aloud by {voice}, {seconds} seconds", "Picture {number}, without a caption",
        "Text, pictures and sound written by one model", "Listen", ": ",
    ),
    "zh": Wording(
        "文章", "目录", "朗读", "朗读，{seconds} 秒", "{voice} 朗读，{seconds} 秒",
        "图 {number}（无说明）", "文字、图片和声音出自同一个模型", "收听", "：",
    ),
}  # fmt: skip


def wording(language: str) -> Wording:
    """Our words in a language, in English where there are none."""
    return _WORDINGS.get(language.split("-")[0].lower(), _WORDINGS["en"])
