"""Articles of the pocket world: text, pictures and a narration in one document.

An article is one prompt, which states its plan, and one response in Markdown:

    # The giant panda

    > (ben) The giant panda is a bear ...
    AUDIO

    ![a giant panda]IMAGE

    ## Home

    Two sentences about its home. ...

A picture always follows text that ends in its caption (`tasks.draw_prompt`), a narration a block
quote that names its voice (`tasks.speak_prompt`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unified_data.document import Audio, Document, Image, Segment, Text
from unified_data.pocket.scenes import Scene, compose, render
from unified_data.pocket.speech import DEFAULT_VOICE, SAMPLE_RATE, VOICES, speak
from unified_data.pocket.subjects import Section, Subject
from unified_data.pocket.tasks import draw_prompt, speak_prompt

__all__ = [
    "MAX_PICTURES",
    "ArticleOutline",
    "article_document",
    "default_plan",
    "plan_prompt",
    "random_plan",
]

MAX_PICTURES = 4


@dataclass(frozen=True)
class ArticleOutline:
    """What an article shall hold.

    sections: headings in the order wanted; scenes: the pictures; voice: who reads the lead aloud,
    None for no narration.
    """

    subject: Subject
    sections: tuple[str, ...]
    scenes: tuple[Scene, ...]
    voice: str | None

    @property
    def prompt(self) -> str:
        return plan_prompt(self.subject, self.sections, len(self.scenes), self.voice is not None)


def title(subject: Subject) -> str:
    """`The giant panda`: an article's heading."""
    return f"The {subject.name}"


def plan_prompt(
    subject: Subject, sections: Sequence[str], num_pictures: int, narration: bool
) -> str:
    """The prompt of an article: its title, its sections in order, its pictures, its narration.

    `Write: The giant panda. Sections: Appearance, Home. Pictures: 3. Narration: yes.`

    Raises ValueError for a section that the subject does not have, a section asked for twice,
    no section, or a number of pictures outside 0 to MAX_PICTURES.
    """
    for heading in sections:
        _section(subject, heading)
    if not sections or len(set(sections)) != len(sections):
        raise ValueError(f"sections are {list(sections)}, expected at least one, each once")
    if not 0 <= num_pictures <= MAX_PICTURES:
        raise ValueError(f"an article has 0 to {MAX_PICTURES} pictures, {num_pictures} asked for")
    return (
        f"Write: {title(subject)}. Sections: {', '.join(sections)}. "
        f"Pictures: {num_pictures}. Narration: {'yes' if narration else 'no'}."
    )


def _section(subject: Subject, heading: str) -> Section:
    for section in subject.sections:
        if section.heading == heading:
            return section
    known = ", ".join(section.heading for section in subject.sections)
    raise ValueError(f"{subject.name} has no section {heading!r}, only {known}")


def default_plan(
    subject: Subject, rng: np.random.Generator, num_pictures: int = 3
) -> ArticleOutline:
    """Every section in the subject's own order, narrated in the default voice."""
    headings = tuple(section.heading for section in subject.sections)
    return ArticleOutline(subject, headings, _scenes(subject, rng, num_pictures), DEFAULT_VOICE)


def random_plan(subject: Subject, rng: np.random.Generator) -> ArticleOutline:
    """Two or more sections in any order, 0 to 4 pictures, narrated or not (one in four).

    The voice is the default one seven times in ten, else one of the others.
    """
    headings = [section.heading for section in subject.sections]
    size = int(rng.integers(min(2, len(headings)), len(headings) + 1))
    sections = tuple(headings[i] for i in rng.permutation(len(headings))[:size])
    scenes = _scenes(subject, rng, int(rng.integers(MAX_PICTURES + 1)))
    voice = None
    if rng.random() < 0.75:
        others = [name for name in VOICES if name != DEFAULT_VOICE]
        voice = DEFAULT_VOICE if rng.random() < 0.7 else others[int(rng.integers(len(others)))]
    return ArticleOutline(subject, sections, scenes, voice)


def _scenes(subject: Subject, rng: np.random.Generator, count: int) -> tuple[Scene, ...]:
    """Pictures that differ, all of combinations in `train`: first the subject alone on white."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        if not scenes:
            scene = Scene("one", subject)
        else:
            kind = ("one", "placed", "two", "counted")[int(rng.integers(4))]
            scene = compose(rng, kind, subject)  # type: ignore[arg-type]
        if scene not in scenes and scene.split == "train":
            scenes.append(scene)
    return tuple(scenes)


def article_document(plan: ArticleOutline) -> Document:
    """The article of a plan. The same plan gives the same document.

    The first picture follows the lead, the next ones a section each, and those beyond the last
    section close the article. Neighbouring text is one segment. The narration is mono, 16 kHz.

    Raises ValueError as `plan_prompt` and `speech.speak` do.
    """
    segments: list[Segment] = [Text(plan.prompt, role="prompt", loss=0.0)]
    lead = plan.subject.lead
    text = f"# {title(plan.subject)}\n\n"

    def flush() -> None:
        nonlocal text
        if text:
            segments.append(Text(text, role="response"))
        text = ""

    if plan.voice is None:
        text += lead
    else:
        text += speak_prompt(lead, plan.voice) + "\n"
        flush()
        segments.append(Audio(speak(lead, plan.voice), SAMPLE_RATE, role="response"))
    scenes = list(plan.scenes)
    for number in range(len(plan.sections) + 1):
        if number:
            section = _section(plan.subject, plan.sections[number - 1])
            text += f"\n\n## {section.heading}\n\n{' '.join(section.sentences)}"
        here = len(scenes) if number == len(plan.sections) else 1
        for scene in scenes[:here]:
            text += f"\n\n{draw_prompt(scene.caption)}"
            flush()
            segments.append(Image(render(scene), role="response"))
        del scenes[:here]
    flush()
    return Document(tuple(segments))
