"""Encoders and connectors inside published checkpoints: bound to transformers' object of them.

So there is one copy of their weights, which moves, trains and is saved with the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unified.models.grafting.connectors import Connector, Grid
from unified.models.grafting.embedder import EmbedderParts, MediaEmbedder, content_key
from unified.models.grafting.encoders import PictureEncoder
from unified_base.foreign import foreign
from unified_data.document import Image, Media

_SETTINGS = ("preprocessor_config.json", "processor_config.json")

__all__ = [
    "InsideEmbedder", "ModuleConnector", "WholeEmbedder", "load_picture_processor",
    "picture_parts",
]  # fmt: skip


class _Holder(Protocol):
    """What has transformers' object: `LanguageModel`."""

    @property
    def hf(self) -> Any: ...


class ModuleConnector(Connector):
    """A checkpoint's own projector."""

    name = "inside"

    def __init__(self, module: nn.Module, input_width: int, output_width: int) -> None:
        super().__init__(input_width, output_width)
        self.module = module

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        self.check(features)
        vectors: Tensor = self.module(features)
        return vectors


class InsideEmbedder(MediaEmbedder):
    """The embedder of a published checkpoint, whose parts are those of its object of transformers.

    folder: of the checkpoint, where its processor's settings lie.
    """

    is_inside = True

    def __init__(
        self,
        kind: str,
        modality: str,
        make: Callable[[Any, Path], EmbedderParts],
        folder: Path,
    ) -> None:
        super().__init__(kind, modality, lambda: self.parts)
        self._of_hf, self._folder = make, folder
        self._holder: _Holder | None = None
        self._bound: tuple[Any, EmbedderParts] | None = None

    def bind(self, holder: _Holder) -> None:
        """Say whose parts they are; the object is made when they are first needed."""
        self._holder = holder

    @property
    def parts(self) -> EmbedderParts:
        assert self._holder is not None
        with self._lock:
            hf = self._holder.hf
            if self._bound is None or self._bound[0] is not hf:
                self._bound = hf, self._of_hf(hf, self._folder)
            encoder, connector = self._bound[1]
            encoder.to(hf.device)
            return encoder, connector

    def to(self, device: str) -> None:
        """Nothing: its parts move with the model."""

    def save_settings(self, folder: Path) -> None:
        """Write the settings of how media are prepared."""
        if not copy_settings(self._folder, folder):
            encoder = self.encoder
            assert isinstance(encoder, PictureEncoder)  # of those that are told apart
            encoder.processor.save_pretrained(folder)


class WholeEmbedder(InsideEmbedder):
    """The embedder of a checkpoint whose own code makes the vectors of a picture: of tiles, say.

    Its encoder and connector are not told apart: it is sampled and not trained.
    """

    def __init__(
        self,
        kind: str,
        modality: str,
        vectors: Callable[[Any, Any, np.ndarray], Tensor],
        folder: Path,
    ) -> None:
        """vectors: (n, D) of transformers' object, its processor, and pixels uint8 (H, W, 3)."""
        super().__init__(kind, modality, _no_parts, folder)
        self._vectors_of = vectors

    @cached_property
    def _processor(self) -> Any:
        return load_picture_processor(self._folder)

    @property
    def prepared(self) -> str:
        return "uint8"

    def prepare(self, segment: Media) -> np.ndarray:
        if not isinstance(segment, Image):
            raise ValueError(f"the encoder reads pictures, found a {segment.modality}")
        return segment.pixels

    def grid(self, prepared: np.ndarray) -> tuple[int, ...]:
        return (len(self.encode([prepared])[0]),)

    @torch.inference_mode()
    def encode(self, prepared: Sequence[np.ndarray]) -> list[NDArray[np.float32]]:
        assert self._holder is not None
        hf, every = self._holder.hf, []
        for pixels in prepared:
            key = content_key(pixels)
            with self._lock:
                known = self._features.get(key)
            if known is None:
                with foreign("the picture cannot be prepared for the encoder"):
                    known = self._vectors_of(hf, self._processor, pixels).float().cpu().numpy()
                self._remember(key, known)
            every.append(known)
        return every

    def embed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return features

    def save_settings(self, folder: Path) -> None:
        if not copy_settings(self._folder, folder):
            self._processor.save_pretrained(folder)


def copy_settings(source: Path, folder: Path) -> bool:
    """Copy a checkpoint's settings of how media are prepared; whether it has any.

    As they are: transformers writes them in other words, and a codec beside takes what it reads
    there into its fingerprint.
    """
    names = [name for name in _SETTINGS if (source / name).is_file()]
    for name in names:
        if source.resolve() != folder.resolve():
            shutil.copyfile(source / name, folder / name)
    return bool(names)


def _no_parts(hf: Any, folder: Path) -> EmbedderParts:
    raise AssertionError


def load_picture_processor(folder: Path) -> Any:
    """transformers' own processor of pictures of a checkpoint. ValueError where it has none."""
    from transformers import AutoImageProcessor

    with foreign(f"{folder} has no settings of how pictures are prepared (preprocessor_config.json"
                 " or processor_config.json)"):  # fmt: skip
        return AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def picture_parts(
    hf: Any, folder: Path, tower: str, projector: str, layer: int | None = None
) -> EmbedderParts:
    """A vision transformer and a projector inside a model of transformers, by their names.

    layer: whose hidden states are projected; None: what the tower returns.
    """
    encoder = PictureEncoder(getattr(hf.base_model, tower), load_picture_processor(folder), layer)
    module = getattr(hf.base_model, projector)
    width = int(hf.get_input_embeddings().weight.shape[1])
    return encoder, ModuleConnector(module, encoder.width, width)
