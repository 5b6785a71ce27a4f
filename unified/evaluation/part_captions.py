"""COCO captions: descriptions of photos beside people's captions by CIDEr, of a set on disk.

Chen et al. (2015), "Microsoft COCO Captions", https://arxiv.org/abs/1504.00325; Vedantam et al.
(2015), "CIDEr: Consensus-based Image Description Evaluation", https://arxiv.org/abs/1411.5726,
computed by its authors' code (pycocoevalcap) behind the tokenizer of Penn's treebank (Java).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unified.evaluation.asked_sets import KeptSamples, answers, chosen
from unified.evaluation.figures import mean
from unified.evaluation.part import Bench, Part, PartResult
from unified.evaluation.set_files import SetPaths, entries, field_of, file_in
from unified_base.extras import missing_extra
from unified_base.foreign import foreign
from unified_base.images import load_image

__all__ = ["COCO_CAPTIONS", "cider"]

_CONDITIONS = ("val2014", "train2014", "val2017", "train2017")


@dataclass(frozen=True)
class _Photo:
    image: Path
    captions: tuple[str, ...]


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption; their mean is the score of the set.

    references: of each caption, at least one. What is rare is counted over these references, so
    the score of a part of a set is not that part of the whole set's.

    Raises ValueError without pycocoevalcap (the extra `measure`) or without Java.
    """
    try:
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    except ImportError:
        raise missing_extra("CIDEr", "pycocoevalcap", "measure") from None
    if shutil.which("java") is None:
        raise ValueError("CIDEr's tokenizer needs Java, and there is no java on the path: install"
                         " a Java runtime, such as default-jre-headless")  # fmt: skip
    with foreign("CIDEr"):
        tokenize = PTBTokenizer().tokenize
        # One line each: the tokenizer takes every line break for the end of a caption.
        own = {i: [_entry(text)] for i, text in enumerate(captions)}
        people = {i: [_entry(text) for text in texts] for i, texts in enumerate(references)}
        tokens, of_people = tokenize(own), tokenize(people)
        _, scores = Cider().compute_score(of_people, tokens)
    return [float(score) for score in scores]


def _entry(text: str) -> dict[str, str]:
    return {"caption": " ".join(text.split()) or "."}  # an empty line would be lost


def _read(paths: SetPaths) -> dict[str, list[_Photo]]:
    return {split: _photos(paths, split) for split in paths.conditions}


def _photos(paths: SetPaths, split: str) -> list[_Photo]:
    file = paths.folder / f"captions_{split}.json"
    names = {}
    for where, record in entries(file, "images"):
        name = field_of(record, "file_name", str, where)
        names[field_of(record, "id", int, where)] = (where, name)
    captions: dict[int, list[str]] = {}
    for where, record in entries(file, "annotations"):
        number = field_of(record, "image_id", int, where)
        if number not in names:
            raise ValueError(f"{where}: image_id {number} is none of the file's images")
        captions.setdefault(number, []).append(field_of(record, "caption", str, where))
    if not captions:
        raise ValueError(f"{file} has no annotations")
    return [
        _Photo(file_in(paths.images, names[number][1], names[number][0]), tuple(texts))
        for number, texts in captions.items()
    ]


def _measure(bench: Bench) -> PartResult:
    figures, samples = [], KeptSamples()
    for split in bench.conditions:
        try:
            cider(["a cat"], [["a cat"]])  # before hours are spent on what cannot be scored
        except ValueError as error:
            return PartResult(cannot=str(error))
        cases = chosen(bench, "coco_captions", split, bench.data[split])
        texts = []
        for case, answer, media in answers(bench, "describe", cases, _inputs):
            texts.append(answer.text)
            # No caption is right or wrong; those that did not come are.
            right = answer.reason is None
            samples.add(split, "describe", case.captions[0], answer.words, right, media)
        figures.append(mean(f"{split}, CIDEr", cider(texts, [case.captions for case in cases])))
    return PartResult(tuple(figures), samples=samples.all())


def _inputs(case: _Photo) -> dict[str, object]:
    return {"image": load_image(case.image)}


COCO_CAPTIONS = Part(
    "coco_captions",
    "Descriptions of photos beside people's captions, by CIDEr, which may pass 100%.",
    ("describe",),
    _CONDITIONS,
    _measure,
    _read,
    ("folder", "images"),
)
