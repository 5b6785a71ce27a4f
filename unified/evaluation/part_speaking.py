"""Speaking: is a word of what was to be said really heard, by its rank among 13 words' sounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from unified.evaluation.figures import MeasuredFigure, share
from unified.evaluation.judges import words
from unified.evaluation.outside_recogniser import NEEDED, OutsideRecogniser
from unified.evaluation.outside_sentences import OUTSIDE_SENTENCES
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult, sound_of
from unified.evaluation.spoken_words import Features, features, rank
from unified_data.document import Audio
from unified_data.pocket.scenes import compose
from unified_data.pocket.speech import DEFAULT_VOICE, SAMPLE_RATE, VOICES, speak
from unified_data.pocket.subjects import load_subjects

__all__ = ["SPEAKING", "content_words"]

_CONDITIONS = ("names", "captions", "leads", "facts", "outside", "sentences")
_RIVALS = 12
_LEAST = 4  # letters of a content word
_POOL = 150
"""Words that the rivals are drawn from, so that each is spoken by espeak-ng but once."""


@dataclass(frozen=True)
class _Spoken:
    """word: of the text, which is listened for."""

    condition: str
    text: str
    word: str
    rivals: tuple[str, ...]


def content_words(text: str) -> list[str]:
    """The words of a text that have at least four letters, each once."""
    return list(dict.fromkeys(word for word in words(text) if len(word) >= _LEAST))


@cache
def _vocabulary() -> tuple[str, ...]:
    """Every content word of the world's facts, without what is no plain word."""
    text = " ".join(s for subject in load_subjects() for s in subject.sentences)
    return tuple(sorted(word for word in content_words(text) if word.isascii() and word.isalpha()))


def _text(condition: str, rng: np.random.Generator) -> str:
    """Something to say. outside: words of the world in an order that it never says.

    sentences: plain English that stands nowhere in it.
    """
    if condition == "sentences":
        return OUTSIDE_SENTENCES[int(rng.integers(len(OUTSIDE_SENTENCES)))]
    subjects = load_subjects()
    subject = subjects[int(rng.integers(len(subjects)))]
    if condition == "names":
        return subject.name
    if condition == "captions":
        return compose(rng, "two", subject).caption
    if condition == "leads":
        return subject.lead
    if condition == "facts":
        facts = subject.sentences[1:]
        return facts[int(rng.integers(len(facts)))]
    vocabulary = _vocabulary()
    chosen = [vocabulary[int(i)] for i in rng.integers(len(vocabulary), size=5)]
    return " ".join(chosen).capitalize() + "."


def _cases(bench: Bench) -> list[_Spoken]:
    vocabulary = _vocabulary()
    pool = bench.rng("speaking", "rivals").permutation(len(vocabulary))[:_POOL]
    cases = []
    for condition in bench.conditions:
        rng = bench.rng("speaking", condition)
        for _ in range(bench.cases):
            choices: list[str] = []
            while not choices:
                text = _text(condition, rng)
                choices = content_words(text)
            word = choices[int(rng.integers(len(choices)))]
            others = [vocabulary[int(i)] for i in rng.permutation(pool)]
            # Of words of one length none is nearer for being short.
            others = [other for other in others if not set(words(text)) & {other, f"{other}s"}]
            others.sort(key=lambda other: abs(len(other) - len(word)))
            cases.append(_Spoken(condition, text, word, tuple(others[:_RIVALS])))
    return cases


def _measure(bench: Bench) -> PartResult:
    own = bench.model.tasks.task("speak").voice
    voice = own if own in VOICES else DEFAULT_VOICE  # of the judge
    cases = _cases(bench)
    try:
        sounds = {
            word: features(Audio(speak(word, voice), SAMPLE_RATE))
            for case in cases
            for word in (case.word, *case.rivals)
        }
        truth = [Audio(speak(case.text, voice), SAMPLE_RATE) for case in cases]
    except ValueError as error:  # espeak-ng is not installed
        return PartResult(cannot=str(error))
    requests = [bench.request("speak", text=case.text) for case in cases]
    samples = []
    for case, result in zip(cases, bench.complete(requests)):
        sound = sound_of(result)
        asked = f"speak: {case.text}"
        if isinstance(sound, str):
            samples.append(JudgedCase(case.condition, asked, case.word, sound, False))
            continue
        right, nearest = _hear(case, sound, sounds)
        samples.append(JudgedCase(case.condition, asked, case.word, nearest, right, audio=sound))
    chance = 1 / (_RIVALS + 1)
    figures = [
        share(condition, [each.right for each in samples if each.condition == condition], chance)
        for condition in bench.conditions
    ]
    judge = list(_of_judge(bench, cases, truth, sounds))
    missing = {}
    if OutsideRecogniser.installed():
        heard, of_judge = _from_outside(bench, cases, [each.audio for each in samples], truth)
        figures += heard
        judge += of_judge
    else:
        missing["heard by an outside recogniser"] = NEEDED
    return PartResult(tuple(figures), tuple(judge), tuple(samples), missing=missing)


