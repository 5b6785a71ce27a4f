"""The document that asks for a planned article, and what came of it."""

from __future__ import annotations

from unified.articles.blocks import headings_of
from unified.pocket.article_plan import ArticlePlan
from unified_data.document import Document, Slot, Text
from unified_data.pocket.scenes import SIDE

__all__ = ["article_request", "shortfall"]


def article_request(plan: ArticlePlan) -> Document:
    """A plan's prompt and a slot for everything after it, with exactly the media of the plan."""
    audios = 1 if plan.narration else 0
    slot = Slot("any", SIDE, SIDE, plan.num_pictures, audios, role="response")
    return Document((Text(plan.prompt, role="prompt", loss=0.0), slot))


def shortfall(plan: ArticlePlan, document: Document) -> str | None:
    """What to tell the user where the sections did not come as asked for; None where they did."""
    came = headings_of(document)
    if came == plan.sections:
        return None
    return (
        f"the sections came as {', '.join(came) or 'none'}; "
        f"asked for were {', '.join(plan.sections)} (another --seed may do better)"
    )
