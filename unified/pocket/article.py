"""Asking the model for a planned article, and what came of it."""

from __future__ import annotations

import re
from dataclasses import replace

from unified.pocket.article_plan import ArticlePlan
from unified_base.arguments import flag, whole_or_none
from unified_base.arguments import prompt as check_prompt
from unified_data.document import Document, Slot, Text
from unified_data.pocket.scenes import SIDE

__all__ = ["article_request", "headings_of", "shortfall"]


def article_request(
    prompt: str, plan: ArticlePlan | None, images: int | None = None, audio: bool = True
) -> Document:
    """The document that asks for an article: a prompt and a slot for everything after it.

    plan: None for a model without subjects.json, which gets the prompt itself, `images` pictures
    (None: as many as it likes) and, at audio=False, no sound.
    """
    if plan is not None:
        audios = 1 if plan.narration else 0
        slot = Slot("any", SIDE, SIDE, num_images=plan.num_pictures, num_audios=audios)
        prompt = plan.prompt
    else:
        check_prompt("prompt", prompt, "say what to write about")
        images, audio = whole_or_none("images", images, 0), flag("audio", audio)
        slot = Slot("any", num_images=images, num_audios=None if audio else 0)
    return Document((Text(prompt, role="prompt", loss=0.0), replace(slot, role="response")))


def headings_of(document: Document) -> tuple[str, ...]:
    """The section headings (`## ...`) of an article, in order."""
    headings: list[str] = []
    for segment in document:
        if isinstance(segment, Text) and segment.role != "prompt":
            headings += re.findall(r"^## +(.+?) *$", segment.text, re.MULTILINE)
    return tuple(headings)


def shortfall(plan: ArticlePlan, document: Document) -> str | None:
    """What to tell the user where the sections did not come as asked for; None where they did."""
    came = headings_of(document)
    if came == plan.sections:
        return None
    return (
        f"the sections came as {', '.join(came) or 'none'}; "
        f"asked for were {', '.join(plan.sections)} (another --seed may do better)"
    )
