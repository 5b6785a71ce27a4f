"""A tower: pictures and texts as vectors of one space, where what belongs together is near.

    tower = Tower.from_pretrained("runs/world/tower")
    tower.classify(pixels, ["a fox", "a car"])          # -> ("a fox", 0.98), ("a car", 0.02)

After CLIP (arXiv:2103.00020). Models of transformers: CLIP, SigLIP (arXiv:2303.15343), and any
vision model beside any text model.

Legend: N media or texts, D width of the space, L ids of a text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from unified.matching.tower_files import TowerParts, read_parts, write_parts
from unified_base.foreign import foreign
from unified_base.text import quoted
from unified_tokenizers.contrastive import unit
from unified_tokenizers.modules import weights_digest

__all__ = ["Likeness", "Tower", "likeliest"]

_BATCH = 64


class Likeness(NamedTuple):
    """A class and its probability among those that were asked about."""

    name: str
    probability: float


class Tower:
    """A model of pictures and texts; see `from_pretrained`.

    Attributes:
        model: of transformers.
        tokenizer: of transformers; ends texts as the model was trained with.
        pictures: how pictures are seen.
    """

    def __init__(self, parts: TowerParts) -> None:
        self.model: Any = parts.model
        self.tokenizer: Any = parts.tokenizer
        self.pictures = parts.pictures
        self._max_text_ids = int(self.model.config.text_config.max_position_embeddings)
        self._siglip = self.model.config.model_type == "siglip"

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], device: str = "cpu") -> Self:
        """The tower in a folder: one trained here, or a published CLIP or SigLIP.

        Raises:
            ValueError: files missing or torn, a model of another kind, no such device.
        """
        tower = cls(read_parts(folder))
        with foreign(f"the tower cannot be moved to device {device!r}"):
            tower.model.to(device)
        return tower

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write it as transformers reads it."""
        write_parts(TowerParts(self.model, self.tokenizer, self.pictures), folder)

    @property
    def width(self) -> int:
        """D of its vectors."""
        config = self.model.config
        return int(getattr(config, "projection_dim", None) or config.vision_config.hidden_size)

    @property
    def max_text_ids(self) -> int:
        """Ids of a text, with what ends it, at most."""
        return self._max_text_ids

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex characters) of the weights, of how texts become ids and of how
        pictures are seen."""
        backend = self.tokenizer.backend_tokenizer.to_str()
        return weights_digest(f"{self.pictures}{backend}", self.model.state_dict())

    # Features before they are brought to length one: what training differentiates.

    def text_ids(self, texts: Sequence[str], cut: bool = False) -> list[list[int]]:
        """The ids of texts, with what ends them.

        cut: a longer text loses what is too much, but not its end.

        Raises ValueError for a text that is longer than the tower's `max_text_ids`.
        """
        # Typed, the name of a special token is text like any other.
        rows: list[list[int]] = self.tokenizer(list(texts), split_special_tokens=True)["input_ids"]
        for row, (ids, text) in enumerate(zip(rows, texts)):
            if len(ids) <= self._max_text_ids:
                continue
            if not cut:
                raise ValueError(
                    f"the text {quoted(text, 60)} has {len(ids):,} ids, expected at most"
                    f" {self._max_text_ids}: the tower reads no more; shorten it"
                )
            rows[row] = [*ids[: self._max_text_ids - 1], ids[-1]]
        return rows

    def text_features(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Features (N, D) of the ids of texts."""
        longest = self._max_text_ids if self._siglip else max(map(len, ids))
        fill = self.tokenizer.pad_token_id
        padded = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in ids])
        inputs: dict[str, Any] = {"input_ids": padded.to(self.model.device)}
        if not self._siglip:  # which was trained with all places looked at
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
            inputs["attention_mask"] = mask.to(self.model.device)
        return _pooled(self.model.get_text_features(**inputs))

    def picture_features(self, pixels_N3HW: Tensor) -> Tensor:
        """Features (N, D) of pictures as `TowerPictures.normalised` gives them."""
        return _pooled(self.model.get_image_features(pixel_values=pixels_N3HW))

    # What is asked of it.

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, of length one: float32 (N, D).

        Raises ValueError for a text that is too long.
        """
        ids = self.text_ids(texts) if texts else []
        parts = [unit(self.text_features(rows)).cpu().numpy() for rows in _parts(ids)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors of pictures, uint8 (H, W, 3) of any sizes, of length one: float32 (N, D)."""
        parts = [
            unit(self.picture_features(self.pictures.batch(some).to(self.model.device)))
            for some in _parts(pictures)
        ]
        arrays = [part.cpu().numpy() for part in parts]
        return np.concatenate(arrays) if arrays else np.zeros((0, self.width), np.float32)

    def classify(
        self, pixels: np.ndarray, classes: Sequence[str], template: str = "{}"
    ) -> list[Likeness]:
        """Which of some classes a picture is of, the likeliest first, without training for them.

        Args:
            pixels: uint8 (H, W, 3).
            classes: in words.
            template: what is said of a class, `{}` in the place of it: "a photo of {}".

        Raises:
            ValueError: no class, one that stands there twice, or a template without `{}`.
        """
        _check_classes(classes, template)  # before anything is computed
        return likeliest(self, self.embed_pictures([pixels])[0], classes, template)

    def scores(self, text: str, pictures: Sequence[np.ndarray]) -> list[float]:
        """How well each picture fits a text: cosines, -1 to 1. See `best_of.Scorer`."""
        return (self.embed_pictures(pictures) @ self.embed_texts([text])[0]).tolist()

    @property
    def scale(self) -> float:
        """What cosines are multiplied by where they become probabilities."""
        return float(self.model.logit_scale.detach().exp())


def likeliest(
    tower: Tower, vector: np.ndarray, classes: Sequence[str], template: str
) -> list[Likeness]:
    """The classes by how near they are to a vector, float32 (D,) of length one."""
    _check_classes(classes, template)
    texts = tower.embed_texts([template.replace("{}", name) for name in classes])
    logits = tower.scale * (texts @ vector).astype(np.float64)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    return [Likeness(classes[i], float(shares[i])) for i in order]


def _check_classes(classes: Sequence[str], template: str) -> None:
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes are {quoted(list(classes))}, expected different ones")
    if "{}" not in template:
        raise ValueError(f"the template is {quoted(template)}, expected {{}} in it")


def _pooled(output: Any) -> Tensor:
    """What the model projects, of transformers' output or, in older ones, the tensor itself."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]
