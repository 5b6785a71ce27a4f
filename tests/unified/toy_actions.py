"""A modality of others, all of it: actions, frames of a button and where a stick points.

A class of segments for documents, an entry of the table of modalities, a tokenizer and a format.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from unified.sequence.modality import Modality, decode_codes, register_modality
from unified_data.document import Media
from unified_tokenizers import register_tokenizer
from unified_tokenizers.base import Codes

SIZES = (6, 3)  # buttons, and where the stick points


@dataclass(frozen=True, eq=False)
class Actions(Media):
    """frames: int64 (T, 2), the button and the stick of each frame."""

    modality: ClassVar[str] = "actions"
    noun: ClassVar[str] = "run of actions"
    plural: ClassVar[str] = "actions"
    endings: ClassVar[tuple[str, ...]] = ("frames",)

    frames: np.ndarray
    role: str | None = None
    loss: float = 1.0

    @property
    def nbytes(self) -> int:
        return self.frames.nbytes

    def to_file(self) -> tuple[str, bytes]:
        return "frames", json.dumps(self.frames.tolist()).encode()

    @classmethod
    def from_file(cls, data, name, role, loss):
        return cls(np.array(json.loads(data), np.int64), role, loss)

    def __eq__(self, other):
        same = isinstance(other, Actions) and (self.role, self.loss) == (other.role, other.loss)
        return same and np.array_equal(self.frames, other.frames)

    __hash__ = None


class ActionsEntry(Modality):
    media = Actions
    temperature = 1.0

    def prepare(self, segment, tokenizer, fit=None):
        return np.ascontiguousarray(segment.frames.T)

    def restore(self, codes, tokenizer, role, loss):
        frames = decode_codes(tokenizer, codes, codes.shape[1:])
        return Actions(frames.T.astype(np.int64), role, loss)


class ActionsTokenizer:
    """One frame is one code of each of two codebooks."""

    modality, codebook_sizes, fingerprint = "actions", SIZES, "0123456789abcdef"
    device = torch.device("cpu")
    cannot_decode = None

    def to(self, device=None, dtype=None):
        return self

    def encode(self, media):
        return Codes(media.long(), tuple(media.shape[2:]))

    def decode(self, codes):
        return codes.codes.float()

    def code_vectors(self):
        return tuple(torch.eye(size) - 1 / size for size in SIZES)

    def save_pretrained(self, folder):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "config.json").write_text('{"model_type": "toy_actions"}')

    @classmethod
    def from_pretrained(cls, folder):
        return cls()


FORMAT = """
name: actions
markers: [<pad>, <bos>, <eos>, <text>, <prompt>, <response>, <actions>, </actions>]
padding: <pad>
document: {begin: <bos>, end: <eos>}
roles: {prompt: <prompt>, response: <response>}
text: {separator: <text>}
spans:
  actions:
    - marker: <actions>
    - repeat: open
      of: [{codes: actions}]
    - marker: </actions>
"""
register_modality(ActionsEntry())
register_tokenizer("toy_actions", ActionsTokenizer)
