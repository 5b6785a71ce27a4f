"""Pictures of the pocket world with captions, recorded words, questions, preferences, articles.

Everything follows from the world and a seed of its own, so a folder is the same wherever it is
made. The sounds are recordings, since what speaks them (espeak-ng) need not be installed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from unified_base.images import save_png
from unified_data.pocket.scenes import Kind, Scene, compose, questions, render
from unified_data.pocket.subjects import load_subjects

__all__ = [
    "NUM_PICTURES",
    "training_sentences",
    "write_articles",
    "write_pictures",
    "write_preferences",
    "write_questions",
    "write_sounds",
]

NUM_PICTURES = 48
_KINDS: tuple[Kind, ...] = ("one", "placed", "two", "counted")
_NUM_ARTICLES = 12
_SECTIONS = 2
_SEED = 16


def write_pictures(folder: Path) -> dict[str, Scene]:
    """Write `pictures/NAME.png` with `NAME.txt` beside each, and `captions.csv` of all.

    Args:
        folder: the materials' folder, which exists.

    Returns:
        The scene of each picture, by its file name, in order.
    """
    rng = np.random.default_rng(_SEED)
    pictures = folder / "pictures"
    pictures.mkdir()
    scenes: dict[str, Scene] = {}
    for number in range(NUM_PICTURES):
        scene = compose(rng, _KINDS[number % len(_KINDS)])
        name = f"{number:02d}-{scene.subject.name.replace(' ', '-')}.png"
        save_png(pictures / name, render(scene))
        (pictures / name).with_suffix(".txt").write_text(f"{scene.caption}\n", "utf-8")
        scenes[name] = scene
    rows = [(scene.caption, name) for name, scene in scenes.items()]
    _write_csv(folder / "captions.csv", ("text", "image"), rows)
    return scenes


def write_sounds(folder: Path) -> int:
    """Write `sounds/NAME.flac` with its transcript `NAME.txt`, and `speech.csv`; how many."""
    sounds = folder / "sounds"
    sounds.mkdir()
    rows = []
    recorded = resources.files("unified_data.demo") / "sounds"
    for file in sorted(recorded.iterdir(), key=lambda file: file.name):
        (sounds / file.name).write_bytes(file.read_bytes())
        if file.name.endswith(".txt"):
            rows.append((file.read_text("utf-8").strip(), file.name.replace(".txt", ".flac")))
    _write_csv(folder / "speech.csv", ("text", "audio"), rows)
    return len(rows)


def write_questions(folder: Path, scenes: dict[str, Scene]) -> None:
    """Write `questions.json`: conversations about the pictures, in the form of LLaVA's data."""
    rng = np.random.default_rng(_SEED)
    records = []
    for name, scene in scenes.items():
        turns = []
        for number, (question, answer) in enumerate(questions(scene, rng)):
            text = f"<image>\n{question}" if number == 0 else question
            turns += [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
        records.append({"id": name.removesuffix(".png"), "image": name, "conversations": turns})
    (folder / "questions.json").write_text(json.dumps(records, indent=1), "utf-8")


def write_preferences(folder: Path, scenes: dict[str, Scene]) -> None:
    """Write `preferences.jsonl`: for a caption the right picture is chosen, another rejected; for
    a picture the right caption."""
    names = list(scenes)
    records: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        other = names[(number + len(_KINDS)) % len(names)]
        caption = scenes[name].caption
        if number % 2:
            records.append(
                {
                    "prompt": "<image>\nDescribe the picture.",
                    "images": [name],
                    "chosen": caption,
                    "rejected": scenes[other].caption,
                }
            )
        else:
            records.append(
                {
                    "prompt": f"Draw {caption}.",
                    "chosen_images": [name],
                    "rejected_images": [other],
                }
            )
    _write_lines(folder / "preferences.jsonl", records)


def write_articles(folder: Path) -> None:
    """Write `articles.jsonl`: texts and pictures in turn, in the form of OBELICS, and
    the pictures of their subjects into `articles`."""
    (folder / "articles").mkdir()
    records = []
    for subject in load_subjects()[:: len(load_subjects()) // _NUM_ARTICLES][:_NUM_ARTICLES]:
        name = f"{subject.name.replace(' ', '-')}.png"
        save_png(folder / "articles" / name, render(Scene("one", subject)))
        texts: list[str | None] = [f"# {subject.name.capitalize()}\n\n{subject.lead}", None]
        images: list[str | None] = [None, name]
        for section in subject.sections[:_SECTIONS]:
            texts.append(f"## {section.heading}\n\n{' '.join(section.sentences)}")
            images.append(None)
        records.append({"images": images, "texts": texts})
    _write_lines(folder / "articles.jsonl", records)


def training_sentences() -> list[str]:
    """The world's sentences, what the tiny language model's tokenizer is trained on."""
    return [sentence for subject in load_subjects() for sentence in subject.sentences]


def _write_csv(path: Path, columns: tuple[str, str], rows: Iterable[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    path.write_text(text.getvalue(), "utf-8")


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")