def _from_outside(
    bench: Bench, cases: list[_Spoken], spoken: Sequence[Audio | None], truth: list[Audio]
) -> tuple[list[MeasuredFigure], list[MeasuredFigure]]:
    """Which of the words pocketsphinx hears in the model's speech; and in true speech, and that of
    other texts. Cases with words that it does not know are left out."""
    recogniser = OutsideRecogniser()
    chance = 1 / (_RIVALS + 1)

    def heard(case: _Spoken, sound: Audio | None) -> bool | None:
        if sound is None:
            return False
        word = recogniser.choice(sound, case.text, case.word, case.rivals)
        return None if word is None else word == case.word

    outcomes = [heard(case, sound) for case, sound in zip(cases, spoken)]
    figures = []
    for condition in bench.conditions:
        own = [
            outcome
            for case, outcome in zip(cases, outcomes)
            if case.condition == condition and outcome is not None
        ]
        if own:
            figures.append(share(f"{condition}, heard by pocketsphinx", own, chance))
    true = [heard(case, sound) for case, sound in zip(cases, truth)]
    false = [
        heard(case, sound)
        for case, sound, text in zip(cases, truth[1:], [each.text for each in cases[1:]])
        if case.word not in words(text)
    ]
    judge = []
    for name, told in (("true speech", true), ("other true speech", false)):
        known = [outcome for outcome in told if outcome is not None]
        if known:
            better = "higher" if name == "true speech" else "lower"
            judge.append(share(f"words heard by pocketsphinx in {name}", known, chance, better))
    return figures, judge


def _hear(case: _Spoken, sound: Audio, sounds: dict[str, Features]) -> tuple[bool, str]:
    """Whether the word is heard anywhere in a sound sooner than its rivals, and what is heard."""
    heard = features(sound)
    rivals = [sounds[word] for word in case.rivals]
    nearer = rank(heard, sounds[case.word], rivals, anywhere=True)
    text = f"{nearer} of {_RIVALS} other words are as near or nearer"
    return nearer == 0, text


def _of_judge(
    bench: Bench, cases: list[_Spoken], truth: list[Audio], sounds: dict[str, Features]
) -> tuple[MeasuredFigure, ...]:
    """What the judge hears in true speech, as it is and out of the model's own tokenizer; and in
    the true speech of another text, which should come to chance."""
    chance = 1 / (_RIVALS + 1)
    clean = [_hear(case, sound, sounds)[0] for case, sound in zip(cases, truth)]
    figures = [share("words heard in true speech", clean, chance)]
    tokenizer = bench.model.audio_tokenizer
    if tokenizer is not None and getattr(tokenizer, "sample_rate", 0) == SAMPLE_RATE:
        restored = []
        for case, sound in zip(cases, truth):
            codes = tokenizer.encode(torch.from_numpy(sound.waveform)[None])
            wave = tokenizer.decode(codes)[0].numpy()
            restored.append(_hear(case, Audio(wave, SAMPLE_RATE), sounds)[0])
        figures.append(share("words heard in true speech through the tokenizer", restored, chance))
    others = [
        _hear(case, sound, sounds)[0]
        for case, sound, text in zip(cases, truth[1:], [each.text for each in cases[1:]])
        if case.word not in words(text)
    ]
    if others:
        name = "words heard in other true speech"
        figures.append(share(name, others, chance, better="lower"))
    return tuple(figures)


SPEAKING = Part(
    "speaking",
    "A word of the text is the nearest, of 13 words' sounds, to some stretch of what was spoken.",
    ("speak",),
    _CONDITIONS,
    _measure,
)
