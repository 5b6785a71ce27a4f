"""Saving, loading and fingerprints of our own tokenizers: config.json and model.safetensors."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unified_base.foreign import foreign
from unified_base.safetensors_files import check_weights
from unified_base.text import quoted
from unified_base.whole_folder import whole_folder
from unified_tokenizers.base import MediaTokenizer
from unified_tokenizers.modules import weights_digest
from unified_tokenizers.saved_config import (
    check_sizes,
    parse_saved,
    read_entries,
    settings_text,
)

__all__ = ["SavedTokenizer", "save_exactly", "saved_whole"]


class SavedTokenizer(nn.Module):
    """Saving, loading and fingerprints, shared by our own tokenizers.

    A subclass sets `modality`, `config_class` and `presets`, takes its configuration dataclass as
    only argument and keeps it in `self.config`. One that is not part of this library also sets
    `model_type`, the name under which it is registered (see `unified_tokenizers.registry`).
    """

    modality: Any
    model_type: str = ""
    config_class: type[Any]
    presets: dict[str, dict[str, Any]]
    config: Any

    def save_pretrained(
        self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None
    ) -> None:
        """Write `config.json` and `model.safetensors` into `folder`.

        Args:
            dtype: store floating-point weights in this type (loading casts back to float32).
        """
        assert is_dataclass(self.config)
        assert not isinstance(self.config, type)
        state = {
            name: (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        kind = {"model_type": self.model_type} if self.model_type else {}
        config = {**kind, "modality": self.modality, **asdict(self.config)}
        with saved_whole(folder) as path:
            save_file(state, path / "model.safetensors")
            (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what `save_pretrained` wrote, in float32 and evaluation mode.

        Raises:
            ValueError: files missing, torn, of another modality, or of other shapes.
        """
        path = Path(folder)
        entries = read_entries(path / "config.json", "tokenizer")
        modality = entries.pop("modality", None)
        if cls.model_type:
            entries.pop("model_type", None)
        if modality != cls.modality:
            raise ValueError(
                f"the tokenizer in {path} is for {quoted(modality)}, expected {cls.modality!r}"
            )
        config = cls.parse_config(entries, str(path / "config.json"))
        where = f"the tokenizer in {path}"
        problem, numbers = None, 1 << 22
        try:
            numbers = check_weights(path, "model.safetensors")
        except ValueError as error:  # said below: what config.json has wrong comes first
            problem = ValueError(f"cannot read the weights of {where}: {error}")
        check_sizes(asdict(config), numbers, str(path / "config.json"))
        tokenizer = cls(config)
        if problem is not None:
            raise problem
        with foreign(f"cannot read the weights of {where}"):
            state = load_file(path / "model.safetensors")
        try:
            tokenizer.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
            )
        except RuntimeError as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the weights in {path} do not fit its config.json: {summary}"
            ) from None
        return tokenizer.eval()

    @classmethod
    def parse_config(
        cls, entries: dict[str, Any], where: str = "the settings of a tokenizer"
    ) -> Any:
        """The configuration dataclass from plain entries; lists become tuples.

        An entry `preset` stands for the entries of that name, which the others then replace.
        `where` is for errors: ValueError for unknown entries and a quantizer that cannot be.
        """
        return parse_saved(cls.config_class, cls.presets, entries, where)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex characters) of the configuration and of every weight."""
        return weights_digest(settings_text(self.config), self.state_dict())


def saved_whole(folder: str | os.PathLike[str]) -> AbstractContextManager[Path]:
    """A folder to write a tokenizer into, which takes the place of `folder` as a whole when the
    block ends well; files of other names stay."""
    return whole_folder(folder, "config.json", keep=lambda name: True)


def save_exactly(
    tokenizer: MediaTokenizer | SavedTokenizer, folder: str | os.PathLike[str]
) -> None:
    """Write a tokenizer so that its weights and its fingerprint come back unchanged.

    Ours are stored in bfloat16 where that loses nothing; a codec of others as its library does.
    """
    if isinstance(tokenizer, SavedTokenizer):
        values = [v for v in tokenizer.state_dict().values() if v.is_floating_point()]
        if all(torch.equal(v.bfloat16().to(v.dtype), v) for v in values):
            tokenizer.save_pretrained(folder, dtype=torch.bfloat16)
            return
    tokenizer.save_pretrained(folder)
