"""Codecs pretrained by others, from transformers and diffusers, behind our tokenizers' contract.

The base class of the adapters in the files beside it; `registry` says which is whose. Their
libraries are imported when a checkpoint is loaded and not before: they cost seconds.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from unified_base.foreign import foreign
from unified_base.model_config import check_model_config
from unified_base.safetensors_files import check_weights
from unified_base.text import quoted
from unified_tokenizers.foreign_model import check_size, forget_kernels
from unified_tokenizers.hub import SETTINGS_FILE, HubOptions, checkpoint_folder
from unified_tokenizers.modules import BaseTokenizer, weights_digest
from unified_tokenizers.registry import stored_type
from unified_tokenizers.saved import saved_whole
from unified_tokenizers.saved_config import read_entries

__all__ = ["CodecAdapter"]

# Entries of a config that say how a model was stored, not what it computes.
_BOOKKEEPING = {
    "_commit_hash", "_diffusers_version", "_name_or_path", "_use_default_values", "architectures",
    "dtype", "torch_dtype", "transformers_version",
}  # fmt: skip


def _settle(name_or_path: str | os.PathLike[str], options: dict[str, Any]) -> tuple[Path, Any]:
    """A checkpoint's local folder, and the options that are settings of its adapter."""
    hub = {key: value for key, value in options.items() if key in HubOptions.__annotations__}
    settings = {key: value for key, value in options.items() if key not in hub}
    return checkpoint_folder(name_or_path, **hub), settings


class CodecAdapter(BaseTokenizer):
    """A model of transformers or diffusers that satisfies `base.MediaTokenizer`.

    A subclass sets the four attributes, passes the model on to `__init__` and leaves in `settings`
    the keyword arguments that make it again.

    Attributes:
        model_class: name of the class in its library.
        model_type: of that class alone in config.json.
        whole_type: of a whole checkpoint that holds the model as `vqmodel`, or "".
        model: the model, in float32 and evaluation mode.
    """

    model_class: str
    model_type: str
    whole_type: str = ""
    model: Any
    settings: dict[str, Any]

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if self.model_class not in {base.__name__ for base in type(model).__mro__}:
            raise ValueError(
                f"{type(self).__name__} got a {type(model).__name__}, expected a {self.model_class}"
            )
        self.model = model
        self.settings = {}
        # Quantization decides between neighbouring codes, and in training mode quantizer dropout
        # would change them.
        self.float().eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a pretrained codec is frozen here."""
        return super().train(False)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """Load a checkpoint, in float32 and evaluation mode.

        Args:
            name_or_path: holds config.json and safetensors, sharded or not: a folder, or a name on
                the Hugging Face hub (see `checkpoint_folder`).
            options: where it is (see `HubOptions`), and arguments of the constructor, which win
                over those stored in the checkpoint.

        Raises:
            ValueError: files missing or torn, another model_type, weights missing or of other
                shapes (transformers itself fills missing weights with random numbers), or what
                `checkpoint_folder` refuses.
        """
        path, settings = _settle(name_or_path, options)
        entries = read_entries(path / "config.json", "codec")
        model_type = stored_type(entries)
        if not cls._is_type(entries):
            known = [name for name in (cls.model_type, cls.whole_type) if name]
            raise ValueError(
                f"{path / 'config.json'} names model_type {quoted(model_type)}, expected"
                f" {' or '.join(map(repr, known))}"
            )
        check_model_config(entries, str(path / "config.json"))
        with foreign(f"cannot load the {cls.model_class} in {path}"):
            model, missing = cls._load(path, str(model_type))
        # The mask embedding of HuBERT is for its training alone; checkpoints may lack it.
        missing = sorted(k for k in missing if not k.endswith("masked_spec_embed"))
        if missing:
            raise ValueError(
                f"the weights in {path} lack {len(missing)} tensors of {cls.model_class}, such as"
                f" {missing[0]}"
            )
        settings = {**cls.stored_settings(path), **settings}
        with foreign(f"the settings beside the {cls.model_class} in {path}"):
            return cls(model, **settings)

    @classmethod
    def _is_type(cls, entries: dict[str, Any]) -> bool:
        """Whether a config.json is of the class's models."""
        return stored_type(entries) in [name for name in (cls.model_type, cls.whole_type) if name]

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        """The model in a folder, and the names of the weights that its files lack."""
        import transformers

        kind = getattr(transformers, cls.model_class)
        config = kind.config_class.from_pretrained(path, local_files_only=True)
        forget_kernels(config)
        check_size(
            lambda: kind(copy.deepcopy(config)), check_weights(path, "model.safetensors"), str(path)
        )
        model, report = kind.from_pretrained(
            path, config=config, local_files_only=True, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
        return model, list(report["missing_keys"])

    @classmethod
    def stored_settings(cls, folder: Path) -> dict[str, Any]:
        """Constructor arguments that `save_pretrained` wrote into `folder`, if any."""
        path = folder / SETTINGS_FILE
        return read_entries(path, "codec") if path.exists() else {}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors of the model, and our settings beside them."""
        with saved_whole(folder) as path:
            # transformers would name the weights of a VQ model as a whole checkpoint has them.
            self.model.save_pretrained(path, save_original_format=not self.whole_type)
            self.save_settings(path)

    def save_settings(self, path: Path) -> None:
        """Write what our constructor was told, for `from_pretrained`."""
        (path / SETTINGS_FILE).write_text(json.dumps(self.settings, indent=2) + "\n", "utf-8")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex characters) of configuration, settings and every weight."""
        config = _without_bookkeeping(self._config_entries())
        entries = json.dumps([config, self.fingerprint_settings()], sort_keys=True, default=str)
        return weights_digest(entries, self.model.state_dict())

    def fingerprint_settings(self) -> dict[str, Any]:
        """Those settings that decide which codes come."""
        return self.settings

    def _config_entries(self) -> dict[str, Any]:
        """What the model's configuration sets."""
        return self.model.config.to_diff_dict()


def _without_bookkeeping(entries: Any) -> Any:
    if isinstance(entries, dict):
        return {k: _without_bookkeeping(v) for k, v in entries.items() if k not in _BOOKKEEPING}
    return entries
