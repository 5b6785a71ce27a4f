"""An encoder and a connector together: media to vectors in the place of embeddings.

Legend: B media, E width of features, n vectors, D the decoder's width.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unified.models.grafting.connectors import Connector
from unified.models.grafting.encoder_base import FeatureEncoder
from unified_data.document import Media

__all__ = ["EmbedderParts", "MediaEmbedder", "connect", "content_key"]

_MOST_CACHED = 64 << 20  # bytes of features
_BATCH = 16

EmbedderParts = tuple[FeatureEncoder, Connector]


class MediaEmbedder:
    """`unified.sequence.continuous.Embedder` of an encoder and a connector.

    Features of the media seen last are kept, 64 MB of them: the encoder is frozen. Vectors are
    computed anew, with the weights that the connector has now.

    kind: of spans. modality: of media. attended: whether its vectors stand at no positions and are
    attended to. is_inside: whether its parts are those of a published checkpoint. Any number of
    threads may use it.
    """

    is_inside: ClassVar[bool] = False

    def __init__(
        self,
        kind: str,
        modality: str,
        make: Callable[[], EmbedderParts] | EmbedderParts,
        attended: bool = False,
    ) -> None:
        """make: the parts, or what makes them when they are first needed."""
        self.kind, self.modality, self.attended = kind, modality, attended
        self._make = make
        self._features: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.RLock()

    @cached_property
    def parts(self) -> EmbedderParts:
        """The encoder and the connector."""
        with self._lock:
            return self._make() if callable(self._make) else self._make

    @property
    def encoder(self) -> FeatureEncoder:
        return self.parts[0]

    @property
    def connector(self) -> Connector:
        return self.parts[1]

    @cached_property
    def fingerprint(self) -> str:
        """Of the encoder."""
        return self.encoder.fingerprint

    def to(self, device: str) -> None:
        """Move the encoder and the connector to a device of torch."""
        self.encoder.to(device)
        self.connector.to(device)

    def prepare(self, segment: Media) -> np.ndarray:
        return self.encoder.prepare(segment)

    def grid(self, prepared: np.ndarray) -> tuple[int, ...]:
        return self.grid_of(prepared.shape)

    def grid_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The grid of positions of a prepared medium of this shape; one after the other where media
        differ."""
        if self.attended:
            return (1,)
        grid = self.connector.grid(self.encoder.grid(shape))
        return grid if self.fixed_grid is not None else (math.prod(grid),)

    @property
    def prepared(self) -> str:
        """numpy's type of prepared media."""
        return self.encoder.prepared

    @property
    def fixed_grid(self) -> tuple[int, ...] | None:
        """The grid of positions of every medium; None where it depends on the medium."""
        return (1,) if self.attended else self.vectors_grid

    @property
    def vectors_grid(self) -> tuple[int, ...] | None:
        """The grid of vectors of every medium; None where it depends on the medium."""
        grid = self.encoder.fixed_grid
        return None if grid is None else self.connector.grid(grid)

    @torch.inference_mode()
    def encode(self, prepared: Sequence[np.ndarray]) -> list[NDArray[np.float32]]:
        keys = [content_key(medium) for medium in prepared]
        with self._lock:
            known = {key: self._features[key] for key in keys if key in self._features}
        missing = {key: m for key, m in zip(keys, prepared) if key not in known}
        groups: dict[tuple[int, ...], list[bytes]] = {}
        for key, medium in missing.items():
            groups.setdefault(medium.shape, []).append(key)
        device = self.encoder.device
        for group in groups.values():
            for start in range(0, len(group), _BATCH):
                part = group[start : start + _BATCH]
                media = torch.from_numpy(np.stack([missing[key] for key in part])).to(device)
                features = self.encoder(media).cpu().numpy()
                for key, own in zip(part, features):
                    known[key] = own
                    self._remember(key, own)
        return [known[key] for key in keys]

    def _remember(self, key: bytes, features: NDArray[np.float32]) -> None:
        with self._lock:
            if key in self._features:
                return
            self._features[key] = features
            self._num_bytes += features.nbytes
            while self._num_bytes > _MOST_CACHED and len(self._features) > 1:
                self._num_bytes -= self._features.popitem(last=False)[1].nbytes

    @torch.no_grad()
    def embed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        connector = self.connector
        training = connector.training
        connector.eval()
        (vectors,) = connect(connector, torch.from_numpy(features)[None])
        connector.train(training)
        embedded: NDArray[np.float32] = vectors.float().cpu().numpy()
        return embedded


def connect(connector: Connector, features: Tensor) -> Tensor:
    """Vectors (B, n, D) of features (B, *grid, E), in the connector's type and with gradients."""
    values = features.to(next(connector.parameters()))
    vectors: Tensor = connector(values.flatten(1, -2), tuple(features.shape[1:-1]))
    return vectors


def content_key(medium: np.ndarray) -> bytes:
    """A digest of a prepared medium."""
    return hashlib.sha256(str(medium.shape).encode() + medium.tobytes()).digest()
