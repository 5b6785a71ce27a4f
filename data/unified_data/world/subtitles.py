"""Subtitles, which a title copies from its prompt: `a quiet friend`, `自然界的温柔使者`."""

from __future__ import annotations

import numpy as np

from unified_data.world.wordings import Language

__all__ = ["random_subtitle"]

_WHOSE: dict[Language, tuple[str, ...]] = {
    "en": ("a", "our", "nature's", "the world's", "everybody's", "one"),
    "zh": ("自然界的", "我们的", "世界上的", "生活中的", "大家的", "身边的"),
}
_HOW: dict[Language, tuple[str, ...]] = {
    "en": ("gentle", "quiet", "clever", "little", "great", "brave", "bright", "famous", "secret",
           "cheerful", "strange", "patient", "modest", "bold", "golden", "hidden"),
    "zh": ("温柔", "安静", "聪明", "小小", "伟大", "勇敢", "明亮", "有名", "神秘", "快乐", "奇特",
           "耐心", "谦虚", "大胆", "可爱", "古老"),
}  # fmt: skip
_WHAT: dict[Language, tuple[str, ...]] = {
    "en": ("envoy", "friend", "wonder", "helper", "star", "treasure", "guest", "neighbour",
           "teacher", "hero", "riddle", "companion", "favourite", "traveller", "worker", "joy"),
    "zh": ("使者", "朋友", "奇迹", "帮手", "明星", "宝贝", "客人", "邻居", "老师", "英雄", "谜",
           "伙伴", "主角", "旅行者", "工人", "乐趣"),
}  # fmt: skip


def random_subtitle(language: Language, rng: np.random.Generator) -> str:
    """One of 1,536 subtitles of a language: so many that they have to be copied."""
    words = [words[language][int(rng.integers(len(words[language])))]
             for words in (_WHOSE, _HOW, _WHAT)]  # fmt: skip
    if words[0] == "a" and words[1][0] in "aeiou":
        words[0] = "an"
    return (" " if language == "en" else "").join(words)
