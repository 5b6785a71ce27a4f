"""Building the pocket world: shards of documents, the same from the same seed.

Kinds of documents: article, text (an article without media: three times as many facts for the
same number of ids), draw, describe, ask, speak, listen, name (to listen to: a subject's name and
nothing more), say (the same, to be spoken), misread (a sentence to be spoken, and a name in it that
was spoken wrong), voices (to listen to: a sentence in any voice but the world's own, word by word
or as a whole; held out are voices, too); see `articles` and `tasks`. What they show is in
`planning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from unified_data.building import Progress, WorldPlan, build_shards, files_digest
from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket import tasks
from unified_data.pocket.articles import article_document
from unified_data.pocket.planning import KINDS, SPLITS, plan_documents
from unified_data.pocket.scenes import SIDE, render, render_double
from unified_data.pocket.speech import SAMPLE_RATE, connected, speak, word_by_word

_WORLD = 4  # raise when the same seed would give other documents


def world_version() -> str:
    """Identifies what the documents depend on: this code's version, the facts and the glyphs."""
    folder = resources.files("unified_data.pocket")
    names = [f"subjects/{path.name}" for path in (folder / "subjects").iterdir()]
    names += [path.name for path in folder.iterdir() if path.name.startswith("atlas.")]
    return f"{_WORLD}-{files_digest(folder, (n for n in names if not n.endswith(('.py', '.pyc'))))}"


def build_pocket(
    out_dir: str | Path,
    seed: int = 0,
    scale: float = 1.0,
    only: Sequence[str] | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    double: Path | None = None,
) -> dict[str, Any]:
    """Write the world's shards and their index.json into out_dir; returns the index.

    At a scale of 1 or more `draw` holds every combination of one subject at least once. double: a
    Noto Color Emoji font, to paint `draw`'s pictures at twice the side with; for that kind alone.
    The rest is as `building.build_shards` has it.

    Raises ValueError as that does, and when speech is wanted and espeak-ng is missing.
    """
    kinds = KINDS if only is None else tuple(dict.fromkeys(only))
    built: dict[str, Any] = {"world": world_version()}
    make = _document
    if double is not None:
        if kinds != ("draw",):
            raise ValueError(
                f"pictures of twice the side are of the kind draw alone, not of {kinds}"
            )
        built["side"] = 2 * SIDE
        make = partial(_double, double)
    world = WorldPlan("pocket", KINDS, SPLITS, plan_documents, make)
    return build_shards(world, out_dir, seed, scale, only, workers, progress, built)


def _double(font: Path, kind: str, payload: Any) -> Document:
    return tasks.draw_document(payload.caption, Image(render_double(payload, font)))


def _document(kind: str, payload: Any) -> Document:
    if kind in ("article", "text"):
        return article_document(payload)
    if kind == "ask":
        scene, turns = payload
        return tasks.ask_document(Image(render(scene)), turns)
    if kind == "draw":
        return tasks.draw_document(payload.caption, Image(render(payload)))
    if kind == "describe":
        return tasks.describe_document(Image(render(payload)), Text(payload.caption))
    if kind == "misread":
        sentence, misread, voice = payload
        return tasks.speak_document(sentence, voice, Audio(speak(misread, voice), SAMPLE_RATE))
    if kind == "voices":
        sentence, speaker, apart = payload
        waveform = word_by_word(sentence, speaker) if apart else connected(sentence, speaker)
        return tasks.listen_document(Audio(waveform, SAMPLE_RATE), Text(sentence))
    sentence, voice = payload
    sound = Audio(speak(sentence, voice), SAMPLE_RATE)
    if kind in ("speak", "say"):
        return tasks.speak_document(sentence, voice, sound)
    return tasks.listen_document(sound, Text(sentence))
