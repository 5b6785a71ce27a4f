"""Documents of speech: what is said in each, by whom, and how it is heard.

A payload holds text, voice and hearing; processes make the sound.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket.subjects import load_subjects
from unified_data.world import speech_tasks as tasks
from unified_data.world.captions_en import caption_en
from unified_data.world.captions_zh import caption_zh
from unified_data.world.chinese import chinese_names
from unified_data.world.composing import SceneKind, compose_scene
from unified_data.world.description import describe_scene
from unified_data.world.free_scene import FreeScene
from unified_data.world.glyphs import common_style
from unified_data.world.hearing import Hearing, draw_hearing, hear, hear_nothing
from unified_data.world.painting import paint
from unified_data.world.phonemes import format_phonemes
from unified_data.world.question_texts import (
    answer_en,
    answer_zh,
    names_in,
    question_en,
    question_zh,
)
from unified_data.world.questions import questions_about, seen_in
from unified_data.world.sentences import (
    Language,
    SentenceKind,
    draw_sentence,
    words_in,
    words_in_turn,
)
from unified_data.world.sound import SAMPLE_RATE, has_recorded_voices, say, speak_text
from unified_data.world.voices import SPEAKERS, Speaker, draw_speaker
from unified_data.world.wear import worn

__all__ = [
    "HeardPayload", "PairPayload", "SpokenPayload", "ask_spoken", "draw_spoken", "listen",
    "plan_asked_aloud", "plan_heard", "plan_pairs", "plan_salad", "plan_spoken", "plan_words",
    "say_picture", "side_of", "speak", "words",
]  # fmt: skip

_CHINESE = 0.25
# Kinds of sentences, in the order of `SentenceKind`s here, and their shares.
_SPOKEN: dict[SentenceKind, float] = {"caption": 0.42, "fact": 0.33, "name": 0.12, "number": 0.03,
                                      "splice": 0.1}  # fmt: skip
_HEARD: dict[SentenceKind, float] = {"caption": 0.36, "fact": 0.3, "name": 0.1, "number": 0.04,
                                     "splice": 0.2}  # fmt: skip
_NOTHING = 0.04  # of what is heard
_PAIRED: dict[SceneKind, float] = {"single": 0.45, "small": 0.2, "two": 0.25, "counted": 0.1}
_ATTEMPTS = 200


class SpokenPayload(NamedTuple):
    """What is to be spoken by one of the voices that the world speaks in."""

    text: str
    voice: str


class HeardPayload(NamedTuple):
    """What is heard. text: empty where nothing is said; then the hearing's seed decides."""

    text: str
    speaker: Speaker
    hearing: Hearing


class PairPayload(NamedTuple):
    """A picture and what is said of it. cast: as `compose_scene` has it. voice: who speaks."""

    split: str
    seed: int
    kind: SceneKind
    cast: tuple[tuple[str, str], ...]
    language: Language
    speaker: Speaker


def side_of(name: str) -> str:
    """The split of a subject where speech and pictures meet: half of them are in `train`.

    The other half is what shows whether a model connects the two by itself, having seen and heard
    all of them apart: an eighth of all is in `steer`.
    """
    first = hashlib.sha256(f"spoken|{name}".encode()).digest()[0]
    return "train" if first < 128 else "steer" if first < 160 else "heldout"


def _language(rng: np.random.Generator) -> Language:
    return "zh" if chinese_names() and rng.random() < _CHINESE else "en"


def _own_voice(language: Language, rng: np.random.Generator) -> str:
    voices = [name for name, speaker in SPEAKERS.items() if speaker.language == language]
    return voices[int(rng.integers(len(voices)))]


def _kind_of(shares: dict[SentenceKind, float], rng: np.random.Generator) -> SentenceKind:
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def _spoken(split: str, kind: SentenceKind, rng: np.random.Generator) -> SpokenPayload:
    language = _language(rng)
    return SpokenPayload(draw_sentence(kind, language, split, rng), _own_voice(language, rng))


def _heard(split: str, kind: SentenceKind, rng: np.random.Generator) -> HeardPayload:
    language = _language(rng)
    text = draw_sentence(kind, language, split, rng)
    return HeardPayload(text, _heard_speaker(split, language, rng), draw_hearing(rng))


def _heard_speaker(split: str, language: Language, rng: np.random.Generator) -> Speaker:
    return draw_speaker(split, language, rng, has_recorded_voices())


def plan_spoken(split: str, number: int, rng: np.random.Generator) -> list[SpokenPayload]:
    """Sentences to be spoken."""
    return [_spoken(split, _kind_of(_SPOKEN, rng), rng) for _ in range(number)]


def plan_heard(split: str, number: int, rng: np.random.Generator) -> list[HeardPayload]:
    """Sentences to be listened to, and one clip in twenty-five without any."""
    payloads = []
    for _ in range(number):
        if rng.random() < _NOTHING:
            payloads.append(HeardPayload("", SPEAKERS["ben"], draw_hearing(rng)))
        else:
            payloads.append(_heard(split, _kind_of(_HEARD, rng), rng))
    return payloads


def plan_salad(
    split: str, number: int, rng: np.random.Generator
) -> list[HeardPayload | SpokenPayload]:
    """Words in no order: three in four to be listened to, the others to be spoken."""
    return [
        _spoken(split, "salad", rng) if i % 4 == 3 else _heard(split, "salad", rng)
        for i in range(number)
    ]


