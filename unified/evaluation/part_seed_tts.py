"""Seed-TTS-eval: sentences of its lists spoken, laid out for its own scorer, which is not here.

Anastassiou et al. (2024), "Seed-TTS", https://arxiv.org/abs/2406.02430, and the repository of its
test set: a line of meta.lst is `name|text of the prompt|sound of the prompt|text to say`, with the
true recording behind it where there is one. Its scorer listens with Whisper (English) or Paraformer
(Chinese) and compares voices. A model here speaks in a voice of its own, whatever the prompt's, so
that its word error rate compares and its similarity of voices does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unified.evaluation.asked_sets import KeptSamples, chosen, completed
from unified.evaluation.figures import share
from unified.evaluation.part import Bench, Part, PartResult
from unified.evaluation.set_files import SetPaths, file_in, lines
from unified.evaluation.written_sets import NothingMadeError, check_output, made_folder, made_of
from unified_base.sounds import encode_wav
from unified_base.text import quoted
from unified_data.document import Audio

__all__ = ["SEED_TTS"]

_LISTS = {"sentences": "meta.lst", "hardcase": "hardcase.lst"}


@dataclass(frozen=True)
class _Sentence:
    name: str
    text: str


@dataclass(frozen=True)
class _Sentences:
    cases: dict[str, list[_Sentence]]
    output: Path
    folder: Path


def _read(paths: SetPaths) -> _Sentences:
    assert paths.output is not None
    check_output(paths.output)
    cases: dict[str, list[_Sentence]] = {}
    for condition in paths.conditions:
        file = paths.folder / _LISTS[condition]
        seen: dict[str, str] = {}
        cases[condition] = []
        for where, line in lines(file):
            sentence = _sentence(paths.folder, where, line)
            if sentence.name in seen:
                name = quoted(sentence.name)
                raise ValueError(f"{where} has the name {name}, as {seen[sentence.name]} does")
            seen[sentence.name] = where
            cases[condition].append(sentence)
        if not cases[condition]:
            raise ValueError(f"{file} has no lines")
    return _Sentences(cases, paths.output, paths.folder)


def _sentence(folder: Path, where: str, line: str) -> _Sentence:
    fields = line.strip().split("|")
    if len(fields) not in (4, 5) or not fields[3].strip():
        raise ValueError(
            f"{where} is {quoted(line)}, expected name|text of the prompt|sound of the prompt|text"
        )
    name = fields[0]
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise ValueError(f"{where} has the name {quoted(name)}, expected that of a file")
    file_in(folder, fields[2], where)
    return _Sentence(name, fields[3])


def _measure(bench: Bench) -> PartResult:
    data: _Sentences = bench.data
    samples, figures = KeptSamples(), []
    with made_folder(data.output, "README.txt") as folder:
        for condition in bench.conditions:
            cases = chosen(bench, "seed_tts", condition, data.cases[condition])
            (folder / condition).mkdir()
            spoken = []
            for case, result, _ in completed(bench, "speak", cases, _inputs):
                sound = made_of(result, Audio)
                spoken.append(isinstance(sound, Audio))
                if isinstance(sound, str):
                    samples.add(condition, case.text, case.text, sound, False)
                    continue
                wave = encode_wav(sound.waveform, sound.sample_rate)
                (folder / condition / f"{case.name}.wav").write_bytes(wave)
                media = {"audio": sound}
                samples.add(condition, case.text, case.text, "spoken, not judged", True, media)
            figures.append(share(f"{condition} that gave a sound (scored elsewhere)", spoken))
        if not any(figure.value for figure in figures):
            raise NothingMadeError
        (folder / "README.txt").write_text(_how_to_score(data, bench.conditions), "utf-8")
    return PartResult(tuple(figures), samples=samples.all())


def _how_to_score(data: _Sentences, conditions: tuple[str, ...]) -> str:
    """The scorer's own commands; it goes over the sentences that have a sound."""
    return "".join(
        f"bash cal_wer.sh {(data.folder / _LISTS[name]).resolve()} "
        f"{data.output.resolve() / name} LANGUAGE\n"
        for name in conditions
    )


def _inputs(case: _Sentence) -> dict[str, object]:
    return {"text": case.text}


SEED_TTS = Part(
    "seed_tts",
    "Sentences of Seed-TTS-eval, spoken and laid out for its scorer; none is judged here.",
    ("speak",),
    tuple(_LISTS),
    _measure,
    _read,
    ("folder", "output"),
)
