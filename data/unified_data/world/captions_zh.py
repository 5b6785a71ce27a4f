"""Chinese captions: a `Description` in words, and words back to a `Description`.

一只红色的狐狸，蓝色背景
左上角的一只小狐狸
一只狐狸在一辆汽车的左边，条纹背景
两只狐狸、一辆汽车和数字42
什么都没有，绿色背景
"""

from __future__ import annotations

import re
from functools import cache

from unified_data.world.chinese import chinese_name, chinese_names, find_chinese
from unified_data.world.description import Description, Item
from unified_data.world.lettering import check_writing

__all__ = [
    "COLOUR_WORDS_ZH", "RELATIONS_ZH", "ZONES_ZH", "can_say_zh", "caption_zh", "count_zh",
    "ground_zh", "item_zh", "parse_zh",
]  # fmt: skip

COLOUR_WORDS_ZH = {"white": "白色", "grey": "灰色", "black": "黑色", "red": "红色",
                   "orange": "橙色", "yellow": "黄色", "green": "绿色", "blue": "蓝色",
                   "purple": "紫色", "pink": "粉色", "brown": "棕色"}  # fmt: skip
_PATTERNS_ZH = {"striped": "条纹", "checked": "格子", "dotted": "圆点"}
_GROUNDS_ZH = COLOUR_WORDS_ZH | _PATTERNS_ZH
RELATIONS_ZH = {"left": "左边", "right": "右边", "above": "上面", "below": "下面"}
ZONES_ZH = {"top left": "左上角", "top": "上方", "top right": "右上角", "left": "左边",
            "middle": "中间", "right": "右边", "bottom left": "左下角", "bottom": "下方",
            "bottom right": "右下角"}  # fmt: skip
_COUNTS_ZH = {1: "一", 2: "两", 3: "三", 4: "四"}
_NOTHING_ZH = "什么都没有"


def can_say_zh(description: Description) -> bool:
    """Whether everything in a description has a Chinese name."""
    return all(item.name in chinese_names() for item in description.items)


def count_zh(name: str, count: int) -> str:
    """`三只`: a number of a subject, with its measure word."""
    return _COUNTS_ZH[count] + chinese_name(name).measure


def item_zh(item: Item, small: bool = False) -> str:
    """`一只狐狸`, `三辆红色的汽车`, when small `一只红色的小狐狸`.

    Raises ValueError as `chinese_name` does.
    """
    colour = "" if item.colour is None else f"{COLOUR_WORDS_ZH[item.colour]}的"
    name = chinese_name(item.name).name
    return f"{count_zh(item.name, item.count)}{colour}{'小' if small else ''}{name}"


def ground_zh(ground: str) -> str:
    """`蓝色`, `条纹`."""
    return _GROUNDS_ZH[ground]


