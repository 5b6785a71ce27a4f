"""Asking the model for a planned article, and what came of it."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from unified.pocket.article_plan import ArticlePlan, plan_article
from unified.pocket.known_subjects import KnownSubjects
from unified_base.arguments import flag, whole_or_none
from unified_base.arguments import prompt as check_prompt
from unified_data.document import Document, Slot, Text
from unified_data.pocket.scenes import SIDE

if TYPE_CHECKING:
    from unified.models.model import UnifiedModel

__all__ = ["article_request", "headings_of", "shortfall", "write"]


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


def write(
    model: UnifiedModel, prompt: str, images: int | None = None, audio: bool = True, seed: int = 0
) -> Document:
    """Write an article: the document with its prompt and, as response, text, pictures and sound.

    Notes on the prompt (what was not understood, which sections are missing) and on the result are
    given as warnings. Raises ValueError as `plan_article` does.
    """
    known = KnownSubjects.load(model.directory) if model.directory else None
    plan = plan_article(prompt, known, images, audio) if known else None
    (document,) = model.generate(article_request(prompt, plan, images, audio), seed=seed)
    notes = list(plan.notes) if plan else []
    if plan and (note := shortfall(plan, document)):
        notes.append(note)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return document
