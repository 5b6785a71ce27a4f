"""A space: a tower of pictures and texts, and branches of other media into the same vectors.

    space = Space.from_pretrained("runs/systems/imagebind/space")
    space.classify(Audio(waveform, 16_000), ["a dog barks", "rain"])

As ImageBind (arXiv:2305.05665) holds sounds, and ULIP (arXiv:2212.05171) point clouds, to a CLIP
that stays what it is: media that never stood beside each other can be compared.

Legend: N media, D width of the space.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from unified.matching.space_branches import SpaceBranch, make_branch
from unified.matching.tower import Likeness, Tower, likeliest
from unified_base.foreign import foreign
from unified_base.safetensors_files import check_weights
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_base.whole_folder import whole_folder
from unified_data.document import Image, Media, Text
from unified_tokenizers.contrastive import unit
from unified_tokenizers.foreign_model import check_size
from unified_tokenizers.modules import weights_digest

__all__ = ["MARKER", "Space", "is_space"]

MARKER = "space.json"
_BATCH = 64


def is_space(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a space."""
    return (Path(folder) / MARKER).is_file()


class Space:
    """Vectors of texts, pictures and the media of its branches.

    Attributes:
        tower: of pictures and texts; it is never trained here.
        branches: by modality.
    """

    def __init__(self, tower: Tower, branches: Mapping[str, SpaceBranch]) -> None:
        self.tower = tower
        self.branches = nn.ModuleDict(branches)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], device: str = "cpu") -> Self:
        """The space in a folder. Raises ValueError for files missing, torn, or of another tower."""
        path = Path(folder)
        entries = read_json(path / MARKER)
        if set(entries) != {"version", "tower", "branches"} or entries["version"] != 1:
            raise ValueError(
                f"{path / MARKER} is {quoted(entries)}, expected version 1, tower and branches"
            )
        tower = Tower.from_pretrained(path / "tower", device)
        if tower.fingerprint != entries["tower"]:
            raise ValueError(
                f"the branches in {path} were trained for a tower of fingerprint"
                f" {quoted(entries['tower'])}, {path / 'tower'} has {tower.fingerprint}; copy the"
                " whole folder again"
            )
        branches = {
            str(modality): _read_branch(path, str(modality), own, tower.width)
            for modality, own in dict(entries["branches"]).items()
        }
        space = cls(tower, branches)
        with foreign(f"the space cannot be moved to device {device!r}"):
            space.branches.to(device)
        return space

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write it; a reader finds all of it or what stood there before."""
        from safetensors.torch import save_file

        with whole_folder(folder, MARKER, keep=lambda name: True) as path:
            self.tower.save_pretrained(path / "tower")
            for modality, branch in self.branches.items():
                state = {n: v.detach().cpu().contiguous() for n, v in branch.state_dict().items()}
                save_file(state, path / f"{modality}.safetensors", metadata={"format": "pt"})
            own = {modality: branch.entries for modality, branch in self.branches.items()}
            entries = {"version": 1, "tower": self.tower.fingerprint, "branches": own}
            (path / MARKER).write_text(json.dumps(entries, indent=1) + "\n", "utf-8")

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it has vectors of."""
        return ("text", "image", *self.branches)

    @cached_property
    def fingerprint(self) -> str:
        """Of the tower and of every branch (first 16 hex digits of SHA-256)."""
        return weights_digest(self.tower.fingerprint, self.branches.state_dict())

    @torch.inference_mode()
    def embed(self, segments: Sequence[Text | Media]) -> np.ndarray:
        """Vectors of texts and media, of length one: float32 (N, D).

        Raises ValueError for media that it has no branch of, or that a branch cannot take.
        """
        vectors = np.zeros((len(segments), self.tower.width), np.float32)
        groups: dict[str, list[int]] = {}
        for at, segment in enumerate(segments):
            name = "text" if isinstance(segment, Text) else segment.modality
            if name not in self.modalities:
                raise ValueError(
                    f"the space has no vectors of {name}; it has {', '.join(self.modalities)}"
                )
            groups.setdefault(name, []).append(at)
        for name, numbers in groups.items():
            for start in range(0, len(numbers), _BATCH):
                part = numbers[start : start + _BATCH]
                vectors[part] = self._of_one_kind(name, [segments[at] for at in part])
        return vectors

    def _of_one_kind(self, name: str, segments: Sequence[Any]) -> np.ndarray:
        if name == "text":
            return self.tower.embed_texts([segment.text for segment in segments])
        if name == "image":
            return self.tower.embed_pictures([segment.pixels for segment in segments])
        branch = self.branches[name].eval()
        device = next(branch.parameters()).device
        media = np.stack([branch.prepare(segment) for segment in segments])  # type: ignore[operator]
        vectors: np.ndarray = unit(branch(torch.from_numpy(media).to(device))).cpu().numpy()
        return vectors

    def classify(
        self, segment: Media, classes: Sequence[str], template: str = "{}"
    ) -> list[Likeness]:
        """Which of some classes a medium is of, the likeliest first; see `Tower.classify`."""
        if isinstance(segment, Image):
            return self.tower.classify(segment.pixels, classes, template)
        (vector,) = self.embed([segment])
        return likeliest(self.tower, vector, classes, template)


def _read_branch(folder: Path, modality: str, entries: Any, width: int) -> SpaceBranch:
    from safetensors.torch import load_file

    name = f"{modality}.safetensors"
    numbers = check_weights(folder, name)
    check_size(lambda: make_branch(modality, entries, width), numbers, f"branch {folder / name}")
    with torch.random.fork_rng(devices=[]):
        branch = make_branch(modality, entries, width)
    try:
        branch.load_state_dict(load_file(folder / name))
    except RuntimeError as error:
        summary = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder / name} is not of the branch declared: {summary}") from None
    return branch.eval()
