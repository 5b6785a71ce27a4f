"""What a caption of the world claims, as questions in the words that its models were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unified.tasks.claims import Claim, Claims, Value
from unified.world.drawing_zh import is_chinese
from unified_data.world.captions_en import caption_en, parse_en
from unified_data.world.captions_zh import can_say_zh, caption_zh, parse_zh
from unified_data.world.colours import COLOURS
from unified_data.world.description import Description, Item
from unified_data.world.ground import GROUND_NAMES
from unified_data.world.question_texts import question_en, question_zh
from unified_data.world.questions import Question

__all__ = ["world_claims"]

_MOST = 4


def world_claims(text: str) -> Claims | None:
    """The claims of a caption in English or Chinese; None where a text is no caption."""
    chinese = is_chinese(text)
    seen = parse_zh(text) if chinese else parse_en(text)
    if seen is None or (chinese and not can_say_zh(seen)):
        return None
    ask = question_zh if chinese else question_en
    claims: list[Claim] = []
    roots: list[int] = []
    # Of one subject in two colours nobody can be asked how many there are of each.
    names = [item.name for item in seen.items]
    for item in seen.items:
        root = len(claims)
        roots.append(root)
        alone = names.count(item.name) == 1
        thing = Item(item.name) if alone else replace(item, count=1)
        claims.append(Claim("thing", item.name, True, ask(Question("exist", None, thing), None)))
        if alone:
            asked = ask(Question("count", None, Item(item.name, 2)), None)
            claims.append(Claim("count", item.name, item.count, asked, root))
        if alone and item.colour is not None:
            asked = ask(Question("colour", None, Item(item.name, item.count)), None)
            claims.append(Claim("colour", item.name, item.colour, asked, root))
    if seen.ground is not None:
        asked = ask(Question("ground", None), None)
        claims.append(Claim("colour", "ground", seen.ground, asked))

    def corrected(values: Mapping[int, Value]) -> str:
        changed = _corrected(seen, claims, roots, values)
        return caption_zh(changed) if chinese else caption_en(changed)

    return Claims(tuple(claims), corrected)


def _corrected(
    seen: Description, claims: list[Claim], roots: list[int], values: Mapping[int, Value]
) -> Description:
    items: list[Item] = []
    for item, root in zip(seen.items, roots):
        if values.get(root) is False:
            continue
        count, colour = item.count, item.colour
        for at, claim in enumerate(claims):
            value = values.get(at)
            if claim.parent == root and claim.kind == "count" and isinstance(value, int):
                count = min(value, _MOST)
            elif claim.parent == root and claim.kind == "colour" and value in COLOURS:
                colour = str(value)
        if count:
            items.append(Item(item.name, count, colour))
    ground = seen.ground
    if claims and claims[-1].about == "ground" and values.get(len(claims) - 1) in GROUND_NAMES:
        ground = str(values[len(claims) - 1])
    same = len(items) == len(seen.items) and all(item.count == 1 for item in items)
    relation = seen.relation if same else None
    zone = seen.zone if same else None
    return Description(tuple(items), relation, zone, ground, seen.writing)
