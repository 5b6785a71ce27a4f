"""Listening: word error rates of speech of many voices, altered, or put together from halves."""

from __future__ import annotations

import re

import numpy as np

from unified.evaluation.answers import says_nothing_was_said
from unified.evaluation.figures import MeasuredFigure, rate, share
from unified.evaluation.heard_sounds import (
    HEARD,
    HeardSound,
    draw_sound,
    lacks_of,
    said_plainly,
)
from unified.evaluation.judges import word_edits
from unified.evaluation.part import Bench, JudgedCase, Part, PartResult
from unified.evaluation.spoken_words import features, rank
from unified_data.document import Audio
from unified_data.pocket.speech import SAMPLE_RATE
from unified_data.pocket.subjects import load_subjects

__all__ = ["LISTENING", "nothing_said", "recites", "transcript_of"]

_NOTHING = "nothing"
_RIVALS = 12
_POOL = 30
"""Sentences that the rivals are drawn from."""
_JUDGED = 8
"""Sounds of a condition that the judge is measured on: each takes thirteen of espeak-ng's."""
_PHONEMES = re.compile(r"^\s*/[^/\n]*/\s*")


def transcript_of(text: str) -> str:
    """The sentence of an answer that may begin with its phonemes, `/ɪt ɪz/`."""
    return _PHONEMES.sub("", text)


def nothing_said(rng: np.random.Generator) -> Audio:
    """A second or two in which nobody speaks: silence, hiss or a hum."""
    samples = int(SAMPLE_RATE * rng.uniform(0.5, 2))
    level = float(np.exp(rng.uniform(np.log(0.003), np.log(0.1))))
    kind = int(rng.integers(3))
    wave = np.zeros(samples)
    if kind == 1:
        wave = rng.normal(0, level, samples)
    if kind == 2:
        wave = level * np.sin(2 * np.pi * rng.uniform(50, 400) * np.arange(samples) / SAMPLE_RATE)
    return Audio(wave.clip(-1, 1).astype(np.float32)[None], SAMPLE_RATE)


def _measure(bench: Bench) -> PartResult:
    missing: dict[str, str] = {}
    heard: list[HeardSound] = []
    for condition in bench.conditions:
        rng = bench.rng("listening", condition)
        if condition == _NOTHING:
            heard += [
                HeardSound(condition, "", nothing_said(rng), "nobody") for _ in range(bench.cases)
            ]
            continue
        reason = lacks_of(condition)
        if reason is not None:
            missing[condition] = reason
            continue
        heard += [draw_sound(condition, rng) for _ in range(bench.cases)]
    if not heard:
        return PartResult(cannot=next(iter(missing.values())))
    answers = bench.texts([bench.request("listen", audio=each.sound) for each in heard])
    texts = [transcript_of(answer) for answer in answers]
    edits = [word_edits(each.text, text) for each, text in zip(heard, texts)]
    samples = []
    for each, answer, text, (wrong, _) in zip(heard, answers, texts, edits):
        right = says_nothing_was_said(text) if each.condition == _NOTHING else not wrong
        expected = each.text or "that nothing is said"
        asked = f"listen ({each.voice_name})"
        samples.append(JudgedCase(each.condition, asked, expected, answer, right, audio=each.sound))
    figures: list[MeasuredFigure] = []
    for condition in bench.conditions:
        rows = [i for i, each in enumerate(heard) if each.condition == condition]
        if not rows:
            continue
        if condition == _NOTHING:
            name = "nothing, said to be nothing"
            figures.append(share(name, [samples[i].right for i in rows]))
            continue
        name = f"{condition}, word error rate"
        figures.append(rate(name, [edits[i][0] for i in rows], [edits[i][1] for i in rows]))
        if HEARD[condition].splice:
            recited = [recites(heard[i], texts[i]) for i in rows]
            figures.append(share(f"{condition}, recited from memory", recited, better="lower"))
            figures.append(share(f"{condition}, all words right", [samples[i].right for i in rows]))
    return PartResult(tuple(figures), _of_judge(bench, heard), tuple(samples), missing=missing)


def recites(heard: HeardSound, answer: str) -> bool:
    """Whether an answer is nearer to one of the whole sentences than to what was said."""
    own = word_edits(heard.text, answer)[0]
    return any(word_edits(source, answer)[0] < own for source in heard.sources)


def _of_judge(bench: Bench, heard: list[HeardSound]) -> tuple[MeasuredFigure, ...]:
    """Whether the sounds still are their sentences: nearer to them, said plainly, than to others.

    Of a splice, the two whole sentences are among the others.
    """
    sentences, rng = [each.lead for each in load_subjects()], bench.rng("listening", "judge")
    pool = [sentences[i] for i in rng.permutation(len(sentences))[:_POOL]]
    told, done = [], dict.fromkeys(bench.conditions, 0)
    for each in heard:
        if each.condition == _NOTHING or done[each.condition] == _JUDGED:
            continue
        done[each.condition] += 1
        others = [pool[i] for i in rng.permutation(_POOL)[: _RIVALS + 1]]
        others = [text for text in (*each.sources, *others) if text != each.text][:_RIVALS]
        words = HEARD[each.condition].words
        true, *rivals = (
            features(Audio(said_plainly(text, each.voice, words), SAMPLE_RATE))
            for text in (each.text, *others)
        )
        told.append(rank(features(each.sound), true, rivals, anywhere=False) == 0)
    if not told:
        return ()
    return (share(f"sounds told from {_RIVALS} other sentences", told, 1 / (_RIVALS + 1)),)


LISTENING = Part(
    "listening",
    "Speech of many voices, altered, or put together from halves of sentences, is written down.",
    ("listen",),
    (*HEARD, _NOTHING),
    _measure,
)
