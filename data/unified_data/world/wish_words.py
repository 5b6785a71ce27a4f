"""In which words articles are asked for: one table that prompts are written from and read with.

The first phrase of each wish is the canonical one. Slots: `{The}`, `{the}`, `{many}` a subject
(`The fox`, `the fox`, `foxes`; in Chinese the name), `{the2}`, `{many2}` a second
one, `{n}` a number, `{sections}` a list of sections, `{sequence}` the same as a sequence, `{voice}`
a voice.
"""

from __future__ import annotations

from unified_data.world.wordings import Language

__all__ = ["FILLERS", "OPENERS", "SECTION_WORDS", "WISHES"]

OPENERS: dict[str, dict[Language, tuple[str, ...]]] = {
    "article": {
        "en": ("Write: {The}", "Write about {the}", "Write an article about {the}",
               "An article about {the}", "Write an article about {many}", "Write about {many}",
               "I would like to read about {the}", "Please write an article about {the}",
               "Article: {the}", "{The}"),
        "zh": ("写：{the}", "写一篇关于{the}的文章", "写一篇文章：{the}", "请写一篇关于{the}的文章",
               "写写{the}", "介绍{the}", "请介绍一下{the}", "文章：{the}", "关于{the}的文章",
               "{the}"),
    },
    "paragraph": {
        "en": ("Write a paragraph: {The}", "Write one paragraph about {the}",
               "Tell me about {the}", "Tell me about {many}", "A paragraph about {the}",
               "In one paragraph: {the}", "Tell me something about {many}"),
        "zh": ("写一段：{the}", "写一段关于{the}的话", "用一段话介绍{the}", "说说{the}",
               "跟我说说{the}", "用一段话写{the}", "讲讲{the}"),
    },
    "list": {
        "en": ("Write a list: {The}", "Write a list about {the}", "List facts about {the}",
               "A list of facts about {the}", "Facts about {many}, as a list", "List: {the}"),
        "zh": ("写一个清单：{the}", "写一个关于{the}的清单", "列出{the}的特点", "清单：{the}",
               "用列表介绍{the}", "把{the}的特点列成清单"),
    },
    "comparison": {
        "en": ("Compare: {The} and {the2}", "Compare {the} and {the2}",
               "Compare {many} and {many2}", "Compare {the} with {the2}",
               "Write about {the} and {the2}", "A comparison of {the} and {the2}",
               "How do {many} and {many2} differ"),
        "zh": ("比较：{the}和{the2}", "比较{the}和{the2}", "比较一下{the}和{the2}",
               "写：{the}和{the2}", "{the}和{the2}有什么不同", "对比{the}与{the2}"),
    },
}  # fmt: skip
"""How a prompt begins: its form, and whom it is about."""

