"""Pictures of the world with captions, painted for the measures of towers and aligned codes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unified_data.pocket.subjects import load_subjects
from unified_data.world.captions_en import caption_en
from unified_data.world.composing import compose_scene
from unified_data.world.description import describe_scene
from unified_data.world.glyphs import styles_of
from unified_data.world.painting import paint
from unified_data.world.style_names import HELD_OUT_STYLE, TRAIN_STYLES

_PATIENCE = 60


class SinglePictures(NamedTuple):
    """Pictures of one large thing each. labels: numbers of `classes`; captions: all that can be
    told of them."""

    pictures: list[np.ndarray]
    labels: np.ndarray
    classes: list[str]
    captions: list[str]


def single_pictures(
    unseen: bool, each: int, subjects: int | None = None, split: str = "heldout", seed: int = 7
) -> SinglePictures:
    """Pictures of every subject whose combinations are in a split (held out: in no training).

    unseen: in the art style that is in no training picture, else in those of training, in turn.
    each: pictures of a subject. subjects: the first so many; None: all 265.
    """
    known = load_subjects()[:subjects]
    pictures, labels, captions = [], [], []
    for number, subject in enumerate(known):
        styles = [style for style in TRAIN_STYLES if style in styles_of(subject.name)]
        for turn in range(each):
            rng = np.random.default_rng((seed, number, turn))
            style = HELD_OUT_STYLE if unseen else styles[(number + turn) % len(styles)]
            for _ in range(_PATIENCE):
                scene = compose_scene(rng, "single", ((subject.name, style),))
                if scene.split == split:
                    pictures.append(paint(scene))
                    labels.append(number)
                    captions.append(caption_en(describe_scene(scene)))
                    break
    return SinglePictures(pictures, np.array(labels), [s.phrase for s in known], captions)


def save_pairs(singles: SinglePictures, folder: Path, brief: float = 0.0) -> Path:
    """The pictures as PNG, each with its caption in a .txt of the same name.

    brief: the share of captions, drawn by lot, that say what it is and nothing else: "a fox".
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number, (pixels, caption) in enumerate(zip(singles.pictures, singles.captions)):
        text = singles.classes[singles.labels[number]] if rng.random() < brief else caption
        # Not `save_png`, which waits for the disk: these are thousands of files for a while.
        Image.fromarray(pixels).save(folder / f"{number:05d}.png", compress_level=1)
        (folder / f"{number:05d}.txt").write_text(text + "\n", "utf-8")
    return folder
