"""Descriptions checked by the model itself: it is asked about everything that it named.

The last stages of Woodpecker (Yin et al. 2023, arXiv:2310.16045), with the model in the place of
its detector and its question answering: each claim of a text becomes a question about the picture,
and where the answer is another one, the text is corrected and the correction told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unified.engine.events import completions
from unified.matching.fetching import CAPTION
from unified.tasks.claims import Claim, Claims, Value, english_claims
from unified.tasks.task_plugin import load_plugin
from unified_data.document import Document, Image, Segment, Text

if TYPE_CHECKING:
    from unified.models.verbs import Verbs

__all__ = ["CheckedArticle", "CheckedText", "Correction", "check_article", "check_description"]


@dataclass(frozen=True)
class Correction:
    """A claim, what the model answered, and what stands there instead; False: it is not there."""

    claim: Claim
    new_value: Value
    answer: str

    @property
    def words(self) -> str:
        """`foxes: 2 became 3`."""
        if self.claim.kind == "thing" or self.new_value == 0:
            return f"{self.claim.about}: left out, since it is not there"
        return f"{self.claim.about}: {self.claim.value} became {self.new_value}"

    def to_json(self) -> dict[str, Any]:
        """As `--json` gives it."""
        return {
            "kind": self.claim.kind, "about": self.claim.about, "said": self.claim.value,
            "found": self.new_value, "question": self.claim.question, "answer": self.answer,
        }  # fmt: skip


@dataclass(frozen=True)
class CheckedText:
    """A text after the check.

    asked: number of questions. open: claims whose answers said nothing.
    """

    text: str
    corrections: tuple[Correction, ...]
    asked: int
    open: tuple[Claim, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """For the user, one line each."""
        lines = [f"corrected: {correction.words}" for correction in self.corrections]
        lines += [f"not confirmed: {claim.about} ({claim.kind})" for claim in self.open]
        return tuple(lines or [f"checked by {self.asked} questions: nothing to correct"])


@dataclass(frozen=True)
class CheckedArticle:
    """An article after the check. captions: (what was said, what came of it), in order."""

    document: Document
    captions: tuple[tuple[str, CheckedText], ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """For the user, one line each."""
        return tuple(
            f"picture {number}: {note}"
            for number, (_, checked) in enumerate(self.captions, start=1)
            for note in checked.notes
        )


def check_description(
    model: Verbs, pixels: np.ndarray, text: str, seed: int = 0, language: str | None = None
) -> CheckedText:
    """A description of a picture, uint8 (H, W, 3), whose every thing, number and colour the model
    was asked about.

    language: of the questions, as `ask` has it; None: the task's own.

    Raises ValueError where the model cannot be asked.
    """
    model.tasks.task("ask")
    claims = _claims(model, text)
    if not claims.claims:
        return CheckedText(text, (), 0)
    answers: dict[int, str] = {}
    roots = [at for at, claim in enumerate(claims.claims) if claim.parent is None]
    answers |= _ask(model, pixels, claims, roots, seed, language)
    values = {at: claims.claims[at].read(answer) for at, answer in answers.items()}
    rest = [
        at
        for at, claim in enumerate(claims.claims)
        if claim.parent is not None and values.get(claim.parent) is not False
    ]
    answers |= _ask(model, pixels, claims, rest, seed, language)
    values |= {at: claims.claims[at].read(answers[at]) for at in rest}
    other = {
        at: value
        for at, value in values.items()
        if value is not None and value != claims.claims[at].value
    }
    corrections = [Correction(claims.claims[at], other[at], answers[at]) for at in sorted(other)]
    unread = tuple(claims.claims[at] for at in sorted(values) if values[at] is None)
    corrected = claims.corrected(other) if other else text
    return CheckedText(corrected, tuple(corrections), len(answers), unread)


def check_article(model: Verbs, document: Document, seed: int = 0) -> CheckedArticle:
    """An article whose captions, `![a fox]` right before a picture, were checked against it."""
    segments: list[Segment] = list(document.segments)
    captions = []
    for at in range(1, len(segments)):
        picture, before = segments[at], segments[at - 1]
        if not isinstance(picture, Image) or not isinstance(before, Text):
            continue
        match = CAPTION.search(before.text)
        if match is None or picture.role == "prompt":
            continue
        checked = check_description(model, picture.pixels, match[1], seed)
        captions.append((match[1], checked))
        text = before.text[: match.start(1)] + checked.text + before.text[match.end(1) :]
        segments[at - 1] = replace(before, text=text)
    return CheckedArticle(Document(tuple(segments)), tuple(captions))


def _claims(model: Verbs, text: str) -> Claims:
    """The plug-in's reading of a text, or that of any English one."""
    if model.plugin is not None:
        reader = getattr(load_plugin(model.plugin), "claims", None)
        if reader is not None and (claims := reader(text)) is not None:
            return claims
    return english_claims(text)


def _ask(
    model: Verbs,
    pixels: np.ndarray,
    claims: Claims,
    which: Sequence[int],
    seed: int,
    language: str | None,
) -> dict[int, str]:
    """The answers to the questions of some claims, all asked at once."""
    if not which:
        return {}
    requests = [
        model.request("ask", image=pixels, question=claims.claims[at].question, language=language)
        for at in which
    ]
    rows = [request.document for request in requests]
    samplings = [request.sampling for request in requests]
    events = model.stream(rows, samplings, [seed] * len(rows), requests[0].negative)
    return {
        which[done.row]: requests[done.row].response(done.document).text
        for done in completions(events, lambda event: None)
    }