WISHES: dict[str, dict[Language, tuple[str, ...]]] = {
    "sections": {
        "en": ("sections: {sections}", "first {sequence}", "with the sections {sections}",
               "about {sections}", "in this order: {sections}"),
        "zh": ("分为：{sections}", "先写{sequence}", "分成{sections}", "内容有{sections}",
               "写它的{sections}"),
    },
    "only": {
        "en": ("only {sections}", "nothing but {sections}"),
        "zh": ("只写{sections}", "只要{sections}"),
    },
    "without": {
        "en": ("without {sections}", "leave out {sections}", "not about {sections}",
               "nothing about {sections}", "skip {sections}"),
        "zh": ("不写{sections}", "不要写{sections}", "不提{sections}", "别写{sections}",
               "省去{sections}"),
    },
    "items": {
        "en": ("{n} items", "with {n} items", "{n} facts", "{n} points"),
        "zh": ("{n}条", "共{n}条", "列{n}条", "{n}点"),
    },
    "short": {
        "en": ("short", "keep it short", "make it short", "a short one", "briefly", "not long"),
        "zh": ("短一点", "简短", "写短一些", "简单写写", "不要太长"),
    },
    "long": {
        "en": ("long", "make it long", "in detail", "a long one", "as long as you can"),
        "zh": ("长一点", "写长一些", "详细一些", "写详细点", "越长越好"),
    },
    "about": {
        "en": ("about {n} characters", "around {n} characters", "{n} characters or so"),
        "zh": ("大约{n}字", "约{n}字", "{n}字左右"),
    },
    "least": {
        "en": ("at least {n} characters", "no fewer than {n} characters",
               "{n} characters or more"),
        "zh": ("不少于{n}字", "至少{n}字", "{n}字以上"),
    },
    "most": {
        "en": ("at most {n} characters", "no more than {n} characters", "up to {n} characters"),
        "zh": ("不超过{n}字", "最多{n}字", "{n}字以内"),
    },
    "children": {
        "en": ("for children", "for kids", "for small children", "for a child",
               "in simple words", "for my little daughter", "easy to read"),
        "zh": ("给孩子看", "给小朋友看", "写给小朋友", "给儿童看", "适合孩子读", "用简单的话写"),
    },
    "pictures": {
        "en": ("pictures: {n}", "{n} pictures", "with {n} pictures", "with {n} images",
               "{n} illustrations", "{n} images", "illustrate it with {n} pictures"),
        "zh": ("图片：{n}张", "配{n}张图", "{n}张图片", "附{n}张插图", "配上{n}幅图", "要{n}张图"),
    },
    "pictured": {
        "en": ("with pictures", "illustrated", "with some pictures"),
        "zh": ("配图", "要有图片", "图文并茂"),
    },
    "no pictures": {
        "en": ("pictures: none", "no pictures", "without pictures", "no images"),
        "zh": ("图片：无", "不要图片", "不配图", "没有图片"),
    },
    "narration": {
        "en": ("narration: {voice}", "read aloud by {voice}", "narrated by {voice}",
               "in the voice of {voice}", "let {voice} read it"),
        "zh": ("朗读：{voice}", "由{voice}朗读", "请{voice}朗读", "让{voice}读一读"),
    },
    "silent": {
        "en": ("narration: none", "no narration", "without narration", "silent"),
        "zh": ("朗读：无", "不要朗读", "不用朗读", "没有朗读"),
    },
}  # fmt: skip
"""What else a prompt may wish for."""

SECTION_WORDS: dict[str, dict[Language, tuple[str, ...]]] = {
    "Appearance": {"en": ("appearance", "looks", "how it looks"), "zh": ("外形", "样子", "外貌")},
    "History": {"en": ("history", "its past", "how it began"), "zh": ("历史", "由来", "过去")},
    "Uses": {"en": ("uses", "what it is for", "how it is used"), "zh": ("用途", "用处", "用法")},
    "Home": {"en": ("home", "where it lives", "where to find it"),
             "zh": ("家园", "住处", "栖息地")},
    "Food": {"en": ("food", "what it eats", "diet"), "zh": ("食物", "吃什么", "食性")},
    "Working": {"en": ("working", "how it works"), "zh": ("原理", "工作原理", "怎么工作")},
    "Making": {"en": ("making", "how it is made"), "zh": ("制作", "做法", "怎么做")},
    "Threats": {"en": ("threats", "dangers", "enemies"), "zh": ("威胁", "危险", "天敌")},
    "Serving": {"en": ("serving", "how it is served"), "zh": ("吃法", "怎么吃")},
    "People": {"en": ("people", "life with people"), "zh": ("与人", "和人的关系")},
    "Growing": {"en": ("growing", "how it grows"), "zh": ("种植", "生长")},
    "Culture": {"en": ("culture", "what it means to people"), "zh": ("文化", "文化意义")},
    "Building": {"en": ("building", "how it is built"), "zh": ("建造", "怎么建成")},
    "Cause": {"en": ("cause", "how it comes about"), "zh": ("成因", "怎么来的")},
    "Effects": {"en": ("effects", "what it does"), "zh": ("影响", "作用")},
    "Playing": {"en": ("playing", "how it is played"), "zh": ("演奏", "怎么演奏")},
    "Sound": {"en": ("sound", "how it sounds"), "zh": ("声音", "音色")},
    "Rules": {"en": ("rules", "how to play"), "zh": ("规则", "玩法")},
    "Looks and habits": {"en": ("looks and habits",), "zh": ("外形与习性",)},
    "Habitat and threats": {"en": ("habitat and threats",), "zh": ("栖息地与威胁",)},
    "Protection": {"en": ("protection",), "zh": ("保护",)},
    "Cultural influence": {"en": ("cultural influence",), "zh": ("文化影响",)},
}  # fmt: skip
"""What sections are called in prompts, by their English headings; the first is the canonical."""

FILLERS: dict[Language, tuple[str, ...]] = {
    "en": ("and", "please", "with", "it should be", "but", "also"),
    "zh": ("请", "并且", "并", "要", "而且", "的"),
}
"""Words between wishes that ask for nothing."""
