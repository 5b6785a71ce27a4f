"""LibriSpeech: read sentences are written down; word error rate, of a set on disk.

Panayotov et al. (2015), "Librispeech: an ASR corpus based on public domain audio books".

The normalisation is `judges.words`, of transcript and answer alike: lower case, apostrophes
dropped, any other punctuation splits words. Numbers stay as they are written: an answer with digits
is wrong, since the transcripts have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unified.evaluation.asked_sets import KeptSamples, answers, chosen
from unified.evaluation.figures import rate, share
from unified.evaluation.judges import word_edits, words
from unified.evaluation.part import Bench, Part, PartResult
from unified.evaluation.set_files import SetPaths, file_in, lines
from unified_base.sounds import load_audio
from unified_base.text import quoted
from unified_data.document import Audio

__all__ = ["LIBRISPEECH"]

_CONDITION = "speech"


@dataclass(frozen=True)
class _Utterance:
    sound: Path
    text: str


def _read(paths: SetPaths) -> dict[str, list[_Utterance]]:
    """Every FILE.trans.txt below the folder, with the .flac files beside it."""
    utterances = []
    for file in sorted(paths.folder.rglob("*.trans.txt")):
        for where, line in lines(file):
            name, _, text = line.partition(" ")
            if not words(text):
                raise ValueError(f"{where} is {quoted(line)}, expected a name and its words")
            utterances.append(_Utterance(file_in(file.parent, f"{name}.flac", where), text))
    if not utterances:
        raise ValueError(
            f"{paths.folder} has no files .trans.txt, expected a folder of LibriSpeech such as "
            "test-clean"
        )
    return {_CONDITION: utterances}


def _measure(bench: Bench) -> PartResult:
    cases = chosen(bench, "librispeech", _CONDITION, bench.data[_CONDITION])
    samples, edits = KeptSamples(), []
    for case, answer, media in answers(bench, "listen", cases, _inputs):
        edits.append(word_edits(case.text, answer.text))
        right = not edits[-1][0]
        samples.add(_CONDITION, "listen", case.text, answer.words, right, media)
    wrong, of = zip(*edits)
    figures = (
        rate("word error rate", wrong, of),
        share("sentences without an error", [not number for number in wrong]),
    )
    return PartResult(figures, samples=samples.all())


def _inputs(case: _Utterance) -> dict[str, object]:
    return {"audio": Audio(*load_audio(case.sound))}


LIBRISPEECH = Part(
    "librispeech",
    "Sentences read by people are written down; what is refused counts as words left out.",
    ("listen",),
    (_CONDITION,),
    _measure,
    _read,
    ("folder",),
)