def listed_zh(phrases: list[str]) -> str:
    """`一只狐狸、一辆汽车和一把斧头`."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{'、'.join(phrases[:-1])}和{phrases[-1]}"


def caption_zh(description: Description) -> str:
    """A description as a Chinese caption.

    Raises ValueError where something in it has no Chinese name; see `can_say_zh`.
    """
    if description.relation is not None:
        first, second = (item_zh(item) for item in description.items)
        text = f"{first}在{second}的{RELATIONS_ZH[description.relation]}"
    elif description.zone is not None:
        text = f"{ZONES_ZH[description.zone]}的{item_zh(description.items[0], small=True)}"
    else:
        phrases = [item_zh(item) for item in description.items]
        if description.writing is not None:
            phrases.append(writing_zh(description.writing))
        text = listed_zh(phrases) or _NOTHING_ZH
    return text if description.ground is None else f"{text}，{ground_zh(description.ground)}背景"


def writing_zh(text: str) -> str:
    """`数字42`, `单词CAT`."""
    return f"{'数字' if text.isdigit() else '单词'}{text}"


def _names_of(table: dict[str, str]) -> dict[str, str]:
    return {word: name for name, word in table.items()}


def parse_zh(caption: str) -> Description | None:
    """The description that a caption states, or None where it is no caption of the world."""
    text = re.sub(r"\s+", "", caption).rstrip("。.")
    ground = None
    if match := re.fullmatch(rf"(.+)[，,]({'|'.join(_GROUNDS_ZH.values())})(?:的)?背景", text):
        text, ground = match[1], _names_of(_GROUNDS_ZH)[match[2]]
    if text == _NOTHING_ZH:
        return Description(ground=ground)
    if match := re.fullmatch(rf"(.+)的({'|'.join(RELATIONS_ZH.values())})", text):
        for at in re.finditer("在", match[1]):
            pair = parse_item_zh(match[1][: at.start()]), parse_item_zh(match[1][at.end() :])
            if pair[0] and pair[1] and pair[0].count == pair[1].count == 1:
                relation = _names_of(RELATIONS_ZH)[match[2]]
                return Description((pair[0], pair[1]), relation, None, ground)
    if match := re.fullmatch(rf"({'|'.join(ZONES_ZH.values())})的(.+)", text):
        item = parse_item_zh(match[2], small=True)
        if item is not None and item.count == 1:
            return Description((item,), None, _names_of(ZONES_ZH)[match[1]], ground)
    return _parse_list_zh(text, ground)


def _parse_list_zh(text: str, ground: str | None) -> Description | None:
    *parts, last = text.split("、")
    # Names may hold a 和 themselves: every place where the last one may begin is tried.
    ends = [[last]] if not parts else []
    ends += [[last[: m.start()], last[m.end() :]] for m in re.finditer("和", last)]
    for end in ends:
        together = [_parse_part_zh(part) for part in (*parts, *end)]
        items = [each for each in together if isinstance(each, Item)]
        words = [each for each in together if isinstance(each, str)]
        if None in together or len(words) > 1 or (words and together[-1] != words[0]):
            continue
        return Description(tuple(items), None, None, ground, words[0] if words else None)
    return None


def _parse_part_zh(phrase: str) -> Item | str | None:
    if match := re.fullmatch(r"(数字|单词)([A-Za-z0-9]+)", phrase):
        written = match[2].upper()
        try:
            check_writing(written)
        except ValueError:
            return None
        return written if written.isdigit() == (match[1] == "数字") else None
    return parse_item_zh(phrase)


def parse_item_zh(phrase: str, small: bool = False) -> Item | None:
    """`三只红色的狐狸`; the measure word must be the subject's own. small: with or without 小."""
    match = re.fullmatch(rf"([{''.join(_COUNTS_ZH.values())}二])(.+)", phrase)
    if match is None:
        return None
    count = 2 if match[1] == "二" else int(_names_of_counts()[match[1]])
    colours = "|".join(COLOUR_WORDS_ZH.values())
    for measure in _measures():
        if not match[2].startswith(measure):
            continue
        rest = match[2][len(measure) :]
        coloured = re.fullmatch(rf"({colours})的?(.+)", rest)
        readings: list[tuple[str | None, str]] = [(None, rest)]
        if coloured:
            readings.insert(0, (_names_of(COLOUR_WORDS_ZH)[coloured[1]], coloured[2]))
        if small:
            readings = [
                reading
                for colour, name in readings
                for reading in ([(colour, name[1:])] if name.startswith("小") else [])
                + [(colour, name)]
            ]
        for colour, name in readings:
            subject = find_chinese(name)
            if subject is not None and chinese_name(subject).measure == measure:
                return Item(subject, count, colour)
    return None


@cache
def _measures() -> tuple[str, ...]:
    return tuple(sorted({name.measure for name in chinese_names().values()}, key=len))


def _names_of_counts() -> dict[str, int]:
    return {word: count for count, word in _COUNTS_ZH.items()}
