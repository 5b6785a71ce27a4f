"""Articles of the world, in English and Chinese: text, pictures and a narration in one document.

    Write: The fox. For children. Pictures: 1.

    # The fox

    The fox is a small wild hunter with a bushy tail.

    ![a fox on a green ground]IMAGE

    ## Food

    ...

A picture follows text that ends in its caption, a narration a block quote that names its voice and
a line of what is said in IPA. The prompt states wishes that the article fulfils; see `wishes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from unified_data.document import Audio, Document, Image, Segment, Text
from unified_data.pocket.subjects import Subject
from unified_data.pocket.tasks import draw_prompt
from unified_data.world.article_bodies import ArticleBody, Passage, draw_body
from unified_data.world.article_lengths import fulfils_length, text_length
from unified_data.world.captions_en import caption_en
from unified_data.world.captions_zh import caption_zh
from unified_data.world.composing import SceneKind, compose_scene
from unified_data.world.description import describe_scene
from unified_data.world.free_scene import FreeScene, split_of_keys
from unified_data.world.glyphs import common_style
from unified_data.world.long_articles import LONG_SUBJECTS, LONG_SUBTITLES, draw_long_body
from unified_data.world.narration import can_narrate, narrated, narrators
from unified_data.world.painting import paint
from unified_data.world.subtitles import random_subtitle
from unified_data.world.wishes import (
    MAX_PICTURES,
    NO_VOICE,
    Form,
    Wishes,
    aliases_of,
    canonical,
    phrased,
    title,
)
from unified_data.world.wordings import Language

__all__ = ["DrawnArticle", "article_document", "article_split", "draw_article"]

_FORM_SHARES: dict[Form | Literal["long"], float] = {
    "article": 0.55, "paragraph": 0.2, "list": 0.12, "comparison": 0.13,
}  # fmt: skip
_SUBTITLED, _CALLED, _CANONICAL = 0.12, 0.12, 0.35
_NARRATED = 0.4


class Picture(NamedTuple):
    """A picture of an article, and its caption."""

    scene: FreeScene
    caption: str


@dataclass(frozen=True)
class DrawnArticle:
    """An article: what was asked for, in which words, and what it holds."""

    wishes: Wishes
    prompt: str
    body: ArticleBody
    pictures: tuple[Picture, ...] = ()

    @property
    def split(self) -> str:
        return article_split(self.wishes)

    @property
    def text(self) -> str:
        """The whole as Markdown, without pictures and sound."""
        return "".join(s.text for s in _response(self, False) if isinstance(s, Text))


def article_split(wishes: Wishes) -> str:
    """The split of an article by its wishes: of a subject alone, in any form, `train`."""
    bare = Wishes(wishes.language, wishes.form, wishes.subjects)
    return "train" if wishes == bare else split_of_keys((f"article|{canonical(wishes)}",))


def draw_article(
    subject: Subject,
    language: Language,
    split: str,
    rng: np.random.Generator,
    media: bool,
    form: Form | Literal["long"] | None = None,
) -> DrawnArticle:
    """A random article whose wishes are in a split.

    media: with one to four pictures or a narration, otherwise with neither. form: None for any,
    `long` for a long article.

    Raises ValueError for a long article of a subject that has none.
    """
    forms = list(_FORM_SHARES)
    while True:
        drawn = form or forms[int(rng.choice(len(forms), p=list(_FORM_SHARES.values())))]
        if drawn == "long":
            body = draw_long_body(subject, language, split, rng)
        else:
            body = draw_body(subject, language, split, rng, drawn)
        wishes = _wishes(body, language, split, rng, media)
        if article_split(wishes) != split or not _has_its_length(wishes, body):
            continue
        pictures = draw_pictures(body.subjects, language, wishes.pictures or 0, rng)
        return DrawnArticle(wishes, _prompt(wishes, rng), body, pictures)


def _prompt(wishes: Wishes, rng: np.random.Generator) -> str:
    return canonical(wishes) if rng.random() < _CANONICAL else phrased(wishes, rng)


def _wishes(
    body: ArticleBody, language: Language, split: str, rng: np.random.Generator, media: bool
) -> Wishes:
    fields: dict[str, Any] = dict(body.wishes)
    subjects = body.subjects
    if body.form == "article" and subjects[0].name in LONG_SUBJECTS and rng.random() < 0.5:
        fields["subtitle"] = LONG_SUBTITLES[language]
    elif body.titled and rng.random() < _SUBTITLED:
        fields["subtitle"] = random_subtitle(language, rng)
    aliases = aliases_of(subjects[0], language)
    if len(subjects) == 1 and aliases and rng.random() < _CALLED:
        fields["called"] = (aliases[int(rng.integers(len(aliases)))],)
    voices = narrators(language)
    lead = body.passages[0].lines[0]
    read = media and body.form == "article" and can_narrate(lead, language, split)
    if read and rng.random() < _NARRATED:
        fields["narration"] = voices[int(rng.integers(len(voices)))]
    elif rng.random() < 0.1:
        fields["narration"] = NO_VOICE
    if media and (fields.get("narration", NO_VOICE) == NO_VOICE or rng.random() < 0.8):
        fields["pictures"] = int(rng.integers(1, MAX_PICTURES + 1))
    elif rng.random() < 0.1:
        fields["pictures"] = 0
    return Wishes(language, body.form, tuple(subject.name for subject in subjects), **fields)


def _has_its_length(wishes: Wishes, body: ArticleBody) -> bool:
    if wishes.length is None:
        return True
    characters = text_length(DrawnArticle(wishes, "", body).text)
    return fulfils_length(wishes.length, characters, wishes.language)


def draw_pictures(
    subjects: Sequence[Subject], language: Language, number: int, rng: np.random.Generator
) -> tuple[Picture, ...]:
    """Pictures of an article: of different captions, all of combinations in `train`.

    The first shows the subject alone, of two subjects both; the others each in turn.
    """
    pictures: list[Picture] = []
    while len(pictures) < number:
        both = len(subjects) > 1 and not pictures
        subjects_shown = subjects if both else (subjects[len(pictures) % len(subjects)],)
        kinds: tuple[SceneKind, ...] = ("single", "small", "two", "counted")
        kind = "two" if both else kinds[int(rng.integers(4))] if pictures else "single"
        names = [subject.name for subject in subjects_shown]
        style = common_style(names, rng)
        scene = compose_scene(rng, kind, [(name, style) for name in names])
        description = describe_scene(scene)
        caption = caption_en(description) if language == "en" else caption_zh(description)
        # Some pairs are held out: then each stands alone.
        if both and split_of_keys((f"two|{'|'.join(scene.names)}",)) != "train":
            subjects = (subjects[0],) if rng.random() < 0.5 else (subjects[1],)
        elif scene.split == "train" and all(caption != other.caption for other in pictures):
            pictures.append(Picture(scene, caption))
    return tuple(pictures)


def article_document(article: DrawnArticle) -> Document:
    """The document of an article. The same article gives the same document.

    The first picture follows the passage under the title, the next ones a section each, and those
    beyond the last section close the article. Neighbouring text is one segment.
    """
    prompt = Text(article.prompt, role="prompt", loss=0.0)
    return Document((prompt, *_response(article, True)))


def _response(article: DrawnArticle, media: bool) -> list[Segment]:
    """media: without them captions and what is read aloud stand alone."""
    writer = _Writer(media)
    wishes, body = article.wishes, article.body
    if body.titled:
        writer.text(f"# {title(wishes)}")
    pictures = list(article.pictures)
    voice = None if wishes.narration == NO_VOICE else wishes.narration
    for number, passage in enumerate(body.passages):
        writer.passage(passage, voice if number == 0 else None)
        here = len(pictures) if number == len(body.passages) - 1 else 1
        for picture in pictures[:here]:
            writer.picture(picture)
        del pictures[:here]
    return writer.segments()


class _Writer:
    """Collects the segments of an article; paragraphs are two line ends apart."""

    def __init__(self, media: bool) -> None:
        self.media = media
        self._segments: list[Segment] = []
        self._text = ""
        self._begun = False

    def text(self, paragraph: str) -> None:
        self._text += ("\n\n" if self._begun else "") + paragraph
        self._begun = True

    def passage(self, passage: Passage, voice: str | None) -> None:
        if passage.heading:
            self.text(f"## {passage.heading}")
        if voice is None:
            listed = all(line.startswith("- ") for line in passage.lines)
            self.text(("\n" if listed else "\n\n").join(passage.lines))
            return
        phonemes, sound = narrated(passage.lines[0], voice) if self.media else ("", None)
        self.text(f"> ({voice}) {passage.lines[0]}")
        if sound is not None:
            self._text += f"\n{phonemes}\n"
            self._add(sound)

    def picture(self, picture: Picture) -> None:
        self.text(draw_prompt(picture.caption))
        if self.media:
            self._add(Image(paint(picture.scene), role="response"))

    def _add(self, segment: Image | Audio) -> None:
        self._flush()
        self._segments.append(segment)

    def _flush(self) -> None:
        if self._text:
            self._segments.append(Text(self._text, role="response"))
        self._text = ""

    def segments(self) -> list[Segment]:
        self._flush()
        return self._segments
