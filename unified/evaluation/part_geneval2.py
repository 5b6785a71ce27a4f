"""GenEval 2: pictures of its prompts, laid out for its own scorer, which is not here.

Kamath et al. (2025), "GenEval 2: Addressing Benchmark Drift in Text-to-Image Evaluation",
https://arxiv.org/abs/2512.16853. Its scorer asks a vision-language model of 8B parameters about
each picture; it reads the prompts (JSON lines) and a mapping from prompt to picture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from unified.evaluation.asked_sets import KeptSamples, chosen, completed
from unified.evaluation.figures import share
from unified.evaluation.part import Bench, Part, PartResult
from unified.evaluation.set_files import SetPaths, field_of, json_lines
from unified.evaluation.written_sets import NothingMadeError, check_output, made_folder, made_of
from unified_base.images import encode_png
from unified_base.text import quoted
from unified_data.document import Image

__all__ = ["GENEVAL2"]

_CONDITION = "prompts"
_DATA = "geneval2_data.jsonl"
_PATHS = "image_paths.json"


@dataclass(frozen=True)
class _Prompt:
    """record: its line, which the scorer reads. file: of its picture."""

    text: str
    record: str
    file: str


@dataclass(frozen=True)
class _Prompts:
    cases: list[_Prompt]
    output: Path


def _read(paths: SetPaths) -> _Prompts:
    assert paths.output is not None
    check_output(paths.output)
    cases: list[_Prompt] = []
    seen: dict[str, str] = {}
    for where, record in json_lines(paths.folder / _DATA):
        text = field_of(record, "prompt", str, where)
        field_of(record, "vqa_list", list, where)
        if text in seen:
            raise ValueError(f"{where} has the prompt {quoted(text)}, as {seen[text]} does")
        seen[text] = where
        cases.append(_Prompt(text, json.dumps(record), f"{len(cases):04d}.png"))
    if not cases:
        raise ValueError(f"{paths.folder / _DATA} has no prompts")
    return _Prompts(cases, paths.output)


def _measure(bench: Bench) -> PartResult:
    data: _Prompts = bench.data
    cases = chosen(bench, "geneval2", _CONDITION, data.cases)
    samples, drawn = KeptSamples(), []
    with made_folder(data.output, _PATHS) as folder:
        for case, result, _ in completed(bench, "draw", cases, _inputs):
            image = made_of(result, Image)
            drawn.append(isinstance(image, Image))
            if isinstance(image, str):
                samples.add(_CONDITION, case.text, case.text, image, False)
                continue
            (folder / case.file).write_bytes(encode_png(image.pixels))
            media = {"image": image.pixels}
            samples.add(_CONDITION, case.text, case.text, "drawn, not judged", True, media)
        if not any(drawn):
            raise NothingMadeError
        # The scorer looks up every prompt of its data, so those without a picture are not in it.
        there = [case for case, came in zip(cases, drawn) if came]
        (folder / _DATA).write_text("".join(f"{case.record}\n" for case in there), "utf-8")
        paths = {case.text: str(data.output.resolve() / case.file) for case in there}
        (folder / _PATHS).write_text(json.dumps(paths, indent=1, ensure_ascii=False), "utf-8")
    figure = share("prompts that gave a picture (scored elsewhere)", drawn)
    return PartResult((figure,), samples=samples.all())


def _inputs(case: _Prompt) -> dict[str, object]:
    return {"text": case.text}


GENEVAL2 = Part(
    "geneval2",
    "Pictures of GenEval 2's prompts, drawn and laid out for its scorer; none is judged here.",
    ("draw",),
    (_CONDITION,),
    _measure,
    _read,
    ("folder", "output"),
)
