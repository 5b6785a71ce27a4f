"""From what someone wants changed in a picture, in English or Chinese, to an exact wish.

paint the car crimson please     ->  Edit: make the car red
删除狐狸                          ->  修改：去掉狐狸
"""

from __future__ import annotations

import re

from unified.world.drawing_zh import is_chinese
from unified.world.picture_wish import PictureCaption
from unified.world.request_words import COLOUR_WORDS, GROUND_WORDS, ZONES_EN
from unified.world.world_subjects import WorldSubjects
from unified_data.pocket.subjects import Subject
from unified_data.world.captions_en import ZONE_PHRASES
from unified_data.world.captions_zh import COLOUR_WORDS_ZH, ZONES_ZH, ground_zh
from unified_data.world.edits import Edit, wish_en, wish_zh
from unified_data.world.ground import GROUND_NAMES

__all__ = ["read_edit"]

_THING = r"(?:the |an? |my |its )?(?P<name>[\w' -]+?)"
_OTHER = r"(?:the |an? )?(?P<other>[\w' -]+?)"
_TO = r"(?P<to>[\w-]+)"
_BACK = r"(?:the )?(?:back ?ground|ground|back ?drop)"
_MAKE = r"(?:make|paint|colou?r|turn|change|set|dye)"
_ENGLISH: tuple[tuple[str, str], ...] = (
    ("ground", rf"{_MAKE} {_BACK}(?: colou?r)?(?: to| into| be)?(?: an?)? {_TO}"),
    ("ground", rf"(?:put it |set it )?(?:on )?(?:an? )?{_TO} (?:back ?ground|ground)"),
    ("swap", rf"(?:swap|exchange|switch) {_THING} (?:and|with|for) {_OTHER}"),
    ("replace", rf"(?:replace|exchange|swap out) {_THING} (?:with|by|for) {_OTHER}"),
    ("remove", rf"(?:remove|delete|erase|take away|take out|get rid of|drop) {_THING}"),
    ("move", rf"(?:move|put|shift|place|bring) {_THING} (?P<where>(?:to|in|at|into|on) .+)"),
    ("add", rf"(?:add|insert|draw|put in|include) {_THING}(?: (?P<where>(?:to|in|at|on) .+))?"),
    ("recolour", rf"{_MAKE} {_THING}(?: to be| to| into| be)?(?: an?)? {_TO}"),
    ("replace", rf"(?:turn|change|make) {_THING} (?:into|to) {_OTHER}"),
)
_CHINESE: tuple[tuple[str, str], ...] = (
    ("ground", r"把?背景(?:颜色)?(?:变成|改成|换成|涂成|变为|改为)(?P<to>.+?)(?:的)?(?:背景)?"),
    ("swap", r"(?:交换|对调|互换)(?P<name>.+?)[和与跟](?P<other>.+?)(?:的位置)?"),
    ("remove", r"(?:去掉|删掉|删除|移除|拿走|擦掉)(?P<name>.+)"),
    ("remove", r"把(?P<name>.+?)(?:去掉|删掉|删除|移除|拿走|擦掉)"),
    ("move", r"把(?P<name>.+?)(?:移到|移动到|放到|挪到|放在)(?P<where>.+)"),
    ("add", r"(?:在(?P<where>.+?))?(?:加上|加|添加|增加|画)(?P<name>.+)"),
    ("recolour", r"把(?P<name>.+?)(?:变成|改成|涂成|染成|变为|改为)(?P<to>.+)"),
    ("replace", r"(?:把|用)?(?P<name>.+?)(?:换成|替换成|变成|改成)(?P<other>.+)"),
)
_POLITE = re.compile(
    r"^(?:edit:|修改[：:])\s*|^(?:please|can you|could you|would you)\s+|\s*,?\s*(?:please)$"
    r"|[.!?。！？]+$|^请(?:你)?"
)
_EXAMPLES = (
    "make the ground red; add a fox at the top left; remove the fox; make the car red; move the fox"
    " to the top; swap the fox and the car; replace the fox with a car"
)


