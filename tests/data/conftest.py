"""Small pictures and sounds in the forms that datasets have."""

import numpy as np
import pytest
import soundfile
from PIL import Image as PillowImage


@pytest.fixture(scope="session")
def media_files(tmp_path_factory):
    """A folder of a.png b.jpg c.webp d.gif e.bmp and s.flac w.wav o.ogg m.mp3 x.aiff."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a.png", "b.jpg", "c.webp", "d.gif", "e.bmp")):
        pixels = rng.integers(0, 256, (5, 7 + number, 3), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(folder / name)
    wave = np.rint(rng.uniform(-9000, 9000, (400, 1))) / 32768
    for name in ("s.flac", "w.wav", "o.ogg", "m.mp3", "x.aiff"):
        soundfile.write(folder / name, wave, 16000)
    return folder
