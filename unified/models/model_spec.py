"""A model in names and settings, as other processes and machines open it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from unified.models.files import model_directory
from unified.models.model import UnifiedModel
from unified_base.checksums import file_sha256

__all__ = ["ModelSpec"]

T = TypeVar("T", str, str | None)
_NO_PART = (".md", ".txt.lock")  # of what a model computes


@dataclass(frozen=True)
class ModelSpec:
    """What `UnifiedModel.from_pretrained` opens, in values that travel.

    Attributes:
        name: "pocket", a folder, or a name on the Hugging Face hub.
        device, dtype, backend: as of `UnifiedModel.from_pretrained`.
        image_tokenizer, audio_tokenizer: a tokenizer's folder or name; None: the model's own.
        diffusion: scale of the diffusion decoder of pictures, 1 or 2; 0: the codes' own decoder.
        steps: of the diffusion decoder.
    """

    name: str = "pocket"
    device: str = "cpu"
    dtype: str = "auto"
    backend: str = "auto"
    image_tokenizer: str | None = None
    audio_tokenizer: str | None = None
    diffusion: int = 0
    steps: int = 8

    def open(self) -> UnifiedModel:
        """The model; its weights are read when it samples.

        Raises ValueError as `UnifiedModel.from_pretrained` and `use_diffusion` do.
        """
        model = UnifiedModel.from_pretrained(
            self.name, device=self.device, dtype=self.dtype, backend=self.backend,
            image_tokenizer=self.image_tokenizer, audio_tokenizer=self.audio_tokenizer,
            read_weights=False,
        )  # fmt: skip
        if self.diffusion:
            model.use_diffusion(steps=self.steps, scale=self.diffusion)
        return model

    def absolute(self) -> ModelSpec:
        """The same for a process that begins in another folder."""
        shipped = self.name == "pocket"
        return replace(
            self,
            name=self.name if shipped else _absolute(self.name),
            image_tokenizer=_absolute(self.image_tokenizer),
            audio_tokenizer=_absolute(self.audio_tokenizer),
        )

    def settings(self) -> dict[str, Any]:
        """Of the entries those that the ids and media may depend on, beside the model itself. The
        number of a device is none of them."""
        kind = self.device.partition(":")[0]
        values = {"device": kind, "dtype": self.dtype, "backend": self.backend}
        if self.diffusion:
            values |= {"diffusion": str(self.diffusion), "steps": str(self.steps)}
        return values

    def fingerprint(self, model: UnifiedModel) -> dict[str, str]:
        """What tells a model from every other: its vocabulary, its tokenizers, all of its files.

        model: as `open` gave it. The files are read once, at about 1 GB a second.
        """
        prints = {"vocabulary": model.vocabulary.hash}
        for modality, tokenizer in sorted(model.sequencer.tokenizers.items()):
            if tokenizer is not None:
                prints[modality] = str(tokenizer.fingerprint)
        return {**prints, "files": _digest(model_directory(self.name))}


def _absolute(name: T) -> T:
    return str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name


def _digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files in a folder, but those that are for people."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if path.is_file() and not hidden and not name.endswith(_NO_PART):
            digest.update(f"{file_sha256(path)} {name}\n".encode())
    return digest.hexdigest()
