"""The functions of `interleaved_documents.yaml`, which lmms-eval calls.

An answer is one text, in one of the forms of `unified.evaluation.interleaved_answers`. Its pictures
are not looked at, since a model may draw in any style: the words beside them count. Its sounds are
compared with espeak-ng, which must be installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified.evaluation.interleaved import InterleavedChecks, InterleavedWish, check_document
from unified.evaluation.interleaved_answers import read_interleaved
from unified_base.text import quoted
from unified_data.pocket.subjects import find_subject

__all__ = ["DATA_FILES", "doc_to_text", "doc_to_visual", "process_results"]

DATA_FILES = {"test": str(Path(__file__).with_name("interleaved_documents.jsonl"))}


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """Nothing is shown: words alone ask."""
    return []


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str]) -> str:
    """The prompt, in the words that the task has for a model."""
    names = {name: doc[name] for name in ("subject", "images", "sounds")}
    return lmms_eval_specific_kwargs["prompt"].format(**names)


def process_results(doc: Mapping[str, Any], results: list[Any]) -> dict[str, float]:
    """1 or 0 of each metric; an answer that cannot be read has 0 of all.

    Raises ValueError for a subject that is not of the world, and without espeak-ng.
    """
    subject = find_subject(doc["subject"])
    if subject is None:
        raise ValueError(f"there is no subject {quoted(doc['subject'])} in the pocket world")
    wish = InterleavedWish(subject, int(doc["images"]), int(doc["sounds"]))
    try:
        segments = read_interleaved(str(results[0]))
    except ValueError:
        checks = InterleavedChecks(False, False, False, False, None, False)
    else:
        checks = check_document(segments, wish)
    return {
        "as_asked": float(not checks.missing),
        "number": float(checks.images and checks.sounds),
        "order": float(checks.order),
        "subject": float(checks.captions),
        "sound_says_text": float(bool(checks.voiced)),
    }
