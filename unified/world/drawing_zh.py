"""From what someone wants drawn, in Chinese, to an exact caption of the world.

    请画两只红狐狸在汽车旁边，不要树，蓝色背景   ->  两只红色的狐狸和一辆汽车，蓝色背景

Every wish is in the caption or in a note. Notes are in the language of the command line.
"""

from __future__ import annotations

import re

from unified.world.picture_wish import PictureCaption, WantedThing, description_of
from unified.world.world_subjects import WorldSubjects
from unified_data.pocket.subjects import Subject
from unified_data.world.captions_zh import (
    COLOUR_WORDS_ZH,
    RELATIONS_ZH,
    ZONES_ZH,
    caption_zh,
    parse_zh,
)
from unified_data.world.free_scene import MAX_THINGS
from unified_data.world.lettering import check_writing

__all__ = ["is_chinese", "read_chinese"]

_SHADES = {
    "粉红色": "pink", "粉红": "pink", "橘黄色": "orange", "橘色": "orange", "金色": "yellow",
    "金黄色": "yellow", "银色": "grey", "褐色": "brown", "咖啡色": "brown", "天蓝色": "blue",
    "深蓝色": "blue", "浅蓝色": "blue", "碧绿色": "green", "墨绿色": "green", "雪白": "white",
}  # fmt: skip
_COLOURS = {word: name for name, word in COLOUR_WORDS_ZH.items()} | _SHADES
_COLOURS |= {word[:-1]: name for name, word in COLOUR_WORDS_ZH.items()}
_GROUNDS = _COLOURS | {"条纹": "striped", "格子": "checked", "方格": "checked", "圆点": "dotted",
                       "波点": "dotted", "斑点": "dotted"}  # fmt: skip
_NUMBERS = {word: n for n, word in enumerate("一二三四五六七八九十", start=1)} | {"两": 2, "俩": 2}
_FEW: dict[str, int | None] = {"一对": 2, "一双": 2, "一些": None, "一群": None, "许多": None,
                               "很多": None, "好多": None, "好几": None, "几": None}  # fmt: skip
_ZONES = {word: name for name, word in ZONES_ZH.items()} | {
    "左上方": "top left", "右上方": "top right", "左下方": "bottom left", "右下方": "bottom right",
    "左侧": "left", "右侧": "right", "上边": "top", "上面": "top", "下边": "bottom",
    "下面": "bottom", "中央": "middle", "正中": "middle", "中心": "middle", "角落": "top left",
}  # fmt: skip
_RELATIONS = {word: name for name, word in RELATIONS_ZH.items()} | {
    "左侧": "left", "右侧": "right", "左面": "left", "右面": "right", "上方": "above",
    "上边": "above", "上": "above", "下方": "below", "下边": "below", "底下": "below",
    "旁边": "left", "附近": "left", "边上": "left",
}  # fmt: skip
_NEAREST = ("旁边", "附近", "边上", "角落")


def _either(table: object) -> str:
    return "|".join(sorted(map(re.escape, table), key=len, reverse=True))  # type: ignore[call-overload]


_GROUND = re.compile(
    rf"(?:在|有|用|和)?(?:一个)?({_either(_GROUNDS)})(?:的)?(?:背景|底色)"
    rf"|背景(?:颜色)?(?:是|为|用|要|：|:)?({_either(_GROUNDS)})(?:的)?"
)
_WITHOUT = re.compile(r"(?:没有|不要|不带|不戴|没戴|不穿|别画|不画|除了)[^，。,；;、]*")
_WRITING = re.compile(
    r"(?:写着|写有|上面写)?(?:单词|文字|字母|数字|字样)[“\"「']?([A-Za-z0-9]+)[”\"」']?"
)
_ZONE = re.compile(rf"(?:在|画面|图片)*({_either(_ZONES)})(?:里|处)?(?:的|有)?")
_COUNT = re.compile(
    rf"({_either([*_FEW, *_NUMBERS])}|\d+)(?:只|头|匹|条|辆|个|[^，。,、和与在]{{0,1}})?"
)
_BETWEEN = re.compile(r"[，。,；;、]|和|与|跟|在")
_PLAIN = re.compile(
    r"请|麻烦|帮我|给我|我想要|我想|我要|我|画|生成|来|要|看到|展示|张|幅|图片|图画|图像|图|里面|里"
    r"|站着|还有|以及|有|在|的|和|与|跟|是|着|了|吧|个|它|它们|这|那|\W|\0"
)
_NOTHING = "什么都没有"


def is_chinese(text: str) -> bool:
    """Whether a text is to be read as Chinese: it holds a Chinese character."""
    return re.search(r"[\u4e00-\u9fff]", text) is not None


def read_chinese(text: str, known: WorldSubjects) -> PictureCaption:
    """The caption that a text is, or comes nearest to; notes name all that it leaves out.

    Raises UnknownSubjectError, naming the nearest subjects, where it names none that is known.
    """
    exact = parse_zh(text)
    if exact is not None:
        number = sum(item.count for item in exact.items) + (exact.writing is not None)
        if number <= MAX_THINGS and all(item.name in known.chinese for item in exact.items):
            return PictureCaption(caption_zh(exact))
    return _Reading(text, known).caption()


