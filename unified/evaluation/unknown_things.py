"""What a model of the pocket world does not know: photographs, textures, noise, made-up names.

Legend: H W pixels.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from unified_data.pocket.scenes import SIDE
from unified_data.pocket.subjects import find_subject

__all__ = ["NEAR_WORDS", "WISHES", "made_up_name", "noise", "photo", "photo_files", "texture"]

_PHOTOS = ("astronaut.png", "brick.png", "camera.png", "coins.png", "grass.png", "gravel.png",
           "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "moon.png")  # fmt: skip
"""Photographs of scikit-image (BSD, public domain) that show no subject of the world at large."""
_PARTS = (0.25, 0.6)  # of a photograph's shorter side
_ONSETS = """b bl br d dr f fl g gl gr k kl l m n p pl r s sk sl sn t tr v w z"""
_VOWELS = """a e i o oo u ee ai"""
_ENDS = """b ck d ff g ll m n nt p rf rt sk st t x zz"""

NEAR_WORDS = {
    "puppy": "dog", "kitten": "cat", "foal": "horse", "piglet": "pig", "lamb": "sheep",
    "duckling": "duck", "calf": "cow", "hen": "rooster", "pony": "horse", "ship": "sailing boat",
    "jet": "aeroplane", "trousers": "pair of jeans", "sneakers": "running shoe",
    "espresso": "cup of coffee", "cap": "top hat", "clementine": "lemon", "fir": "pine tree",
    "computer": "laptop", "notebook": "laptop", "cellphone": "telephone", "blizzard": "snowflake",
    "hurricane": "tornado", "alligator": "crocodile", "hare": "rabbit", "wasp": "bee",
    "moth": "butterfly", "van": "car", "violoncello": "violin",
}  # fmt: skip
"""Words that are no names of the world, and the subject that is nearest in meaning."""

WISHES = {
    "without": ("{a} without a hat", "without|hat"),
    "not": ("{a} but no {other}", r"\bno\b|not|{other}"),
    "adjective": ("a fluffy {name}", "fluffy"),
    "corner": ("{a} in the corner", "corner"),
    "plural": ("{plural}", "number|several|{plural}"),
    "too many": ("seven {plural}", "seven|7"),
    "doing": ("{a} reading a newspaper", "reading|newspaper"),
    "style": ("an oil painting of {a}", "oil|painting"),
}
"""Wishes that a caption need not be able to say: the words, and what a note of it would name."""


@cache
def photo_files() -> tuple[Path, ...]:
    """The photographs that scikit-image brings along; none where it is not installed."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    return tuple(path for name in _PHOTOS if (path := folder / name).exists())


def photo(rng: np.random.Generator) -> np.ndarray:
    """A part of a photograph: uint8 (96, 96, 3), a quarter to three fifths of its shorter side.

    Raises ValueError where there are no photographs.
    """
    files = photo_files()
    if not files:
        raise ValueError("the photographs come with scikit-image, which is not installed")
    with PillowImage.open(files[int(rng.integers(len(files)))]) as file:
        whole = file.convert("RGB")
    shorter = min(whole.size)
    while True:
        side = int(shorter * rng.uniform(*_PARTS))
        x, y = (int(rng.integers(0, size - side + 1)) for size in whole.size)
        part = whole.crop((x, y, x + side, y + side))
        pixels = np.asarray(part.resize((SIDE, SIDE), PillowImage.Resampling.BOX))
        if pixels.std(axis=(0, 1)).max() > 10:  # not a piece of blank sky
            return pixels


def texture(rng: np.random.Generator) -> np.ndarray:
    """A texture of two or three colours: stripes, checks, cells, dots, marble or a wood's grain."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    kind = int(rng.integers(6))
    turned = x * np.cos(angle := rng.uniform(0, np.pi)) + y * np.sin(angle)
    pace = rng.uniform(4, 14)
    if kind == 0:
        field = (turned * pace) % 1 < rng.uniform(0.3, 0.7)
    elif kind == 1:
        field = ((x * pace) % 1 < 0.5) ^ ((y * pace) % 1 < 0.5)
    elif kind == 2:
        points = rng.random((40, 2))
        field = np.argmin((x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2,
                          axis=-1) % 3 / 2  # fmt: skip
    elif kind == 3:
        field = np.hypot((x * pace) % 1 - 0.5, (y * pace) % 1 - 0.5) < rng.uniform(0.2, 0.4)
    elif kind == 4:
        field = _cloud(rng)
    else:
        field = 0.5 + 0.5 * np.sin(2 * np.pi * (turned * pace + 2 * _cloud(rng)))
    first, second = rng.uniform(0, 255, (2, 3))
    shade = np.asarray(field, np.float64)[..., None]
    pixels = first + (second - first) * shade + rng.normal(0, 4, (SIDE, SIDE, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of several sizes, (96, 96) in [0, 1]."""
    total = np.zeros((SIDE, SIDE))
    for cells in (3, 6, 12, 24):
        grid = PillowImage.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
        smooth = grid.resize((SIDE, SIDE), PillowImage.Resampling.BICUBIC)
        total += np.asarray(smooth, np.float64) / 255 * 3 / cells
    lowest = total.min()
    return np.asarray((total - lowest) / (total.max() - lowest))


def noise(rng: np.random.Generator) -> np.ndarray:
    """Noise without a picture in it, fine or coarse, in colours or grey: uint8 (96, 96, 3)."""
    channels = 1 if rng.random() < 0.3 else 3
    values = rng.integers(0, 256, (SIDE, SIDE, channels)).astype(np.uint8)
    picture = PillowImage.fromarray(np.broadcast_to(values, (SIDE, SIDE, 3)).copy())
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2)))))
    centred = blurred.astype(np.float64) - blurred.mean()
    spread = rng.uniform(30, 70) / max(float(centred.std()), 1e-6)
    return (128 + centred * spread).clip(0, 255).astype(np.uint8)


def made_up_name(rng: np.random.Generator) -> str:
    """A word that nobody knows, as `snoort`: no name, plural or alias of the world."""
    while True:
        parts = [_ONSETS.split(), _VOWELS.split(), _ENDS.split()]
        if rng.random() < 0.5:
            parts = [*parts[:2], *parts]
        word = "".join(part[int(rng.integers(len(part)))] for part in parts)
        if len(word) >= 4 and find_subject(word) is None:
            return word
