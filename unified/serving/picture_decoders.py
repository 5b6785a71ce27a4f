"""The decoders of a model's pictures: its own, and diffusion decoders that lie beside it."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np

from unified.models.files import load_diffusion
from unified.models.model import UnifiedModel
from unified.serving.api_errors import ApiError, mistake
from unified_base.text import quoted

__all__ = ["PictureDecoders"]

_STEPS = 8
_SCALES = {"diffusion": 1, "diffusion-2x": 2}


class PictureDecoders:
    """What turns the codes of pictures into pixels, by name; "vq" is the model's own.

    A diffusion decoder is loaded when it is first asked for. Any thread may ask.
    """

    def __init__(self, model: UnifiedModel) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._redraw: dict[str, partial[np.ndarray]] = {}
        self.names: tuple[str, ...] = ()
        if model.image_tokenizer is not None:
            folder = model.directory
            beside = folder is not None and (folder / "image_tokenizer" / "diffusion").is_dir()
            self.names = ("vq", *_SCALES) if beside else ("vq",)

    def check(self, name: str) -> None:
        """Raises ApiError for a decoder that there is not."""
        if name not in self.names and not (name == "vq" and not self.names):
            raise ApiError(
                400, f"there is no decoder {quoted(name)}, expected one of {', '.join(self.names)}",
                param="decoder",
            )  # fmt: skip

    def get(self, name: str) -> partial[np.ndarray] | None:
        """A function of codes int64 (K, h, w) to pixels uint8 (H, W, 3); None for "vq".

        Raises ApiError as `check`, and for one that cannot be loaded.
        """
        self.check(name)
        if name == "vq":
            return None
        with self._lock:
            if name not in self._redraw:
                model = self._model
                assert model.directory is not None
                assert model.image_tokenizer is not None
                try:
                    tokenizer = load_diffusion(
                        model.directory, model.image_tokenizer, steps=_STEPS, scale=_SCALES[name]
                    )
                except ValueError as error:
                    raise mistake(error, "decoder") from None
                self._redraw[name] = partial(_decode, tokenizer)
            return self._redraw[name]


def _decode(tokenizer: object, codes: np.ndarray) -> np.ndarray:
    from unified.sequence.modality import modality_of
    from unified_data.document import Image

    picture = modality_of("image").restore(codes, tokenizer, None, 1.0)
    assert isinstance(picture, Image)
    return picture.pixels