class _Reading:
    """A text on its way to a caption. What was understood is blotted out of `rest`."""

    def __init__(self, text: str, known: WorldSubjects) -> None:
        self.rest = re.sub(r"\s+", "", text)
        self.known = known
        self.left: list[str] = []
        self.notes: list[str] = []

    def caption(self) -> PictureCaption:
        asked = self.rest
        empty = _NOTHING in self.rest
        self._take(re.compile(_NOTHING))
        if refused := self._take(_WITHOUT):
            self.left += [repr(match[0]) for match in refused]
            self.notes.append("a caption only says what is there, and no more is drawn")
            if not _PLAIN.sub("", self.rest):
                raise ValueError(
                    f"{', '.join(self.left)} says what not to draw; say what to draw, for example"
                    " 一只大熊猫"
                )
        writing = self._writing()
        ground = self._ground()
        named = self.known.mentions_zh(self.rest)
        for start, stop, subject in named:
            if subject is None and any(each[2] for each in named):
                word = self.rest[start:stop]
                near = self.known.meant(word)
                assert near is not None
                self.left.append(f"{word!r} (not known; the nearest in meaning: {near.name})")
                self._blot(start, stop)
        mentions = [(start, stop, s) for start, stop, s in named if s is not None]
        if not mentions and not empty and writing is None:
            raise self.known.unknown(_PLAIN.sub("", self.rest) or asked)
        relation, inexact = self._relation(mentions)
        zones = self._zones(mentions)
        things = [self._thing(mentions, at, zones.get(at)) for at in range(len(mentions))]
        for start, stop, _ in mentions:
            self._blot(start, stop)
        description, remarks = description_of(things, relation, ground, writing)
        caption = caption_zh(description)
        if inexact and description.relation is not None:
            self.notes.append(inexact)
        self.left += [word for word in re.split(f"(?:{_PLAIN.pattern})+", self.rest) if word]
        note = f'drawn as "{caption}", the nearest caption the model knows'
        if self.left:
            note += f"; left out: {', '.join(dict.fromkeys(self.left))}"
        return PictureCaption(caption, ("; ".join([note, *self.notes, *remarks]),))

    def _blot(self, start: int, stop: int) -> None:
        self.rest = self.rest[:start] + "\0" * (stop - start) + self.rest[stop:]

    def _take(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        matches = list(pattern.finditer(self.rest))
        for match in matches:
            self._blot(*match.span())
        return matches

    def _writing(self) -> str | None:
        for match in self._take(_WRITING):
            try:
                check_writing(match[1].upper())
            except ValueError as error:
                self.notes.append(f"left out: {error}")
                continue
            return match[1].upper()
        return None

    def _ground(self) -> str | None:
        match = _GROUND.search(self.rest)
        if match is None:
            return None
        self._blot(*match.span())
        word = match[1] or match[2]
        self._say_shade(word)
        return _GROUNDS[word]

    def _say_shade(self, word: str) -> None:
        if word in _SHADES:
            self.notes.append(f"{word!r} is drawn as {COLOUR_WORDS_ZH[_SHADES[word]]}")

    def _thing(
        self, mentions: list[tuple[int, int, Subject]], at: int, zone: str | None
    ) -> WantedThing:
        """A mention, with the number, the colour and the size that stand before it."""
        start, stop, subject = mentions[at]
        thing = WantedThing(subject, zone=zone, words=self.rest[start:stop])
        begin = mentions[at - 1][1] if at else 0
        window = self.rest[begin:start]
        while (separator := _BETWEEN.search(window)) is not None:
            begin, window = begin + separator.end(), window[separator.end() :]
        counts = list(_COUNT.finditer(window))
        if counts:
            thing.count = _number(counts[-1][1])
            measure = self.known.chinese[subject.name].measure
            end = counts[-1].end(1)
            if window[end:].startswith(measure):
                end += len(measure)
            elif window[end : end + 1] in "只头匹条辆个张把棵朵座" and window[end : end + 1]:
                end += 1
            self._blot(begin + counts[-1].start(), begin + end)
        for match in re.finditer(_either(_COLOURS), self.rest[begin:start]):
            if thing.colour is None:
                thing.colour = _COLOURS[match[0]]
                self._say_shade(match[0])
                self._blot(begin + match.start(), begin + match.end())
        for match in re.finditer("[小大]", self.rest[begin:start]):
            thing.size = "small" if match[0] == "小" else "large"
            self._blot(begin + match.start(), begin + match.end())
        return thing

    def _relation(self, mentions: list[tuple[int, int, Subject]]) -> tuple[str | None, str | None]:
        """`狐狸在汽车的左边`, and a note where the relation is but the nearest."""
        if len(mentions) != 2 or "在" not in self.rest[mentions[0][1] : mentions[1][0]]:
            return None, None
        match = re.compile(rf"的?({_either(_RELATIONS)})(?:面)?").match(self.rest, mentions[1][1])
        if match is None:
            return None, None
        self._blot(*match.span())
        relation = _RELATIONS[match[1]]
        note = f"{match[1]!r} is drawn as {RELATIONS_ZH[relation]!r}"
        return relation, note if match[1] in _NEAREST else None

    def _zones(self, mentions: list[tuple[int, int, Subject]]) -> dict[int, str]:
        """Places, each of the thing behind it in the same clause, or else of the one before."""
        zones: dict[int, str] = {}
        for match in _ZONE.finditer(self.rest):
            later = [at for at, mention in enumerate(mentions) if mention[0] >= match.end()]
            between = self.rest[match.end() : mentions[later[0]][0]] if later else "，"
            if re.search(r"[，。,；;、]", between):
                later = [at for at, m in enumerate(mentions) if m[1] <= match.start()][-1:]
            if not later or later[0] in zones:
                continue
            zones[later[0]] = _ZONES[match[1]]
            self._blot(*match.span())
            if match[1] in _NEAREST:
                self.notes.append(f"{match[1]!r} is drawn as {ZONES_ZH[_ZONES[match[1]]]!r}")
        return zones


def _number(word: str) -> int | None:
    if word.isdigit():
        return max(1, int(word[:4]))
    return _NUMBERS[word] if word in _NUMBERS else _FEW[word]