def plan_words(
    split: str, number: int, rng: np.random.Generator
) -> list[HeardPayload | SpokenPayload]:
    """Words alone, every one as often as any other, by turns to be spoken and to be listened to."""
    payloads: list[HeardPayload | SpokenPayload] = []
    languages: list[Language] = ["en", "zh"] if chinese_names() else ["en"]
    counts = [len(words_in(language)) for language in languages]
    turns = [
        {language: words_in_turn(language, split, rng) for language in languages} for _ in range(2)
    ]
    for i in range(number):
        language = languages[int(rng.choice(len(languages), p=np.divide(counts, sum(counts))))]
        text = next(turns[i % 2][language])
        if i % 2:
            payloads.append(SpokenPayload(text, _own_voice(language, rng)))
        else:
            speaker = _heard_speaker(split, language, rng)
            payloads.append(HeardPayload(text, speaker, draw_hearing(rng)))
    return payloads


def speak(payload: SpokenPayload) -> Document:
    """A sentence, its phonemes, and its sound."""
    waveform, phonemes = speak_text(payload.text, SPEAKERS[payload.voice])
    sound = Audio(waveform, SAMPLE_RATE)
    answer = Text(format_phonemes(phonemes))
    return tasks.speak_document(payload.text, payload.voice, answer, sound)


def listen(payload: HeardPayload) -> Document:
    """A sound, and what is said in it."""
    if not payload.text:
        waveform = hear_nothing(np.random.default_rng(payload.hearing.seed))
        return tasks.listen_document(Audio(waveform, SAMPLE_RATE), Text(tasks.NOTHING_SAID))
    speech, phonemes = say(payload.text, payload.speaker)
    sound = Audio(hear(speech, payload.hearing), SAMPLE_RATE)
    return tasks.listen_document(sound, Text(tasks.transcript(phonemes, payload.text)))


def words(payload: HeardPayload | SpokenPayload) -> Document:
    """Words to be spoken or to be listened to."""
    return speak(payload) if isinstance(payload, SpokenPayload) else listen(payload)


def plan_pairs(split: str, number: int, rng: np.random.Generator) -> list[PairPayload]:
    """Pictures of one or two of a split's subjects, and who speaks of them, in one of the world's
    own voices."""
    return _pairs(split, number, rng, own=True)


def plan_asked_aloud(split: str, number: int, rng: np.random.Generator) -> list[PairPayload]:
    """As `plan_pairs`, said by any voice of the split."""
    return _pairs(split, number, rng, own=False)


def _pairs(split: str, number: int, rng: np.random.Generator, own: bool) -> list[PairPayload]:
    payloads = []
    kinds = list(_PAIRED)
    for _ in range(number):
        language = _language(rng)
        kind = kinds[int(rng.choice(len(kinds), p=list(_PAIRED.values())))]
        names = [s.name for s in load_subjects() if side_of(s.name) == split]
        if language == "zh":
            names = [name for name in names if name in chinese_names()]
        chosen = rng.permutation(len(names))[: 2 if kind == "two" else 1]
        style = common_style([names[i] for i in chosen], rng)
        voice = SPEAKERS[_own_voice(language, rng)] if own else _heard_speaker(split, language, rng)
        cast = tuple((names[i], style) for i in chosen)
        payloads.append(PairPayload(split, int(rng.integers(2**63)), kind, cast, language, voice))
    return payloads


def _scene(payload: PairPayload, rng: np.random.Generator) -> FreeScene:
    """A scene of the cast whose combinations are in `train`: what is new of it is its sound."""
    for _ in range(_ATTEMPTS):
        scene = compose_scene(rng, payload.kind, payload.cast)
        if scene.split == "train":
            return scene
    # A pair of subjects may be held out whatever else there is: then its first alone.
    return _scene(payload._replace(kind="single", cast=payload.cast[:1]), rng)


def _caption(scene: FreeScene, language: Language) -> str:
    description = describe_scene(scene)
    return caption_zh(description) if language == "zh" else caption_en(description)


def draw_spoken(payload: PairPayload) -> Document:
    """A caption said aloud, and its picture."""
    rng = np.random.default_rng(payload.seed)
    scene = _scene(payload, rng)
    speech = say(_caption(scene, payload.language), payload.speaker).waveform
    sound = Audio(hear(speech, draw_hearing(rng)), SAMPLE_RATE)
    return tasks.draw_spoken_document(sound, Image(paint(scene)))


def say_picture(payload: PairPayload) -> Document:
    """A picture, perhaps worn, and its caption said aloud."""
    rng = np.random.default_rng(payload.seed)
    scene = _scene(payload, rng)
    waveform, phonemes = speak_text(_caption(scene, payload.language), payload.speaker)
    picture = Image(worn(paint(scene), rng))
    answer, sound = Text(format_phonemes(phonemes)), Audio(waveform, SAMPLE_RATE)
    return tasks.say_picture_document(picture, payload.speaker.name, answer, sound)


def ask_spoken(payload: PairPayload) -> Document:
    """A picture, perhaps worn, a question about it said aloud, and the answer.

    The question names subjects of the payload's side alone.
    """
    rng = np.random.default_rng(payload.seed)
    while True:
        scene = _scene(payload, rng)
        asked = [
            each
            for each in questions_about(scene, rng)
            if all(side_of(name) == payload.split for name in names_in(each))
            and (payload.language == "en" or all(n in chinese_names() for n in names_in(each)))
        ]
        if asked:
            break
    question, seen = asked[int(rng.integers(len(asked)))], seen_in(scene)
    if payload.language == "zh":
        text, answer = question_zh(question, rng), answer_zh(question, seen)
    else:
        text, answer = question_en(question, rng), answer_en(question, seen)
    sound = Audio(hear(say(text, payload.speaker).waveform, draw_hearing(rng)), SAMPLE_RATE)
    return tasks.ask_spoken_document(Image(worn(paint(scene), rng)), sound, Text(answer))
