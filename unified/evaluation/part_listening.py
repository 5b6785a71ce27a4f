"""Listening: word error rates of speech that is quieter, later, noisier, connected, or spliced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unified.evaluation.figures import MeasuredFigure, rate, share
from unified.evaluation.judges import word_edits
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified.evaluation.spoken_words import features, rank
from unified_data.document import Audio
from unified_data.pocket.speech import SAMPLE_RATE, VOICES, connected, speak
from unified_data.pocket.subjects import load_subjects

__all__ = ["LISTENING", "alter_sound", "splice"]

_CONDITIONS = ("plain", "facts", "quiet", "silence", "noise", "connected", "splice")
_RIVALS = 12
_POOL = 30
"""Sentences that the rivals are drawn from."""


@dataclass(frozen=True, eq=False)
class _Heard:
    """sources: the sentences that a splice was put together from, else none."""

    condition: str
    text: str
    sound: Audio
    voice: str
    sources: tuple[str, ...] = ()


def alter_sound(condition: str, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clip under a condition: float32 (1, S) at 16 kHz; the others leave it as it is.

    quiet: half the amplitude. silence: 2.5 ms to 1 s before it. noise: white, 20 dB below it.
    """
    if condition == "quiet":
        return wave * np.float32(0.5)
    if condition == "silence":
        samples = int(SAMPLE_RATE * np.exp(rng.uniform(np.log(0.0025), 0)))
        return np.pad(wave, ((0, 0), (samples, 0)))
    if condition == "noise":
        level = float(np.sqrt(np.mean(wave**2))) / 10
        noise = rng.normal(0, level, wave.shape).astype(np.float32)
        noisy: np.ndarray = (wave + noise).clip(-1, 1)
        return noisy
    return wave


def splice(first: str, second: str) -> str:
    """The first half of a sentence's words and the second half of another's."""
    begin, end = first.rstrip(".").split(), second.split()
    return " ".join([*begin[: len(begin) // 2], *end[len(end) // 2 :]])


def _cases(bench: Bench) -> list[_Heard]:
    heard = []
    for condition in bench.conditions:
        sentences = _sentences(condition)
        rng = bench.rng("listening", condition)
        for _ in range(bench.cases):
            text, other = (sentences[i] for i in rng.permutation(len(sentences))[:2])
            voice = list(VOICES)[int(rng.integers(len(VOICES)))]
            sources = (text, other) if condition == "splice" else ()
            if sources:
                text = splice(*sources)
            if condition == "connected":
                wave = connected(text, VOICES[voice])
            else:
                wave = alter_sound(condition, speak(text, voice), rng)
            heard.append(_Heard(condition, text, Audio(wave, SAMPLE_RATE), voice, sources))
    return heard


def _sentences(condition: str) -> list[str]:
    """Leads of the subjects, which the world says most often; of `facts` the other sentences."""
    if condition == "facts":
        return [text for subject in load_subjects() for text in subject.sentences[1:]]
    return [subject.lead for subject in load_subjects()]


def _measure(bench: Bench) -> PartResult:
    try:
        heard = _cases(bench)
    except ValueError as error:  # espeak-ng is not installed
        return PartResult(cannot=str(error))
    requests = [bench.request("listen", audio=each.sound) for each in heard]
    answers = bench.texts(requests)
    edits = [word_edits(each.text, answer) for each, answer in zip(heard, answers)]
    samples = tuple(
        JudgedCase(
            each.condition, f"listen ({each.voice})", each.text, answer, not wrong,
            audio=each.sound,
        )
        for each, answer, (wrong, _) in zip(heard, answers, edits)
    )  # fmt: skip
    figures = []
    for condition in bench.conditions:
        rows = [i for i, each in enumerate(heard) if each.condition == condition]
        name = f"{condition}, word error rate"
        figures.append(rate(name, [edits[i][0] for i in rows], [edits[i][1] for i in rows]))
        if condition == "splice":
            recited = [_recites(heard[i], answers[i]) for i in rows]
            figures.append(share("splice, recited from memory", recited, better="lower"))
    return PartResult(tuple(figures), _of_judge(bench, heard), samples)


def _recites(heard: _Heard, answer: str) -> bool:
    """Whether an answer is nearer to one of the whole sentences than to what was said."""
    own = word_edits(heard.text, answer)[0]
    return any(word_edits(source, answer)[0] < own for source in heard.sources)


def _of_judge(bench: Bench, heard: list[_Heard]) -> tuple[MeasuredFigure, ...]:
    """Whether the sounds still are their sentences: nearer to them, said plainly, than to others.

    Of a splice, the two whole sentences are among the others.
    """
    sentences, rng = _sentences("plain"), bench.rng("listening", "judge")
    # Words are spoken once and held: of few sentences there are few.
    pool = [sentences[i] for i in rng.permutation(len(sentences))[:_POOL]]
    told = []
    for each in heard:
        others = [pool[i] for i in rng.permutation(_POOL)[: _RIVALS + 1]]
        others = [text for text in (*each.sources, *others) if text != each.text][:_RIVALS]
        true, *rivals = (
            features(Audio(speak(text, each.voice), SAMPLE_RATE)) for text in (each.text, *others)
        )
        told.append(rank(features(each.sound), true, rivals, anywhere=False) == 0)
    return (share(f"sounds told from {_RIVALS} other sentences", told, 1 / (_RIVALS + 1)),)


LISTENING = Part(
    "listening",
    "Speech of the world's sentences, altered, or put together from halves, is written down.",
    ("listen",),
    _CONDITIONS,
    _measure,
)
