"""Small pictures and sounds in the forms that datasets have."""

import numpy as np
import pytest
import soundfile
from PIL import Image as PillowImage

from unified_base.images import load_image
from unified_base.sounds import load_audio
from unified_data.document import Audio, Image


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


@pytest.fixture
def media(media_files):
    """bytes(name) as a row holds them, and pictured(name, role), sounding(name, role)."""

    class Media:
        def __call__(self, name, path=None):
            return {"bytes": (media_files / name).read_bytes(), "path": path}

        def pictured(self, name, role="response"):
            return Image(load_image(media_files / name), role, 0.0 if role == "prompt" else 1.0)

        def sounding(self, name, role="response"):
            return Audio(*load_audio(media_files / name), role, 0.0 if role == "prompt" else 1.0)

    return Media()