def read_edit(text: str, known: WorldSubjects) -> PictureCaption:
    """The wish that a text is, or comes nearest to, with its `Edit:` or `修改：`.

    Raises UnknownSubjectError for a thing that is not known, and ValueError for a wish of another
    kind than those that the model was trained on.
    """
    chinese = is_chinese(text)
    plain = "".join(text.split()) if chinese else " ".join(text.lower().split())
    while (shorter := _POLITE.sub("", plain).strip()) != plain:
        plain = shorter
    for kind, pattern in _CHINESE if chinese else _ENGLISH:
        match = re.fullmatch(pattern, plain)
        if match is not None:
            notes: list[str] = []
            edit = _edit(kind, match.groupdict(), known, chinese, notes)
            if edit is not None:
                wish = wish_zh(edit) if chinese else wish_en(edit)
                return PictureCaption(wish, tuple(notes))
    if not chinese and (strangers := known.strangers(plain)):
        raise known.unknown(strangers[0])
    raise ValueError(
        f"{plain[:60]!r} is no change that the model knows, expected one such as: {_EXAMPLES}"
    )


def _edit(
    kind: str, groups: dict[str, str | None], known: WorldSubjects, chinese: bool, notes: list[str]
) -> Edit | None:
    """The edit of a pattern's words; None where they are not of this kind."""
    name, other, to, where = (groups.get(key) for key in ("name", "other", "to", "where"))
    subject = None if name is None else _subject(name, known, chinese, notes)
    second = None if other is None else _subject(other, known, chinese, notes)
    if kind == "ground":
        ground = _ground(to or "", chinese, notes)
        return None if ground is None else Edit("ground", None, ground)
    if subject is None or (other is not None and second is None):
        if kind in ("recolour", "replace"):
            return None
        raise known.unknown(name if subject is None and name else other or "")
    if kind == "recolour":
        colour = _colour(to or "", chinese, notes)
        return None if colour is None else Edit("recolour", subject.name, colour)
    if kind == "remove":
        return Edit("remove", subject.name)
    if kind in ("swap", "replace"):
        assert second is not None
        return Edit(kind, subject.name, None, second.name)  # type: ignore[arg-type]
    zone = _zone(where, chinese)
    if zone is None:
        if kind == "move":
            return None
        zone = "middle"
        notes.append(f"{where or 'no place'!r} is drawn as {ZONE_PHRASES[zone]!r}")
    return Edit(kind, subject.name, zone)  # type: ignore[arg-type]


def _subject(name: str, known: WorldSubjects, chinese: bool, notes: list[str]) -> Subject | None:
    """The subject of a phrase; what else the phrase says of it is noted."""
    if chinese:
        named = [(start, stop, s) for start, stop, s in known.mentions_zh(name) if s is not None]
        if not named:
            return None
        start, stop, subject = named[-1]
        rest = re.sub(r"^[一两三四][\w]?|的", "", name[:start]) + name[stop:]
    else:
        exact = known.known.find(name)
        if exact is not None:
            return exact
        mentions = known.mentions(name)
        if not mentions:
            return known.known.meant(name) if known.meant(name) is None else None
        start, stop, subject = mentions[-1].start, mentions[-1].stop, mentions[-1].subject
        rest = f"{name[:start]} {name[stop:]}".strip()
    if rest:
        notes.append(f"left out: {rest!r}")
    return subject


def _ground(word: str, chinese: bool, notes: list[str]) -> str | None:
    if chinese:
        table = {ground_zh(name): name for name in GROUND_NAMES}
        return next((n for zh, n in table.items() if word in (zh, zh.removesuffix("色"))), None)
    return _noted(word, GROUND_WORDS, notes)


def _colour(word: str, chinese: bool, notes: list[str]) -> str | None:
    if chinese:
        word = word.removesuffix("的")
        return next((n for n, zh in COLOUR_WORDS_ZH.items() if word in (zh, zh[:-1])), None)
    return _noted(word, COLOUR_WORDS, notes)


def _noted(word: str, table: dict[str, str], notes: list[str]) -> str | None:
    if word in table and table[word] != word:
        notes.append(f"{word!r} is taken for {table[word]}")
    return table.get(word)


def _zone(where: str | None, chinese: bool) -> str | None:
    if where is None:
        return None
    if chinese:
        return next((name for name, zh in ZONES_ZH.items() if where.startswith(zh)), None)
    where = re.sub(r"^(?:to|into|on|at) ", "in ", where)
    where = re.sub(r"^in (?!the|a )", "in the ", where)
    return next((zone for pattern, zone, _ in ZONES_EN if re.fullmatch(pattern, where)), None)
