"""What a model can do in the pocket world, measured on documents whose truth is known.

Every function asks what the command of its name asks, all requests in one batch with seed 0 and
the model's own sampling settings, so a row is what `unified draw "a cat"` gives. Held-out scenes
and sentences are those of the world's held-out shards, made again from the world's seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unified.engine.events import completions
from unified.engine.request import Sampling
from unified.evaluation.judges import GlyphJudge, Match, words
from unified.models.model import UnifiedModel
from unified_data.document import Audio, Document, Image, Slot
from unified_data.pocket import tasks
from unified_data.pocket.planning import plan_documents
from unified_data.pocket.scenes import Scene, parse_caption, render
from unified_data.pocket.speech import SAMPLE_RATE
from unified_data.pocket.speech import speak as speak_truly
from unified_data.pocket.subjects import Subject, load_subjects
from unified_tokenizers.measures import psnr, stoi
from unified_tokenizers.report import reconstruct_picture, reconstruct_sound

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer

__all__ = [
    "Answer",
    "Drawing",
    "Progress",
    "Transcription",
    "ask",
    "audio_stoi",
    "codes_kept",
    "complete",
    "describe",
    "draw",
    "heldout",
    "image_psnr",
    "judge_scene",
    "listen",
    "question_kind",
    "questions_of_each_kind",
    "speak_and_listen",
    "true_sound",
]

Progress = Callable[[int, int], None]
"""Called with the requests done and the requests there are."""


def heldout(kind: str, seed: int = 0) -> list[Any]:
    """What the documents of the world's held-out shards show, in the shards' order, at scale 1.

    See `unified_data.pocket.planning.plan_documents` for the kinds and what comes of them.
    """
    return plan_documents(kind, "heldout", seed)


def complete(
    model: UnifiedModel,
    requests: Sequence[Document],
    progress: Progress | None = None,
    sampling: Sampling | None = None,
) -> list[Document]:
    """Every request completed with seed 0, in order. sampling: None: the model's."""
    documents: dict[int, Document] = {}
    events = model.stream(requests, sampling, [0] * len(requests))
    for done in completions(events, lambda _: None):
        documents[done.row] = done.document
        if progress is not None:
            progress(len(documents), len(requests))
    return [documents[row] for row in range(len(requests))]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture of a scene and what the judge sees in it.

    right: the things of the scene are named, and no other. in_place: and stand as a two-thing scene
    says.
    """

    scene: Scene
    pixels: np.ndarray
    named: tuple[Subject, ...]
    right: bool
    in_place: bool


def judge_scene(judge: GlyphJudge, scene: Scene, pixels: np.ndarray) -> Drawing:
    """Judge a picture of one or two things: uint8 (H, W, 3). What the judge cannot see is wrong.

    Raises ValueError for a scene of more things.
    """
    things = list(scene.subjects) * scene.count
    if len(things) > 2:
        raise ValueError(f"the judge looks for one or two things, the scene has {len(things)}")
    matches = judge.best_two(pixels) if len(things) == 2 else (judge.best(pixels),)
    named = tuple(match.subject for match in matches)
    seen = all(match.score > 0 for match in matches)
    right = seen and sorted(s.name for s in named) == sorted(s.name for s in things)
    in_place = right and (scene.kind != "two" or _relation(scene, matches) == scene.relation)
    return Drawing(scene, pixels, named, right, in_place)


def _relation(scene: Scene, matches: Sequence[Match]) -> str:
    """How the scene's first subject stands to the other one."""
    first, second = sorted(matches, key=lambda match: match.subject != scene.subject)
    right = (first.x + first.side / 2) - (second.x + second.side / 2)
    down = (first.y + first.side / 2) - (second.y + second.side / 2)
    if abs(right) > abs(down):
        return "to the right of" if right > 0 else "to the left of"
    return "below" if down > 0 else "above"


def draw(
    model: UnifiedModel,
    judge: GlyphJudge,
    scenes: Sequence[Scene],
    progress: Progress | None = None,
) -> list[Drawing]:
    """Text to image: every scene drawn from its caption and judged."""
    slot = tasks.image_slot()
    requests = [tasks.draw_document(scene.caption, slot) for scene in scenes]
    drawn = complete(model, requests, progress)
    return [
        judge_scene(judge, scene, document.segments[-1].pixels)  # type: ignore[union-attr]
        for scene, document in zip(scenes, drawn)
    ]


@dataclass(frozen=True)
class Answer:
    """A model's answer to a question about a scene, or its description (question: None)."""

    scene: Scene
    question: str | None
    expected: str
    text: str

    @property
    def exact(self) -> bool:
        """Word for word, whatever the case and the full stop."""
        return words(self.text) == words(self.expected)

    @property
    def named(self) -> bool:
        """Whether a description is a caption that names the scene's subjects."""
        described = parse_caption(self.text)
        return described is not None and set(described.subjects) == set(self.scene.subjects)


def describe(
    model: UnifiedModel, scenes: Sequence[Scene], progress: Progress | None = None
) -> list[Answer]:
    """Image to text: every scene rendered and described."""
    requests = [tasks.describe_document(Image(render(scene)), Slot("text")) for scene in scenes]
    texts = _texts(complete(model, requests, progress))
    return [Answer(scene, None, scene.caption, text) for scene, text in zip(scenes, texts)]


