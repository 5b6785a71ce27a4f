"""States of a world as features: the numbers themselves, n rows of d.

Legend: B media, n rows, d numbers of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unified.models.grafting.encoder_base import FeatureEncoder
from unified.models.grafting.encoders import ENCODER_FILE
from unified_data.document import Media, WorldState

__all__ = ["StateEncoder"]

_MOST = 65_536


class StateEncoder(FeatureEncoder):
    """States, row by row, for a connector to project: PaLM-E's state vectors (arXiv:2303.03378,
    section 4), of which each object's is one position.

    It has no weights. Numbers should be about 1 in size, as metres and radians of a robot are.
    """

    modality = "state"
    reads = "state"

    def __init__(self, width: int) -> None:
        """width: d. Raises ValueError for what is none."""
        if type(width) is not int or not 1 <= width <= _MOST:
            raise ValueError(f"a state has {width!r} numbers, expected 1 to {_MOST:,}")
        super().__init__(width)

    @property
    def label(self) -> str:
        return f"{self.width} numbers"

    @property
    def fingerprint(self) -> str:
        from unified_tokenizers.modules import weights_digest

        return weights_digest(json.dumps({"reads": self.reads, "width": self.width}), {})

    def prepare(self, segment: Media) -> np.ndarray:
        if not isinstance(segment, WorldState):
            raise ValueError(f"the encoder reads states, found a {segment.modality}")
        if segment.values.shape[1] != self.width:
            raise ValueError(
                f"the state has {segment.values.shape[1]} numbers a row, the encoder reads"
                f" {self.width}"
            )
        return np.ascontiguousarray(segment.values, np.float32)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (shape[0],)

    @property
    def fixed_grid(self) -> tuple[int, ...] | None:
        return None

    @torch.no_grad()
    def forward(self, media: Tensor) -> Tensor:
        return media.float()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        entries = {"layer": None, "reads": self.reads, "width": self.width}
        (folder / ENCODER_FILE).write_text(json.dumps(entries) + "\n", "utf-8")
