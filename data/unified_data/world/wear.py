"""What happens to pictures before they are seen: blur, noise, light, compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["worn"]


def worn(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture as a camera or a website might have left it; one in two as it is.

    pixels: uint8 (H, W, 3). Colours keep their names: light changes by a twelfth at most.
    """
    if rng.random() < 0.5:
        return pixels
    picture = Image.fromarray(pixels)
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.1))))
    values = np.asarray(picture, np.float64)
    if rng.random() < 0.4:
        values = (values - 128) * rng.uniform(0.9, 1.08) + 128 + rng.uniform(-10, 10)
    if rng.random() < 0.4:
        values = values + rng.normal(0, rng.uniform(2, 14), values.shape)
    result = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        buffer = io.BytesIO()
        Image.fromarray(result).save(buffer, "JPEG", quality=int(rng.integers(35, 91)))
        result = np.asarray(Image.open(buffer, formats=["JPEG"]))
    return result