def questions_of_each_kind(number: int) -> list[tuple[Scene, str, str]]:
    """Held-out (scene, question, answer): the first `number` of each kind of question."""
    asked: defaultdict[str, list[tuple[Scene, str, str]]] = defaultdict(list)
    for scene, turns in heldout("ask"):
        for question, answer in turns:
            asked[question_kind(question)].append((scene, question, answer))
    return [item for items in asked.values() for item in items[:number]]


def ask(
    model: UnifiedModel,
    asked: Sequence[tuple[Scene, str, str]],
    progress: Progress | None = None,
) -> list[Answer]:
    """One question about each picture: (scene, question, answer)."""
    requests = [
        tasks.ask_document(Image(render(scene)), [(question, Slot("text"))])
        for scene, question, _ in asked
    ]
    texts = _texts(complete(model, requests, progress))
    return [Answer(*item, text) for item, text in zip(asked, texts)]


_QUESTIONS = (
    ("What colour", "background"),
    ("How many", "count"),
    ("Is there", "presence"),
    ("Where is", "location"),
    ("What is this", "subject"),
    ("What is", "neighbour"),
)


def question_kind(question: str) -> str:
    """background, count, presence, location, subject or neighbour (what stands where).

    Raises ValueError for a question that the world does not ask.
    """
    for beginning, kind in _QUESTIONS:
        if question.startswith(beginning):
            return kind
    raise ValueError(f"the world does not ask {question!r}")


@dataclass(frozen=True)
class Transcription:
    """A spoken sentence, its voice, and the model's transcription of it."""

    sentence: str
    voice: str
    text: str

    @property
    def kind(self) -> str:
        """`fact` or `caption` (a sentence that says what a scene shows)."""
        facts = (sentence for subject in load_subjects() for sentence in subject.sentences)
        return "fact" if self.sentence in facts else "caption"


def listen(
    model: UnifiedModel, spoken: Sequence[tuple[str, str]], progress: Progress | None = None
) -> list[Transcription]:
    """Speech recognition: (sentence, voice) pairs, synthesised by espeak-ng, transcribed."""
    return _listen(model, spoken, [true_sound(*pair) for pair in spoken], progress)


def speak_and_listen(
    model: UnifiedModel, sentences: Sequence[tuple[str, str]], progress: Progress | None = None
) -> list[Transcription]:
    """Speech synthesis and recognition: (sentence, voice) pairs, both by the model."""
    total = 2 * len(sentences)

    def report(done: int, offset: int) -> None:
        if progress is not None:
            progress(offset + done, total)

    requests = [tasks.speak_document(*pair, Slot("audio")) for pair in sentences]
    spoken = complete(model, requests, lambda done, _: report(done, 0))
    sounds: list[Audio] = [document.segments[-1] for document in spoken]  # type: ignore[misc]
    return _listen(model, sentences, sounds, lambda done, _: report(done, len(sentences)))


def codes_kept(tokenizer: AudioTokenizer, sounds: Iterable[Audio]) -> list[float]:
    """Of each level's codes, the share that comes back when what is decoded is encoded again.

    tokenizer: an audio tokenizer of the sounds' sample rate.
    """
    preserved = []
    for sound in sounds:
        codes = tokenizer.encode(torch.from_numpy(sound.waveform)[None])
        again = tokenizer.encode(tokenizer.decode(codes))
        preserved.append((codes.codes == again.codes)[0].double().mean(1).numpy())
    return np.mean(preserved, axis=0).tolist()


def true_sound(sentence: str, voice: str) -> Audio:
    """What espeak-ng says: the world's own clip."""
    return Audio(speak_truly(sentence, voice), SAMPLE_RATE)


def _listen(
    model: UnifiedModel,
    sentences: Sequence[tuple[str, str]],
    sounds: Sequence[Audio],
    progress: Progress | None,
) -> list[Transcription]:
    requests = [tasks.listen_document(sound, Slot("text")) for sound in sounds]
    texts = _texts(complete(model, requests, progress))
    return [Transcription(*pair, text) for pair, text in zip(sentences, texts)]


def _texts(documents: Iterable[Document]) -> list[str]:
    return [document.segments[-1].text for document in documents]  # type: ignore[union-attr]


def image_psnr(tokenizer: ImageTokenizer, pictures: Iterable[np.ndarray]) -> float:
    """Mean over pictures of the reconstruction's PSNR, dB."""
    return fmean(psnr(pixels, reconstruct_picture(tokenizer, pixels)[0]) for pixels in pictures)


def audio_stoi(tokenizer: AudioTokenizer, sounds: Iterable[Audio]) -> float:
    """Mean over mono sounds at the tokenizer's rate of the reconstruction's STOI."""
    scores = []
    for sound in sounds:
        restored, _ = reconstruct_sound(tokenizer, sound.waveform[0])
        scores.append(stoi(sound.waveform[0], restored, sound.sample_rate))
    return fmean(scores)
